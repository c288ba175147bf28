// A certified OpenID provider on loopback. Usage: node oidc-provider.mjs
// Prints one line of JSON once it serves: {"issuer": "http://127.0.0.1:PORT"}.
//
// Clients register themselves (RFC 7591), each frontend under test with its own redirect URI.
// Any login name signs in; a name holding "@" is also the e-mail address.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  features: {
    registration: { enabled: true },
    revocation: { enabled: true },
  },
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
  },
  scopes: ['openid', 'email', 'profile', 'offline_access'],
  // Claims asked for by scope are in the ID token too, as Google and Auth0 have it.
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  findAccount: (_ctx, sub) => ({
    accountId: sub,
    claims: () => ({
      sub,
      name: sub.split('@')[0],
      preferred_username: sub,
      email: sub.includes('@') ? sub : `${sub}@example.com`,
      email_verified: true,
    }),
  }),
  cookies: { keys: [crypto.randomUUID()] },
});

server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
