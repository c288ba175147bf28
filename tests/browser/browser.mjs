// A browser that goes through the pages as a person does, and fails where a page is not as every page has to be.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  // Nothing leaves this machine, whatever a page of somebody else's wants to load.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];
const WIDTHS = [390, 1280];
const SCHEMES = ['light', 'dark'];
// Answers that browsers report as an error on the console, where a page is one of them.
const REPORTED = 'Failed to load resource: the server responded with a status of';
// An upper limit: the machine may have much else to do.
const PATIENCE = 60_000;

/** What was handed out on the way: [kind, secret]. */
export const secrets = [];

/** The browser of the system. */
function executable() {
  const found = NAMES.flatMap((name) => process.env.PATH.split(':').map((directory) => join(directory, name))).find(existsSync);
  assert.ok(found, `none of ${NAMES.join(', ')} is installed: run scripts/install-packages test`);
  return found;
}

export class Visit {
  /** Opens the browser with a fresh profile. `ours` are the origins whose pages are judged. */
  static async begin({ ours, screenshots }, options = {}) {
    const browser = await chromium.launch({ executablePath: executable(), args: FLAGS });
    const context = await browser.newContext(options);
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const visit = new Visit();
    Object.assign(visit, { browser, context, page, ours, screenshots, faults: [], pending: [] });
    page.on('console', (message) => visit.#heard(message));
    page.on('pageerror', (error) => visit.faults.push(`script error: ${error.message}`));
    page.on('request', (request) => visit.#sent(request));
    page.on('response', (response) => visit.pending.push(visit.#received(response)));
    return visit;
  }

  async end() {
    await this.settle();
    for (const cookie of await this.context.cookies()) secrets.push(['cookie', cookie.value]);
    await this.browser.close();
  }

  /** Fails if anything was blocked, thrown, or sent without what every page is sent with. */
  async settle() {
    await Promise.all(this.pending.splice(0));
    assert.deepEqual(this.faults, []);
  }

  /** Whether a URL is one of ours. */
  isOurs(url) {
    return URL.canParse(url) && this.ours.includes(new URL(url).origin);
  }

  #heard(message) {
    const { url } = message.location();
    const mine = this.isOurs(url) || /content security policy/i.test(message.text()) && this.isOurs(this.page.url());
    const isTheAnswer = message.text().startsWith(REPORTED) && url === this.page.url();
    if (mine && !isTheAnswer && ['error', 'warning'].includes(message.type())) {
      this.faults.push(`console: ${message.text()} at ${url}`);
    }
  }

  #sent(request) {
    for (const [name, value] of new URL(request.url()).searchParams) {
      if (['code', 'state', 'nonce', 'code_verifier'].includes(name)) secrets.push([name, value]);
    }
  }

  async #received(response) {
    const headers = await response.headersArray().catch(() => []);
    for (const { name, value } of headers) {
      if (name.toLowerCase() === 'set-cookie') secrets.push(['cookie', value.split(';')[0].split('=').slice(1).join('=')]);
    }
    const kind = response.request().resourceType();
    if (!this.isOurs(response.url())) return;
    const all = (name) => headers.filter((header) => header.name.toLowerCase() === name).map(({ value }) => value).join();
    const isPage = kind === 'document' && all('content-type').startsWith('text/html');
    if (!isPage) {
      if (kind !== 'document' && response.status() >= 400) this.faults.push(`${response.status()} at ${response.url()}`);
      return;
    }
    const where = `${response.status()} ${new URL(response.url()).pathname}`;
    for (const [name, expected] of [
      ['content-security-policy', /default-src 'none'.*frame-ancestors 'none'/],
      ['x-frame-options', /^DENY$/],
      ['x-content-type-options', /^nosniff$/],
      ['cache-control', /^no-store$/],
    ]) {
      if (!expected.test(all(name))) this.faults.push(`${where} has ${name} ${JSON.stringify(all(name))}`);
    }
  }

  /** Judges the page that is open in every width and colour scheme, and keeps a picture of each. */
  async inspect(name) {
    await this.settle();
    mkdirSync(this.screenshots, { recursive: true });
    const { page } = this;
    assert.notEqual((await page.title()).trim(), '', `${name} has a title`);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      for (const colorScheme of SCHEMES) {
        await page.emulateMedia({ colorScheme });
        const [needed, there] = await page.evaluate(() => [
          document.documentElement.scrollWidth, document.documentElement.clientWidth,
        ]);
        assert.ok(needed <= there, `${name} is ${needed} px wide in a window of ${there} px`);
        await page.evaluate(AXE);
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, {
          rules: { 'target-size': { enabled: true } },
        }));
        assert.ok(passes.length > 10, `${name} was judged`);
        const told = violations.flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id}: ${help} in ${html}`));
        assert.deepEqual(told, [], `${name}, ${colorScheme}, ${width} px`);
        await page.screenshot({ path: join(this.screenshots, `${name}-${colorScheme}-${width}.png`), fullPage: true });
      }
    }
  }

  /** Presses Tab until the focus is on what `selector` names, which has to be visible in the focus. */
  async tabTo(selector) {
    for (let presses = 0; presses < 50; presses += 1) {
      await this.page.keyboard.press('Tab');
      const outline = await this.page.evaluate((wanted) => {
        const focused = document.activeElement;
        if (!focused?.matches(wanted)) return null;
        const { outlineStyle, outlineWidth } = getComputedStyle(focused);
        return outlineStyle === 'none' ? 0 : parseFloat(outlineWidth);
      }, selector);
      if (outline === null) continue;
      assert.ok(outline >= 2, `the focus on ${selector} can be seen`);
      return;
    }
    assert.fail(`Tab never comes to ${selector}`);
  }

  /** Fills in the forms of `oidc-provider` until it sends the browser back: to us, or on to a client at `origin`. */
  async signIn(user, origin) {
    const { page } = this;
    const isBack = () => this.isOurs(page.url()) || new URL(page.url()).origin === origin;
    while (!isBack()) {
      const login = page.locator('input[name=login]');
      if (await login.count()) {
        await login.fill(user);
        await page.locator('input[name=password]').fill('any');
      }
      const before = page.url();
      await page.locator('button[type=submit]').click();
      await page.waitForURL((url) => url.href !== before);
    }
    await page.waitForLoadState();
    const told = await page.locator('main').innerText();
    assert.ok(!/^Status \d+, request/m.test(told), told);
  }
}
