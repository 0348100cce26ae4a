import assert from 'node:assert/strict';
import { TRANSPORTS, unique, withServer } from '../harness.js';
import { assertAccepted, assertIncludes, assertRefused } from '../expect.js';

const TEAPOT = {
  id: 'teapot',
  type: 'model',
  position: { x: 1.1, y: 0, z: -2.25 },
  colour: '#ffc478',
  nested: { list: [1, 'two', null, true, { deep: [] }], text: 'naïve “quotes” \\ \u2028 🫖' },
  numbers: [0.1, -0.5, 1e21, 9007199254740991, 1e-9],
};

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`objects, ${mode}`, {}, (check) => {
    const pair = async (server) => {
      const room = unique('objects');
      const ada = await server.enter(room, { transports });
      const bob = await server.enter(room, { transports });
      return { room, ada, bob };
    };

    check('a new object reaches the others with the same members', async (server) => {
      const { ada, bob } = await pair(server);
      const answer = await ada.call('object-create', TEAPOT);
      assertAccepted(answer);
      assert.equal(answer.id, 'teapot');
      assert.ok(Number.isInteger(answer.version));
      assert.deepEqual(await bob.next('object-created'), TEAPOT);
      // Bob's own object comes to Ada after anything that she might have been told of hers.
      await bob.call('object-create', { id: 'cup' });
      await ada.next('object-created', (object) => object.id === 'cup');
      assert.deepEqual(ada.unread('object-created'), []);
    });

    check('an object without an id is given one', async (server) => {
      const { ada, bob } = await pair(server);
      const answer = await ada.call('object-create', { type: 'cube' });
      assertAccepted(answer);
      assert.equal(typeof answer.id, 'string');
      assert.notEqual(answer.id, '');
      assert.deepEqual(await bob.next('object-created'), { type: 'cube', id: answer.id });
      const second = await ada.call('object-create', { type: 'cube' });
      assert.notEqual(second.id, answer.id);
    });

    check('a create without an acknowledgement, as the seed knows it', async (server) => {
      const { ada, bob } = await pair(server);
      ada.emit('object-create', TEAPOT);
      assert.deepEqual(await bob.next('object-created'), TEAPOT);
      await ada.flush();
      assert.deepEqual(ada.unread('error'), []);
    });

    check('late joiners get what is there', async (server) => {
      const { room, ada, bob } = await pair(server);
      await ada.call('object-create', TEAPOT);
      await bob.call('object-create', { id: 'cup', full: true });
      await bob.call('object-create', { id: 'saucer' });
      await bob.call('object-update', { id: 'cup', full: false });
      await ada.call('object-delete', { id: 'saucer' });
      const { objectsAtJoin } = await server.enter(room, { transports });
      const byId = new Map(objectsAtJoin.map((object) => [object.id, object]));
      assert.equal(objectsAtJoin.length, 2);
      assertIncludes(byId.get('teapot'), TEAPOT);
      assertIncludes(byId.get('cup'), { id: 'cup', full: false });
    });

    check('an update changes the named members and the version', async (server) => {
      const { room, ada, bob } = await pair(server);
      const { version } = await ada.call('object-create', TEAPOT);
      const answer = await bob.call('object-update', { id: 'teapot', version, colour: 'blue' });
      assertAccepted(answer);
      assert.ok(answer.version > version, `${answer.version} after ${version}`);
      assertIncludes(await ada.next('object-updated'), {
        id: 'teapot',
        colour: 'blue',
        version: answer.version,
      });
      const late = await server.enter(room, { transports });
      assertIncludes(late.objectsAtJoin[0], { ...TEAPOT, colour: 'blue' });
    });

    check('a stale version is refused and changes nothing', async (server) => {
      const { room, ada, bob } = await pair(server);
      const { version } = await ada.call('object-create', { id: 'lamp', on: 0 });
      assertAccepted(await ada.call('object-update', { id: 'lamp', version, on: 1 }));
      assertRefused(await bob.call('object-update', { id: 'lamp', version, on: 2 }));
      const late = await server.enter(room, { transports });
      assert.equal(late.objectsAtJoin[0].on, 1);
    });

    check('two updates of one version: one of them wins', async (server) => {
      const { ada, bob } = await pair(server);
      const { version } = await ada.call('object-create', { id: 'key' });
      const answers = await Promise.all([
        ada.call('object-update', { id: 'key', version, holder: 'Ada' }),
        bob.call('object-update', { id: 'key', version, holder: 'Bob' }),
      ]);
      assert.deepEqual(answers.map((answer) => answer.ok).sort(), [false, true]);
    });

    check('a deletion is told, and the object is gone', async (server) => {
      const { room, ada, bob } = await pair(server);
      await ada.call('object-create', TEAPOT);
      assertAccepted(await ada.call('object-delete', { id: 'teapot' }));
      assertIncludes(await bob.next('object-deleted'), { id: 'teapot' });
      assertRefused(await ada.call('object-update', { id: 'teapot', colour: 'red' }));
      const late = await server.enter(room, { transports });
      assert.deepEqual(late.objectsAtJoin, []);
    });
  });
}

withServer('objects that cannot be', {}, (check) => {
  for (const [what, event, payload] of [
    ['create of null', 'object-create', null],
    ['create of a list', 'object-create', [1]],
    ['create of a text', 'object-create', 'cube'],
    ['create of something huge', 'object-create', { id: 'huge', data: 'x'.repeat(900_000) }],
    ['update of nothing known', 'object-update', { id: 'nobody' }],
    ['update without an id', 'object-update', { colour: 'red' }],
    ['delete of nothing known', 'object-delete', { id: 'nobody' }],
    ['delete without a payload', 'object-delete', null],
  ]) {
    check(`${what} is refused`, async (server) => {
      const ada = await server.enter(unique('refused'));
      assertRefused(await ada.call(event, payload));
      assertAccepted(await ada.call('object-create', { id: 'fine' }));
    });
  }

  check('objects belong to a room: without one they are refused', async (server) => {
    const ada = await server.connect();
    assertRefused(await ada.call('object-create', { id: 'floating' }));
  });

  check('a room does not take objects without end', async (server) => {
    const ada = await server.enter(unique('full-of-things'));
    const data = 'x'.repeat(50_000);
    let answer = { ok: true };
    for (let n = 0; n < 400 && answer.ok; n += 1) {
      answer = await ada.call('object-create', { id: `crate-${n}`, data });
    }
    assertRefused(answer);
    assertAccepted(await ada.call('object-delete', { id: 'crate-0' }));
    assertAccepted(await ada.call('object-create', { id: 'small' }));
  });
});
