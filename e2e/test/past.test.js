import assert from 'node:assert/strict';
import { setTimeout as after } from 'node:timers/promises';
import { readFrame } from '../../protocol/js/pose-frame.js';
import { ENCODINGS } from '../crowd.js';
import { unique, until, withServer } from '../harness.js';
import { assertAccepted, assertRefused, poseNumber } from '../expect.js';

/** How far a chunk's pose and then a frame's may be off, in metres. */
const ERROR_M_MAX = 0.005;
const STEPS = 20;
const STEP_MS = 100;

/** Events that a viewer is told of, without poses. */
const TOLD = [
  'user-joined',
  'user-left',
  'user-updated',
  'object-created',
  'object-updated',
  'object-deleted',
  'room-message',
];

const near = (a, b) => ['x', 'y', 'z'].every((axis) => Math.abs(a?.[axis] - b[axis]) < ERROR_M_MAX);
const isHere = ({ head: { position: [x, y, z] } }, position) => near({ x, y, z }, position);
const without = (payload, ...names) =>
  Object.fromEntries(Object.entries(payload).filter(([name]) => !names.includes(name)));

/** Two who meet while a third looks on; what it was told of the two, and when all of it began and ended. */
async function meet(server) {
  const room = unique('meeting');
  const witness = await server.enter(room, { name: 'Witness' });
  const from = (await witness.call('time-sync')).time;
  const ada = await server.enter(room, { name: 'Ada' });
  const bob = await server.enter(room, { name: 'Bob' });
  assertAccepted(await ada.call('object-create', { id: 'lamp', type: 'lamp', colour: 'red' }));
  for (let step = 0; step < STEPS; step++) {
    ada.emit('update-position', poseNumber(step));
    bob.emit('update-position', { ...poseNumber(100 + step), leftHand: poseNumber(100 + step) });
    if (step === 5) assertAccepted(await bob.call('object-update', { id: 'lamp', colour: 'blue' }));
    if (step === 8) assertAccepted(await bob.call('user-update', { username: 'Robert' }));
    // The recording is of what happens in time, so this takes its time.
    await after(STEP_MS);
  }
  bob.close();
  await witness.next('user-left');
  assertAccepted(await ada.call('object-delete', { id: 'lamp' }));
  await witness.next('object-deleted');
  const told = witness.inbox.filter(({ event }) => TOLD.includes(event));
  // The last poses are part of it.
  await after(5 * STEP_MS);
  const to = (await witness.call('time-sync')).time;
  // Poses are written down about a second after they were taken.
  await after(2_000);
  return { room, witness, ada, bob, from, to, told };
}

/** A client of its own that watches a part of the recording. */
async function watch(server, meeting, encoding, replay) {
  const client = await server.connect({ name: `past in ${encoding}` });
  client.joinAnswer = await client.call('join-room', { roomId: meeting.room, encoding, replay });
  assertAccepted(client.joinAnswer);
  client.usersAtJoin = await client.next('room-users');
  client.objectsAtJoin = await client.next('room-objects');
  return client;
}

const ended = (client) => client.next('replay-state', (state) => state.ended, 60_000);
const ids = (users) => users.map(({ id }) => id).sort();

withServer('walking inside the past', {}, (check) => {
  check('a meeting is seen again as it was, in every encoding', async (server) => {
    const meeting = await meet(server);
    for (const encoding of ENCODINGS) {
      const { from, to } = meeting;
      const viewer = await watch(server, meeting, encoding, { from, to, speed: 2 });
      const { replay } = viewer.joinAnswer;
      assert.ok(replay.from >= from && replay.to <= to, JSON.stringify(viewer.joinAnswer));
      assert.deepEqual(ids(viewer.usersAtJoin), ids([meeting.witness, viewer]));
      const state = await viewer.next('replay-state');
      assert.deepEqual(
        { ...state, time: undefined },
        { ...replay, time: undefined, speed: 2, paused: false, ended: false },
      );
      await ended(viewer);
      const seen = viewer.inbox.filter(({ event }) => TOLD.includes(event));
      const slim = ({ event, args: [payload] }) => [event, event === 'user-joined' ? without(payload, 'slot') : payload];
      const expected = [
        ['user-joined', meeting.ada.id],
        ['user-joined', meeting.bob.id],
        ['object-created', 'lamp'],
        ['object-updated', 'lamp'],
        ['user-updated', meeting.bob.id],
        ['user-left', meeting.bob.id],
        ['object-deleted', 'lamp'],
      ];
      assert.deepEqual(
        seen.map(slim).map(([event, payload]) => [event, payload.id ?? payload]),
        expected,
      );
      // What the witness still had unread of it is the same to the letter.
      for (const told of meeting.told) {
        const same = seen.some((event) => JSON.stringify(slim(event)) === JSON.stringify(slim(told)));
        assert.ok(same, JSON.stringify(told));
      }
      const { position } = poseNumber(STEPS - 1);
      const isLast = (user) => user.id === meeting.ada.id && near(user.position, position);
      // What is said at the end may come a tick before what is seen.
      if (encoding === 'json') {
        const moves = viewer.unread('user-moved').filter(({ id }) => id === meeting.ada.id);
        assert.ok(moves.length > STEPS / 4, `${moves.length} moves`);
        await viewer.next('user-moved', isLast);
      } else if (encoding === 'batch') {
        await viewer.next('users-moved', ({ users }) => users.some(isLast));
      } else {
        const { slot } = seen.find(({ args: [user] }) => user.id === meeting.ada.id).args[0];
        const shows = ({ members }) => members.some((member) => member.slot === slot && isHere(member, position));
        await viewer.next('pose-frame', (bytes) => readFrame(bytes).groups.some(shows));
      }
      viewer.close();
    }
  });

  check('it goes to any moment, stands still there, and goes on', async (server) => {
    const meeting = await meet(server);
    const { from, to } = meeting;
    const viewer = await watch(server, meeting, 'json', { from, to });
    assertAccepted(await viewer.call('replay-pause', {}));
    for (const [time, there] of [
      [to, [meeting.witness, meeting.ada]],
      [Math.round((from + to) / 2), [meeting.witness, meeting.ada, meeting.bob]],
      [from, [meeting.witness]],
    ]) {
      const answer = await viewer.call('replay-seek', { time });
      assertAccepted(answer);
      const { from: first, to: last } = viewer.joinAnswer.replay;
      assert.equal(answer.time, Math.min(Math.max(time, first), last));
      const present = new Set(ids(viewer.usersAtJoin));
      // Whatever was told since the join leads to who was there then.
      const isSo = () => {
        const now = new Set(present);
        for (const { event, args } of viewer.inbox) {
          if (event === 'user-joined') now.add(args[0].id);
          if (event === 'user-left') now.delete(args[0]);
        }
        return JSON.stringify([...now].sort()) === JSON.stringify(ids([...there, viewer]));
      };
      await until(async () => isSo(), `who was there at ${time - from} ms`);
    }
    assertAccepted(await viewer.call('replay-speed', { speed: 8 }));
    assertAccepted(await viewer.call('replay-pause', { paused: false }));
    await ended(viewer);
  });

  check('nothing can be changed there, and one can leave', async (server) => {
    const meeting = await meet(server);
    const viewer = await watch(server, meeting, 'json', { from: meeting.from, loop: true });
    for (const [event, payload] of [
      ['object-create', { id: 'x' }],
      ['room-message', { type: 'x', data: 1 }],
      ['user-update', { username: 'x' }],
    ]) {
      assertRefused(await viewer.call(event, payload), 'a recording cannot be changed');
    }
    const { body: rooms } = await server.http('GET', '/api/rooms');
    assert.equal(rooms.filter(({ id }) => id === meeting.room).length, 1, 'only the live room is listed');
    assertAccepted(await viewer.call('leave-room'));
    assertRefused(await viewer.call('replay-pause', {}));
    assertRefused(await viewer.call('join-room', { roomId: unique('nowhere'), replay: { from: 1 } }));
    assertRefused(await viewer.call('join-room', { roomId: meeting.room, replay: { from: 1, speed: 9 } }));
  });
});
