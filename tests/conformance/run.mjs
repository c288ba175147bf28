// Runs the MCP conformance suite against a frontend, through a proxy that supplies the session's token: the suite itself
// has no way to sign in. scripts/conformance sets everything up.
//
// Environment: FRONTEND, its binary; DATABASE_URL and MCP_EXEC_DATABASE_URL; ADMIN_PSQL, a psql command line for one
// statement; RESULTS, a directory. Arguments: which runs, all of them by default.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
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

// What the suite is asked for, how many scenarios it then scores, and which of them are known to fail.
const runs = {
  '2026-07-28': { options: ['--requirements', '2026-07-28'], scored: 37 },
  '2025-11-25': { options: ['--requirements', '2025-11-25'], scored: 30, baseline: 'baseline-2025-11-25.yml' },
  // Pending: in no requirement set yet.
  'http-header-validation': pending('http-header-validation'),
  'http-custom-header-server-validation': pending('http-custom-header-server-validation'),
};

function pending(scenario) {
  return { options: ['--scenario', scenario, '--spec-version', '2026-07-28'], scored: 1 };
}

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

// Which scenarios of a run passed and which failed, as the suite says. Those that it runs and does not score are left out.
// It is not given the baseline: with one, it takes its own warnings for failures.
function judge(name, text, code) {
  const { scored, baseline } = runs[name];
  if (scored === 1) return code === 0 ? { passed: [name], failed: [] } : { passed: [], failed: [name] };
  const plain = text.replace(/\x1b\[[0-9;]*m/g, '');
  const summary = plain.slice(plain.lastIndexOf('=== SUMMARY ==='));
  const unscored = new Set([...summary.matchAll(/^ +[✓✗] (\S+) \(/gm)].map(([, scenario]) => scenario));
  const verdicts = [...summary.matchAll(/^([✓✗]) (\S+): \d+ passed, \d+ failed/gm)]
    .filter(([, , scenario]) => !unscored.has(scenario));
  const scenarios = (mark) => verdicts.filter(([, found]) => found === mark).map(([, , scenario]) => scenario);
  const known = baseline ? readBaseline(baseline) : [];
  const [passed, failed] = [scenarios('✓'), scenarios('✗')];
  if (passed.length + failed.length !== scored) {
    failed.push(`${passed.length + failed.length} scenarios instead of ${scored}`);
  }
  return {
    passed: passed.filter((scenario) => !known.includes(scenario)),
    failed: [
      ...failed.filter((scenario) => !known.includes(scenario)),
      ...known.filter((scenario) => !failed.includes(scenario)).map((scenario) => `${scenario} (in the baseline)`),
    ],
    known: known.filter((scenario) => failed.includes(scenario)),
  };
}

function readBaseline(file) {
  return [...readFileSync(join(here, file), 'utf8').matchAll(/^ +- (\S+)$/gm)].map(([, scenario]) => scenario);
}

// Resolves to what the suite wrote and how it ended.
async function run(name, url) {
  const options = ['server', '--url', url, ...runs[name].options, '-o', join(results, name)];
  const child = spawn(node, [suite, ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(results, `${name}.log`));
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  let text = '';
  child.stdout.on('data', (chunk) => { text += chunk; });
  const timer = setTimeout(() => child.kill('SIGKILL'), 180_000);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  log.end();
  return { text, code };
}

async function main(names) {
  const port = await freePort();
  const frontend = startFrontend(port);
  try {
    await awaitFrontend(port, frontend);
    const proxy = await startProxy(port, makeToken(`http://127.0.0.1:${port}/mcp/v1`));
    const url = `http://localhost:${proxy.address().port}/mcp/v1`;
    let [passed, failed, known] = [0, 0, 0];
    for (const name of names) {
      const { text, code } = await run(name, url);
      const verdict = judge(name, text, code);
      if (verdict.failed.length > 0) console.log(text.trimEnd().split('\n').slice(-80).join('\n'));
      console.log(`${name}: ${verdict.passed.length} passed, ${verdict.failed.length} failed`
        + (verdict.known?.length > 0 ? `; known to fail: ${verdict.known.join(', ')}` : '')
        + verdict.failed.map((scenario) => `\n  FAILED ${scenario}`).join('')
        + (verdict.failed.length > 0 ? `\n  see ${results}/${name}.log` : ''));
      passed += verdict.passed.length;
      failed += verdict.failed.length;
      known += verdict.known?.length ?? 0;
    }
    proxy.close();
    proxy.closeAllConnections();
    console.log(`conformance: ${passed} passed, ${failed} failed` + (known > 0 ? `, ${known} known to fail` : ''));
    return failed === 0 ? 0 : 1;
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
