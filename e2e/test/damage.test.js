import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, openSync, closeSync, ftruncateSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Server, startServer, unique } from '../harness.js';
import { numbers } from '../author.js';
import { RELIABLE } from '../afterwards.js';
import { assertAccepted } from '../expect.js';

/** How often a file is damaged, and what gives the same damage again. */
const ROUNDS = Number(process.env.DAMAGE_ROUNDS ?? 30);
const SEED = Number(process.env.DAMAGE_SEED ?? Date.now() % 1_000_000);

const ROOMS = [unique('east'), unique('west'), unique('north')];
const OBJECTS = 60;

/** Text that is nowhere else, so that it can be looked for in a file. */
const label = (random) => Array.from({ length: 24 }, () => Math.floor(random() * 2 ** 32).toString(36)).join('');

const named = (server, isIt) => readdirSync(server.dataDir, { recursive: true }).map(String).filter(isIt);
const isDatabase = (name) => /\.db(-wal)?$/.test(name);

/** A server has been here: rooms with objects, and their recordings. */
async function past(random) {
  const server = await startServer();
  const objects = new Map();
  try {
    for (const room of ROOMS) {
      assert.equal((await server.createRoom({ roomId: room, persistent: true })).status, 200);
      const ada = await server.enter(room, { transports: ['websocket'] });
      const made = Array.from({ length: OBJECTS }, (_, n) => ({ id: `${room}-${n}`, label: label(random) }));
      for (const answer of await Promise.all(made.map((object) => ada.call('object-create', object)))) {
        assertAccepted(answer);
      }
      assertAccepted(await ada.call('object-delete', { id: made.pop().id }));
      objects.set(room, made);
    }
    const events = new Map();
    for (const room of ROOMS) events.set(room, await told(server, room));
    return { server, objects, events };
  } finally {
    server.closeClients();
  }
}

/** What is told of a room, or nothing if nothing of it is known. */
async function told(server, room) {
  const { token } = await server.login('reader');
  const headers = { Authorization: `Bearer ${token}`, Accept: 'application/x-ndjson' };
  const { status, body } = await server.http('GET', `/api/rooms/${room}/replay?types=${RELIABLE}`, { headers });
  if (status === 404) return [];
  assert.equal(status, 200);
  return body.split('\n').slice(0, -1).filter((line) => !line.startsWith('{"type":"gap"'));
}

/** Cuts a file off, or writes over some of it. Says what was done. */
function damage(file, random) {
  const size = statSync(file).size;
  const handle = openSync(file, 'r+');
  const at = Math.floor(random() * size);
  let what = `cut off at ${at} of ${size}`;
  if (random() < 0.5) ftruncateSync(handle, at);
  else {
    const bytes = Buffer.from(Array.from({ length: 1 + Math.floor(random() * 64) }, () => Math.floor(random() * 256)));
    what = `${bytes.length} bytes written at ${at} of ${size}`;
    writeSync(handle, bytes, 0, bytes.length, at);
  }
  closeSync(handle);
  return `${path.basename(file)}: ${what}`;
}

/** What a server that has come up knows, against what was. Answers how many objects are gone. */
async function compare(server, { objects, events }, isLogDamaged) {
  const viewer = await server.connect({ transports: ['websocket'] });
  let gone = 0;
  for (const room of ROOMS) {
    const was = events.get(room);
    const lines = await told(server, room);
    // Whoever was in has left; and of a leave it is known when the last thing before it was.
    const isKnown = (line) => was.includes(line) || /^\{"type":"(leave|join)"/.test(line);
    assert.deepEqual(lines.filter((line) => !isKnown(line)), [], `${room}: never happened`);
    const kept = lines.filter((line) => was.includes(line));
    assert.deepEqual(kept, was.filter((line) => kept.includes(line)), `${room}: twice, or out of order`);
    assertAccepted(await viewer.call('join-room', { roomId: room }));
    const found = new Map((await viewer.next('room-objects')).map((object) => [object.id, object]));
    for (const { id, label: text } of objects.get(room)) {
      const object = found.get(id);
      if (object) assert.equal(object.label, text, id);
      else gone += 1;
      found.delete(id);
    }
    // What was said last may have been that an object is gone.
    if (isLogDamaged) found.delete(`${room}-${OBJECTS - 1}`);
    assert.deepEqual([...found.keys()], [], `${room}: objects that were not`);
    assertAccepted(await viewer.call('object-create', { id: `${room}-new` }));
  }
  return gone;
}

/** Objects of which the text is in no database file any more. */
function missing(dataDir, objects) {
  const files = readdirSync(dataDir).filter((name) => name.startsWith('rooms.db') && isDatabase(name));
  const bytes = files.map((name) => readFileSync(path.join(dataDir, name), 'latin1')).join('');
  return [...objects.values()].flat().filter((object) => !bytes.includes(object.label)).length;
}

describe('damaged files', () => {
  for (const end of ['killed', 'stopped']) {
    it(`after a server was ${end}, the next one comes up with what is whole`, { timeout: 300_000 }, async (t) => {
      const random = numbers(SEED);
      const before = await past(random);
      if (end === 'killed') await before.server.kill();
      else await before.server.stop();
      const lost = [];
      try {
        for (let round = 0; round < ROUNDS; round += 1) {
          const server = new Server();
          server.dataDir = mkdtempSync(path.join(tmpdir(), 'copresence-e2e-'));
          cpSync(before.server.dataDir, server.dataDir, { recursive: true });
          const files = named(server, isDatabase);
          const file = files[Math.floor(random() * files.length)];
          const what = damage(path.join(server.dataDir, file), random);
          const atLeast = missing(server.dataDir, before.objects);
          try {
            await server.start();
            const gone = await compare(server, before, file === 'rooms.db-wal');
            const aside = named(server, (name) => name.includes('.corrupt-') && !/-(wal|shm)$/.test(name));
            const log = server.output;
            for (const name of aside) assert.ok(log.includes(path.basename(name)), `not told: ${name}`);
            lost.push(`${what}: ${gone} objects gone, ${atLeast} at least; aside ${aside}`);
          } catch (error) {
            console.error(`--- round ${round}, DAMAGE_SEED=${SEED}, ${what}\n${server.output}---`);
            throw error;
          } finally {
            server.closeClients();
            if (server.running) await server.kill();
            server.clean();
          }
        }
        if (process.env.DAMAGE_VERBOSE) lost.forEach((line) => t.diagnostic(line));
        t.diagnostic(`seed ${SEED}`);
      } finally {
        before.server.clean();
      }
    });
  }
});
