/** A bare WebSocket that speaks Engine.IO and Socket.IO by hand: for what a stock client never sends. */
import { randomBytes } from 'node:crypto';
import { connect as tcpConnect } from 'node:net';
import WebSocket from 'ws';

const PATIENCE_MS = 20_000;

export class RawClient {
  constructor(url, token) {
    this.url = url;
    this.token = token;
    this.packets = [];
    this.waiting = [];
    this.answersPings = true;
    this.socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, {
      perMessageDeflate: false,
    });
    this.closed = new Promise((resolve) => this.socket.once('close', resolve));
    this.socket.on('error', () => {});
    this.socket.on('message', (data, isBinary) => {
      if (!isBinary) this.receive(data.toString());
    });
  }

  receive(packet) {
    if (packet === '2') {
      if (this.answersPings) this.socket.send('3');
      return;
    }
    if (this.keeps && !this.keeps(packet)) return;
    const index = this.waiting.findIndex((w) => w.accepts(packet));
    if (index >= 0) this.waiting.splice(index, 1)[0].resolve(packet);
    else if (this.packets.push(packet) > 2_000) this.packets.shift();
  }

  /** From now on, packets that `keeps` does not like are dropped unread. */
  keepOnly(keeps) {
    this.keeps = keeps;
    this.packets = this.packets.filter(keeps);
  }

  /** Opens the session and the namespace. */
  async connected() {
    const open = await this.next((packet) => packet.startsWith('0{'));
    this.handshake = JSON.parse(open.slice(1));
    this.send(`40${JSON.stringify({ token: this.token })}`);
    const answer = await this.next((packet) => packet.startsWith('40') || packet.startsWith('44'));
    if (answer.startsWith('44')) throw new Error(JSON.parse(answer.slice(2)).message);
  }

  /** The next packet that `accepts` likes, as text; fails when the connection ends first. */
  next(accepts) {
    const index = this.packets.findIndex((packet) => accepts(packet));
    if (index >= 0) return Promise.resolve(this.packets.splice(index, 1)[0]);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('A raw client waited in vain')), PATIENCE_MS);
      this.waiting.push({ accepts, resolve: (packet) => (clearTimeout(late), resolve(packet)) });
      void this.closed.then(() => (clearTimeout(late), reject(new Error('Connection closed'))));
    });
  }

  /** Sends an Engine.IO packet as it is: text as text, bytes as a binary frame. */
  send(packet) {
    this.socket.send(packet);
  }

  /** Emits an event with an ack id, and answers the ack's argument. */
  async call(event, payload, id = 1) {
    this.send(`42${id}${JSON.stringify([event, payload])}`);
    const ack = await this.next((packet) => packet.startsWith(`43${id}[`));
    return JSON.parse(ack.slice(`43${id}`.length))[0];
  }

  close() {
    this.socket.terminate();
  }
}

/**
 * A client over a plain TCP socket, which can vanish without a WebSocket or Socket.IO farewell.
 * Answers `{tcp, vanish()}` once it is in `room`.
 */
export async function vanishingClient(url, token, room) {
  const { port } = new URL(url);
  const tcp = tcpConnect(Number(port), '127.0.0.1');
  tcp.on('error', () => {});
  let seen = '';
  const expect = (wanted) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`No ${wanted} in:\n${seen}`)), PATIENCE_MS);
      const look = (chunk) => {
        // Frame headers come out as noise between the texts that are looked for.
        seen += chunk.toString('latin1');
        if (!seen.includes(wanted)) return;
        clearTimeout(late);
        tcp.off('data', look);
        resolve();
      };
      tcp.on('data', look);
      look('');
    });
  tcp.write(
    'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n' +
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  );
  await expect('0{');
  tcp.write(textFrame(`40${JSON.stringify({ token })}`));
  await expect('40{');
  tcp.write(textFrame(`42${JSON.stringify(['join-room', { roomId: room }])}`));
  await expect('room-users');
  return { tcp, vanish: () => tcp.destroy() };
}

/** One masked text frame, as a client must send it. */
function textFrame(text) {
  const payload = Buffer.from(text);
  const mask = randomBytes(4);
  const header =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255]);
  for (let i = 0; i < payload.length; i += 1) payload[i] ^= mask[i & 3];
  return Buffer.concat([header, mask, payload]);
}
