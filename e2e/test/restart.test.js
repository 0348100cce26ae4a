import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startServer, TRANSPORTS, unique } from '../harness.js';
import { assertAccepted, assertIncludes, poseNumber, seesMove } from '../expect.js';

const TIMEOUT_MS = 120_000;

/** A test that ends its server itself. */
function scenario(name, fn) {
  it(name, { timeout: TIMEOUT_MS }, async () => {
    const server = await startServer();
    try {
      await fn(server);
    } catch (error) {
      console.error(`--- the server's log during "${name}"\n${server.output}---`);
      throw error;
    } finally {
      server.closeClients();
      if (server.running) await server.kill();
      server.clean();
    }
  });
}

describe('killed', () => {
  scenario('persistent rooms and acknowledged objects are there afterwards', async (server) => {
    const [kept, lost] = [unique('kept'), unique('lost')];
    const made = await server.createRoom({ roomId: kept, maxUsers: 7, persistent: true });
    assert.equal(made.status, 200);
    await server.createRoom({ roomId: lost, maxUsers: 7 });
    const ada = await server.enter(kept);
    const other = await server.enter(lost);
    await other.call('object-create', { id: 'sand' });
    const objects = Array.from({ length: 50 }, (_, n) => ({
      id: `object-${n}`,
      position: { x: n + 0.1, y: 0, z: -n - 0.5 },
      label: `№ ${n}`,
    }));
    const answers = await Promise.all(objects.map((object) => ada.call('object-create', object)));
    answers.forEach(assertAccepted);
    const update = await ada.call('object-update', { id: 'object-1', label: 'changed' });
    assertAccepted(update);
    assertAccepted(await ada.call('object-delete', { id: 'object-2' }));
    await server.kill();
    server.closeClients();

    await server.start();
    const { body } = await server.http('GET', '/api/rooms');
    assertIncludes(body.find((room) => room.id === kept), {
      id: kept,
      users: 0,
      maxUsers: 7,
      created: made.body.created,
    });
    assert.equal(body.find((room) => room.id === lost), undefined);
    const bob = await server.enter(kept);
    const found = new Map(bob.objectsAtJoin.map((object) => [object.id, object]));
    assert.equal(found.size, objects.length - 1);
    for (const object of objects) {
      if (object.id === 'object-2') assert.ok(!found.has('object-2'));
      else if (object.id === 'object-1') assertIncludes(found.get('object-1'), { ...object, label: 'changed' });
      else assertIncludes(found.get(object.id), object);
    }
    // Versions go on from where they were.
    const next = await bob.call('object-update', { id: 'object-1', version: update.version, label: 'again' });
    assertAccepted(next);
    assert.ok(next.version > update.version);
  });

  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    scenario(`a stock client comes back by itself, ${mode}`, async (server) => {
      const room = unique('again');
      const options = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 500 };
      const ada = await server.connect({ name: 'Ada', transports, options });
      const bob = await server.connect({ name: 'Bob', transports, options });
      for (const client of [ada, bob]) assertAccepted(await client.call('join-room', { roomId: room }));
      const before = ada.socket.id;
      await server.kill();
      for (const client of [ada, bob]) await client.next('(disconnect)');
      const back = [ada.connected(), bob.connected()];
      await server.start();
      await Promise.all(back);
      assert.notEqual(ada.socket.id, before);
      for (const client of [ada, bob]) assertAccepted(await client.call('join-room', { roomId: room }));
      ada.emit('update-position', poseNumber(3));
      await seesMove(bob, ada, poseNumber(3));
    });
  }
});

describe('drained', () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    scenario(`${signal}: everyone is told when to come back, and the exit code is 0`, async (server) => {
      const room = unique('drained');
      await server.createRoom({ roomId: room, persistent: true });
      const clients = [];
      for (const transports of Object.values(TRANSPORTS)) clients.push(await server.enter(room, { transports }));
      clients.push(await server.connect());
      assertAccepted(await clients[0].call('object-create', { id: 'kept' }));
      server.child.kill(signal);
      for (const client of clients) {
        const { reconnectInMs } = await client.next('server-restart');
        assert.ok(Number.isFinite(reconnectInMs) && reconnectInMs >= 0, `reconnectInMs ${reconnectInMs}`);
      }
      for (const client of clients) await client.next('(disconnect)');
      assert.deepEqual(await server.exited, { code: 0, signal: null });
      server.closeClients();
      await server.start();
      const late = await server.enter(room);
      assert.deepEqual(late.objectsAtJoin.map((object) => object.id), ['kept']);
      assert.deepEqual(await server.stop(), { code: 0, signal: null });
    });
  }

  scenario('the moments to come back are spread', async (server) => {
    const room = unique('spread');
    const clients = [];
    for (let n = 0; n < 20; n += 1) clients.push(await server.enter(room, { transports: ['websocket'] }));
    server.child.kill('SIGTERM');
    const told = [];
    for (const client of clients) told.push((await client.next('server-restart')).reconnectInMs);
    assert.ok(new Set(told).size > told.length / 2, `all at once: ${told}`);
    assert.deepEqual(await server.exited, { code: 0, signal: null });
  });
});
