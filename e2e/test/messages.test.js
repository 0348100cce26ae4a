import assert from 'node:assert/strict';
import { TRANSPORTS, unique, withServer } from '../harness.js';
import {
  assertAccepted,
  assertError,
  assertIncludes,
  assertRefused,
  poseNumber,
  seesMove,
} from '../expect.js';

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`messages, ${mode}`, {}, (check) => {
    const three = async (server) => {
      const room = unique('messages');
      const ada = await server.enter(room, { name: 'Ada', transports });
      const bob = await server.enter(room, { name: 'Bob', transports });
      const cleo = await server.enter(room, { name: 'Cleo', transports });
      return { room, ada, bob, cleo };
    };

    check('a message to all reaches all others, with its sender set by the server', async (server) => {
      const { ada, bob, cleo } = await three(server);
      const data = { text: 'héllo', list: [1, null, { a: [] }] };
      const message = { type: 'chat', data, from: 'somebody else' };
      assertAccepted(await ada.call('room-message', message));
      for (const other of [bob, cleo]) {
        assertIncludes(await other.next('room-message'), { type: 'chat', data, from: ada.id });
      }
      await bob.call('room-message', { type: 'reply', data: 1 });
      await ada.next('room-message', (m) => m.type === 'reply');
      assert.deepEqual(ada.unread('room-message'), []);
    });

    check('a message to one reaches that one only', async (server) => {
      const { ada, bob, cleo } = await three(server);
      ada.emit('room-message', { type: 'whisper', data: 'psst', to: cleo.id });
      ada.emit('room-message', { type: 'chat', data: 'aloud' });
      assertIncludes(await cleo.next('room-message'), { type: 'whisper', data: 'psst', from: ada.id });
      assertIncludes(await bob.next('room-message'), { type: 'chat', data: 'aloud', from: ada.id });
      assertRefused(await ada.call('room-message', { type: 'whisper', data: 1, to: 'user_nobody' }));
    });

    check('messages keep their order', async (server) => {
      const { ada, bob } = await three(server);
      const numbers = [...Array(200).keys()];
      for (const n of numbers) ada.emit('room-message', { type: 'count', data: n });
      const seen = await bob.collect('room-message', numbers.length);
      assert.deepEqual(seen.map((m) => m.data), numbers);
    });

    check('binary attachments are relayed', async (server) => {
      const { ada, bob } = await three(server);
      const bytes = Buffer.from([...Array(256).keys()]);
      const more = Buffer.alloc(40_000, 7);
      const answer = await ada.call('room-message', { type: 'file', data: { bytes, parts: [more] } });
      assertAccepted(answer);
      const { data, from } = await bob.next('room-message');
      assert.equal(from, ada.id);
      assert.ok(bytes.equals(Buffer.from(data.bytes)), 'the first attachment differs');
      assert.ok(more.equals(Buffer.from(data.parts[0])), 'the second attachment differs');
      ada.emit('room-message', { type: 'chat', data: 'text goes on' });
      assertIncludes(await bob.next('room-message'), { data: 'text goes on' });
    });

    check('a user may be renamed', async (server) => {
      const { room, ada, bob } = await three(server);
      assertAccepted(await ada.call('user-update', { username: 'Countess', mood: { level: 3 } }));
      assertIncludes(await bob.next('user-updated'), {
        id: ada.id,
        username: 'Countess',
        mood: { level: 3 },
      });
      const late = await server.enter(room, { transports });
      assert.equal(late.usersAtJoin.find((user) => user.id === ada.id).username, 'Countess');
      assertRefused(await ada.call('user-update', { username: 'x', note: 'y'.repeat(5_000) }));
    });

    check('signals go to one member, with their sender', async (server) => {
      const { ada, bob, cleo } = await three(server);
      const data = { sdp: 'v=0\r\no=- 1 1 IN IP4 127.0.0.1', type: 'offer' };
      assertAccepted(await ada.call('signal', { to: bob.id, data }));
      assertIncludes(await bob.next('signal'), { data, from: ada.id });
      assertRefused(await ada.call('signal', { to: 'user_nobody', data }));
      ada.emit('room-message', { type: 'after', data: 0 });
      await cleo.next('room-message');
      assert.deepEqual(cleo.unread('signal'), []);
    });

    check('the clock can be asked for, with and without a room', async (server) => {
      const client = await server.connect({ transports });
      const first = await client.call('time-sync');
      assertAccepted(first);
      assert.ok(Number.isFinite(first.time));
      await client.call('join-room', { roomId: unique('clock') });
      const second = await client.call('time-sync');
      assert.ok(second.time >= first.time, `${second.time} after ${first.time}`);
    });

    check('without an acknowledgement, a failure is an error event', async (server) => {
      const client = await server.connect({ transports });
      client.emit('object-create', { id: 'nowhere' });
      assertError(await client.next('error'));
      client.emit('join-room', {});
      assertError(await client.next('error'));
    });

    check('with one, it is in the acknowledgement and nowhere else', async (server) => {
      const client = await server.connect({ transports });
      assertRefused(await client.call('object-create', { id: 'nowhere' }));
      assertRefused(await client.call('room-message', { type: 'chat', data: 1 }));
      assertRefused(await client.call('leave-room'));
      await client.flush();
      assert.deepEqual(client.unread('error'), []);
    });

    check('unknown events are ignored', async (server) => {
      const { ada, bob } = await three(server);
      ada.emit('make-tea', { sugar: 2 }, [1, 2, 3]);
      ada.emit('constructor');
      ada.emit('binary-unknown', Buffer.from('hello'));
      ada.emit('update-position', poseNumber(1));
      await seesMove(bob, ada, poseNumber(1));
      await ada.flush();
      assert.deepEqual(ada.unread('error'), []);
      assert.ok(ada.socket.connected);
    });

    check('a task that no worker can do is answered with worker-error', async (server) => {
      const client = await server.enter(unique('worker'), { transports });
      client.emit('worker-task', { taskId: 't-1', task: 'render', payload: { a: 1 } });
      const failed = await client.next('worker-error');
      assert.equal(failed.taskId, 't-1');
      assert.equal(typeof failed.error, 'string');
      assert.notEqual(failed.error, '');
    });

    check('one may look from elsewhere, as far as one likes', async (server) => {
      const { ada } = await three(server);
      const position = { x: 12.5, y: 0, z: -3 };
      for (const view of [{ position }, { position, radius: 0 }, { radius: 30.5 }, {}, null]) {
        assertAccepted(await ada.call('view', view));
      }
      assertAccepted(await ada.call('view'));
    });

    check('a view that makes no sense is refused', async (server) => {
      const { ada } = await three(server);
      const at = (members) => ({ position: { x: 0, y: 0, z: 0, ...members } });
      for (const view of [
        7,
        'here',
        true,
        { position: 'here' },
        { position: { x: 1, y: 2 } },
        at({ y: null }),
        at({ z: '3' }),
        at({ x: 1_000_001 }),
        at({ x: -1e300 }),
        { radius: -1 },
        { radius: 1_000_001 },
        { radius: 'far' },
      ]) {
        const answer = await ada.call('view', view);
        assertRefused(answer);
        assert.equal(answer.error.code, 'bad_request', JSON.stringify(view));
      }
      ada.emit('view', { radius: {} });
      assert.equal((await ada.next('error')).code, 'bad_request');
    });

    check('who is in no room has no view of it', async (server) => {
      const client = await server.connect({ transports });
      const answer = await client.call('view', { radius: 5 });
      assertRefused(answer);
      assert.equal(answer.error.code, 'not_in_room');
    });
  });
}
