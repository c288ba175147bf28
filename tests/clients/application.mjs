// An application of an MCP server, built on an official client and given nothing but the server's URL.
// Usage: node application.mjs v1|v2 MCP_URL ERA [DOCUMENT]
// DOCUMENT: the address of its client metadata document; without one it registers itself.
//
// Prints {"url": …} once it serves on loopback: /callback, where browsers come back to, and for the test that drives it
// POST /connect, /tools, /call {"tools": [{name, arguments}]} (all at once), /kept and /requests. These answer
// {"value": …}, {"authorize": the URL a browser is to open} where the client is unauthorized, or {"error": …}.
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { Provider } from './provider.mjs';

const [generation, mcpUrl, era, document] = process.argv.slice(2);
const { Connection } = await import(`./${generation}.mjs`);

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();
// Documents cannot know the port: theirs is http://localhost/callback.
const provider = new Provider(`http://${document ? 'localhost' : '127.0.0.1'}:${port}/callback`, document);

// What went over the wire, as `METHOD /path status`.
let requests = [];
async function observed(url, init) {
  const response = await fetch(url, init);
  requests.push(`${init?.method ?? 'GET'} ${new URL(url).pathname} ${response.status}`);
  return response;
}

let connection;

async function connect() {
  await connection?.close();
  connection = new Connection(mcpUrl, provider, observed, era);
  return connection.connect();
}

async function comeBack(parameters) {
  if (parameters.get('state') !== provider.kept().state) throw new Error('this is not the state that was sent');
  await connection.finish(parameters);
}

const doors = {
  '/connect': connect,
  '/tools': () => connection.listTools(),
  '/call': ({ tools }) => Promise.all(tools.map(({ name, arguments: args }) => connection.callTool(name, args))),
  '/kept': () => provider.kept(),
  '/requests': () => {
    const seen = requests;
    requests = [];
    return seen;
  },
};

async function answer(request) {
  const url = new URL(request.url, `http://127.0.0.1:${port}`);
  try {
    if (url.pathname === '/callback') {
      await comeBack(url.searchParams);
      return { value: 'You may close this page.' };
    }
    return { value: await doors[url.pathname](await json(request)) };
  } catch (error) {
    if (connection?.isUnauthorized(error)) return { authorize: provider.takeAuthorizationUrl() };
    return { error: `${error.name}: ${error.message}` };
  }
}

server.on('request', async (request, response) => {
  const body = JSON.stringify(await answer(request));
  response.writeHead(200, { 'content-type': 'application/json' }).end(body);
});
console.log(JSON.stringify({ url: `http://127.0.0.1:${port}` }));
