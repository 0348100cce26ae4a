/** What several test files assert in the same way. */
import assert from 'node:assert/strict';

export const SPAWN = { position: { x: 0, y: 1.6, z: 0 }, rotation: { x: 0, y: 0, z: 0 } };

/** An acknowledgement that says no, in the contract's form. */
export function assertRefused(answer, message) {
  assert.equal(answer?.ok, false, `expected a refusal, got ${JSON.stringify(answer)}`);
  assertError(answer.error, message);
}

/** The payload of an `error` event, or of a refusal. */
export function assertError(error, message) {
  assert.equal(typeof error?.code, 'string', `no code in ${JSON.stringify(error)}`);
  assert.notEqual(error.code, '');
  assert.equal(typeof error.message, 'string');
  assert.notEqual(error.message, '');
  if (message !== undefined) assert.equal(error.message, message);
}

export function assertAccepted(answer) {
  assert.equal(answer?.ok, true, `expected {ok: true}, got ${JSON.stringify(answer)}`);
}

/** The members that every pose event has; hands only if given. */
export function assertMoved(event, { id, position, rotation, leftHand, rightHand }) {
  assert.equal(event.id, id);
  assert.deepEqual(event.position, position);
  assert.deepEqual(event.rotation, rotation);
  assert.deepEqual(event.leftHand, leftHand);
  assert.deepEqual(event.rightHand, rightHand);
}

/** Whether an event of `user-moved` shows this member at this place. */
export function isAt(event, id, pose) {
  return event.id === id && Math.fround(event.position?.x) === Math.fround(pose.position.x);
}

/**
 * Waits until `viewer` is shown `mover` in `pose`, and compares the rest of it. A viewer that had to
 * skip a tick may be sent everyone as they are, so what comes first need not be a new pose.
 */
export async function seesMove(viewer, mover, pose) {
  const event = await viewer.next('user-moved', (moved) => isAt(moved, mover.id, pose));
  assertMoved(event, { id: mover.id, ...pose });
  return event;
}

/** A `user` of `room-users` and `user-joined`. */
export function assertUser(user, client, username, pose = SPAWN) {
  assert.equal(user.id, client.id);
  assert.equal(user.socketId, client.socket.id);
  assert.equal(user.username, username);
  assert.deepEqual(user.position, pose.position);
  assert.deepEqual(user.rotation, pose.rotation);
  assert.ok(Number.isInteger(user.slot) && user.slot >= 0, `slot ${user.slot}`);
}

/** `actual` has every member of `expected`, deeply equal; it may have more. */
export function assertIncludes(actual, expected) {
  const picked = Object.fromEntries(Object.keys(expected).map((key) => [key, actual?.[key]]));
  assert.deepEqual(picked, expected);
}

/** A pose that differs for every `n`, in numbers that float32 holds only nearly. */
export function poseNumber(n) {
  return {
    position: { x: 1.1 + n, y: 1.6, z: -3.3 },
    rotation: { x: 0.1, y: 0.2, z: -0.3 },
  };
}
