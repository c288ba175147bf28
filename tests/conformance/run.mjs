// Runs the MCP conformance suite against a frontend, through a proxy that supplies the session's token: the suite itself
// has no way to sign in. scripts/conformance sets everything up.
//
// Environment: FRONTEND, its binary; DATABASE_URL and MCP_EXEC_DATABASE_URL; ADMIN_PSQL, a psql command line for one
// statement; RESULTS, a directory. Arguments: which runs, all of them by default.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const suite = join(here, 'node_modules/@modelcontextprotocol/conformance/dist/index.js');
const node = require.resolve(`node-linux-${process.arch}/bin/node`);
const results = process.env.RESULTS;
mkdirSync(results, { recursive: true });

const runs = {
  '2026-07-28': ['--requirements', '2026-07-28'],
  '2025-11-25': ['--requirements', '2025-11-25', '--expected-failures', join(here, 'baseline-2025-11-25.yml')],
  // Pending: in no requirement set yet.
  'http-header-validation': ['--scenario', 'http-header-validation', '--spec-version', '2026-07-28'],
  'http-custom-header-server-validation':
    ['--scenario', 'http-custom-header-server-validation', '--spec-version', '2026-07-28'],
};

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function startFrontend(port) {
  const child = spawn(process.env.FRONTEND, {
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: process.env.DATABASE_URL,
      MCP_EXEC_DATABASE_URL: process.env.MCP_EXEC_DATABASE_URL,
      MCP_BIND: `127.0.0.1:${port}`,
      MCP_PUBLIC_URL: `http://127.0.0.1:${port}`,
      MCP_LOG: 'info',
      // Nobody signs in here: the session is made in SQL.
      MCP_IDP: 'oidc',
      OIDC_ISSUER: 'http://127.0.0.1:9',
      OIDC_CLIENT_ID: 'conformance',
      OIDC_CLIENT_SECRET: 'conformance',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = createWriteStream(join(results, 'frontend.log'));
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  return child;
}

async function awaitFrontend(port, child) {
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`the frontend ended; see ${results}/frontend.log`);
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the frontend does not answer');
}

function makeToken(resource) {
  const [command, ...options] = process.env.ADMIN_PSQL.split(' ');
  const sql = 'SELECT access_token FROM mcp.create_session('
    + `'https://conformance.test', 'conformance', NULL, resource => '${resource}')`;
  const made = spawnSync(command, [...options, '-c', sql], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`cannot make a session: ${made.stderr}`);
  return made.stdout.trim();
}

async function startProxy(target, token) {
  const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${token}` };
    const { method, url: path } = request;
    const onward = http.request({ host: '127.0.0.1', port: target, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
    });
    onward.on('error', (error) => response.destroy(error));
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return proxy;
}

async function main(names) {
  const port = await freePort();
  const frontend = startFrontend(port);
  try {
    await awaitFrontend(port, frontend);
    const proxy = await startProxy(port, makeToken(`http://127.0.0.1:${port}/mcp/v1`));
    const url = `http://localhost:${proxy.address().port}/mcp/v1`;
    let failed = false;
    for (const name of names) {
      const options = ['server', '--url', url, ...runs[name], '-o', join(results, name)];
      const run = spawn(node, [suite, ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
      const log = createWriteStream(join(results, `${name}.log`));
      run.stdout.pipe(log, { end: false });
      run.stderr.pipe(log, { end: false });
      let text = '';
      run.stdout.on('data', (chunk) => { text += chunk; });
      const timer = setTimeout(() => run.kill('SIGKILL'), 180_000);
      const [code] = await once(run, 'close');
      clearTimeout(timer);
      log.end();
      console.log(text.trimEnd().split('\n').slice(-60).join('\n'));
      console.log(`conformance ${name}: ${code === 0 ? 'ok' : 'FAILED'} (${results}/${name}.log)`);
      failed ||= code !== 0;
    }
    proxy.close();
    proxy.closeAllConnections();
    return failed ? 1 : 0;
  } finally {
    frontend.kill('SIGTERM');
  }
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in runs));
if (unknown.length > 0) {
  console.error(`no such run: ${unknown.join(' ')}; there are ${Object.keys(runs).join(', ')}`);
  process.exit(64);
}
process.exitCode = await main(names.length > 0 ? names : Object.keys(runs));
