import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect as tcpConnect } from 'node:net';
import { once, unique, withServer } from '../harness.js';
import { poseNumber, seesMove } from '../expect.js';

/** What arrives over a WebSocket from someone who does not mean well. */
const BAD_PACKETS = {
  'half of a JSON packet': '42["join-room",{"roomId":"x"',
  'no JSON at all': '42hello',
  'an event that is not a list': '42{"a":1}',
  'an empty event': '42[]',
  'an event without a name': '42[1,2,3]',
  'an event named null': '42[null]',
  'a reserved name': '42["connect",{}]',
  'another reserved name': '42["disconnect"]',
  'an unknown packet type': '49["x"]',
  'a packet type that is a letter': '4x',
  'an empty message': '4',
  'an empty frame': '',
  'an unknown Engine.IO type': '9',
  'an Engine.IO open from a client': '0{}',
  'an acknowledgement nobody asked for': '4399[1]',
  'an endless acknowledgement id': `42${'9'.repeat(400)}["time-sync"]`,
  'a second CONNECT': '40{}',
  'a CONNECT to nowhere': '40/nowhere,{}',
  'an event for a namespace never joined': '42/nowhere,["join-room",{}]',
  'a CONNECT_ERROR from a client': '44{"message":"no"}',
  'more attachments than allowed': '45100000-["room-message",{}]',
  'attachments that never come': '451-["room-message",{"type":"x","data":{"_placeholder":true,"num":0}}]',
  'a placeholder out of range': '451-["room-message",{"type":"x","data":{"_placeholder":true,"num":7}}]',
  'a negative placeholder': '451-["room-message",{"type":"x","data":{"_placeholder":true,"num":-1}}]',
  'zero attachments': '450-["room-message",{"type":"x","data":1}]',
  'very deep JSON': `42["room-message",${'['.repeat(50_000)}${']'.repeat(50_000)}]`,
  'very deep JSON that does not end': `42["object-create",${'{"a":'.repeat(50_000)}`,
  'a lone surrogate': '42["room-message",{"type":"\\ud800","data":"\\udfff"}]',
  'a member named __proto__': '42["object-create",{"__proto__":{"x":1},"id":"__proto__"}]',
  'the same member twice': '42["update-position",{"position":{"x":1,"x":"2","y":0,"z":0},"rotation":{}}]',
  'numbers that are none': '42["update-position",{"position":{"x":NaN,"y":0,"z":0},"rotation":{"x":0,"y":0,"z":0}}]',
  'a number beyond all': '42["update-position",{"position":{"x":1e999,"y":0,"z":0},"rotation":{"x":0,"y":0,"z":0}}]',
  'binary out of nowhere': randomBytes(64),
  'an empty binary frame': Buffer.alloc(0),
  'a message over the limit': `42["room-message",{"type":"x","data":"${'x'.repeat(1_100_000)}"}]`,
  'a binary frame over the limit': Buffer.alloc(1_100_000),
};

withServer('hostile input never harms anyone else', {}, (check) => {
  const bystanders = async (server, room) => {
    const ada = await server.enter(room, { name: 'Ada' });
    const bob = await server.enter(room, { name: 'Bob' });
    return { ada, bob };
  };

  /** Both still hear each other on every lane, on the connection that they had. */
  const assertUnharmed = async ({ ada, bob }) => {
    ada.emit('update-position', poseNumber(8));
    await seesMove(bob, ada, poseNumber(8));
    bob.emit('room-message', { type: 'fine', data: 'still here' });
    await ada.next('room-message', (message) => message.type === 'fine');
    for (const client of [ada, bob]) {
      assert.ok(client.socket.connected);
      assert.deepEqual(client.unread('(disconnect)'), []);
      assert.deepEqual(client.unread('error'), []);
    }
  };

  for (const [what, packet] of Object.entries(BAD_PACKETS)) {
    check(what, async (server) => {
      const room = unique('hostile');
      const innocent = await bystanders(server, room);
      const villain = await server.raw();
      await villain.call('join-room', { roomId: room });
      await innocent.ada.next('user-joined', (user) => user.username === 'raw');
      villain.send(packet);
      // Either the server hangs up, or it goes on as if nothing had been.
      villain.send('4277["time-sync"]');
      await Promise.race([
        villain.closed,
        villain.next((answer) => answer.startsWith('4377[')).catch(() => {}),
      ]);
      await assertUnharmed(innocent);
      villain.close();
      await innocent.ada.next('user-left');
    });
  }

  check('attachments that are not those announced', async (server) => {
    const room = unique('hostile');
    const innocent = await bystanders(server, room);
    const villain = await server.raw();
    await villain.call('join-room', { roomId: room });
    for (let n = 0; n < 10; n += 1) villain.send('451-["room-message",{"_placeholder":true,"num":0}]');
    villain.send(randomBytes(10));
    villain.send(randomBytes(10));
    villain.close();
    await innocent.ada.next('user-left');
    await assertUnharmed(innocent);
  });

  check('a flood of moves from one client', async (server) => {
    const room = unique('flood');
    const innocent = await bystanders(server, room);
    const villain = await server.raw();
    await villain.call('join-room', { roomId: room });
    const packet = `42${JSON.stringify(['update-position', poseNumber(1)])}`;
    for (let n = 0; n < 20_000; n += 1) villain.send(packet);
    await assertUnharmed(innocent);
  });

  check('a client that never reads', async (server) => {
    const room = unique('deaf');
    const innocent = await bystanders(server, room);
    const deaf = await server.raw();
    await deaf.call('join-room', { roomId: room });
    deaf.socket.pause();
    // Each speaker's allowance is for so many bytes a second, so it takes several to fill a queue.
    const speakers = [];
    for (let n = 0; n < 8; n += 1) speakers.push(await server.enter(room, { name: `Speaker ${n}` }));
    const message = { type: 'bulk', data: 'x'.repeat(40_000) };
    const answers = await Promise.all(
      speakers.flatMap((speaker) => Array.from({ length: 12 }, () => speaker.call('room-message', message))),
    );
    const accepted = answers.filter((answer) => answer.ok).length;
    assert.ok(accepted >= 80, `${accepted} messages were taken`);
    const heard = await innocent.bob.collect('room-message', accepted);
    assert.ok(heard.every((message) => message.type === 'bulk'));
    await assertUnharmed(innocent);
    deaf.socket.resume();
  });

  for (const [what, bytes] of Object.entries({
    'no HTTP at all': '\0\x01\x02 nonsense\r\n\r\n',
    'a request line without end': 'GET /'.padEnd(200_000, 'x'),
    'headers without end': `GET / HTTP/1.1\r\n${'X-Long: y\r\n'.repeat(20_000)}`,
    'a session that does not exist':
      'GET /socket.io/?EIO=4&transport=websocket&sid=nobody HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n' +
      'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    'an old protocol': 'GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n',
  })) {
    check(`over TCP: ${what}`, async (server) => {
      const innocent = await bystanders(server, unique('tcp'));
      const tcp = tcpConnect(server.port, '127.0.0.1');
      tcp.on('error', () => {});
      await once(tcp, 'connect');
      await new Promise((resolve) => tcp.write(bytes, resolve));
      await assertUnharmed(innocent);
      tcp.destroy();
    });
  }

  check('polling posts that are broken or too large', async (server) => {
    const innocent = await bystanders(server, unique('polling'));
    const open = await server.http('GET', '/socket.io/?EIO=4&transport=polling');
    const { sid } = JSON.parse(open.body.slice(1));
    const target = `/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    const headers = { 'Content-Type': 'text/plain' };
    for (const body of ['4'.repeat(1_100_000), '\x1e\x1e\x1e', 'b!!!not base64!!!', '40{"token":']) {
      const answer = await server.http('POST', target, { body, headers }).catch(() => ({ status: 0 }));
      assert.ok(answer.status < 500, `answered ${answer.status}`);
    }
    await assertUnharmed(innocent);
  });
});
