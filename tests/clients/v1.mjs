// The official client, first generation. It knows protocol revisions up to 2025-11-25 alone.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { auth, extractWWWAuthenticateParams, UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';

export class Connection {
  #url;
  #client;
  #transport;
  #challenge;

  constructor(url, provider, fetch) {
    this.#url = url;
    this.provider = provider;
    const listening = async (...request) => {
      const response = await fetch(...request);
      if (response.status === 403) this.#challenge = extractWWWAuthenticateParams(response);
      return response;
    };
    this.#transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch: listening });
  }

  async connect() {
    this.#client = new Client({ name: 'application', version: '1' });
    await this.#client.connect(this.#transport);
    return { version: this.#transport.protocolVersion, server: this.#client.getServerVersion() };
  }

  // This generation leaves it to the application to look at the answer, and to check its issuer (RFC 9207).
  finish(parameters) {
    const expected = this.provider.discoveryState().authorizationServerMetadata.issuer;
    if (parameters.get('iss') !== expected) throw new Error(`the answer is of ${parameters.get('iss')}`);
    if (parameters.has('error')) throw new Error(parameters.get('error'));
    return this.#transport.finishAuth(parameters.get('code'));
  }

  async listTools() { return (await this.#client.listTools()).tools; }

  // On 403 insufficient_scope this generation refreshes, which cannot widen a grant, tries again and gives up. An
  // application that wants more gives its tokens up and asks for what it had and what the challenge names.
  async callTool(name, args) {
    const had = this.provider.tokens()?.scope ?? '';
    try {
      return await this.#client.callTool({ name, arguments: args });
    } catch (error) {
      if (!(error instanceof StreamableHTTPError && error.code === 403)) throw error;
      const { error: reason, scope, resourceMetadataUrl } = this.#challenge;
      if (reason !== 'insufficient_scope') throw error;
      this.provider.invalidateCredentials('tokens');
      const wanted = [...new Set(`${had} ${scope}`.split(' ').filter(Boolean))].join(' ');
      await auth(this.provider, { serverUrl: this.#url, scope: wanted, resourceMetadataUrl });
      throw new UnauthorizedError();
    }
  }

  close() { return this.#transport.close(); }
  isUnauthorized(error) { return error instanceof UnauthorizedError; }
}
