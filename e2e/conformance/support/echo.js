import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { after, afterEach, before } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { within } from "./deadline.js";

const DEFAULT_BINARY = fileURLToPath(new URL("../../../target/release/examples/echo", import.meta.url));
const ADDRESS = "127.0.0.1";
const CONNECT_RETRY_MS = 20;
const START_LIMIT_MS = 30_000;
const LOG_KEPT_CHARS = 8_192;

/** Heartbeats and limits far apart: no session comes to its end because the machine is busy. */
const UNHURRIED = { pingIntervalMs: 60_000, pingTimeoutMs: 60_000, connectTimeoutMs: 60_000 };

/** Pings come quickly, but there is all the time in the world to answer them. */
export const PINGING = { ...UNHURRIED, pingIntervalMs: 100 };

/** Sessions that do not answer pings end soon, those that do have ample time for it. */
export const MORTAL = { ...UNHURRIED, pingIntervalMs: 100, pingTimeoutMs: 2_000 };

/** Sessions that do not CONNECT end soon. */
export const WAITING_FOR_CONNECT = { ...UNHURRIED, connectTimeoutMs: 300 };

/** The server's own defaults, which are those that the handshake has to announce. */
export const AS_IT_IS = {};

/**
 * Starts an echo server before the tests of the calling file or suite and stops it after them. The
 * address is known once the tests run. What a test opens and registers in `links` is torn down after
 * that test. `times` are handed to the server; those left out are its own.
 */
export function useEcho(times = UNHURRIED) {
  const echo = { address: ADDRESS, port: 0, http: "", ws: "", links: new Set() };
  let child;
  before(async () => {
    echo.port = await freePort();
    echo.http = `http://${ADDRESS}:${echo.port}/socket.io/`;
    echo.ws = `ws://${ADDRESS}:${echo.port}/socket.io/`;
    child = await start(echo.port, times);
  });
  afterEach(() => {
    for (const link of echo.links) link.terminate();
    echo.links.clear();
  });
  after(async () => {
    if (child) await stop(child);
  });
  return echo;
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, ADDRESS, resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function start(port, times) {
  const binary = process.env.COPRESENCE_ECHO_BIN ?? DEFAULT_BINARY;
  if (!existsSync(binary)) {
    throw new Error(`${binary} is missing; build it with: cargo build --release --example echo -p server`);
  }
  const child = spawn(binary, ["--port", String(port)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment(times) },
  });
  child.log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      child.log = (child.log + text).slice(-LOG_KEPT_CHARS);
    });
  }
  child.gone = new Promise((resolve) => {
    child.once("error", (error) => resolve(`could not be run: ${error.message}`));
    child.once("exit", (code, signal) => resolve(`ended with ${signal ?? code}`));
  });
  await within(accepting(port, child), "the echo server to accept connections", START_LIMIT_MS);
  return child;
}

function environment({ pingIntervalMs, pingTimeoutMs, connectTimeoutMs }) {
  const variables = {
    COPRESENCE_ECHO_PING_INTERVAL_MS: pingIntervalMs,
    COPRESENCE_ECHO_PING_TIMEOUT_MS: pingTimeoutMs,
    COPRESENCE_ECHO_CONNECT_TIMEOUT_MS: connectTimeoutMs,
  };
  const given = Object.entries(variables).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
}

// A listening socket can only be found by trying; the pause keeps the tries from taking the processor
// that the server needs to start.
async function accepting(port, child) {
  let ended = null;
  child.gone.then((how) => (ended = how));
  for (;;) {
    if (ended) throw new Error(`the echo server ${ended}\n${child.log}`);
    const reached = await new Promise((resolve) => {
      const socket = net.connect(port, ADDRESS);
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (reached) return;
    await pause(CONNECT_RETRY_MS);
  }
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) {
    throw new Error(`the echo server ${await child.gone} in the midst of the tests\n${child.log}`);
  }
  child.kill("SIGTERM");
  try {
    await within(child.gone, "the echo server to stop on SIGTERM");
  } finally {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  }
}
