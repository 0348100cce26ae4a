/** Crowds: many members who move at every tick, and what each of them is shown of it. */
import assert from 'node:assert/strict';
import { readFrame, writePose } from '../protocol/js/pose-frame.js';
import { FrameView, fromJson } from './frames.js';
import { unique, until } from './harness.js';

export const ENCODINGS = ['json', 'batch', 'binary'];

/** Metres between two places where people stand together: many cells, and never one cell of a frame. */
export const PLACE_GAP_M = 64;

/** Half a step of a frame's positions, in metres, and what float32 adds to it within a kilometre. */
const ERROR_M_MAX = 0.5 / 1024 + 1e-4;

/** Ticks that something may take; a room of ten a second has them in twenty seconds. */
const TICKS_MAX = 200;

const vector = ({ x, y, z }) => [x, y, z];

/** What one client is shown, in any encoding: where everybody is, and how often it was told of whom. */
class Picture {
  constructor(client, encoding) {
    this.client = client;
    this.faults = [];
    this.shows = new Map();
    this.frames = encoding === 'binary' ? new FrameView(client) : undefined;
    this.begin(client.usersAtJoin);
    client.inbox.forEach(({ event, args }) => this.receive(event, args[0]));
    // Before the client itself, so that whoever waits for an event finds it in the picture.
    client.socket.prependAny((event, payload) => this.receive(event, payload));
  }

  begin(users) {
    this.positions = new Map();
    this.idOfSlot = new Map();
    users.forEach((user) => this.joined(user));
  }

  joined({ id, slot, position }) {
    this.positions.set(id, vector(position));
    this.idOfSlot.set(slot, id);
  }

  receive(event, payload) {
    if (event === 'room-users') this.begin(payload);
    else if (event === 'user-joined') this.joined(payload);
    else if (event === 'user-left') this.positions.delete(payload);
    else if (event === 'user-moved') this.moved(payload);
    else if (event === 'users-moved') payload.users.forEach((user) => this.moved(user));
    else if (event === 'pose-frame') this.frame(payload);
  }

  moved({ id, position }) {
    if (id === this.client.id) this.faults.push('shown to oneself');
    this.show(id, vector(position));
  }

  frame(bytes) {
    for (const { members } of readFrame(bytes).groups) {
      for (const { slot, head } of members) this.show(this.idOfSlot.get(slot), head.position);
    }
  }

  show(id, position) {
    if (!this.positions.has(id)) this.faults.push(`${id} is shown and is not there`);
    this.positions.set(id, position);
    this.shows.set(id, (this.shows.get(id) ?? 0) + 1);
  }

  /** How often `member` was shown since the counts were cleared. */
  times(member) {
    return this.shows.get(member.id) ?? 0;
  }

  /** Whether `member` is where it has said that it is. */
  isRight(member) {
    if (member.id === this.client.id) return true;
    const seen = this.positions.get(member.id);
    return vector(member.at).every((metres, axis) => Math.abs(metres - seen?.[axis]) <= ERROR_M_MAX);
  }

  check() {
    assert.deepEqual([...this.faults, ...(this.frames?.faults ?? [])], []);
  }
}

/** One of a crowd. It takes poses in its encoding, and those who take frames send attachments. */
export class Member {
  constructor(client, encoding, place) {
    this.client = client;
    this.id = client.id;
    this.encoding = encoding;
    this.place = place;
    this.steps = 0;
    this.picture = new Picture(client, encoding);
  }

  pose(x, z) {
    this.at = { x, y: 1.5, z };
    const pose = { position: this.at, rotation: { x: 0, y: 0.5, z: 0 } };
    return this.encoding === 'binary' ? Buffer.from(writePose(fromJson(pose))) : pose;
  }

  /** A little to and fro about the place, never twice the same within eight steps. */
  step() {
    this.steps += 1;
    this.client.emit('update-position', this.pose(this.place.x + (this.steps % 8) / 8, this.place.z));
  }

  /** Goes to stand elsewhere; answers once the server knows. */
  async goTo(place) {
    this.place = place;
    const answer = await this.client.call('update-position', this.pose(place.x, place.z));
    assert.ok(answer.ok, JSON.stringify(answer));
  }
}

/** Where the `n`th group of a crowd stands: in a row. */
export const placeOf = (n) => ({ x: n * PLACE_GAP_M + 3, y: 1.5, z: 3 });

/** The members of a room, in groups of one of each encoding that stand together. */
export class Crowd {
  constructor(server, room) {
    this.server = server;
    this.room = room;
    this.members = [];
  }

  /** Makes a room with these `options` and fills it with so many groups. */
  static async gather(server, groups, options = {}) {
    const crowd = new Crowd(server, unique('crowd'));
    const { status, body } = await server.createRoom({ roomId: crowd.room, ...options });
    assert.equal(status, 200, JSON.stringify(body));
    const numbers = [...Array(groups).keys()];
    const wanted = numbers.flatMap((n) => ENCODINGS.map((encoding) => ({ encoding, place: placeOf(n) })));
    await Promise.all(wanted.map((member) => crowd.add(member)));
    crowd.members.sort((a, b) => a.place.x - b.place.x);
    await crowd.knowEachOther();
    return crowd;
  }

  async add({ encoding, place, view, transports = ['websocket'] }) {
    const name = `${encoding} at ${place.x}`;
    const client = await this.server.enter(this.room, { name, encoding, view, transports });
    const member = new Member(client, encoding, place);
    await member.goTo(place);
    this.members.push(member);
    return member;
  }

  /** Waits until everybody has been told of everybody. */
  async knowEachOther() {
    const count = this.members.length;
    const all = () => this.members.every(({ picture }) => picture.positions.size === count);
    await until(all, `${count} members to know each other`);
  }

  /** Those of the `n`th group. */
  group(n) {
    return this.members.filter(({ place }) => Math.abs(place.x - placeOf(n).x) < PLACE_GAP_M / 2);
  }

  except(...others) {
    return this.members.filter((member) => !others.includes(member));
  }

  /** Some of these see frames at every tick if they or those beside them move: one to count ticks by. */
  static clock(members) {
    return members.find(({ encoding }) => encoding === 'binary').client;
  }

  /**
   * `movers` move at each tick of the room, as one of them is told of it, for at most so many ticks or until
   * `isDone`. Says whether it was.
   */
  async move(movers, ticks, isDone = () => false) {
    const clock = Crowd.clock(movers);
    clock.inbox = clock.inbox.filter(({ event }) => event !== 'pose-frame');
    for (let tick = 0; tick < ticks && !isDone(); tick += 1) {
      movers.forEach((mover) => mover.step());
      await clock.next('pose-frame');
    }
    return isDone();
  }

  /** Lets `movers` move until a condition holds. */
  async moveUntil(movers, isDone, what) {
    assert.ok(await this.move(movers, TICKS_MAX, isDone), `${TICKS_MAX} ticks went by in vain: ${what}`);
  }

  /** Counts what everybody is shown while `movers` move for so many ticks. */
  async count(movers, ticks) {
    // What is under way when something changes does not count.
    await this.move(movers, 3);
    this.members.forEach(({ picture }) => picture.shows.clear());
    await this.move(movers, ticks);
  }

  /** Waits until `viewers` see all of `seen` where they are, and nobody who is not there. */
  async converge(viewers = this.members, seen = this.members) {
    const wrong = () =>
      viewers.flatMap((viewer) =>
        seen.filter((member) => !viewer.picture.isRight(member)).map((member) => [viewer, member]),
      );
    await until(() => wrong().length === 0, 'pictures to be right').catch((error) => {
      const names = wrong().map((pair) => pair.map(({ client }) => client.account.username).join(' sees '));
      throw new Error(`${error.message}: ${names.length} wrong, ${names.slice(0, 5)}`);
    });
    viewers.forEach(({ picture }) => picture.check());
  }
}
