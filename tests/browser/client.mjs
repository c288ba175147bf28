// An MCP client of the kind that runs on the user's computer: it registers itself, sends a browser for a code, and listens for
// it on loopback.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { secrets } from './browser.mjs';

const PAGE = '<!doctype html><html lang="en"><title>Done</title><main><h1>Back to the application</h1></main></html>';

export class Client {
  /** Registers at the frontend under this name. */
  static async register(frontend, name) {
    const client = new Client();
    client.frontend = frontend;
    client.answers = [];
    client.server = createServer((request, response) => {
      const url = new URL(request.url, client.redirect);
      if (url.pathname === '/callback') client.answers.push(Object.fromEntries(url.searchParams));
      response.writeHead(url.pathname === '/callback' ? 200 : 404, { 'content-type': 'text/html' }).end(PAGE);
    });
    client.server.listen(0, '127.0.0.1');
    await once(client.server, 'listening');
    client.origin = `http://127.0.0.1:${client.server.address().port}`;
    client.redirect = `${client.origin}/callback`;
    const response = await fetch(`${frontend}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        client_name: name, redirect_uris: [client.redirect], application_type: 'native', token_endpoint_auth_method: 'none',
      }),
    });
    assert.equal(response.status, 201, await response.clone().text());
    client.id = (await response.json()).client_id;
    return client;
  }

  /** Where it sends a browser. */
  address(scope) {
    this.verifier = randomBytes(32).toString('base64url');
    this.state = randomBytes(16).toString('base64url');
    secrets.push(['code_verifier', this.verifier], ['state', this.state]);
    const url = new URL(`${this.frontend}/authorize`);
    url.search = new URLSearchParams({
      response_type: 'code',
      client_id: this.id,
      redirect_uri: this.redirect,
      code_challenge: createHash('sha256').update(this.verifier).digest('base64url'),
      code_challenge_method: 'S256',
      state: this.state,
      resource: `${this.frontend}/mcp/v1`,
      ...(scope && { scope }),
    });
    return url.href;
  }

  /** What the browser came back with last. */
  answer() {
    const answer = this.answers.at(-1);
    assert.equal(answer?.state, this.state);
    assert.equal(answer.iss, this.frontend);
    return answer;
  }

  /** The access token for the code. */
  async token() {
    const response = await fetch(`${this.frontend}/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code',
        code: this.answer().code,
        client_id: this.id,
        redirect_uri: this.redirect,
        code_verifier: this.verifier,
        resource: `${this.frontend}/mcp/v1`,
      }),
    });
    const answer = await response.json();
    assert.equal(response.status, 200, JSON.stringify(answer));
    secrets.push(['access token', answer.access_token], ['refresh token', answer.refresh_token]);
    return answer.access_token;
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** What the MCP endpoint says of a token: the status, and who it is where that is 200. */
export async function whoami(frontend, token) {
  const response = await fetch(`${frontend}/mcp/v1`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2025-11-25',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'whoami', arguments: {} } }),
  });
  const text = await response.text();
  if (response.status !== 200) return { status: response.status, reason: JSON.parse(text).reason };
  const message = JSON.parse(text.split('\n').findLast((line) => line.startsWith('data:'))?.slice(5) ?? text);
  return { status: 200, ...JSON.parse(message.result.content[0].text) };
}
