import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Server, unique } from '../harness.js';
import { Author, Mover, numbers, YES } from '../author.js';
import {
  compareDeeds, compareObjects, comparePoses, compareShared, groups, recorded, recording, RELIABLE,
} from '../afterwards.js';
import { assertAccepted } from '../expect.js';

/** How often the server is killed. */
const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 50);

/** What gives the same load and the same moments again, as far as a server's timing allows. */
const SEED = Number(process.env.CRASH_SEED ?? Date.now() % 1_000_000);

/** Those who do things in a round. */
const AUTHORS = 3;

/** Time between two poses of the one who moves, which also says how long a round is. */
const MOVE_MS = 20;

/** Poses after which a round ends; in every tenth, after enough of them for chunks to be full. */
const [SHORT, LONG] = [[2, 18], [65, 90]];

/** Every room: whether it and its objects are kept, and whether messages are written down. */
const ROOMS = [
  { roomId: unique('hall'), persistent: true, recordMessages: true },
  { roomId: unique('quiet'), persistent: true },
  { roomId: unique('fair / ä'), recordMessages: true },
  { roomId: unique('inn') },
];
const [HALL, , FAIR] = ROOMS.map((room) => room.roomId);
const KEPT = ROOMS.filter((room) => room.persistent).map((room) => room.roomId);

const between = (random, [least, most]) => least + random() * (most - least);

class Story {
  constructor(server) {
    this.server = server;
    this.random = numbers(SEED);
    this.kept = Object.fromEntries(KEPT.map((room) => [room, new Map()]));
    this.everybody = [];
    this.acked = 0;
    this.posesLost = [];
    this.clockMs = Date.now();
  }

  /** The server is up for a while, and killed. */
  async round(index) {
    const { server, random } = this;
    if (index > 0 && random() < 0.2) await this.killWhileItStarts();
    this.beganMs = Date.now() - 1_000;
    await server.start();
    for (const options of ROOMS) {
      if (index === 0 || !options.persistent) assert.equal((await server.createRoom(options)).status, 200);
    }
    await this.check();
    const clients = await Promise.all(Array.from({ length: AUTHORS + 1 }, () => this.guest()));
    this.mover = new Mover(clients.pop(), HALL);
    assertAccepted(await this.mover.client.call('join-room', { roomId: HALL }));
    this.authors = clients.map((client, at) => this.author(client, at));
    const work = this.authors.map((author) => author.work());
    await this.moveUntil(Math.round(between(random, index % 10 === 4 ? LONG : SHORT)));
    await server.kill();
    await Promise.all(work);
    server.closeClients();
    this.everybody.push(...this.authors);
  }

  guest() {
    return this.server.connect({ name: 'guest', transports: ['websocket'] });
  }

  /** Objects of before are shared out, so that each is in one hand. */
  author(client, at) {
    const share = (objects) => [...objects].filter(([id], index) => index % AUTHORS === at && id !== 'shared');
    const objects = Object.fromEntries(KEPT.map((room) => [room, share(this.kept[room])]));
    const onAnswer = (deed) => (this.acked += deed.outcome === YES ? 1 : 0);
    return new Author(client, { random: this.random, rooms: ROOMS.map((room) => room.roomId), objects, onAnswer });
  }

  moveUntil(count) {
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        this.mover.move();
        if (this.mover.sentAt.length < count) return;
        clearInterval(timer);
        // Anywhere between two poses.
        setTimeout(resolve, this.random() * MOVE_MS);
      }, MOVE_MS);
    });
  }

  async killWhileItStarts() {
    const started = this.server.start().catch(() => {});
    const timer = setTimeout(() => this.server.child.kill('SIGKILL'), this.random() * 150);
    await Promise.race([this.server.exited, started.then(() => this.server.exited)]);
    clearTimeout(timer);
    await started;
  }

  /** What the server knows now, against what those of the last round were told. */
  async check() {
    const viewer = await this.guest();
    for (const room of KEPT) {
      assertAccepted(await viewer.call('join-room', { roomId: room }));
      const found = await viewer.next('room-objects');
      if (this.authors) {
        const before = this.kept[room].get('shared');
        this.kept[room] = compareObjects(found, this.kept[room], this.authors, room);
        compareShared(this.kept[room].get('shared'), before, this.authors, room);
      } else {
        assertAccepted(await viewer.call('object-create', { id: 'shared', n: 'nobody' }));
        this.kept[room].set('shared', { id: 'shared', n: 'nobody', version: 1 });
      }
    }
    // A room that is not kept goes with the last who is in it, and its options with it.
    assertAccepted(await viewer.call('join-room', { roomId: FAIR }));
    if (!this.authors) return;
    const query = `from=${this.checkedMs ?? 0}`;
    await Promise.all(ROOMS.map(async ({ roomId }) => {
      const events = await recording(this.server, roomId, query);
      const last = this.compare(roomId, events, this.authors, false);
      if (roomId === HALL) this.posesLost.push(comparePoses(events, this.mover, last, 'poses'));
    }));
    this.checkedMs = this.beganMs;
  }

  compare(roomId, events, authors, isClosed) {
    const { recordMessages, persistent } = ROOMS.find((room) => room.roomId === roomId);
    const times = events.map((event) => event.timestamp);
    assert.ok(times.every((time, index) => index === 0 || times[index - 1] <= time), `${roomId}: in order of time`);
    const byUser = groups(events, (event) => event.userId);
    const lasts = authors.map((author) => {
      const deeds = recorded(author.deeds.filter((deed) => deed.room === roomId), recordMessages);
      const what = `${roomId}, ${author.id}`;
      return compareDeeds(deeds, byUser.get(author.id) ?? [], { what, isClosed: isClosed && persistent });
    });
    return Math.max(...lasts);
  }

  /** All of it once more: what was there stays there. */
  async end() {
    await this.server.start();
    await this.check();
    let events = 0;
    for (const { roomId } of ROOMS) {
      const all = await recording(this.server, roomId, `types=${RELIABLE}`);
      this.compare(roomId, all, this.everybody, true);
      events += all.length;
    }
    return events;
  }
}

describe('killed again and again', () => {
  it(`nothing that was acknowledged is lost in ${ROUNDS} rounds`, { timeout: 20_000 + ROUNDS * 10_000 }, async (t) => {
    const server = new Server();
    const story = new Story(server);
    let round = 0;
    try {
      for (; round < ROUNDS; round += 1) await story.round(round);
      const events = await story.end();
      const lost = `${Math.max(...story.posesLost)} ms of poses`;
      t.diagnostic(`seed ${SEED}: ${story.acked} acknowledged, ${events} events recorded, at most ${lost} lost`);
    } catch (error) {
      console.error(`--- round ${round}, CRASH_SEED=${SEED}\n${server.output}---`);
      throw error;
    } finally {
      server.closeClients();
      if (server.running) await server.kill();
      server.clean();
    }
  });
});
