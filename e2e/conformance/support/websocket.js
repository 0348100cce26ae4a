import { WebSocket } from "ws";
import { within } from "./deadline.js";
import { Ended, Inbox } from "./inbox.js";
import { CLOSE, join, PING, PONG } from "./packets.js";

/** The address of the echo server's websocket transport; `query` adds parameters, or removes those set to undefined. */
export function wsUrl(echo, query = {}) {
  const url = new URL(echo.ws);
  for (const [name, value] of Object.entries({ EIO: "4", transport: "websocket", ...query })) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** One websocket, seen packet by packet: text arrives as strings, binary as Buffers. */
export class Wire {
  #inbox = new Inbox();
  #socket;
  #answersPings = true;

  constructor(echo, query) {
    const socket = new WebSocket(wsUrl(echo, query), { perMessageDeflate: false });
    this.#socket = socket;
    this.opened = new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    this.gone = new Promise((resolve) => socket.once("close", (code) => resolve({ code })));
    // Either may settle unobserved: some tests only care for the other.
    this.opened.catch(() => {});
    socket.on("error", () => {});
    socket.on("message", (data, isBinary) => {
      const packet = isBinary ? data : data.toString("utf8");
      if (this.#answersPings && packet === PING) socket.send(PONG);
      else this.#inbox.push(packet);
    });
    socket.once("close", (code) => this.#inbox.end(`the websocket was closed with ${code}`));
    echo.links.add(this);
  }

  /** Opens a websocket. `query` goes to `wsUrl`; with a `sid` there it is the second half of an upgrade. */
  static async open(echo, query) {
    const wire = new Wire(echo, query);
    await within(wire.opened, "the websocket to open");
    return wire;
  }

  /** A session of its own, its handshake taken in as `handshake`. */
  static async session(echo) {
    const wire = await Wire.open(echo);
    const first = await wire.next("the open packet");
    if (typeof first !== "string" || first[0] !== "0") throw new Error(`the first packet was ${first}`);
    wire.handshake = JSON.parse(first.slice(1));
    return wire;
  }

  /** A session that is connected to the main namespace. */
  static async connected(echo) {
    const wire = await Wire.session(echo);
    await join(wire);
    return wire;
  }

  next(what) {
    return this.#inbox.next(what);
  }

  /** From now on pings are packets like others. */
  showPings() {
    this.#answersPings = false;
  }

  /** From now on pings are answered and not shown, as they are from the beginning. */
  hidePings() {
    this.#answersPings = true;
  }

  send(packet, options) {
    this.#socket.send(packet, options);
  }

  /**
   * The closing code, once the other side has closed. Close packets may announce it; any other packet
   * that has not been looked at is a failure.
   */
  async closed() {
    try {
      let packet = await this.#inbox.next("the websocket to be closed");
      while (packet === CLOSE) packet = await this.#inbox.next("the websocket to be closed");
      throw new Error(`a packet came where the websocket should have been closed: ${packet}`);
    } catch (error) {
      if (!(error instanceof Ended)) throw error;
    }
    return this.gone;
  }

  /** The payload of the answer to a ping of the websocket protocol itself. */
  pingFrame(payload) {
    const answer = new Promise((resolve) => this.#socket.once("pong", resolve));
    this.#socket.ping(payload);
    return within(answer, "a pong frame");
  }

  close(code, reason) {
    this.#socket.close(code, reason);
  }

  terminate() {
    this.#socket.terminate();
  }
}

/** Resolves if the server refuses the websocket, or closes it without having sent a packet. */
export async function refused(echo, query) {
  const wire = new Wire(echo, query);
  await wire.closed();
}
