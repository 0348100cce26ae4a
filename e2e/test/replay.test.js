import assert from 'node:assert/strict';
import { until, unique, withServer } from '../harness.js';
import { assertAccepted, assertIncludes, poseNumber, seesMove } from '../expect.js';

const NDJSON = 'application/x-ndjson';

/** Asks for a room's recording as somebody who is signed in. */
async function replay(server, room, query = '', headers = {}) {
  server.replayToken ??= (await server.login('reader')).token;
  const target = `/api/rooms/${encodeURIComponent(room)}/replay${query}`;
  return server.http('GET', target, { headers: { Authorization: `Bearer ${server.replayToken}`, ...headers } });
}

/** The recording of a room, once it is of a form that `isWhole` takes: poses are written down after a second. */
async function recorded(server, room, isWhole) {
  return until(async () => {
    const { status, body } = await replay(server, room);
    return status === 200 && isWhole(body) && body;
  }, 'the recording to be whole');
}

const ofType = (events, type) => events.filter((event) => event.type === type);

/** A visit: somebody comes, moves, makes an object, changes it, takes it away, and leaves. Answers who it was. */
async function visit(server, room) {
  const [ada, bob] = [await server.enter(room, { name: 'Ada' }), await server.enter(room, { name: 'Bob' })];
  for (const n of [1, 2, 3]) {
    ada.emit('update-position', poseNumber(n));
    await seesMove(bob, ada, poseNumber(n));
  }
  const cube = { id: 'cube', type: 'box', position: { x: 1.5, y: 0, z: -2 } };
  assertAccepted(await ada.call('object-create', cube));
  assertAccepted(await ada.call('object-update', { id: 'cube', color: 'red' }));
  assertAccepted(await bob.call('user-update', { mood: 'glad' }));
  assertAccepted(await ada.call('object-delete', { id: 'cube' }));
  assertAccepted(await ada.call('leave-room'));
  await bob.next('user-left');
  return { ada, bob, cube };
}

withServer('replay', {}, (check) => {
  check('tells what stock clients did, oldest first', async (server) => {
    const room = unique('recorded / äöü');
    const before = Date.now();
    const { ada, bob, cube } = await visit(server, room);
    const isHere = (move) => move.userId === ada.id && Math.abs(move.position.x - poseNumber(3).position.x) < 0.002;
    const events = await recorded(server, room, (all) => ofType(all, 'move').some(isHere));
    for (const event of events) {
      assert.equal(typeof event.userId, 'string');
      assert.ok(Number.isInteger(event.timestamp), `timestamp ${event.timestamp}`);
      assert.ok(event.timestamp >= before - 1_000 && event.timestamp <= Date.now() + 1_000);
    }
    const times = events.map((event) => event.timestamp);
    assert.deepEqual(times, times.toSorted((a, b) => a - b));
    const told = events.filter((event) => event.type !== 'move').map(({ type, userId }) => `${type} ${userId}`);
    assert.deepEqual(told, [
      `join ${ada.id}`,
      `join ${bob.id}`,
      `object-create ${ada.id}`,
      `object-update ${ada.id}`,
      `user-update ${bob.id}`,
      `object-delete ${ada.id}`,
      `leave ${ada.id}`,
    ]);
    const [join] = ofType(events, 'join');
    assertIncludes(join.user, { id: ada.id, socketId: ada.socket.id, username: 'Ada' });
    const [create] = ofType(events, 'object-create');
    assertIncludes(create.object, cube);
    assert.equal(create.version, 1);
    assertIncludes(ofType(events, 'object-update')[0].update, { id: 'cube', color: 'red', version: 2 });
    assertIncludes(ofType(events, 'user-update')[0].update, { id: bob.id, mood: 'glad' });
    assert.equal(ofType(events, 'object-delete')[0].id, 'cube');
    const move = ofType(events, 'move').find(isHere);
    for (const axis of ['x', 'y', 'z']) {
      assert.ok(Math.abs(move.position[axis] - poseNumber(3).position[axis]) < 0.002, `${axis} ${move.position[axis]}`);
    }
  });

  check('gives the same page by page, line by line, and in parts', async (server) => {
    const room = unique('paged');
    const { ada, bob } = await visit(server, room);
    const all = await recorded(server, room, (events) => ofType(events, 'move').some((move) => move.userId === ada.id));
    // Bob stands still, so nothing is added meanwhile; what is fresh may not be cut, which a page waits for.
    const pages = [];
    let cursor = '';
    await until(async () => {
      const page = await replay(server, room, `?limit=2&cursor=${cursor}`);
      assert.equal(page.status, 200);
      pages.push(...page.body);
      cursor = page.headers.get('x-next-cursor') ?? cursor;
      return page.headers.get('x-next-cursor') === null;
    }, 'the last page');
    assert.deepEqual(pages, all);
    const { body } = await replay(server, room, '', { Accept: NDJSON });
    assert.deepEqual(body.trimEnd().split('\n').map((line) => JSON.parse(line)), all);
    const bobs = await replay(server, room, `?types=join,leave,user-update&users=${bob.id}`);
    assert.deepEqual(bobs.body.map((event) => event.type), ['join', 'user-update']);
    const later = all.filter((event) => event.timestamp >= all.at(-1).timestamp);
    assert.deepEqual((await replay(server, room, `?from=${all.at(-1).timestamp}`)).body, later);
  });

  check('is for those who are signed in, and for rooms that are or were', async (server) => {
    const anonymous = await server.http('GET', '/api/rooms/hall/replay');
    assert.deepEqual([anonymous.status, anonymous.body], [401, { error: 'Authentication required' }]);
    const nowhere = await replay(server, unique('nowhere'));
    assert.deepEqual([nowhere.status, nowhere.body], [404, { error: 'Room not found' }]);
    const wrong = await replay(server, 'hall', '?limit=0');
    assert.equal(wrong.status, 400);
    assert.match(wrong.body.error, /^limit /);
  });
});

withServer('replay of a server that was killed', {}, (check) => {
  check('has everything that was acknowledged, and everybody has left', async (server) => {
    const room = unique('killed');
    const { bob } = await visit(server, room);
    const acked = await bob.call('object-create', { id: 'last' });
    assertAccepted(acked);
    await server.kill();
    server.closeClients();
    await server.start();
    // Opened again, so that the recording says who was in no more.
    await server.enter(room, { name: 'Cem' });
    const events = await recorded(server, room, (all) => ofType(all, 'join').length === 3);
    assert.ok(ofType(events, 'object-create').some((event) => event.object.id === 'last'));
    assert.ok(ofType(events, 'leave').some((event) => event.userId === bob.id));
  });
});
