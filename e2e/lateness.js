/**
 * How late ticks begin under the same load: without any recording, with files, with Redis, and with a Redis that fails
 * all the time. A measurement for a machine that does nothing else, no test.
 *
 *     node lateness.js --rounds 3 -- --users 200 --rooms 4 --hz 20 --duration 20s --encoding binary
 *
 * What stands behind `--` goes to the load generator, which LOADTEST_BIN names.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startServer } from './harness.js';
import { Redis } from './redis.js';

const METRIC = /^copresence_tick_lateness_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm;

/** How long Redis stays in each condition. */
const CONDITION_MS = 2_000;

const LOAD = ['--users', '200', '--rooms', '4', '--hz', '20', '--duration', '20s', '--encoding', 'binary'];

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const loadtest = process.env.LOADTEST_BIN ?? path.join(root, 'target', 'release', 'loadtest');

/** Ways to store, each with what it sets and what happens to Redis meanwhile. */
const WAYS = {
  'no recording': { env: { REPLAY_TTL_HOURS: '0' } },
  'files': { env: {} },
  'Redis': { redis: true },
  'Redis failing': { redis: true, conditions: ['pause', 'goOn', 'kill', 'start', 'fill', 'raiseLimit'] },
};

/** Lets Redis fail in one way after the other until `ended` is settled. */
async function torment(redis, conditions, ended) {
  let isOn = true;
  const end = ended.finally(() => (isOn = false)).catch(() => {});
  for (let n = 0; isOn || n % 2 === 1; n += 1) {
    await redis[conditions[n % conditions.length]]();
    await Promise.race([end, new Promise((resolve) => setTimeout(resolve, CONDITION_MS))]);
  }
}

async function load(server, args) {
  const child = spawn(loadtest, ['--url', server.url, '--pid', String(server.child.pid), '--json', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  const [code] = await once(child, 'close');
  if (code === 2) throw new Error('The load generator did not complete its run');
  return { code, report: JSON.parse(text) };
}

/** How many ticks were at most so late, by seconds. */
async function buckets(server) {
  const { body } = await server.http('GET', '/metrics');
  return [...body.matchAll(METRIC)].map(([, le, count]) => [le === '+Inf' ? Infinity : Number(le), Number(count)]);
}

async function measure({ env = {}, redis: wantsRedis, conditions }, args) {
  const redis = wantsRedis ? await new Redis().start() : null;
  const server = await startServer({ env: { ...env, LOG: 'off', ...(redis ? { REDIS_URL: redis.url } : {}) } });
  try {
    const run = load(server, args);
    if (conditions) await torment(redis, conditions, run);
    const { code } = await run;
    const { body } = await server.http('GET', '/api/health');
    const dropped = body.storage.redis?.dropped ?? 0;
    return { code, dropped, found: await buckets(server) };
  } finally {
    if (server.running) await server.kill();
    server.clean();
    await redis?.clean();
  }
}

/** The least bound that so many ticks keep, in ms. */
function bound(found, share) {
  const total = found.at(-1)[1];
  return (found.find(([, count]) => count >= total * share) ?? [Infinity])[0] * 1_000;
}

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '3' } },
  allowPositionals: true,
});
const args = positionals.length > 0 ? positionals : LOAD;
const sums = new Map();
for (let round = 0; round < Number(values.rounds); round += 1) {
  for (const [name, way] of Object.entries(WAYS)) {
    const { code, dropped, found } = await measure(way, args);
    const sum = sums.get(name);
    sums.set(name, sum ? sum.map(([le, count], at) => [le, count + found[at][1]]) : found);
    console.error(`round ${round + 1}, ${name}: load generator ${code}, ${dropped} records dropped`);
  }
}
const shares = [0.5, 0.9, 0.99, 0.999, 1];
console.log(['ms, at most', ...shares.map((share) => `${share * 100} %`), 'ticks'].join('\t'));
for (const [name, found] of sums) {
  console.log([name, ...shares.map((share) => bound(found, share)), found.at(-1)[1]].join('\t'));
}
console.log(['share of ticks', ...sums.values().next().value.map(([le]) => `≤ ${le * 1_000} ms`)].join('\t'));
for (const [name, found] of sums) {
  console.log([name, ...found.map(([, count]) => (count / found.at(-1)[1]).toFixed(5))].join('\t'));
}
