import assert from 'node:assert/strict';
import { once, TRANSPORTS, unique, withServer } from '../harness.js';
import { assertAccepted } from '../expect.js';

withServer('the most talkative log', { env: { LOG: 'trace,tungstenite::protocol=trace' } }, (check) => {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    check(`shows neither tokens nor passwords, ${mode}`, async (server) => {
      const ada = await server.connect({ name: 'Ada', transports });
      const { engine } = ada.socket.io;
      if (!transports && engine.transport.name === 'polling') await once(engine, 'upgrade');
      const [room, password] = [unique('secret'), unique('open-sesame')];
      assertAccepted(await ada.call('join-room', { roomId: room, password }));
      assert.ok(!server.output.includes(password), 'the password is in the log');
      assert.ok(!server.output.includes(ada.socket.auth.token), 'the token is in the log');
    });
  }
});
