import assert from 'node:assert/strict';
import { TRANSPORTS, unique, withServer } from '../harness.js';
import { assertAccepted, assertMoved, assertRefused, isAt, poseNumber, seesMove } from '../expect.js';

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`poses, ${mode}`, {}, (check) => {
    const pair = async (server) => {
      const room = unique('poses');
      const ada = await server.enter(room, { name: 'Ada', transports });
      const bob = await server.enter(room, { name: 'Bob', transports });
      return { room, ada, bob };
    };

    check('a move reaches the other, numbers as they were', async (server) => {
      const { ada, bob } = await pair(server);
      ada.emit('update-position', poseNumber(0));
      const moved = await seesMove(bob, ada, poseNumber(0));
      assert.equal(moved.socketId, ada.socket.id);
    });

    for (const numbers of [
      { x: 1.1, y: 0, z: -0.001 },
      { x: 123.456, y: 65536, z: -99999.9 },
      { x: 1e-7, y: 0.30000001192092896, z: 3.1415927 },
    ]) {
      check(`position ${JSON.stringify(numbers)} stays itself`, async (server) => {
        const { ada, bob } = await pair(server);
        ada.emit('update-position', { position: numbers, rotation: { x: 0, y: 0, z: 0 } });
        const shown = (event) => isAt(event, ada.id, { position: numbers });
        const { position } = await bob.next('user-moved', shown);
        for (const axis of ['x', 'y', 'z']) {
          assert.equal(Math.fround(position[axis]), Math.fround(numbers[axis]));
          // The shortest form is never longer than what was sent.
          assert.ok(String(position[axis]).length <= String(numbers[axis]).length, String(position[axis]));
        }
      });
    }

    check('Euler angles and quaternions come back in the form they were sent in', async (server) => {
      const { ada, bob } = await pair(server);
      const rotations = [
        { x: 0, y: 0.6, z: 0, w: 0.8 },
        { x: 0.1, y: -1.2, z: 3 },
        { x: 0.5, y: 0.5, z: 0.5, w: -0.5 },
      ];
      for (const [n, rotation] of rotations.entries()) {
        const pose = { position: { x: n + 1, y: 2, z: 3 }, rotation };
        ada.emit('update-position', pose);
        await seesMove(bob, ada, pose);
      }
    });

    check('hands come along and go again', async (server) => {
      const { ada, bob } = await pair(server);
      const hand = (x) => ({ position: { x, y: 1.2, z: -0.4 }, rotation: { x: 0, y: 0, z: 0, w: 1 } });
      for (const hands of [
        { leftHand: hand(-0.3), rightHand: hand(0.3) },
        { rightHand: hand(0.5) },
        {},
      ]) {
        const pose = { ...poseNumber(Object.keys(hands).length), ...hands };
        ada.emit('update-position', pose);
        await seesMove(bob, ada, pose);
      }
    });

    check('a burst is coalesced: the last one counts, none goes backwards', async (server) => {
      const { ada, bob } = await pair(server);
      const last = 99;
      for (let n = 0; n <= last; n += 1) ada.emit('update-position', poseNumber(n));
      const seen = [];
      do seen.push((await bob.next('user-moved')).position.x);
      while (seen.at(-1) !== 1.1 + last);
      assert.deepEqual(seen, [...seen].sort((a, b) => a - b));
      assert.ok(seen.length <= last, `${seen.length} events for ${last + 1} updates`);
    });

    check('nobody is told of their own moves', async (server) => {
      const { ada, bob } = await pair(server);
      ada.emit('update-position', poseNumber(1));
      await seesMove(bob, ada, poseNumber(1));
      bob.emit('update-position', poseNumber(2));
      await seesMove(ada, bob, poseNumber(2));
      assert.deepEqual(ada.unread('user-moved').filter((event) => event.id === ada.id), []);
    });

    check('a move before joining is ignored in silence', async (server) => {
      const client = await server.connect({ transports });
      client.emit('update-position', poseNumber(1));
      await client.flush();
      assert.deepEqual(client.unread('error'), []);
    });

    check('a move may be acknowledged', async (server) => {
      const { ada } = await pair(server);
      assertAccepted(await ada.call('update-position', poseNumber(1)));
      const outside = await server.connect({ transports });
      const answer = await outside.call('update-position', poseNumber(1));
      assertRefused(answer);
      assert.equal(answer.error.code, 'not_in_room');
    });

    check('encoding "batch": one users-moved for everyone who moved', async (server) => {
      const room = unique('batch');
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      const watcher = await server.enter(room, { transports, encoding: 'batch' });
      const rightHand = { position: { x: 2, y: 1, z: 0 }, rotation: { x: 0, y: 0, z: 0 } };
      ada.emit('update-position', { ...poseNumber(1), rightHand });
      bob.emit('update-position', poseNumber(2));
      const seen = new Map();
      const arrived = (client, n) => isAt(seen.get(client.id) ?? {}, client.id, poseNumber(n));
      let tick = -1;
      while (!arrived(ada, 1) || !arrived(bob, 2)) {
        const event = await watcher.next('users-moved');
        assert.ok(Number.isInteger(event.tick) && event.tick > tick, `tick ${event.tick} after ${tick}`);
        assert.ok(Number.isFinite(event.time));
        tick = event.tick;
        for (const user of event.users) seen.set(user.id, user);
      }
      assertMoved(seen.get(ada.id), { id: ada.id, ...poseNumber(1), rightHand });
      assertMoved(seen.get(bob.id), { id: bob.id, ...poseNumber(2) });
      assert.deepEqual(watcher.unread('user-moved'), []);
      watcher.emit('update-position', poseNumber(3));
      await seesMove(ada, watcher, poseNumber(3));
      assert.deepEqual(ada.unread('users-moved'), []);
    });
  });
}

withServer('poses that make no sense', {}, (check) => {
  const good = poseNumber(1);
  const zero = { x: 0, y: 0, z: 0 };
  for (const [what, pose] of [
    ['null', null],
    ['a number', 7],
    ['a list', [1, 2, 3]],
    ['nothing in it', {}],
    ['a text for a number', { ...good, position: { x: '1', y: 0, z: 0 } }],
    ['null for a number', { ...good, position: { x: null, y: 0, z: 0 } }],
    ['a number beyond all range', { ...good, position: { x: 1e300, y: 0, z: 0 } }],
    ['a quaternion of nothing', { ...good, rotation: { ...zero, w: 0 } }],
    ['a hand without a place', { ...good, leftHand: { rotation: zero } }],
  ]) {
    check(`a pose with ${what} is refused and moves nobody`, async (server) => {
      const room = unique('nonsense');
      const ada = await server.enter(room);
      const bob = await server.enter(room);
      assertRefused(await ada.call('update-position', pose));
      ada.emit('update-position', poseNumber(5));
      await seesMove(bob, ada, poseNumber(5));
      assert.equal(bob.unread('user-moved').filter((event) => event.position.x > 0).length, 0);
    });
  }
});
