import assert from 'node:assert/strict';
import { test } from 'node:test';
import { headingOf, quatFromEuler } from '../src/math.js';
import { arrivalPlace, PoseGate, walk } from '../src/movement.js';
import { INTERPOLATION_DELAY_MS, World } from '../src/state.js';
import { readMoves, readReconnectInMs, readUser, readUsers } from '../src/wire.js';

const user = (id: string, x = 0) => ({
  id,
  socketId: `socket-${id}`,
  username: id.toUpperCase(),
  position: { x, y: 1.6, z: 0 },
  rotation: { x: 0, y: 0, z: 0 },
});

function room(...ids: string[]): World {
  const world = new World();
  world.enter('me', readUsers(['me', ...ids].map((id) => user(id))), 0);
  return world;
}

const moveTo = (id: string, x: number) => readMoves({ tick: 1, time: 1, users: [user(id, x)] })[0]!;

test('a slot is a whole number, or as good as none', () => {
  const slots = [3, 0, -1, 1.5, '2', undefined].map((slot) => readUser({ ...user('ada'), slot })?.slot);
  assert.deepEqual(slots, [3, 0, 0, 0, 0, 0]);
});

test('oneself is counted but is not among the others', () => {
  const world = room('ada', 'bob');
  assert.equal(world.count, 3);
  assert.deepEqual([...world.others.keys()], ['ada', 'bob']);
  world.add(readUser(user('me'))!, 1);
  world.remove('ada');
  assert.equal(world.count, 2);
  world.leave();
  assert.equal(world.count, 0);
});

test('a move is spread over the time between two poses', () => {
  const world = room('ada');
  world.move(moveTo('ada', 0), 1000);
  world.move(moveTo('ada', 1), 1050);
  const shown = (at: number) => world.poseAt('ada', at + INTERPOLATION_DELAY_MS)!.head.position.x;
  assert.equal(shown(1000), 0);
  assert.ok(Math.abs(shown(1025) - 0.5) < 1e-9);
  assert.equal(shown(1050), 1);
  assert.equal(shown(9000), 1);
});

test('the first step after a long stand starts from where they stood', () => {
  const world = room('ada');
  world.move(moveTo('ada', 1), 60_000);
  const shown = (at: number) => world.poseAt('ada', at + INTERPOLATION_DELAY_MS)!.head.position.x;
  assert.equal(shown(59_950), 0);
  assert.ok(Math.abs(shown(59_975) - 0.5) < 1e-9);
});

test('poses of strangers and old poses are not kept', () => {
  const world = room('ada');
  world.move(moveTo('eve', 1), 10);
  assert.equal(world.poseAt('eve', 10), null);
  for (let i = 0; i < 500; i += 1) world.move(moveTo('ada', i), i * 50);
  assert.ok(world.others.get('ada')!.samples.length <= 16);
});

test('what is malformed is left out', () => {
  assert.equal(readUser(null), null);
  assert.equal(readUser({ id: 7 }), null);
  assert.equal(readUser({ ...user('ada'), position: { x: '1', y: 0, z: 0 } }), null);
  assert.deepEqual(readMoves({ users: 'none' }), []);
  assert.equal(readMoves({ users: [user('ada'), 3, { id: 'bob' }] }).length, 1);
  assert.equal(readReconnectInMs({ reconnectInMs: 250 }), 250);
  assert.equal(readReconnectInMs('soon'), 1000);
});

test('a heading comes out the same from Euler angles and from a quaternion', () => {
  assert.ok(Math.abs(headingOf(quatFromEuler({ x: 0, y: 0, z: 0 })) + Math.PI / 2) < 1e-9);
  assert.ok(Math.abs(headingOf(quatFromEuler({ x: 0, y: -Math.PI / 2, z: 0 }))) < 1e-9);
  const half = Math.SQRT1_2;
  assert.ok(Math.abs(headingOf({ x: 0, y: -half, z: 0, w: half })) < 1e-9);
});

test('walking is as fast diagonally as straight, and turns the avatar', () => {
  const start = arrivalPlace(0);
  const straight = walk(start, { x: 0, z: -1 }, 1);
  const diagonal = walk(start, { x: 1, z: 1 }, 1);
  assert.ok(Math.abs(straight.position.z + 3.2) < 1e-9);
  assert.ok(Math.abs(Math.hypot(diagonal.position.x, diagonal.position.z) - 3.2) < 1e-9);
  assert.ok(walk(start, { x: 1, z: 0 }, 1).yaw < -1.5);
  assert.equal(walk(start, { x: 0, z: 0 }, 1), start);
});

test('a pose is sent when it has changed, and no more than 20 times a second', () => {
  const gate = new PoseGate();
  const here = arrivalPlace(1);
  const there = walk(here, { x: 1, z: 0 }, 0.1);
  assert.ok(gate.admit(here, 0));
  assert.ok(!gate.admit(there, 49));
  assert.ok(gate.admit(there, 50));
  assert.ok(!gate.admit(there, 500));
  gate.reset();
  assert.ok(gate.admit(there, 501));
});
