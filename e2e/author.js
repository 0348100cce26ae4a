/**
 * Somebody who does one thing after another, with several under way at once, and keeps a book of what was done and
 * what of it was acknowledged: the witness of what a server must still know after it was killed.
 */

/** Requests of one author that may be unanswered at a time. */
const WINDOW = 4;

/** Well below what a connection may ask for: 500 at once, then 200 a second. */
const BURST = 200;
const DEEDS_PER_MS = 0.1;

/**
 * An answer that took so long may have been given because the journal was no longer waited for: a join is let in
 * all the same then. It proves nothing. The server waits for a second.
 */
const PROVES_UNTIL_MS = 900;

/** What an object's label is made of, beside ASCII. */
const LABELS = ['', 'x'.repeat(40), 'ä№🙂'.repeat(30), 'y'.repeat(1_500)];

/** A generator of numbers in [0, 1) that a seed gives again. */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What became of a request. `unknown`: nothing was heard, or not what proves anything. */
export const [YES, NO, UNKNOWN] = ['yes', 'no', 'unknown'];

export class Author {
  /**
   * `rooms` are the names of the rooms to be in, from one to the next. `objects` are objects of before, by room, that
   * nobody else changes: maps from ids to what the object is. `onAnswer` hears of every answer.
   */
  constructor(client, { random, rooms, objects = {}, onAnswer = () => {} }) {
    Object.assign(this, { client, random, rooms, onAnswer });
    this.id = client.id;
    /** Everything that was asked for, in order. */
    this.deeds = [];
    this.room = undefined;
    this.count = 0;
    this.objects = Object.fromEntries(rooms.map((room) => [room, new Map(objects[room])]));
  }

  /** Goes on until the connection is lost. */
  async work() {
    const running = new Set();
    const { socket } = this.client;
    const begin = performance.now();
    while (socket.connected) {
      // Nobody is refused for being too fast: a refused join would leave the author elsewhere than it believes.
      if (this.deeds.length > BURST + (performance.now() - begin) * DEEDS_PER_MS) {
        await new Promise((resolve) => setTimeout(resolve, 1 / DEEDS_PER_MS));
        continue;
      }
      const { deed, answered } = this.next();
      const done = answered.finally(() => running.delete(done));
      running.add(done);
      // What comes after a join that is not answered may be refused, which is worth a try now and then only.
      if (deed.type === 'join' && this.random() < 0.7) await done;
      if (running.size >= WINDOW) await Promise.race(running);
    }
    await Promise.all(running);
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  /** Does the next thing, whatever it is. */
  next() {
    if (this.room === undefined) return this.join(this.pick(this.rooms));
    const mine = [...this.objects[this.room].keys()];
    const chance = this.random();
    if (chance < 0.28 || (mine.length === 0 && chance < 0.7)) return this.create();
    if (chance < 0.56) return this.update(this.pick(mine));
    if (chance < 0.68) return this.remove(this.pick(mine));
    if (chance < 0.76) return this.tell('object-update', { id: 'shared', n: this.name() }, 'shared');
    if (chance < 0.84) return this.tell('user-update', { mood: this.name() });
    if (chance < 0.94) return this.tell('room-message', { type: 'chat', data: { n: this.name() } });
    if (chance < 0.97) return this.join(this.pick(this.rooms.filter((room) => room !== this.room)));
    return this.leave();
  }

  /** A name for something that is done, which nothing else has. */
  name() {
    this.count += 1;
    return `${this.id}/${this.count}`;
  }

  /** Somebody who is elsewhere has left, which nobody answers. */
  join(room) {
    if (this.room !== undefined) this.note({ type: 'leave', room: this.room });
    this.room = room;
    return this.tell('join-room', { roomId: room });
  }

  leave() {
    const told = this.tell('leave-room');
    this.room = undefined;
    return told;
  }

  create() {
    const n = this.name();
    const position = { x: this.count, y: 1.5, z: -this.count / 4 };
    const object = { id: n, n, type: 'box', position, label: this.pick(LABELS) };
    this.objects[this.room].set(n, object);
    return this.tell('object-create', object, n, object);
  }

  update(id) {
    const change = { id, n: this.name(), [this.pick(['color', 'label'])]: this.pick(LABELS) };
    const object = { ...this.objects[this.room].get(id), ...change };
    this.objects[this.room].set(id, object);
    return this.tell('object-update', change, id, object);
  }

  remove(id) {
    this.objects[this.room].delete(id);
    return this.tell('object-delete', { id }, id, null);
  }

  note(deed) {
    deed.outcome = UNKNOWN;
    this.deeds.push(deed);
    return deed;
  }

  /** Asks for something. `object` is what the object with the id `objectId` is if that is done. */
  tell(event, payload, objectId, object) {
    const types = { 'join-room': 'join', 'leave-room': 'leave', 'room-message': 'message' };
    const type = types[event] ?? event;
    const deed = this.note({ type, room: this.room, key: keyOf(type, payload), objectId, object });
    const begin = performance.now();
    const args = payload === undefined ? [] : [payload];
    const answered = this.client.call(event, ...args).then(
      (answer) => {
        deed.answer = answer;
        if (answer.ok) deed.outcome = performance.now() - begin < PROVES_UNTIL_MS ? YES : UNKNOWN;
        else deed.outcome = answer.error.code === 'storage' ? UNKNOWN : NO;
        this.onAnswer(deed);
      },
      () => {},
    );
    return { deed, answered };
  }
}

/** What tells an event from others of its type and author, in a request as in a recording. */
export function keyOf(type, event) {
  if (type === 'object-create' || type === 'object-update') return `${event.id} ${event.n}`;
  if (type === 'object-delete') return event.id;
  if (type === 'user-update') return event.mood;
  return type === 'message' ? event.data.n : undefined;
}

/** Somebody who moves without a pause, each time to the next whole number, and asks for nothing. */
export class Mover {
  constructor(client, room) {
    Object.assign(this, { client, room, id: client.id });
    /** When each pose was sent, Unix ms. */
    this.sentAt = [];
  }

  move() {
    const position = { x: this.sentAt.length, y: 1.6, z: 0.25 };
    this.client.emit('update-position', { position, rotation: { x: 0, y: 0, z: 0 } });
    this.sentAt.push(Date.now());
  }
}
