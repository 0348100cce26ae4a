import assert from 'node:assert/strict';
import { TRANSPORTS, unique, until, withServer } from '../harness.js';
import {
  assertAccepted,
  assertRefused,
  assertUser,
  isAt,
  poseNumber,
  seesMove,
} from '../expect.js';
import { vanishingClient } from '../raw.js';

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`presence, ${mode}`, {}, (check) => {
    check('who joins is told who is there, oneself included; the others are told', async (server) => {
      const room = unique('presence');
      const ada = await server.enter(room, { name: 'Ada', transports });
      assertAccepted(ada.joinAnswer);
      assert.equal(ada.usersAtJoin.length, 1);
      assertUser(ada.usersAtJoin[0], ada, 'Ada');
      assert.deepEqual(ada.objectsAtJoin, []);

      const bob = await server.enter(room, { name: 'Bob', transports });
      const byId = new Map(bob.usersAtJoin.map((user) => [user.id, user]));
      assert.equal(bob.usersAtJoin.length, 2);
      assertUser(byId.get(ada.id), ada, 'Ada');
      assertUser(byId.get(bob.id), bob, 'Bob');
      assert.notEqual(byId.get(ada.id).slot, byId.get(bob.id).slot);
      assertUser(await ada.next('user-joined'), bob, 'Bob');
      assert.deepEqual(bob.unread('user-joined'), []);
    });

    check('a late joiner sees where the others stand', async (server) => {
      const room = unique('late');
      const ada = await server.enter(room, { name: 'Ada', transports });
      const witness = await server.enter(room, { transports: ['websocket'] });
      ada.emit('update-position', poseNumber(4));
      await seesMove(witness, ada, poseNumber(4));
      const late = await server.enter(room, { transports });
      assertUser(late.usersAtJoin.find((user) => user.id === ada.id), ada, 'Ada', poseNumber(4));
    });

    check('leaving is told once, as a bare id', async (server) => {
      const room = unique('leave');
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      assertAccepted(await bob.call('leave-room'));
      assert.equal(await ada.next('user-left'), bob.id);
      bob.close();
      const cleo = await server.enter(room, { transports });
      assert.deepEqual(cleo.usersAtJoin.map((user) => user.id).sort(), [ada.id, cleo.id].sort());
      await ada.next('user-joined', (user) => user.id === cleo.id);
      assert.deepEqual(ada.unread('user-left'), []);
    });

    check('who has left sees and moves nobody, and can come back', async (server) => {
      const room = unique('back');
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      assertAccepted(await bob.call('leave-room'));
      bob.emit('update-position', poseNumber(1));
      await bob.flush();
      assertAccepted(await bob.call('join-room', { roomId: room }));
      assert.equal((await bob.next('room-users')).length, 2);
      ada.emit('update-position', poseNumber(2));
      await seesMove(bob, ada, poseNumber(2));
      assert.ok(!ada.unread('user-moved').some((event) => isAt(event, bob.id, poseNumber(1))));
    });

    check('a disconnect is told', async (server) => {
      const room = unique('gone');
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      bob.close();
      assert.equal(await ada.next('user-left'), bob.id);
    });

    check('a client that vanishes is told', async (server) => {
      const room = unique('vanished');
      const ada = await server.enter(room, { transports });
      const ghost = await server.login('ghost');
      const { vanish } = await vanishingClient(server.url, ghost.token, room);
      assert.equal((await ada.next('user-joined')).id, ghost.userId);
      vanish();
      assert.equal(await ada.next('user-left'), ghost.userId);
    });

    check('joining another room leaves the one before', async (server) => {
      const first = unique('first');
      const second = unique('second');
      const ada = await server.enter(first, { transports });
      const bob = await server.enter(first, { transports });
      assertAccepted(await bob.call('join-room', { roomId: second }));
      assert.equal(await ada.next('user-left'), bob.id);
    });

    check('two rooms do not hear of each other', async (server) => {
      const [one, two] = [unique('one'), unique('two')];
      const ada = await server.enter(one, { transports });
      const bob = await server.enter(one, { transports });
      const eve = await server.enter(two, { transports });
      const eva = await server.enter(two, { transports });
      ada.emit('update-position', poseNumber(1));
      ada.emit('object-create', { id: 'secret' });
      ada.emit('room-message', { type: 'chat', data: 'between us' });
      ada.emit('user-update', { username: 'Ada L.' });
      assertRefused(await ada.call('signal', { to: eve.id, data: 1 }));
      assertRefused(await ada.call('room-message', { type: 'chat', data: 1, to: eve.id }));
      for (const event of ['user-moved', 'object-created', 'room-message', 'user-updated']) {
        await bob.next(event);
      }
      // Both kinds of traffic have reached Eve from her own room: anything earlier has, too.
      eva.emit('update-position', poseNumber(2));
      await seesMove(eve, eva, poseNumber(2));
      assertAccepted(await eva.call('object-create', { id: 'ours' }));
      await eve.next('object-created', (object) => object.id === 'ours');
      for (const event of ['object-created', 'room-message', 'signal', 'user-updated']) {
        assert.deepEqual(eve.unread(event), [], event);
      }
      assert.deepEqual(eve.unread('user-moved').filter((event) => event.id !== eva.id), []);
      assert.deepEqual(eve.objectsAtJoin, []);
    });
  });
}

withServer('rooms come and go', {}, (check) => {
  check('a room that nobody made appears on joining and goes when it is empty', async (server) => {
    const room = unique('brief');
    const listed = async () => {
      const { body } = await server.http('GET', '/api/rooms');
      return body.find((entry) => entry.id === room);
    };
    const ada = await server.enter(room);
    assert.equal((await listed()).users, 1);
    assert.equal((await listed()).maxUsers, 50);
    ada.close();
    await until(async () => !(await listed()), 'the empty room to go');
  });

  for (const [what, request] of [
    ['no payload', undefined],
    ['no roomId', {}],
    ['an empty roomId', { roomId: '' }],
    ['a roomId that is a number', { roomId: 7 }],
    ['a roomId that is endless', { roomId: 'x'.repeat(100_000) }],
    ['an unknown encoding', { roomId: 'ok', encoding: 'smoke' }],
  ]) {
    check(`a join with ${what} is refused, and the connection stays`, async (server) => {
      const ada = await server.connect();
      assertRefused(await (request === undefined ? ada.call('join-room') : ada.call('join-room', request)));
      const room = unique('after');
      assertAccepted(await ada.call('join-room', { roomId: room }));
    });
  }
});

withServer('heartbeats', { env: { PING_INTERVAL_MS: '500', PING_TIMEOUT_MS: '4000' } }, (check) => {
  check('who no longer answers is gone for the others, who go on', async (server) => {
    const room = unique('silence');
    const ada = await server.enter(room, { transports: ['websocket'] });
    const bob = await server.enter(room, { transports: ['polling'] });
    const silent = await server.raw();
    await silent.call('join-room', { roomId: room });
    await ada.next('user-joined', (user) => user.username === 'raw');
    silent.answersPings = false;
    await silent.closed;
    const [left] = await ada.collect('user-left', 1);
    assert.equal(await bob.next('user-left'), left);
    ada.emit('update-position', poseNumber(1));
    await seesMove(bob, ada, poseNumber(1));
    for (const client of [ada, bob]) assert.deepEqual(client.unread('user-left'), []);
  });
});
