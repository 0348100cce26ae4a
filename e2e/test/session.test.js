import assert from 'node:assert/strict';
import { Client } from '../client.js';
import { once, TRANSPORTS, unique, until, withServer } from '../harness.js';
import { assertAccepted } from '../expect.js';

withServer('signing in', {}, (check) => {
  check('a login answers a token with the claims that were promised', async (server) => {
    const { status, body } = await server.http('POST', '/api/auth/login', {
      body: { username: 'Zoë' },
    });
    assert.equal(status, 200);
    assert.equal(body.username, 'Zoë');
    assert.match(body.userId, /^user_.+/);
    const claims = JSON.parse(Buffer.from(body.token.split('.')[1], 'base64url'));
    assert.equal(claims.userId, body.userId);
    assert.equal(claims.username, 'Zoë');
    assert.equal(claims.exp - claims.iat, 24 * 60 * 60);
    const again = await server.login('Zoë');
    assert.notEqual(again.userId, body.userId);
  });

  for (const [what, body] of [
    ['no username', {}],
    ['an empty username', { username: '' }],
    ['a username of null', { username: null }],
  ]) {
    check(`a login with ${what} is refused`, async (server) => {
      const answer = await server.http('POST', '/api/auth/login', { body });
      assert.equal(answer.status, 400);
      assert.deepEqual(answer.body, { error: 'Username required' });
    });
  }

  check('a login with a body that is not JSON is refused in JSON', async (server) => {
    const headers = { 'Content-Type': 'application/json' };
    const answer = await server.http('POST', '/api/auth/login', { body: '{"username":', headers });
    assert.equal(answer.status, 400);
    assert.equal(typeof answer.body.error, 'string');
  });
});

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  withServer(`connecting, ${mode}`, {}, (check) => {
    const attempt = (server, auth, query) => {
      const account = { token: undefined, username: 'nobody' };
      const client = new Client(server.url, account, { transports, options: { auth, query } });
      server.clients.push(client);
      return client.connected();
    };

    check('a token lets in', async (server) => {
      const client = await server.connect({ transports });
      assert.ok(client.socket.connected);
      if (mode !== 'default') assert.equal(client.socket.io.engine.transport.name, mode);
    });

    check('no token: Authentication required', async (server) => {
      await assert.rejects(attempt(server), { message: 'Authentication required' });
      await assert.rejects(attempt(server, {}), { message: 'Authentication required' });
    });

    check('a bad token: Invalid token', async (server) => {
      const { token } = await server.login();
      const [header, payload, signature] = token.split('.');
      const claims = JSON.parse(Buffer.from(payload, 'base64url'));
      const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
      const forged = part({ ...claims, userId: 'user_forged' });
      for (const bad of [
        'nonsense',
        `${header}.${forged}.${signature}`,
        `${part({ alg: 'none', typ: 'JWT' })}.${payload}.`,
      ]) {
        await assert.rejects(attempt(server, { token: bad }), { message: 'Invalid token' });
      }
    });

    check('the token may stand in the query, and is never logged', async (server) => {
      const { token } = await server.login();
      await attempt(server, undefined, { token });
      await assert.rejects(attempt(server, undefined, { token: 'bad' }), { message: 'Invalid token' });
      assert.ok(!server.output.includes(token), 'the token is in the log');
    });

    check('the handshake has the usual numbers', async (server) => {
      const answer = await server.http('GET', '/socket.io/?EIO=4&transport=polling');
      assert.equal(answer.status, 200);
      const { pingInterval, pingTimeout, maxPayload, upgrades } = JSON.parse(answer.body.slice(1));
      assert.deepEqual(
        { pingInterval, pingTimeout, maxPayload, upgrades },
        { pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000, upgrades: ['websocket'] },
      );
    });
  });
}

withServer('the upgrade', {}, (check) => {
  check('the default transports end on websocket, and nothing is lost on the way', async (server) => {
    const room = unique('upgrade');
    const witness = await server.enter(room, { name: 'witness', transports: ['websocket'] });
    const client = await server.connect({ name: 'climber' });
    const { engine } = client.socket.io;
    const upgraded = engine.transport.name === 'websocket' ? null : once(engine, 'upgrade');
    assertAccepted(await client.call('join-room', { roomId: room }));
    const numbers = [...Array(300).keys()];
    for (const n of numbers) {
      client.emit('room-message', { type: 'up', data: n });
      witness.emit('room-message', { type: 'down', data: n });
      // Lets the upgrade take place among the messages, not before or after all of them.
      if (n % 20 === 0) await client.flush();
    }
    await upgraded;
    await until(() => engine.transport.name === 'websocket', 'the upgrade');
    const up = await witness.collect('room-message', numbers.length);
    const down = await client.collect('room-message', numbers.length);
    assert.deepEqual(up.map((m) => m.data), numbers);
    assert.deepEqual(down.map((m) => m.data), numbers);
  });
});
