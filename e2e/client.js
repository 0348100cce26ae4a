/** A stock socket.io-client whose events are kept, so that none can be missed between two waits. */
import { io } from 'socket.io-client';

/** As in harness.js; here again because the two would import each other. */
const PATIENCE_MS = 20_000;

/** How many unread events a client keeps; a test that leaves more behind has lost its way. */
const INBOX_MAX = 100_000;

export class Client {
  constructor(url, account, { transports, options = {} } = {}) {
    this.account = account;
    this.id = account.userId;
    this.inbox = [];
    this.waiting = [];
    this.socket = io(url, {
      auth: { token: account.token },
      forceNew: true,
      reconnection: false,
      ...(transports ? { transports } : {}),
      ...options,
    });
    this.socket.onAny((event, ...args) => this.receive(event, args));
    this.socket.on('disconnect', (reason) => this.receive('(disconnect)', [reason]));
  }

  /** Waits for the connection; fails with the server's words if it is refused. */
  connected() {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('Not connected in time')), PATIENCE_MS);
      this.socket.once('connect', () => (clearTimeout(late), resolve()));
      if (!this.socket.io.reconnection()) {
        this.socket.once('connect_error', (error) => (clearTimeout(late), reject(error)));
      }
    });
  }

  receive(event, args) {
    const index = this.waiting.findIndex((w) => w.event === event && w.accepts(...args));
    if (index >= 0) this.waiting.splice(index, 1)[0].resolve(args[0]);
    else if (this.inbox.push({ event, args }) > INBOX_MAX) this.inbox.shift();
  }

  /**
   * The first argument of the first `event` not yet taken that `accepts` likes; earlier ones that it
   * does not like stay. `(disconnect)` is the event of a lost connection, with its reason.
   */
  next(event, accepts = () => true, timeoutMs = PATIENCE_MS) {
    const index = this.inbox.findIndex((e) => e.event === event && accepts(...e.args));
    if (index >= 0) return Promise.resolve(this.inbox.splice(index, 1)[0].args[0]);
    return new Promise((resolve, reject) => {
      const entry = { event, accepts, resolve: (value) => (clearTimeout(late), resolve(value)) };
      const late = setTimeout(() => {
        this.waiting = this.waiting.filter((w) => w !== entry);
        const seen = this.inbox.map((e) => `${e.event} ${JSON.stringify(e.args).slice(0, 120)}`);
        const tail = seen.slice(-20).join('\n  ');
        reject(new Error(`${this.account.username} waited in vain for ${event}; unread:\n  ${tail}`));
      }, timeoutMs);
      this.waiting.push(entry);
    });
  }

  /** Takes `count` events of one name. */
  async collect(event, count) {
    const list = [];
    while (list.length < count) list.push(await this.next(event));
    return list;
  }

  /** Everything of one name that has come and was not taken. */
  unread(event) {
    return this.inbox.filter((e) => e.event === event).map((e) => e.args[0]);
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** Emits and waits for the acknowledgement's one argument. */
  async call(event, ...args) {
    return this.socket.timeout(PATIENCE_MS).emitWithAck(event, ...args);
  }

  /** Once answered, the server has seen everything that this client sent before. */
  async flush() {
    await this.call('time-sync');
  }

  close() {
    this.socket.disconnect();
  }
}
