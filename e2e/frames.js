/** A picture of a room kept from pose frames, and how near to the truth it has to be. */
import assert from 'node:assert/strict';
import { quaternionOf, readFrame } from '../protocol/js/pose-frame.js';

/** Half a step of a position, in metres, and what float32 adds to it within 100 m of the origin. */
const HEAD_ERROR_M_MAX = 0.5 / 1024 + 1e-5;
const HAND_ERROR_M_MAX = 0.5 / 4096 + 1e-5;

/** How far off a rotation is after plain rounding, in degrees; the server's own rounding is better. */
const ROTATION_ERROR_DEGREES_MAX = 0.28;

const PARTS = ['head', 'leftHand', 'rightHand'];
const vector = ({ x, y, z }) => [x, y, z];
const rotation = ({ x, y, z, w }) => (w === undefined ? [x, y, z] : [x, y, z, w]);
const part = (json) => json && { position: vector(json.position), rotation: rotation(json.rotation) };

/** A pose in the form of JSON events in the form of frames; hands only if there are any. */
export function fromJson({ leftHand, rightHand, ...head }) {
  const pose = { head: part(head), leftHand: part(leftHand), rightHand: part(rightHand) };
  return Object.fromEntries(Object.entries(pose).filter(([, there]) => there));
}

function degreesBetween(a, b) {
  const chord = (sign) => Math.hypot(...a.map((component, at) => component - sign * b[at]));
  return (4 * Math.asin(Math.min(chord(1), chord(-1)) / 2) * 180) / Math.PI;
}

/** What is wrong with `seen` as a picture of `truth`, both in the form of frames; `undefined` if nothing. */
export function difference(seen, truth) {
  for (const name of PARTS) {
    const [a, b] = [seen?.[name], truth[name]];
    if (!a !== !b) return `${name} is ${a ? 'there' : 'missing'}`;
    if (!a) continue;
    const bound = name === 'head' ? HEAD_ERROR_M_MAX : HAND_ERROR_M_MAX;
    for (const axis of [0, 1, 2]) {
      const metres = Math.abs(a.position[axis] - b.position[axis]);
      if (!(metres <= bound)) return `${name} is ${metres} m off on axis ${axis}`;
    }
    const degrees = degreesBetween(quaternionOf(a.rotation), quaternionOf(b.rotation));
    if (!(degrees <= ROTATION_ERROR_DEGREES_MAX)) return `${name} is turned by ${degrees}°`;
  }
  return undefined;
}

/** Follows a client that takes frames, from its `room-users` on; whatever makes no sense in them is kept in `faults`. */
export class FrameView {
  constructor(client) {
    this.client = client;
    this.own = client.joinAnswer.slot;
    this.slots = new Map(client.usersAtJoin.map((user) => [user.id, user.slot]));
    this.poses = new Map();
    this.faults = [];
    this.tick = -1;
    client.inbox.forEach(({ event, args }) => this.receive(event, args[0]));
    // Before the client itself, so that whoever waits for a frame finds it in the picture.
    client.socket.prependAny((event, payload) => this.receive(event, payload));
  }

  receive(event, payload) {
    if (event === 'user-joined') {
      this.slots.set(payload.id, payload.slot);
    } else if (event === 'user-left') {
      this.poses.delete(this.slots.get(payload));
      this.slots.delete(payload);
    } else if (event === 'user-moved' || event === 'users-moved') {
      this.faults.push(`${event} for one who takes frames`);
    } else if (event === 'pose-frame') {
      try {
        this.frame(readFrame(payload));
      } catch (error) {
        this.faults.push(error.message);
      }
    }
  }

  frame({ tick, groups }) {
    const members = groups.flatMap((group) => group.members);
    const known = new Set(this.slots.values());
    assert.ok(tick > this.tick, `tick ${tick} after ${this.tick}`);
    assert.ok(members.some(({ slot }) => slot !== this.own), 'a frame of nobody else');
    assert.equal(new Set(members.map(({ slot }) => slot)).size, members.length, 'a slot is in it twice');
    for (const { slot, ...pose } of members) {
      assert.ok(known.has(slot), `nobody has the slot ${slot}`);
      this.poses.set(slot, pose);
    }
    this.tick = tick;
  }

  /** The newest pose of a member. */
  poseOf(member) {
    return this.poses.get(this.slots.get(member.id));
  }

  /** Waits until a frame has shown `member` in `truth` (JSON's form). */
  async sees(member, truth) {
    const expected = fromJson(truth);
    const shown = () => difference(this.poseOf(member), expected) === undefined;
    try {
      if (!shown()) await this.client.next('pose-frame', shown);
    } catch (error) {
      const wrong = difference(this.poseOf(member), expected);
      throw new Error(`${member.account.username}: ${wrong}; ${error.message}`);
    }
    this.check();
  }

  check() {
    assert.deepEqual(this.faults, []);
  }
}
