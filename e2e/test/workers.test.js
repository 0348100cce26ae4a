/** Tasks through the real server to real worker processes, whole ones and faulty ones. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { binary, once, startServer, TRANSPORTS, unique, until, within } from '../harness.js';
import { assertAccepted } from '../expect.js';

const WORKER = fileURLToPath(new URL('../worker.js', import.meta.url));

/** The worker of this project, if it was built beside the server. */
const REAL_WORKER = path.join(path.dirname(binary()), 'copresence-worker');

/** How long a test may take, in milliseconds. */
const timeout = 120_000;

const opened = [];

/** A worker process; `seen` are the payloads that it was given. */
async function startWorker(fault) {
  const child = spawn(process.execPath, [WORKER, fault], { stdio: ['ignore', 'pipe', 'inherit'] });
  opened.push(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout });
  const [port] = await once(lines, 'line');
  const seen = [];
  lines.on('line', (line) => seen.push(JSON.parse(line)));
  return { url: `http://127.0.0.1:${port}`, seen, child };
}

/** A process of the worker of this project. */
async function startRealWorker(secret = '') {
  const child = spawn(REAL_WORKER, ['--port', '0'], {
    env: { PATH: process.env.PATH, WORKER_SECRET: secret },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  opened.push(() => child.kill('SIGKILL'));
  const port = await within(new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        const found = line.match(/127\.0\.0\.1:(\d+)/);
        if (found) resolve(found[1]);
      });
    }
  }), 'the worker to start');
  return { url: `http://127.0.0.1:${port}`, child };
}

/** Asks for `total` tasks, 200 a second in fives, by clients in turn, and answers what comes of each. */
async function load(clients, total, ask, at = () => {}) {
  const told = clients.map((client) => new Answers(client));
  const answers = [];
  for (let n = 0; n < total; n++) {
    const index = n % clients.length;
    clients[index].emit('worker-task', { taskId: n, ...ask(n) });
    answers.push(told[index].to(n));
    at(n);
    if (n % 5 === 4) await new Promise((resolve) => setTimeout(resolve, 25));
  }
  const outcomes = await Promise.all(answers);
  for (const client of clients) await client.flush();
  return outcomes;
}

/** As many clients as keep 200 tasks a second within what each of them may ask. */
const crowd = (server) => Promise.all([...Array(10)].map((_, n) => server.connect({ name: `client ${n}` })));

/** The corners of a cube and its middle. */
function cube() {
  const points = [[0.5, 0.5, 0.5]];
  for (const x of [0, 1]) for (const y of [0, 1]) for (const z of [0, 1]) points.push([x, y, z]);
  return { points };
}

async function start(env) {
  const server = await startServer({ env });
  opened.push(async () => {
    server.closeClients();
    if (server.running) await server.kill();
    server.clean();
  });
  return server;
}

/** A server with these workers, all of which it has found well. */
async function serverWith(workers, env = {}) {
  const list = Object.entries(workers).map(([name, { url }]) => `${name}=${url}`);
  const server = await start({ WORKERS: list.join(','), ...env });
  await until(async () => (await status(server)).every((worker) => worker.healthy), 'the workers to be well');
  return server;
}

const status = async (server) => (await server.http('GET', '/api/worker/status')).body;

async function execute(server, body, token) {
  const headers = { Authorization: `Bearer ${token ?? (await server.login()).token}` };
  return server.http('POST', '/api/worker/execute', { body, headers });
}

/** The answers to a client's tasks, each of which is to come once. */
class Answers {
  constructor(client) {
    this.told = new Map();
    this.waiting = new Map();
    for (const event of ['worker-result', 'worker-error']) client.socket.on(event, (answer) => this.take(answer));
  }

  take(answer) {
    const { taskId } = answer;
    assert.ok(!this.told.has(taskId), `two answers to ${taskId}`);
    this.told.set(taskId, answer);
    this.waiting.get(taskId)?.(answer);
  }

  /** `{taskId, result}` or `{taskId, error}`. */
  to(taskId) {
    if (this.told.has(taskId)) return Promise.resolve(this.told.get(taskId));
    return within(new Promise((resolve) => this.waiting.set(taskId, resolve)), `an answer to ${taskId}`, 60_000);
  }
}

describe('workers', { timeout: timeout * 20 }, () => {
  after(async () => {
    for (const close of opened.reverse()) await close();
  });

  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    it(`do tasks, ${mode}`, { timeout }, async () => {
      const server = await serverWith({ a: await startWorker('none') });
      const client = await server.connect({ transports });
      const payload = { at: [1.5, 1e100, null], text: 'ü\n' };
      for (const taskId of ['t-1', 7, { nested: [1.10] }, null]) {
        client.emit('worker-task', { taskId, task: 'echo', payload });
        const answer = await client.next('worker-result');
        assert.deepEqual(answer, { taskId, result: { echo: payload, worker: 'none' } });
      }
      const ack = await client.call('worker-task', { taskId: 't-2', task: 'echo', payload: 0 });
      assertAccepted(ack);
      assert.equal(ack.taskId, 't-2');
      assert.equal((await client.next('worker-result')).taskId, 't-2');
      const refused = await client.call('worker-task', { taskId: 't-3', task: 'fail' });
      assert.deepEqual(refused, { ok: false, error: { code: 'worker_failed', message: 'no points in …' } });
      assert.deepEqual(await client.next('worker-error'), { taskId: 't-3', error: 'no points in …' });
      const bytes = 1024 * 1024 - 2;
      client.emit('worker-task', { taskId: 't-4', task: 'large', payload: bytes });
      assert.equal((await client.next('worker-result')).result.length, bytes);
      client.emit('worker-task', { taskId: 't-5', task: 'large', payload: bytes + 1 });
      assert.equal((await client.next('worker-error')).error, 'The result is larger than 1 MiB');
      client.emit('worker-task', { taskId: 't-6', task: '' });
      assert.deepEqual(await client.next('worker-error'), { taskId: 't-6', error: 'task required' });
      client.emit('worker-task', { taskId: 'x'.repeat(200), task: 'echo' });
      assert.equal((await client.next('error')).code, 'bad_request');
      assert.deepEqual(client.unread('worker-result').concat(client.unread('worker-error')), []);
    });
  }

  it('do tasks over HTTP, and are shown in status, health and metrics', { timeout }, async () => {
    const server = await serverWith({ a: await startWorker('none') });
    const done = await execute(server, { task: 'echo', data: { n: 1 } });
    assert.equal(done.status, 200);
    assert.deepEqual(done.body, { echo: { n: 1 }, worker: 'none' });
    assert.deepEqual(await execute(server, { task: 'fail' }).then(({ status, body }) => ({ status, body })), {
      status: 422,
      body: { error: 'no points in …' },
    });
    assert.equal((await execute(server, { task: 'echo' }, 'nonsense')).status, 401);
    const [worker] = await status(server);
    assert.deepEqual(Object.keys(worker).slice(0, 3), ['name', 'url', 'healthy']);
    assert.equal(worker.completed, 1);
    assert.ok(worker.latencyMs.p50 > 0 && worker.circuit === 'closed' && worker.inFlight === 0);
    assert.equal((await server.http('GET', '/api/health')).body.workers, 1);
    const metrics = (await server.http('GET', '/metrics')).body;
    assert.match(metrics, /^copresence_worker_tasks_total\{outcome="completed"\} 1$/m);
    assert.match(metrics, /^copresence_worker_healthy\{worker="a"\} 1$/m);
  });

  it('that are older get the older call', { timeout }, async () => {
    const server = await serverWith({ a: await startWorker('older') });
    const client = await server.connect();
    for (const taskId of [1, 2]) {
      client.emit('worker-task', { taskId, task: 'echo', payload: [taskId] });
      assert.deepEqual((await client.next('worker-result')).result.echo, [taskId]);
    }
    assert.equal((await status(server))[0].call, '/execute');
  });

  it('are named by the variables of their platforms too', { timeout }, async () => {
    const { url } = await startWorker('none');
    const server = await start({ RAILWAY_WORKER_URL: url, KOYEB_WORKER_URL: 'http://127.0.0.1:1' });
    const both = await until(async () => {
      const [railway, koyeb] = await status(server);
      return railway.healthy && koyeb.lastError && [railway, koyeb];
    }, 'one to be well and the other not');
    assert.deepEqual(both.map(({ name, url, healthy }) => ({ name, url, healthy })), [
      { name: 'railway', url, healthy: true },
      { name: 'koyeb', url: 'http://127.0.0.1:1', healthy: false },
    ]);
    assert.equal(both[1].lastError.message, 'cannot be reached');
  });

  for (const fault of ['hang', 'answer 500', 'garbage', '100 MB', 'slow drip', 'hang up', 'die after accepting']) {
    it(`that ${fault}: every task has one answer, and the next worker helps where it may`, { timeout }, async () => {
      const workers = { bad: await startWorker(fault), good: await startWorker('none') };
      const server = await serverWith(workers, { WORKER_TIMEOUT: '15000' });
      const client = await server.connect();
      const answers = new Answers(client);
      const count = 12;
      for (let n = 0; n < count; n++) client.emit('worker-task', { taskId: n, task: 'echo', payload: n });
      let done = 0;
      for (let n = 0; n < count; n++) {
        const { result, error } = await answers.to(n);
        if (result) done += 1;
        else assert.match(error, /^(The |No healthy)/);
        if (result) assert.equal(result.echo, n);
      }
      assert.ok(done >= workers.good.seen.length, 'what the good one had is done');
      if (['hang', 'hang up'].includes(fault)) assert.equal(done, count);
      await client.flush();
      assert.equal(answers.told.size, count);
      const shown = JSON.stringify(await status(server));
      assert.doesNotMatch(shown + server.output, /srv\/worker|<html>/);
    });
  }

  it('that are killed under load lose nothing that could be saved', { timeout }, async () => {
    const workers = { dies: await startWorker('none'), stays: await startWorker('none') };
    const server = await serverWith(workers);
    const total = 600;
    const kill = (n) => n === total / 3 && workers.dies.child.kill('SIGKILL');
    const outcomes = await load(await crowd(server), total, (n) => ({ task: 'echo', payload: n }), kill);
    const lost = outcomes.filter(({ error }) => error !== undefined);
    const had = new Set(workers.dies.seen);
    for (const { taskId, error } of lost) {
      assert.equal(error, 'The worker was lost while it had the task');
      assert.ok(had.has(taskId), `task ${taskId} could have been saved`);
    }
    assert.ok(lost.length <= 32, `${lost.length} lost`);
    const [dies, stays] = await status(server);
    assert.deepEqual([dies.healthy, dies.circuit, stays.healthy], [false, 'open', true]);
  });

  it('give up the tasks of whoever leaves', { timeout }, async () => {
    const server = await serverWith({ a: await startWorker('none') });
    const client = await server.connect();
    for (const taskId of [1, 2, 3]) client.emit('worker-task', { taskId, task: 'never' });
    const inFlight = async () => (await status(server))[0].inFlight;
    await until(async () => (await inFlight()) === 3, 'the tasks to be under way');
    client.close();
    await until(async () => (await inFlight()) === 0, 'the tasks to be given up');
    const controller = new AbortController();
    const asked = fetch(`${server.url}/api/worker/execute`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${(await server.login()).token}` },
      body: JSON.stringify({ task: 'never' }),
      signal: controller.signal,
    });
    await until(async () => (await inFlight()) === 1, 'the call to be under way');
    controller.abort();
    await assert.rejects(asked);
    await until(async () => (await inFlight()) === 0, 'the call to be given up');
  });

  it('do not do everything for one user', { timeout }, async () => {
    const server = await serverWith({ a: await startWorker('none') });
    const client = await server.connect();
    for (let taskId = 0; taskId < 17; taskId++) client.emit('worker-task', { taskId, task: 'never' });
    const refused = await client.next('worker-error');
    assert.deepEqual(refused, { taskId: 16, error: 'at most 16 tasks of one user at once' });
    const http = await execute(server, { task: 'echo' }, client.account.token);
    assert.equal(http.status, 429);
    assert.ok(Number(http.headers.get('retry-after')) >= 1);
    assert.equal((await execute(server, { task: 'echo', data: 1 })).status, 200, 'somebody else');
  });

  const real = { timeout, skip: !existsSync(REAL_WORKER) && 'it is not built' };

  it('of this project do their tasks', real, async () => {
    const worker = await startRealWorker('of-the-worker');
    const server = await serverWith({ real: worker }, { WORKER_SECRET: 'of-the-worker' });
    const client = await server.enter(unique('hull'));
    const answers = new Answers(client);
    client.emit('worker-task', { taskId: 'hull', task: 'convex-hull', payload: cube() });
    const { result, error } = await answers.to('hull');
    assert.equal(error, undefined);
    assert.equal(result.vertices.length, 8);
    client.emit('worker-task', { taskId: 'none', task: 'no-such-task', payload: {} });
    assert.ok((await answers.to('none')).error);
    assert.equal((await status(server))[0].healthy, true, 'a task that it does not know is not its fault');
  });

  it('of this project that are killed under load lose nothing that could be saved', real, async () => {
    const workers = { dies: await startRealWorker(), stays: await startRealWorker() };
    const server = await serverWith(workers);
    const total = 600;
    const kill = (n) => n === total / 3 && workers.dies.child.kill('SIGKILL');
    const ask = () => ({ task: 'convex-hull', payload: cube() });
    const outcomes = await load(await crowd(server), total, ask, kill);
    // What it had accepted and not done goes with it; all else is done by the other one.
    const lost = outcomes.filter(({ error }) => error !== undefined);
    for (const { error } of lost) assert.equal(error, 'The worker was lost while it had the task');
    assert.ok(lost.length <= 32, `${lost.length} lost`);
    for (const { result } of outcomes) assert.ok(!result || result.vertices.length === 8);
    const [dies, stays] = await status(server);
    assert.deepEqual([dies.healthy, dies.circuit, stays.healthy], [false, 'open', true]);
    assert.ok(dies.completed > 0, 'it had its share before');
    assert.equal(dies.completed + stays.completed + lost.length, total);
  });

  it('of this project that die cost one failure', real, async () => {
    const workers = { dies: await startRealWorker(), stays: await startRealWorker() };
    // Only a task can find out.
    const server = await serverWith(workers, { WORKER_HEALTH_INTERVAL: '600000' });
    workers.dies.child.kill('SIGKILL');
    await once(workers.dies.child, 'exit');
    const clients = await crowd(server);
    const answers = new Answers(clients[0]);
    const failed = async () => (await status(server))[0].failed;
    // One after the other, until one has been there.
    for (let n = 0; (await failed()) === 0; n++) {
      clients[0].emit('worker-task', { taskId: `first ${n}`, task: 'convex-hull', payload: cube() });
      assert.equal((await answers.to(`first ${n}`)).error, undefined);
    }
    const ask = () => ({ task: 'convex-hull', payload: cube() });
    const outcomes = await load(clients.slice(1), 200, ask);
    assert.deepEqual(outcomes.filter(({ error }) => error !== undefined), []);
    assert.equal(await failed(), 1, 'nobody has been sent there since');
  });

  it('that are going down say so, and not that there is too much to do', real, async () => {
    const worker = await startRealWorker();
    const server = await serverWith({ only: worker });
    const client = await server.connect();
    const answers = new Answers(client);
    // Somebody else waits for these, so it does not end at once. The goal is walled in: all other cells are gone through.
    const rows = [...Array(1000)].map(() => '.'.repeat(1000));
    rows.splice(998, 2, `${'.'.repeat(998)}##`, `${'.'.repeat(998)}#.`);
    const long = JSON.stringify({ task: 'path', data: { rows, start: [0, 0], goal: [999, 999], diagonal: true } });
    const others = [...Array(12)].map(() => fetch(`${worker.url}/execute`, { method: 'POST', body: long }).catch(() => null));
    const metrics = async () => (await fetch(`${worker.url}/metrics`)).text();
    await until(async () => /unfinished ([6-9]|1\d)/.test(await metrics()), 'the worker to have something to do');
    worker.child.kill('SIGTERM');
    const health = async () => (await fetch(`${worker.url}/health`)).status;
    await until(async () => (await health()) === 503, 'the worker to go down');
    client.emit('worker-task', { taskId: 'late', task: 'convex-hull', payload: cube() });
    assert.equal((await answers.to('late')).error, 'The workers take no tasks now, try again later');
    worker.child.kill('SIGKILL');
    await Promise.all(others);
  });
});
