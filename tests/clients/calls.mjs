// Calls an MCP server as several clients at once, in both eras, with the official client; says what failed.
//
// Environment: URL, the endpoint; TOKEN, a session token of SUBJECT; SECONDS, for how long; CLIENTS, how many in each
// era. Every request carries the number of its call in the header x-call, for the proxy to note it by. Each line of the
// output is an object: a call that failed, or, last of all, what there was in all.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const { URL: url, TOKEN: token, SUBJECT: subject } = process.env;
const end = Date.now() + 1000 * Number(process.env.SECONDS);
// What a client does before another takes its place.
const CALLS_OF_A_CLIENT = 40;
// No call takes that long, however busy the machine is.
const TIMEOUT = 60_000;

const eras = {
  modern: { versionNegotiation: { mode: { pin: '2026-07-28' } } },
  legacy: { versionNegotiation: { mode: 'legacy' } },
};

function expect(holds, what, found) {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(found)}`);
}

const text = (result) => {
  expect(!result.isError, 'the tool failed', result);
  return result.content[0].text;
};

// Each kind of call, given a client, its options and a text that no other call has.
const kinds = {
  async tools(client, options) {
    const { tools } = await client.listTools(undefined, options);
    expect(tools.some(({ name }) => name === 'whoami'), 'no whoami', tools);
  },
  async whoami(client, options) {
    const me = JSON.parse(text(await client.callTool({ name: 'whoami', arguments: {} }, options)));
    expect(me.subject === subject, 'somebody else', me);
  },
  async note(client, options, body) {
    expect(Number(text(await client.callTool({ name: 'add_note', arguments: { body } }, options))) > 0, 'no note', body);
  },
  async slow(client, options) {
    expect(text(await client.callTool({ name: 'sleep', arguments: { seconds: 0.2 } }, options)) === 'awake', 'not awake');
  },
  async followed(client, options) {
    const heard = [];
    const following = { ...options, onprogress: ({ progress }) => heard.push(progress) };
    const answer = text(await client.callTool({ name: 'followed', arguments: {} }, following));
    expect(answer === 'done' && heard.join() === '1,2', 'not followed', { answer, heard });
  },
  async resources(client, options) {
    const { resources } = await client.listResources(undefined, options);
    expect(resources.some(({ uri }) => uri === 'test://whoami'), 'no resource', resources);
  },
  async resource(client, options) {
    const { contents } = await client.readResource({ uri: 'test://whoami' }, options);
    expect(JSON.parse(contents[0].text).subject === subject, 'somebody else', contents);
  },
  async prompts(client, options) {
    const { prompts } = await client.listPrompts(undefined, options);
    expect(prompts.some(({ name }) => name === 'greet'), 'no prompt', prompts);
  },
  async prompt(client, options, body) {
    const { messages } = await client.getPrompt({ name: 'greet', arguments: { whom: body } }, options);
    expect(messages[0].content.text === `hello ${body}`, 'not greeted', messages);
  },
};

// The same answer, giving up its call where its stream breaks: the client would wait until its time is over.
function watched(response, call) {
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close(); else controller.enqueue(value);
      } catch (error) {
        call.abort(error);
        controller.error(error);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

const counts = {};
let numbers = 0;

async function runClient(era) {
  let call;
  let abort;
  const tagged = async (target, init = {}) => {
    const headers = new Headers(init.headers);
    headers.set('x-call', call);
    const mine = abort;
    const response = await fetch(target, { ...init, headers });
    return response.headers.get('content-type')?.startsWith('text/event-stream') ? watched(response, mine) : response;
  };
  // Runs `work` as a call of its own; undefined where it failed.
  const run = async (kind, work) => {
    call = String(++numbers);
    abort = new AbortController();
    const name = `${era} ${kind}`;
    try {
      const result = await work({ timeout: TIMEOUT, signal: abort.signal }, `note ${call}`);
      counts[name] = (counts[name] ?? 0) + 1;
      return result ?? true;
    } catch (error) {
      const cause = error.cause ? `: ${error.cause.message ?? error.cause}` : '';
      console.log(JSON.stringify({ call, kind: name, error: `${error.message}${cause}` }));
      return undefined;
    }
  };
  const names = Object.keys(kinds);
  let next = 0;
  while (Date.now() < end) {
    const client = new Client({ name: 'suite', version: '1' }, { ...eras[era], capabilities: {} });
    const transport = new StreamableHTTPClientTransport(new globalThis.URL(url), {
      fetch: tagged,
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    });
    const connected = await run('connect', (options) => client.connect(transport, options).then(() => true));
    for (let calls = 0; connected && calls < CALLS_OF_A_CLIENT && Date.now() < end; calls++) {
      const kind = names[next++ % names.length];
      await run(kind, (options, body) => kinds[kind](client, options, body));
    }
    await client.close().catch(() => {});
  }
}

const clients = Object.keys(eras).flatMap((era) => Array.from({ length: Number(process.env.CLIENTS) }, () => runClient(era)));
await Promise.all(clients);
console.log(JSON.stringify({ counts }));
process.exit(0);
