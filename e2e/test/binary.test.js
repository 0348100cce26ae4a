import assert from 'node:assert/strict';
import { writePose } from '../../protocol/js/pose-frame.js';
import { FrameView, difference, fromJson } from '../frames.js';
import { PATIENCE_MS, TRANSPORTS, unique, within, withServer } from '../harness.js';
import { assertAccepted, assertError, assertRefused, poseNumber, seesMove } from '../expect.js';

const hand = (x, rotation = { x: 0, y: 0, z: 0, w: 1 }) => ({ position: { x, y: 1.23, z: -3.6 }, rotation });

/** Poses in both forms of rotations, with hands and without, in several cells. */
const POSES = [
  poseNumber(1),
  { position: { x: -40.3, y: 1.71, z: 65.2 }, rotation: { x: 0.31, y: 2.9, z: -0.77 } },
  { position: { x: 3.14, y: 1.5, z: -3.3 }, rotation: { x: 0.2, y: -1.4, z: 0.6, w: 0.9 } },
  { ...poseNumber(2), leftHand: hand(2.7), rightHand: hand(3.4, { x: 0.4, y: -0.2, z: 2 }) },
  { ...poseNumber(3), rightHand: hand(4.5, { x: -0.5, y: 0.5, z: 0.5, w: 0.5 }) },
  { ...poseNumber(4), leftHand: hand(4.9) },
  poseNumber(5),
];

const attachment = (pose) => Buffer.from(writePose(fromJson(pose)));

/** Waits until an event of JSON poses shows `mover` in `pose`, which was sent as an attachment. */
async function seesNearly(viewer, mover, pose) {
  const expected = fromJson(pose);
  const shows = (user) => user.id === mover.id && !difference(fromJson(user), expected);
  const event = viewer.encoding === 'batch' ? 'users-moved' : 'user-moved';
  const shown = await viewer.next(event, (payload) => (payload.users ?? [payload]).some(shows));
  const { rotation } = (shown.users ?? [shown]).find(shows);
  assert.ok('w' in rotation, 'what was sent as a quaternion comes as one');
}

async function seesInBatch(viewer, mover, pose) {
  const shows = ({ id, position }) => id === mover.id && position.x === pose.position.x;
  const { users } = await viewer.next('users-moved', (payload) => payload.users.some(shows));
  const { id, socketId, ...shown } = users.find(shows);
  assert.deepEqual(shown, pose);
}

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`binary poses, ${mode}`, {}, (check) => {
    const enter = async (server, room, encoding, name) => {
      const client = await server.enter(room, { name, transports, encoding });
      client.encoding = encoding;
      if (encoding === 'binary') client.frames = new FrameView(client);
      return client;
    };
    const mixed = async (server) => {
      const room = unique('mixed');
      const ada = await enter(server, room, 'binary', 'Ada');
      const bob = await enter(server, room, 'batch', 'Bob');
      const cleo = await enter(server, room, 'json', 'Cleo');
      const dan = await enter(server, room, 'binary', 'Dan');
      return { room, ada, bob, cleo, dan, all: [ada, bob, cleo, dan] };
    };

    check('each encoding shows poses that are sent as JSON', async (server) => {
      const { all } = await mixed(server);
      for (const mover of all) {
        const others = all.filter((client) => client !== mover);
        for (const pose of POSES) {
          mover.emit('update-position', pose);
          await Promise.all(
            others.map((viewer) => {
              if (viewer.frames) return viewer.frames.sees(mover, pose);
              return (viewer.encoding === 'batch' ? seesInBatch : seesMove)(viewer, mover, pose);
            }),
          );
        }
      }
    });

    check('each encoding shows poses that are sent as an attachment', async (server) => {
      const { all } = await mixed(server);
      for (const mover of all) {
        const others = all.filter((client) => client !== mover);
        for (const pose of POSES) {
          assertAccepted(await mover.call('update-position', attachment(pose)));
          await Promise.all(
            others.map((viewer) =>
              viewer.frames ? viewer.frames.sees(mover, pose) : seesNearly(viewer, mover, pose),
            ),
          );
        }
      }
    });

    check('each gets its own encoding only', async (server) => {
      const { ada, bob, cleo, dan } = await mixed(server);
      cleo.emit('update-position', POSES[3]);
      bob.emit('update-position', attachment(POSES[4]));
      await Promise.all([ada.frames.sees(cleo, POSES[3]), dan.frames.sees(bob, POSES[4])]);
      ada.emit('update-position', POSES[1]);
      await Promise.all([seesInBatch(bob, ada, POSES[1]), seesMove(cleo, ada, POSES[1])]);
      for (const viewer of [bob, cleo]) assert.deepEqual(viewer.unread('pose-frame'), []);
      assert.deepEqual(bob.unread('user-moved'), []);
      assert.deepEqual(cleo.unread('users-moved'), []);
      // A view finds fault with events that are not its own.
      for (const viewer of [ada, dan]) viewer.frames.check();
    });

    check('who stands still is shown again and again, to who has just come too', async (server) => {
      const { room, ada, cleo } = await mixed(server);
      cleo.emit('update-position', POSES[3]);
      await ada.frames.sees(cleo, POSES[3]);
      const late = await enter(server, room, 'binary', 'Late');
      for (const viewer of [ada, late]) {
        for (let times = 0; times < 3; times += 1) {
          viewer.frames.poses.clear();
          await viewer.frames.sees(cleo, POSES[3]);
        }
      }
    });

    check('the encoding may change while one stays', async (server) => {
      const { room, ada, cleo } = await mixed(server);
      assertAccepted(await cleo.call('join-room', { roomId: room, encoding: 'binary' }));
      cleo.usersAtJoin = await cleo.next('room-users');
      // From the answer on there are frames and nothing else.
      cleo.inbox = [];
      const frames = new FrameView(cleo);
      ada.emit('update-position', POSES[3]);
      await frames.sees(ada, POSES[3]);
      assertAccepted(await ada.call('join-room', { roomId: room, encoding: 'json' }));
      cleo.emit('update-position', POSES[1]);
      await seesMove(ada, cleo, POSES[1]);
    });

    check('who has left is shown no more', async (server) => {
      const { ada, bob, cleo, dan } = await mixed(server);
      cleo.emit('update-position', POSES[2]);
      await Promise.all([ada.frames.sees(cleo, POSES[2]), dan.frames.sees(cleo, POSES[2])]);
      cleo.emit('update-position', POSES[3]);
      assertAccepted(await cleo.call('leave-room'));
      await Promise.all([ada, dan].map((viewer) => viewer.next('user-left', (id) => id === cleo.id)));
      for (const pose of POSES) {
        bob.emit('update-position', pose);
        // The view finds fault with a slot that nobody has.
        await Promise.all([ada.frames.sees(bob, pose), dan.frames.sees(bob, pose)]);
      }
    });

    check('poses may be sent without an acknowledgement, one after the other', async (server) => {
      const { all } = await mixed(server);
      const [mover, viewer] = [all[2], all[3]];
      for (const pose of POSES) {
        mover.emit('update-position', attachment(pose));
        await viewer.frames.sees(mover, pose);
      }
      for (let n = 0; n < 300; n += 1) mover.emit('update-position', attachment(POSES[n % POSES.length]));
      mover.emit('update-position', attachment(POSES[3]));
      await mover.flush();
      await viewer.frames.sees(mover, POSES[3]);
      assert.deepEqual(mover.unread('error'), []);
    });

    check('who is alone is shown nobody', async (server) => {
      const room = unique('alone');
      const ada = await enter(server, room, 'binary', 'Ada');
      for (const pose of POSES) assertAccepted(await ada.call('update-position', pose));
      const bob = await enter(server, room, 'json', 'Bob');
      // The view finds fault with a frame of nobody else.
      bob.emit('update-position', POSES[1]);
      await ada.frames.sees(bob, POSES[1]);
    });

    check('a bad pose is refused and harms nobody', async (server) => {
      const { ada, bob, cleo, dan } = await mixed(server);
      const good = attachment(POSES[3]);
      cleo.emit('update-position', POSES[1]);
      await Promise.all([ada.frames.sees(cleo, POSES[1]), seesInBatch(bob, cleo, POSES[1])]);
      const changed = (at, value) => Buffer.from(good.map((byte, index) => (index === at ? value : byte)));
      for (const [what, ...args] of [
        ['nothing in it', Buffer.alloc(0)],
        ['a mask and no more', good.subarray(0, 1)],
        ['the last byte missing', good.subarray(0, -1)],
        ['a byte too many', Buffer.concat([good, Buffer.alloc(1)])],
        ['a hand that is not promised', changed(0, 1)],
        ['a hand that is not there', Buffer.concat([Buffer.from([3]), attachment(POSES[5]).subarray(1)])],
        ['unknown bits in the mask', changed(0, 0x83)],
        ['a place beyond all range', changed(2, 0x7f)],
        ['a frame', Buffer.concat([Buffer.from([1, 0, 0, 0]), Buffer.alloc(8)])],
        ['noise', Buffer.alloc(100_000, 0xff)],
        ['two attachments', good, good],
        ['an attachment within JSON', { ...POSES[1], more: [good, good] }],
      ]) {
        const answer = await cleo.call('update-position', ...args);
        assertRefused(answer);
        assert.equal(answer.error.code, 'bad_request', what);
      }
      cleo.emit('update-position', good.subarray(1));
      const error = await cleo.next('error');
      assertError(error);
      assert.equal(error.code, 'bad_request');
      assert.equal(difference(ada.frames.poseOf(cleo), fromJson(POSES[1])), undefined, 'it has not moved');
      cleo.emit('update-position', good);
      await Promise.all([
        ada.frames.sees(cleo, POSES[3]),
        dan.frames.sees(cleo, POSES[3]),
        seesNearly(bob, cleo, POSES[3]),
      ]);
      assert.ok(cleo.socket.connected);
    });
  });
}

withServer('binary poses while the transport changes', {}, (check) => {
  check('frames go on, in order, from polling to websocket', async (server) => {
    const room = unique('upgrade');
    const mover = await server.enter(room, { name: 'Mover', transports: ['websocket'] });
    for (let round = 0; round < 5; round += 1) {
      const client = await server.connect({ name: 'Viewer' });
      const { engine } = client.socket.io;
      const upgraded = new Promise((resolve) => {
        if (engine.transport.name === 'websocket') resolve();
        else engine.once('upgrade', resolve);
      });
      client.joinAnswer = await client.call('join-room', { roomId: room, encoding: 'binary' });
      assertAccepted(client.joinAnswer);
      client.usersAtJoin = await client.next('room-users');
      const frames = new FrameView(client);
      let isUpgraded = false;
      const wait = within(upgraded, 'the upgrade', PATIENCE_MS).then(() => (isUpgraded = true));
      for (let n = 0; n < 5 || !isUpgraded; n += 1) {
        const pose = POSES[n % POSES.length];
        mover.emit('update-position', n % 2 ? pose : attachment(pose));
        await frames.sees(mover, pose);
      }
      await wait;
      assert.equal(engine.transport.name, 'websocket');
      client.close();
    }
  });
});

/** The header of a binary pose as the stock client sends it, and others that come to the same. */
const HEADERS = {
  'of a pose': '451-["update-position",{"_placeholder":true,"num":0}]',
  'of a pose with an acknowledgement': '451-5["update-position",{"_placeholder":true,"num":0}]',
  'of a pose, written with blanks': '451-["update-position", {"num":0, "_placeholder":true}]',
};

withServer('binary poses that come in pieces', {}, (check) => {
  const enter = async (server) => {
    const room = unique('pieces');
    const viewer = await server.enter(room, { name: 'Viewer', encoding: 'binary' });
    const frames = new FrameView(viewer);
    const bystander = await server.enter(room, { name: 'Bystander' });
    const raw = await server.raw();
    assertAccepted(await raw.call('join-room', { roomId: room }));
    const { id } = await viewer.next('user-joined', ({ username }) => username === 'raw');
    return { viewer, bystander, raw, id, frames };
  };

  for (const [what, header] of Object.entries(HEADERS)) {
    check(`a header ${what} and its attachment are a pose`, async (server) => {
      const { raw, id, frames } = await enter(server);
      for (const pose of POSES) {
        raw.send(header);
        raw.send(attachment(pose));
        await frames.sees({ id, account: { username: 'raw' } }, pose);
      }
    });

    for (const [between, packet] of Object.entries({
      'an event': '42["time-sync"]',
      'another header': header,
      'a pose as JSON': `42${JSON.stringify(['update-position', poseNumber(9)])}`,
    })) {
      check(`a header ${what}, then ${between}: that connection is closed, no other`, async (server) => {
        const { viewer, bystander, raw, id, frames } = await enter(server);
        raw.send(header);
        raw.send(packet);
        raw.send(attachment(POSES[3]));
        await within(raw.closed, 'the connection to be closed');
        await viewer.next('user-left', (left) => left === id);
        bystander.emit('update-position', attachment(POSES[1]));
        await frames.sees(bystander, POSES[1]);
        for (const { socket } of [viewer, bystander]) assert.ok(socket.connected);
        assert.deepEqual(bystander.unread('error'), []);
      });
    }
  }

  check('a heartbeat may come between a header and its attachment', async (server) => {
    const { raw, id, frames } = await enter(server);
    raw.send(HEADERS['of a pose']);
    raw.send('3');
    raw.send(attachment(POSES[3]));
    await frames.sees({ id, account: { username: 'raw' } }, POSES[3]);
  });
});
