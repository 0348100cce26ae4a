import { WAIT_MS } from "./deadline.js";
import { join, PING, PONG, SEPARATOR } from "./packets.js";

/** The address of the echo server's polling transport; `query` adds parameters, or removes those set to undefined. */
export function pollingUrl(echo, query = {}) {
  const url = new URL(echo.http);
  for (const [name, value] of Object.entries({ EIO: "4", transport: "polling", ...query })) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** One HTTP request; `body` comes back as text and `bytes` as it came. */
export async function request(url, options = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(WAIT_MS), ...options });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, bytes, body: bytes.toString("utf8") };
}

/** A session over HTTP. */
export class Polling {
  #unread = [];

  constructor(echo, handshake) {
    this.echo = echo;
    this.handshake = handshake;
    this.sid = handshake.sid;
    this.url = pollingUrl(echo, { sid: handshake.sid });
  }

  static async session(echo) {
    const { status, body } = await request(pollingUrl(echo));
    if (status !== 200 || body[0] !== "0") throw new Error(`the handshake was answered with ${status} ${body}`);
    return new Polling(echo, JSON.parse(body.slice(1)));
  }

  /** A session that is connected to the main namespace. */
  static async connected(echo) {
    const polling = await Polling.session(echo);
    await join(polling);
    return polling;
  }

  /** One GET as it is, heartbeats included. */
  async poll() {
    const answer = await request(this.url);
    return { ...answer, packets: answer.status === 200 ? answer.body.split(SEPARATOR) : [] };
  }

  /** One GET whose pings are answered and left out; repeated when there was nothing but pings. */
  async payload() {
    for (;;) {
      const answer = await this.poll();
      if (answer.status !== 200) throw new Error(`a poll was answered with ${answer.status} ${answer.body}`);
      const packets = answer.packets.filter((packet) => packet !== PING);
      if (packets.length < answer.packets.length) await this.send(PONG);
      if (packets.length > 0) return { ...answer, packets };
    }
  }

  /** The next packet that is not a ping. */
  async next() {
    if (this.#unread.length === 0) this.#unread.push(...(await this.payload()).packets);
    return this.#unread.shift();
  }

  /** One POST as it is; the answer is the caller's to judge. */
  post(body, options = {}) {
    return request(this.url, { method: "POST", body, ...options });
  }

  /** Sends packets in one payload and insists on their being taken. */
  async send(...packets) {
    const { status, body } = await this.post(packets.join(SEPARATOR));
    if (status !== 200 || body !== "ok") throw new Error(`a POST was answered with ${status} ${body}`);
  }

  /**
   * Whether the session has come to its end: polls, answering pings, until it is unknown. Gives up
   * after `polls` answers, which a living session reaches by its pings alone.
   */
  async ends(polls = 5) {
    for (let poll = 0; poll < polls; poll += 1) {
      const { status, packets } = await this.poll();
      if (status === 400) return true;
      if (packets.includes(PING)) await this.post(PONG);
    }
    return false;
  }
}
