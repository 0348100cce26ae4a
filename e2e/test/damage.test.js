import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, openSync, closeSync, ftruncateSync, readdirSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Server, startServer, unique, until } from '../harness.js';
import { numbers } from '../author.js';
import { RELIABLE } from '../afterwards.js';
import { assertAccepted } from '../expect.js';
import { contentOf, isOfIndex, isStructure, pagesBetween, rowsOf } from '../pages.js';

/** How often a file is damaged, and what gives the same damage again. */
const ROUNDS = Number(process.env.DAMAGE_ROUNDS ?? 30);
const SEED = Number(process.env.DAMAGE_SEED ?? Date.now() % 1_000_000);

const ROOMS = [unique('east'), unique('west'), unique('north')];
const OBJECTS = 60;

/** The page with the names of rooms, in a file of records and in the database of rooms: without them nobody knows whose the rest is. */
const ROOMS_PAGE = 2;

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

/** Cuts a file off, or writes over some of it. Says what was done, and where. */
function damage(file, random) {
  const size = statSync(file).size;
  const from = Math.floor(random() * size);
  const isCut = random() < 0.5;
  const length = 1 + Math.floor(random() * 64);
  const to = isCut ? size : from + length;
  const pages = pagesBetween(file, from, to);
  const content = contentOf(file, pages);
  const handle = openSync(file, 'r+');
  if (isCut) ftruncateSync(handle, from);
  else writeSync(handle, Buffer.from(Array.from({ length }, () => Math.floor(random() * 256))), 0, length, from);
  closeSync(handle);
  const name = path.basename(file);
  const what = `${name}: ${isCut ? 'cut off' : `${length} bytes written`} at ${from} of ${size}`;
  return { what, isCut, pages, content, isOfRooms: name.startsWith('rooms.db'), isLog: name.endsWith('-wal') };
}

/** Whoever was in has left; and of a leave it is known when the last thing before it was. */
const isComingOrGoing = (line) => /^\{"type":"(leave|join)"/.test(line);

/** What is told of a room, after a look at whether it can be right. Answers which of `was` are there. */
async function keptEvents(server, room, was) {
  const lines = await told(server, room);
  const isKnown = (line) => was.includes(line) || isComingOrGoing(line);
  assert.deepEqual(lines.filter((line) => !isKnown(line)), [], `${room}: never happened`);
  const kept = lines.filter((line) => was.includes(line));
  assert.deepEqual(kept, was.filter((line) => kept.includes(line)), `${room}: twice, or out of order`);
  return was.filter((line) => !isComingOrGoing(line)).map((line) => kept.includes(line));
}

/** Whether nothing is there that comes after something that is not. */
const isBeginning = (areThere) => areThere.lastIndexOf(true) < (areThere.indexOf(false) + 1 || Infinity) - 1;

const lostOf = (areThere) => areThere.filter((isThere) => !isThere).length;

/**
 * What may be lost of recordings: at most as many records as lay in the pages that were touched. That an index was
 * changed is not always noticed, and without the names of rooms nobody knows whose a record is.
 */
function mostEventsLost({ isOfRooms, isLog, isCut, pages }) {
  if (isOfRooms) return 0;
  if (isLog || pages.some((page) => page.number === ROOMS_PAGE || (isOfIndex(page) && !isCut))) return Infinity;
  return pages.filter((page) => !isOfIndex(page)).map(rowsOf).reduce((sum, rows) => sum + rows, 0);
}

/** Every event is there but for those that the damage may have taken. A file is put together anew after it was found damaged. */
async function checkEvents(server, { events }, done) {
  const most = mostEventsLost(done);
  let lost;
  const isEnough = async () => {
    lost = 0;
    for (const [room, was] of events) {
      const areThere = await keptEvents(server, room, was);
      // A log counts up to where it is damaged.
      if (done.isLog && !done.isOfRooms) assert.ok(isBeginning(areThere), `${room}: events before others that are there`);
      lost += lostOf(areThere);
    }
    return lost <= most;
  };
  try {
    await until(isEnough, 'the recordings');
  } catch (error) {
    assert.ok(error.code === 'ERR_ASSERTION' || lost <= most, `${lost} events are lost, ${most} at most may be`);
    throw error;
  }
  return lost;
}

/** The objects that a room has, which are as they were. Answers which of `was` are there. */
async function keptObjects(viewer, room, was, isLog) {
  assertAccepted(await viewer.call('join-room', { roomId: room }));
  const found = new Map((await viewer.next('room-objects')).map((object) => [object.id, object]));
  const areThere = was.map(({ id, label: text }) => {
    const object = found.get(id);
    if (object) assert.equal(object.label, text, id);
    return found.delete(id);
  });
  // What was said last may have been that an object is gone.
  if (isLog) found.delete(`${room}-${OBJECTS - 1}`);
  assert.deepEqual([...found.keys()], [], `${room}: objects that were not`);
  assertAccepted(await viewer.call('object-create', { id: `${room}-new` }));
  return areThere;
}

/** Every object is there but for those that the damage may have taken. `isSalvaged`: the damage was noticed. */
async function checkObjects(server, { objects }, done, isSalvaged) {
  const viewer = await server.connect({ transports: ['websocket'] });
  const { isOfRooms, isLog, isCut, pages, content } = done;
  const isOutOfReach = pages.some((page) => isStructure(page) || page.number === ROOMS_PAGE);
  const all = [];
  for (const [room, was] of objects) {
    const areThere = await keptObjects(viewer, room, was, isOfRooms && isLog);
    const isTouched = was.some((object) => content.includes(object.label));
    const isDamaged = isOfRooms && (isLog || isOutOfReach || isTouched);
    if (!isDamaged) assert.equal(lostOf(areThere), 0, `${room}: nothing of it was damaged`);
    all.push(...areThere);
  }
  if (isOfRooms && isLog) assert.ok(isBeginning(all), 'objects are gone that are older than others');
  if (isOfRooms && !isLog && !isOutOfReach && !isCut && isSalvaged) {
    const most = pages.map(rowsOf).reduce((sum, rows) => sum + rows, 0);
    assert.ok(lostOf(all) <= most, `${lostOf(all)} objects are lost, ${most} at most may be`);
  }
  return lostOf(all);
}

describe('damaged files', () => {
  for (const end of ['killed', 'stopped']) {
    it(`after a server was ${end}, the next one comes up with what is whole`, { timeout: 300_000 }, async (t) => {
      const random = numbers(SEED);
      const before = await past(random);
      if (end === 'killed') await before.server.kill();
      else {
        await before.server.stop();
        // At a start logs are written back, so that what is damaged then is the files themselves.
        await before.server.start();
        await before.server.stop();
      }
      const lost = [];
      try {
        for (let round = 0; round < ROUNDS; round += 1) {
          const server = new Server();
          server.dataDir = mkdtempSync(path.join(tmpdir(), 'copresence-e2e-'));
          cpSync(before.server.dataDir, server.dataDir, { recursive: true });
          const files = named(server, isDatabase);
          const file = files[Math.floor(random() * files.length)];
          const done = damage(path.join(server.dataDir, file), random);
          try {
            await server.start();
            const events = await checkEvents(server, before, done);
            const aside = named(server, (name) => name.includes('.corrupt-') && !/-(wal|shm)$/.test(name));
            const gone = await checkObjects(server, before, done, aside.length > 0);
            const log = server.output;
            for (const name of aside) assert.ok(log.includes(path.basename(name)), `not told: ${name}`);
            lost.push(`${done.what}: ${gone} objects and ${events} events are gone; aside ${aside}`);
          } catch (error) {
            console.error(`--- round ${round}, DAMAGE_SEED=${SEED}, ${done.what}\n${server.output}---`);
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
