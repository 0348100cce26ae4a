/** A visitor that does something all the time, and keeps account of what it did and of what it was told. */

/** Objects that one actor has at the same time, at most. */
const OBJECTS_MAX = 5;

/** Numbers between 0 and 1 that are the same for the same seed. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What was told of others, in words that a recording's event has too; nothing for what is not recorded. */
const TOLD = {
  'user-joined': (user) => `join ${user.id}`,
  'user-left': (id) => `leave ${id}`,
  'object-created': ({ id, n }) => `object-create ${id} ${n}`,
  'object-updated': ({ id, version, n }) => `object-update ${id} ${version} ${n}`,
  'object-deleted': ({ id }) => `object-delete ${id}`,
  'user-updated': ({ id, n }) => `user-update ${id} ${n}`,
  'room-message': ({ from, data }) => `message ${from} ${data}`,
};

/** An event of a recording in the same words. */
export function wordsOf(event) {
  const { type, userId, update } = event;
  if (type === 'object-create') return `${type} ${event.object.id} ${event.object.n}`;
  if (type === 'object-update') return `${type} ${update.id} ${update.version} ${update.n}`;
  if (type === 'object-delete') return `${type} ${event.id}`;
  if (type === 'user-update') return `${type} ${userId} ${update.n}`;
  if (type === 'message') return `${type} ${userId} ${event.message.data}`;
  return `${type} ${userId}`;
}

export class Actor {
  constructor(client, room, { seed, stays }) {
    this.client = client;
    this.room = room;
    this.stays = stays;
    this.random = random(seed);
    /** What it did and has an answer for, in its order. */
    this.did = [];
    /** One entry for each time that it was in: what it found, and what it was told after that. */
    this.visits = [];
    /** What went wrong. */
    this.faults = [];
    this.objects = [];
    this.isIn = false;
    this.count = 0;
    for (const [event, words] of Object.entries(TOLD)) {
      client.socket.on(event, (told) => this.visits.at(-1).told.push(words(told)));
    }
    client.socket.on('room-users', (users) => this.visits.push({ users, told: [] }));
    client.socket.on('room-objects', (objects) => (this.visits.at(-1).objects = objects));
    client.socket.on('error', (error) => this.faults.push(`error ${JSON.stringify(error)}`));
    client.socket.on('disconnect', (reason) => this.faults.push(`disconnected: ${reason}`));
  }

  get id() {
    return this.client.id;
  }

  async call(event, payload) {
    const answer = await this.client.call(event, ...(payload === undefined ? [] : [payload]));
    // On a machine whose disk takes more than a second: it has happened, and is stored a little later.
    if (!answer.ok && answer.error.code !== 'storage') throw new Error(`${event}: ${JSON.stringify(answer)}`);
    return answer;
  }

  move() {
    const walk = () => this.random() * 10 - 5;
    const rotation = { x: 0, y: walk(), z: 0 };
    this.client.emit('update-position', { position: { x: walk(), y: 1.6, z: walk() }, rotation });
  }

  /** Does one thing, and waits until that is acknowledged. */
  async act() {
    this.count += 1;
    const n = this.count;
    const choice = this.random();
    const whose = Math.floor(this.random() * this.objects.length);
    if (!this.isIn) return this.join();
    if (choice < 0.08 && !this.stays) return this.leave();
    if (choice < 0.3) {
      await this.call('user-update', { n });
      return this.did.push(`user-update ${this.id} ${n}`);
    }
    if (choice < 0.55) {
      await this.call('room-message', { type: 'count', data: n });
      return this.did.push(`message ${this.id} ${n}`);
    }
    if (this.objects.length === 0 || (choice < 0.7 && this.objects.length < OBJECTS_MAX)) return this.create(n);
    const object = this.objects[whose];
    if (choice < 0.8) {
      this.objects.splice(whose, 1);
      await this.call('object-delete', { id: object.id });
      return this.did.push(`object-delete ${object.id}`);
    }
    await this.call('object-update', { id: object.id, n });
    object.version += 1;
    return this.did.push(`object-update ${object.id} ${object.version} ${n}`);
  }

  async create(n) {
    const id = `${this.id}/${n}`;
    await this.call('object-create', { id, n });
    this.objects.push({ id, version: 1 });
    this.did.push(`object-create ${id} ${n}`);
  }

  async join() {
    await this.call('join-room', { roomId: this.room });
    this.isIn = true;
    this.did.push(`join ${this.id}`);
  }

  async leave() {
    await this.call('leave-room');
    this.isIn = false;
    this.did.push(`leave ${this.id}`);
  }
}
