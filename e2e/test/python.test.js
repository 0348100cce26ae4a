import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withServer } from '../harness.js';

const folder = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const python = process.env.E2E_PYTHON ?? path.join(folder, '.venv', 'bin', 'python');

withServer('python-socketio', {}, (check) => {
  for (const transport of ['polling', 'websocket']) {
    check(`its client meets another one, ${transport}`, async (server, t) => {
      assert.ok(existsSync(python), `no ${python}: see e2e/README.md`);
      const script = path.join(folder, 'python', 'meeting.py');
      const child = spawn(python, [script, server.url, transport], { signal: t.signal });
      let output = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
      const [code] = await once(child, 'close');
      assert.equal(code, 0, output);
    });
  }
});
