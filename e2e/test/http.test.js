import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { unique, withServer } from '../harness.js';

const METRICS = readFileSync(new URL('../../docs/METRICS.md', import.meta.url), 'utf8');

function assertFails(answer, status, error) {
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/);
  assert.deepEqual(Object.keys(answer.body), ['error']);
  assert.equal(typeof answer.body.error, 'string');
  if (error !== undefined) assert.equal(answer.body.error, error);
}

withServer('the HTTP API', {}, (check) => {
  check('a room can be made and is listed', async (server) => {
    const id = unique('made');
    const made = await server.createRoom({ roomId: id, maxUsers: 12, persistent: false });
    assert.equal(made.status, 200);
    assert.equal(made.body.id, id);
    const { status, body } = await server.http('GET', '/api/rooms');
    assert.equal(status, 200);
    const room = body.find((entry) => entry.id === id);
    assert.equal(room.users, 0);
    assert.equal(room.maxUsers, 12);
    assert.deepEqual(room.created, made.body.created);
  });

  check('the same room again is the same answer; with other options it is a conflict', async (server) => {
    const roomId = unique('twice');
    const first = await server.createRoom({ roomId, maxUsers: 5 });
    const second = await server.createRoom({ roomId, maxUsers: 5 });
    assert.equal(second.status, 200);
    assert.deepEqual(second.body, first.body);
    assertFails(await server.createRoom({ roomId, maxUsers: 6 }), 409);
    assertFails(await server.createRoom({ roomId, maxUsers: 5, persistent: true }), 409);
  });

  check('making a room wants a token', async (server) => {
    const body = { roomId: unique('open') };
    const { token } = await server.login();
    assertFails(await server.http('POST', '/api/rooms', { body }), 401);
    for (const Authorization of ['Bearer nonsense', 'Bearer ', token, `Basic ${token}`, `Bearer ${token}x`]) {
      assertFails(await server.http('POST', '/api/rooms', { body, headers: { Authorization } }), 401);
    }
  });

  check('making a room wants a roomId', async (server) => {
    assertFails(await server.createRoom({}), 400, 'roomId required');
    assertFails(await server.createRoom({ roomId: '' }), 400, 'roomId required');
  });

  for (const options of [{ maxUsers: 0 }, { maxUsers: -1 }, { maxUsers: 1.5 }, { maxUsers: '9' }, { maxUsers: 1e9 }]) {
    check(`a room with ${JSON.stringify(options)} is refused`, async (server) => {
      assertFails(await server.createRoom({ roomId: unique('odd'), ...options }), 400);
    });
  }

  check('health', async (server) => {
    const ada = await server.enter(unique('healthy'));
    const { status, body } = await server.http('GET', '/api/health');
    assert.equal(status, 200);
    assert.equal(body.status, 'healthy');
    assert.ok(body.users >= 1, `users ${body.users}`);
    assert.ok(body.rooms >= 1, `rooms ${body.rooms}`);
    assert.ok('redis' in body && 'workers' in body);
    ada.close();
  });

  check('liveness, readiness, metrics and the description', async (server) => {
    for (const target of ['/healthz', '/readyz']) {
      assert.equal((await server.http('GET', target)).status, 200);
    }
    const metrics = await server.http('GET', '/metrics');
    assert.equal(metrics.status, 200);
    const names = [...metrics.body.matchAll(/^# TYPE (\S+) (?:counter|gauge|histogram)$/gm)].map(([, name]) => name);
    assert.ok(names.length > 30, metrics.body);
    const documented = new Set(METRICS.match(/[a-z_]*_[a-z_]+/g));
    const unnamed = names.filter((name) => !documented.has(name) && !documented.has(`${name}_total`));
    assert.deepEqual(unnamed, [], 'docs/METRICS.md does not name them');
    const description = await server.http('GET', '/openapi.json');
    assert.equal(description.status, 200);
    assert.match(description.body.openapi, /^3\./);
    for (const path of [
      '/api/auth/login',
      '/api/rooms',
      '/api/rooms/{roomId}/replay',
      '/api/worker/execute',
      '/api/worker/status',
      '/api/health',
    ]) {
      assert.ok(path in description.body.paths, `${path} is not described`);
    }
  });

  check('workers: none yet', async (server) => {
    const status = await server.http('GET', '/api/worker/status');
    assert.equal(status.status, 200);
    assert.deepEqual(status.body, []);
    const body = { task: 'render', data: {} };
    assertFails(await server.http('POST', '/api/worker/execute', { body }), 401);
    const { token } = await server.login();
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await server.http('POST', '/api/worker/execute', { body, headers });
    assertFails(answer, 503, 'No healthy workers available');
  });

  check('errors are JSON, whatever is asked for', async (server) => {
    assertFails(await server.http('GET', '/api/nothing'), 404);
    assertFails(await server.http('DELETE', '/api/rooms'), 405);
    const headers = { 'Content-Type': 'application/json' };
    const post = (body) => server.http('POST', '/api/auth/login', { body, headers });
    for (const body of ['', 'null', '[]', '"text"', '{', '{"username":{}}', '\u0000']) {
      assertFails(await post(body), 400);
    }
    assertFails(await post(JSON.stringify({ username: 'x'.repeat(2_000_000) })), 413);
    assertFails(await post('['.repeat(10_000)), 400);
  });

  check('pages of other origins may call', async (server) => {
    const origin = 'https://example.org';
    for (const target of ['/api/rooms', '/api/health', '/api/nothing', '/socket.io/?EIO=4&transport=polling']) {
      const { headers } = await server.http('GET', target, { headers: { Origin: origin } });
      assert.ok(['*', origin].includes(headers.get('access-control-allow-origin')), target);
    }
    const preflight = await server.http('OPTIONS', '/api/rooms', {
      headers: {
        Origin: origin,
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'authorization,content-type',
      },
    });
    assert.ok([200, 204].includes(preflight.status), `answered ${preflight.status}`);
    assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /POST/);
    const allowed = preflight.headers.get('access-control-allow-headers') ?? '';
    assert.match(allowed, /authorization/i);
    assert.match(allowed, /content-type/i);
  });
});
