// The pages for people, in a real browser. Usage: node pages.mjs SCENARIO JSON
//
// JSON says where things are. Prints one line of JSON: what the scenario gives, and every secret that was handed out.
import assert from 'node:assert/strict';
import { Visit, secrets } from './browser.mjs';
import { Client, whoami } from './client.mjs';

const USER = 'alice@example.com';
const [name, input] = process.argv.slice(2);
const given = JSON.parse(input);
const { frontend } = given;

const begin = (options) => Visit.begin({ ours: [frontend], screenshots: given.screenshots }, options);
const text = (page, selector) => page.locator(selector).innerText();
const heading = (page) => text(page, 'h1');
const notice = (page) => text(page, '[role=status], [role=alert]');
const status = async (token) => (await whoami(frontend, token)).status;

async function tokenByHand(visit) {
  await visit.page.goto(`${frontend}/auth/init`);
  await visit.signIn(USER);
  const token = await visit.page.getByLabel('Session token').inputValue();
  secrets.push(['session token', token]);
  return token;
}

async function connect(visit, client, scope) {
  await visit.page.goto(client.address(scope));
  await visit.page.getByRole('button', { name: 'Allow' }).click();
  await visit.signIn(USER, client.origin);
  return client.token();
}

const scenarios = {
  /** Sign in, copy the token, use it. */
  async token() {
    const visit = await begin();
    const { page, context } = visit;
    const token = await tokenByHand(visit);
    assert.match(token, /^mcps_/);
    assert.equal(await heading(page), 'Signed in as alice');
    assert.ok(!page.url().includes(token));
    await visit.inspect('signed-in');

    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: frontend });
    await page.getByRole('button', { name: 'Copy' }).click();
    await page.getByText('Copied.').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), token);
    await visit.inspect('signed-in-copied');

    // By keyboard, and where the browser does not let a page write to the clipboard.
    await page.evaluate(() => {
      document.querySelector('[role=status]').textContent = '';
      navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'));
    });
    await page.locator('h1').click();
    await visit.tabTo('button[data-copy]');
    await page.keyboard.press('Enter');
    await page.getByText('to copy the selected text').waitFor();
    assert.equal(await page.evaluate(() => getSelection().toString()), token);
    await visit.end();
    return { token };
  },

  /** A client asks to be let in: no, and yes by keyboard alone. */
  async consent() {
    const visit = await begin();
    const { page } = visit;
    const client = await Client.register(frontend, 'Notes for the desktop');
    await page.goto(client.address('mcp notes:admin'));
    assert.equal(await heading(page), 'Let Notes for the desktop in?');
    assert.match(await text(page, 'main'), /127\.0\.0\.1[\s\S]*notes:admin/);
    await visit.inspect('consent');

    await page.getByRole('button', { name: 'Refuse' }).click();
    await page.waitForURL((url) => url.origin === client.origin);
    assert.equal(client.answer().error, 'access_denied');
    assert.equal(client.answer().code, undefined);

    // An answer that is not the page's own is asked for once more.
    await page.goto(client.address());
    await page.locator('input[name=token]').evaluate((field) => { field.value = `${field.value.slice(1)}A`; });
    await page.getByRole('button', { name: 'Allow' }).click();
    assert.match(await text(page, '[role=alert]'), /Please decide once more/);
    await visit.inspect('consent-asked-anew');
    assert.equal(client.answers.length, 1);

    await page.goto(client.address('mcp notes:admin'));
    await visit.tabTo('button[value=allow]');
    await page.keyboard.press('Enter');
    await page.waitForURL((url) => url.origin !== frontend);
    await visit.signIn(USER, client.origin);
    const token = await client.token();
    client.close();

    // As long and as hostile as a name can be, from another place than this computer.
    const response = await fetch(`${frontend}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        client_name: '<img src=x onerror=alert(1)>\u202e' + 'Ω'.repeat(500),
        redirect_uris: [`https://${'a-rather-long-name.'.repeat(8)}example.com/callback`],
        token_endpoint_auth_method: 'none',
      }),
    });
    const { client_id: id, redirect_uris: [redirect] } = await response.json();
    const url = new URL(client.address());
    url.searchParams.set('client_id', id);
    url.searchParams.set('redirect_uri', redirect);
    await page.goto(url.href);
    assert.equal(await page.locator('img, script').count(), 0);
    await visit.inspect('consent-hostile');
    await visit.end();
    return { token };
  },

  /** One's own sessions: none, three, one less, none; and out. */
  async sessions() {
    const visit = await begin();
    const { page, context } = visit;
    await page.goto(`${frontend}/auth/sessions`);
    await visit.signIn(USER);
    assert.equal(page.url(), `${frontend}/auth/sessions`);
    assert.match(await text(page, 'main'), /You are signed in as alice \(alice@example\.com\)[\s\S]*\/mcp\/v1/);
    await visit.inspect('sessions-none');

    const clients = [];
    const tokens = [];
    for (const client of ['Notes for the desktop', 'Research agent']) {
      clients.push(await Client.register(frontend, client));
      tokens.push(await connect(visit, clients.at(-1), 'mcp notes:admin'));
    }
    tokens.push(await tokenByHand(visit));
    // Using one of them.
    assert.equal((await whoami(frontend, tokens[1])).subject, USER);

    await page.getByRole('link', { name: 'your sessions' }).click();
    const names = page.locator('.sessions h3');
    assert.deepEqual((await names.allInnerTexts()).sort(), ['Notes for the desktop', 'Research agent', 'Token copied by hand']);
    const card = page.locator('.sessions li', { hasText: 'Research agent' });
    const said = await card.innerText();
    for (const part of [/Chrome on Linux · 127\.0\.0\.1/, /Signed in/, /Last used/, /Ends unless used/, /notes:admin/]) {
      assert.match(said, part);
    }
    assert.equal(await page.locator('section', { hasText: 'This browser' }).getByRole('button').count(), 1);
    await visit.inspect('sessions');

    await visit.tabTo('.sessions button');
    await card.getByRole('button', { name: 'End session Research agent' }).click();
    assert.equal(await notice(page), 'Session of “Research agent” ended.');
    assert.match(await page.title(), /^Session of “Research agent” ended/);
    assert.equal(await names.count(), 2);
    await visit.inspect('sessions-ended');
    assert.deepEqual(await Promise.all(tokens.map(status)), [200, 401, 200]);
    assert.equal((await whoami(frontend, tokens[1])).reason, 'revoked');

    // A form that was left open in another tab.
    const other = await context.newPage();
    await other.goto(`${frontend}/auth/sessions`);
    await page.getByRole('button', { name: 'End session Token copied by hand' }).click();
    assert.equal(await notice(page), 'Session of “Token copied by hand” ended.');
    await other.getByRole('button', { name: 'End session Token copied by hand' }).click();
    assert.equal(await notice(other), 'That session had ended already.');
    assert.equal(await page.getByRole('button', { name: /^End all/ }).count(), 0, 'one is not many');
    tokens[2] = await tokenByHand(visit);

    await page.goto(`${frontend}/auth/sessions`);
    await page.locator('input[name=token]').last().evaluate((field) => { field.value = 'x'.repeat(43); });
    await page.getByRole('button', { name: 'Sign out here' }).click();
    assert.match(await text(page, '[role=alert]'), /Nothing was ended/);
    await visit.inspect('sessions-asked-anew');

    await page.getByRole('button', { name: 'End all 2 sessions' }).click();
    assert.equal(await notice(page), '2 other sessions ended.');
    assert.deepEqual(await Promise.all(tokens.map(status)), [401, 401, 401]);

    // What the browser keeps for this page is good for this page alone.
    const cookie = (await context.cookies()).find(({ name: of }) => of.endsWith('mcp_account'));
    assert.deepEqual(
      [cookie.httpOnly, cookie.sameSite, cookie.path, cookie.domain],
      [true, 'Lax', '/', '127.0.0.1'],
    );
    assert.ok(cookie.expires < Date.now() / 1000 + 3601);
    assert.deepEqual(await whoami(frontend, cookie.value), { status: 401, reason: 'wrong_resource' });
    const json = await context.request.get(`${frontend}/auth/sessions`, { headers: { accept: 'application/json' } });
    assert.equal(json.status(), 401, 'a program is not let in by the cookie');

    await page.getByRole('button', { name: 'Sign out here' }).click();
    assert.equal(await heading(page), 'Signed out');
    await visit.inspect('signed-out');
    assert.ok(!(await context.cookies()).some(({ name: of }) => of.endsWith('mcp_account')));
    // The other tab does not know yet.
    await other.getByRole('button', { name: 'Sign out here' }).click();
    assert.equal(await heading(other), 'You are not signed in');
    await other.close();
    // The cookie is dead, not just gone.
    await context.addCookies([cookie]);
    await page.goto(`${frontend}/auth/sessions`);
    await visit.signIn(USER);
    const next = (await context.cookies()).find(({ name: of }) => of.endsWith('mcp_account'));
    assert.notEqual(next.value, cookie.value);
    clients.forEach((client) => client.close());
    await visit.end();
    return { tokens };
  },

  /** What goes wrong. */
  async errors() {
    const visit = await begin();
    const { page } = visit;
    const open = async (url, expected, title) => {
      const response = await page.goto(url);
      assert.equal(response.status(), expected, url);
      assert.equal(await heading(page), title);
      assert.ok((await text(page, 'main')).includes(`Status ${expected}, request `));
      await visit.inspect(`error-${expected}`);
    };
    await open(`${frontend}/auth/callback?code=x&state=y`, 400, 'That did not work');
    await open(`${frontend}/auth/session`, 401, 'You are not signed in');
    await open(`${frontend}/nowhere`, 404, 'There is nothing here');
    assert.equal(await page.getByRole('link', { name: 'your sessions' }).getAttribute('href'), '/auth/sessions');

    // The person changes their mind at the provider.
    await page.goto(`${frontend}/auth/init`);
    await page.locator('a[href*=abort]').click();
    await page.waitForURL((url) => url.origin === frontend);
    assert.equal(await heading(page), 'That is not allowed');
    await visit.inspect('error-403');

    for (let tries = 0; tries < 2; tries += 1) await fetch(`${given.limited}/auth/init`, { redirect: 'manual' });
    visit.ours.push(given.limited, given.broken);
    await open(`${given.limited}/auth/init`, 429, 'Too many requests');
    await open(`${given.broken}/auth/sessions`, 503, 'Please try again');
    await visit.end();
    return {};
  },

  /** All of it without JavaScript, but for the copy button. */
  async scriptless() {
    const visit = await begin({ javaScriptEnabled: false });
    const { page } = visit;
    const byHand = await tokenByHand(visit);
    const client = await Client.register(frontend, 'Notes for the desktop');
    const token = await connect(visit, client);
    client.close();
    assert.deepEqual([await status(byHand), await status(token)], [200, 200]);
    await page.goto(`${frontend}/auth/sessions`);
    await visit.signIn(USER);
    await page.getByRole('button', { name: 'End session Notes for the desktop' }).click();
    assert.equal(await notice(page), 'Session of “Notes for the desktop” ended.');
    assert.deepEqual([await status(byHand), await status(token)], [200, 401]);
    await page.getByRole('button', { name: 'Sign out here' }).click();
    assert.equal(await heading(page), 'Signed out');
    await visit.end();
    return { token: byHand };
  },

  /** The development identity provider asks who one is. */
  async chooser() {
    const visit = await Visit.begin({ ours: [given.idp, frontend], screenshots: given.screenshots });
    const { page } = visit;
    await page.goto(`${frontend}/auth/init`);
    assert.equal(await heading(page), 'Who are you?');
    await visit.inspect('idp-chooser');
    await page.getByLabel('Somebody else').fill('nobody@example@com');
    await page.locator('form').last().evaluate((form) => { form.noValidate = true; });
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    assert.match(await text(page, '[role=alert]'), /is not an e-mail address/);
    await visit.inspect('idp-chooser-problem');
    await visit.tabTo('button[value="bob@example.com"]');
    await page.keyboard.press('Enter');
    await page.waitForURL((url) => url.origin === frontend);
    assert.equal(await heading(page), 'Signed in as Bob');
    secrets.push(['session token', await page.getByLabel('Session token').inputValue()]);
    await page.goto(`${given.idp}/authorize?client_id=nobody`);
    assert.equal(await heading(page), 'This sign-in cannot go on');
    await visit.inspect('idp-refused');
    await visit.end();
    return {};
  },
};

const result = await scenarios[name]();
console.log(JSON.stringify({ result, secrets: secrets.filter(([, secret]) => secret) }));
