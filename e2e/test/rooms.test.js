import assert from 'node:assert/strict';
import { RawClient } from '../raw.js';
import { TRANSPORTS, unique, until, withServer } from '../harness.js';
import { assertAccepted, assertError, assertRefused } from '../expect.js';

withServer('full rooms', {}, (check) => {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    check(`a full room says so, ${mode}`, async (server) => {
      const room = unique('small');
      assert.equal((await server.createRoom({ roomId: room, maxUsers: 2 })).status, 200);
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      await ada.next('user-joined');
      const third = await server.connect({ transports });
      third.emit('join-room', { roomId: room });
      assertError(await third.next('error'), 'Room full');
      assertRefused(await third.call('join-room', { roomId: room }), 'Room full');
      assert.deepEqual(third.unread('room-users'), []);
      assert.deepEqual(ada.unread('user-joined'), []);
      bob.emit('leave-room');
      assert.equal(await ada.next('user-left'), bob.id);
      assertAccepted(await third.call('join-room', { roomId: room }));
    });
  }

  check('who is turned away is either still where they were, or gone from there for all', async (server) => {
    const [small, home] = [unique('small'), unique('home')];
    await server.createRoom({ roomId: small, maxUsers: 1 });
    await server.enter(small);
    const ada = await server.enter(home);
    const bob = await server.enter(home);
    assertRefused(await bob.call('join-room', { roomId: small }), 'Room full');
    const answer = await bob.call('room-message', { type: 'still', data: 'here' });
    if (answer.ok) {
      assert.equal((await ada.next('room-message')).data, 'here');
      assert.deepEqual(ada.unread('user-left'), []);
    } else {
      assert.equal(await ada.next('user-left'), bob.id);
      assertAccepted(await bob.call('join-room', { roomId: home }));
    }
  });
});

const ARRIVALS = 1_500;
const PLACES = 1_000;

/** How many connections are opened at a time; the joins themselves all go out at once. */
const OPENED_AT_A_TIME = 50;

withServer('arrivals', {}, (check) => {
  check(`${ARRIVALS} simultaneous joins fill ${PLACES} places exactly`, async (server) => {
    const room = unique('stadium');
    assert.equal((await server.createRoom({ roomId: room, maxUsers: PLACES })).status, 200);
    const crowd = [];
    const open = async () => {
      const { token } = await server.login('fan');
      const client = new RawClient(server.url, token);
      server.clients.push(client);
      await client.connected();
      // A thousand lists of a thousand people would fill the memory of this test, not prove more.
      client.keepOnly((packet) => packet.startsWith('43'));
      crowd.push(client);
    };
    while (crowd.length < ARRIVALS) {
      await Promise.all(Array.from({ length: OPENED_AT_A_TIME }, open));
    }
    const answers = await Promise.all(crowd.map((client) => client.call('join-room', { roomId: room })));
    const inside = answers.filter((answer) => answer.ok);
    assert.equal(inside.length, PLACES);
    for (const answer of answers) if (!answer.ok) assertRefused(answer, 'Room full');
    const listed = async () => {
      const { body } = await server.http('GET', '/api/rooms');
      return body.find((entry) => entry.id === room)?.users;
    };
    assert.equal(await listed(), PLACES);
    const leaver = crowd[answers.findIndex((answer) => answer.ok)];
    assertAccepted(await leaver.call('leave-room', {}, 2));
    await until(async () => (await listed()) === PLACES - 1, 'the leaver to be gone');
    const next = crowd[answers.findIndex((answer) => !answer.ok)];
    assertAccepted(await next.call('join-room', { roomId: room }, 3));
    assertRefused(await leaver.call('join-room', { roomId: room }, 4), 'Room full');
  });
});
