import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { unique, until, withServer } from '../harness.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const artifacts = path.resolve(here, '../artifacts');
const executablePath = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

/** How far `name` is away in the list of people, in metres; null if not listed. */
async function distanceOf(page, name) {
  const row = page.locator('#people-list li').filter({ hasText: name });
  if ((await row.count()) === 0) return null;
  return Number.parseFloat(await row.locator('.where').textContent());
}

async function open(browser, url, problems) {
  // Windows of their own: a page in the background would not draw.
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
  const page = await context.newPage();
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  await page.goto(url);
  return page;
}

withServer('two people with a browser', {}, (check) => {
  check('see each other come, move and go', async (server) => {
    assert.ok(existsSync(executablePath), `no Chromium at ${executablePath}; set CHROMIUM_BIN`);
    mkdirSync(artifacts, { recursive: true });
    const room = unique('meeting');
    const problems = [];
    const browser = await chromium.launch({ executablePath, args: FLAGS });
    try {
      const ada = await open(browser, `${server.url}/`, problems);
      assert.equal(await ada.locator('#entry').count(), 1, 'no page: build web/ first');
      await ada.getByLabel('Your name').fill('Ada');
      await ada.getByRole('textbox', { name: 'Room' }).fill(room);
      await ada.getByRole('button', { name: 'Enter the room' }).click();
      const bob = await open(browser, `${server.url}/?name=Bob&room=${room}`, problems);
      for (const page of [ada, bob]) {
        await page.locator('#status[data-kind="online"]').waitFor();
        await until(async () => (await page.locator('#people-count').textContent()) === '2', 'two people');
      }

      // Newcomers step aside: wait until that has arrived before measuring.
      await until(async () => (await distanceOf(ada, 'Bob')) > 0.5, 'Bob to step aside');
      await until(async () => (await distanceOf(bob, 'Ada')) > 0.5, 'Bob to see it too');
      await bob.keyboard.down('ArrowRight');
      await until(async () => (await distanceOf(ada, 'Bob')) > 3, 'Ada to see Bob move');
      await bob.keyboard.up('ArrowRight');
      await ada.keyboard.down('w');
      await until(async () => (await distanceOf(bob, 'Ada')) > 4.5, 'Bob to see Ada move');
      await ada.keyboard.up('w');
      await until(
        async () => Math.abs((await distanceOf(ada, 'Bob')) - (await distanceOf(bob, 'Ada'))) < 0.11,
        'both to agree',
      );
      await ada.screenshot({ path: path.join(artifacts, 'ada.png') });
      await bob.screenshot({ path: path.join(artifacts, 'bob.png') });

      await bob.getByRole('button', { name: 'Leave' }).click();
      await until(async () => (await ada.locator('#people-count').textContent()) === '1', 'Bob to be gone');
      assert.deepEqual(problems, []);
    } finally {
      await browser.close();
    }
  });

  check('a full room is said in words', async (server) => {
    const room = unique('cupboard');
    await server.createRoom({ roomId: room, maxUsers: 1 });
    await server.enter(room);
    const browser = await chromium.launch({ executablePath, args: FLAGS });
    try {
      const page = await open(browser, `${server.url}/?name=Cleo&room=${room}`, []);
      await page.getByRole('alert').filter({ hasText: 'Room full' }).waitFor();
    } finally {
      await browser.close();
    }
  });

  check('the page comes back by itself after the server was killed', async (server) => {
    const room = unique('phoenix');
    const browser = await chromium.launch({ executablePath, args: FLAGS });
    try {
      const page = await open(browser, `${server.url}/?name=Ada&room=${room}`, []);
      await page.locator('#status[data-kind="online"]').waitFor();
      await server.kill();
      await page.locator('#status[data-kind="reconnecting"]').waitFor();
      // Another secret: the page's token is worth nothing any more, as after a restart without one.
      server.env.JWT_SECRET = 'another secret that is long enough too';
      await server.start();
      await page.locator('#status[data-kind="online"]').waitFor();
      const bob = await server.enter(room);
      assert.equal(bob.usersAtJoin.length, 2);
    } finally {
      await browser.close();
    }
  });
});
