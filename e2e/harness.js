/**
 * Starts the real server and talks to it. Nothing here sleeps: everything waits for an event,
 * or for a condition, with a time-out that is generous enough for a busy machine.
 */
import { spawn } from 'node:child_process';
import { once as nodeOnce } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { Client } from './client.js';
import { RawClient } from './raw.js';

/** How long to wait for anything at all, in milliseconds. */
export const PATIENCE_MS = 20_000;

/** How long one test may take, in milliseconds. */
const TEST_TIMEOUT_MS = 120_000;

/** How much of a server's log is kept for a failure's report, in characters. */
const LOG_MAX = 200_000;

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** The transports that every seed row is tested over. `default` begins with polling and upgrades. */
export const TRANSPORTS = { polling: ['polling'], websocket: ['websocket'], default: undefined };

/** The server to test. */
export function binary() {
  if (process.env.COPRESENCE_BIN) return path.resolve(process.env.COPRESENCE_BIN);
  const found = ['release', 'debug']
    .map((profile) => path.join(root, 'target', profile, 'copresence'))
    .find((candidate) => existsSync(candidate));
  if (!found) throw new Error('No server to test: build it, or set COPRESENCE_BIN');
  return found;
}

/** A port of the loopback interface that nobody listens on. */
export async function freePort() {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await nodeOnce(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await nodeOnce(probe, 'close');
  return port;
}

/** Rejects with `what` if `promise` is not settled in time. */
export function within(promise, what, timeoutMs = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Waited ${timeoutMs} ms for ${what}`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks `probe` again and again until it answers with something true. */
export async function until(probe, what, timeoutMs = PATIENCE_MS) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`Waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** The next `event` of an emitter or a socket, as an array of its arguments. */
export function once(emitter, event, timeoutMs = PATIENCE_MS) {
  return within(nodeOnce(emitter, event), `the event ${event}`, timeoutMs);
}

/** A name that no other test uses. */
export function unique(prefix) {
  unique.last = (unique.last ?? 0) + 1;
  return `${prefix}-${process.pid}-${unique.last}`;
}

/** One run of the server, which can be stopped, killed and started again on the same data. */
export class Server {
  constructor({ env = {}, args = [] } = {}) {
    this.env = env;
    this.args = args;
    this.output = '';
    this.clients = [];
  }

  async start() {
    this.port ??= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    this.dataDir ??= mkdtempSync(path.join(tmpdir(), 'copresence-e2e-'));
    this.child = spawn(binary(), this.args, {
      cwd: root,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        HOST: '127.0.0.1',
        PORT: String(this.port),
        DATA_DIR: this.dataDir,
        JWT_SECRET: 'a secret for tests that is long enough',
        NODE_ENV: 'development',
        ...this.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (chunk) => {
        this.output = (this.output + chunk).slice(-LOG_MAX);
      });
    }
    this.exited = nodeOnce(this.child, 'exit').then(([code, signal]) => ({ code, signal }));
    await until(async () => {
      if (!this.running) throw new Error(`The server ended early:\n${this.output}`);
      const answer = await fetch(`${this.url}/readyz`).catch(() => null);
      await answer?.arrayBuffer();
      return answer?.status === 200;
    }, 'the server to be ready');
    return this;
  }

  /** Ends it as an operator does, and answers its exit code and signal. */
  async stop() {
    this.child.kill('SIGTERM');
    return within(this.exited, 'the server to end after SIGTERM', 40_000);
  }

  /** Ends it as a power cut does. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'the server to end after SIGKILL');
  }

  get running() {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Removes what it has stored. */
  clean() {
    if (this.dataDir) rmSync(this.dataDir, { recursive: true, force: true });
  }

  /** A request; answers `{status, headers, body}`, the body parsed if it is JSON. */
  async http(method, target, { body, headers = {} } = {}) {
    const raw = typeof body === 'string' || body === undefined;
    // A connection of its own: one that is kept may be to a server that was killed since.
    const own = { Connection: 'close', ...headers };
    const response = await fetch(this.url + target, {
      method,
      headers: body === undefined ? own : { 'Content-Type': 'application/json', ...own },
      body: raw ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json');
    const parsed = isJson && text !== '' ? JSON.parse(text) : text;
    return { status: response.status, headers: response.headers, body: parsed };
  }

  async login(username = 'visitor') {
    const { status, body } = await this.http('POST', '/api/auth/login', { body: { username } });
    if (status !== 200) throw new Error(`Login answered ${status}: ${JSON.stringify(body)}`);
    return body;
  }

  /** `POST /api/rooms` with a token. */
  async createRoom(options) {
    const { token } = await this.login();
    const headers = { Authorization: `Bearer ${token}` };
    return this.http('POST', '/api/rooms', { body: options, headers });
  }

  /** A stock client that is signed in and connected. */
  async connect({ name = 'visitor', transports, options } = {}) {
    const client = new Client(this.url, await this.login(name), { transports, options });
    this.clients.push(client);
    await client.connected();
    return client;
  }

  /** A stock client in a room; what it is told on entering is waited for and kept. */
  async enter(room, { name, transports, encoding, view } = {}) {
    const client = await this.connect({ name, transports });
    client.joinAnswer = await client.call('join-room', { roomId: room, encoding, view });
    if (!client.joinAnswer.ok) throw new Error(`Not let in: ${JSON.stringify(client.joinAnswer)}`);
    client.usersAtJoin = await client.next('room-users');
    client.objectsAtJoin = await client.next('room-objects');
    return client;
  }

  /** A bare WebSocket that speaks Engine.IO by hand; signed in unless `token` says otherwise. */
  async raw({ token } = {}) {
    const client = new RawClient(this.url, token ?? (await this.login('raw')).token);
    this.clients.push(client);
    await client.connected();
    return client;
  }

  /** Closes every client that was opened since the last call. */
  closeClients() {
    for (const client of this.clients.splice(0)) client.close();
  }
}

export async function startServer(options) {
  const server = new Server(options);
  try {
    return await server.start();
  } catch (error) {
    server.child?.kill('SIGKILL');
    server.clean();
    throw error;
  }
}

/**
 * A group of tests that share one server. `define` gets `check(name, fn)`, where `fn` is called
 * with the server; its clients are closed afterwards and its log is printed if the test fails.
 */
export function withServer(title, options, define) {
  describe(title, { timeout: TEST_TIMEOUT_MS * 10 }, () => {
    let server;
    before(async () => {
      server = await startServer(options);
    });
    after(async () => {
      if (!server) return;
      server.closeClients();
      try {
        const { code, signal } = server.running ? await server.stop() : await server.exited;
        if (code !== 0) {
          console.error(server.output);
          throw new Error(`The server ended with code ${code}, signal ${signal}`);
        }
      } finally {
        if (server.running) await server.kill();
        server.clean();
      }
    });
    define((name, fn) => {
      it(name, { timeout: TEST_TIMEOUT_MS }, async (t) => {
        const start = server.output.length;
        try {
          await fn(server, t);
        } catch (error) {
          console.error(`--- the server's log during "${name}"\n${server.output.slice(start)}---`);
          throw error;
        } finally {
          server.closeClients();
        }
      });
    });
  });
}
