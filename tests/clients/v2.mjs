// The official client, second generation.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';

export class Connection {
  #client;
  #transport;
  #options;

  // era: `legacy`, which is the client's default, `auto`, or `modern`.
  constructor(url, provider, fetch, era) {
    this.provider = provider;
    const mode = { legacy: undefined, auto: 'auto', modern: { pin: '2026-07-28' } }[era];
    this.#options = mode && { versionNegotiation: { mode } };
    this.#transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch });
  }

  async connect() {
    this.#client = new Client({ name: 'application', version: '1' }, this.#options);
    await this.#client.connect(this.#transport);
    return { version: this.#client.getNegotiatedProtocolVersion(), server: this.#client.getServerVersion() };
  }

  // The client looks at the whole answer, and checks its issuer first.
  finish(parameters) { return this.#transport.finishAuth(parameters); }
  async listTools() { return (await this.#client.listTools()).tools; }
  callTool(name, args) { return this.#client.callTool({ name, arguments: args }); }
  close() { return this.#transport.close(); }
  isUnauthorized(error) { return error instanceof UnauthorizedError; }
}
