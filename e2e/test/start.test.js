import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { binary } from '../harness.js';

/** Runs the server with what should make it end at once; answers its code and what it said. */
async function run(env, args, signal) {
  const child = spawn(binary(), args, {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, HOST: '127.0.0.1', PORT: '0', ...env },
    signal,
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  const [code] = await once(child, 'close');
  return { code, said };
}

describe('starting', { timeout: 60_000 }, () => {
  for (const [what, env, named] of [
    ['no secret in production', { NODE_ENV: 'production' }, /JWT_SECRET/],
    ['a short secret in production', { NODE_ENV: 'production', JWT_SECRET: 'short' }, /JWT_SECRET/],
    ['a port that is none', { PORT: 'http' }, /port/i],
    ['a tick rate out of range', { TICK_HZ: '91' }, /TICK_HZ/i],
  ]) {
    it(`${what} is said, and nothing is started`, async (t) => {
      const { code, said } = await run(env, [], t.signal);
      assert.notEqual(code, 0);
      assert.match(said, named);
    });
  }

  it('--help names every setting of the seed', async (t) => {
    const { code, said } = await run({}, ['--help'], t.signal);
    assert.equal(code, 0);
    for (const name of ['PORT', 'JWT_SECRET', 'REDIS_URL', 'NODE_ENV']) assert.match(said, new RegExp(name));
  });
});
