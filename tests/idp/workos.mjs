// WorkOS' own emulator of its API on loopback. Usage: node workos.mjs EMAIL...
// Prints one line of JSON once it serves: {"url": "http://localhost:PORT", "api_key": "sk_…"}.
import { createEmulator } from './node_modules/workos/dist/emulate/index.js';

const users = process.argv.slice(2).map((email) => ({
  email,
  first_name: email.split('@')[0],
  last_name: 'Example',
  email_verified: true,
}));
const apiKey = `sk_test_${crypto.randomUUID().replaceAll('-', '')}`;
const emulator = await createEmulator({ port: 0, seed: { apiKeys: { [apiKey]: { environment: 'test' } }, users } });
console.log(JSON.stringify({ url: emulator.url, api_key: emulator.apiKey }));
