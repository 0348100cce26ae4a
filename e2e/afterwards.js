/** Compares what authors were told with what a server still knows after it was killed. */
import assert from 'node:assert/strict';
import { keyOf, NO, YES } from './author.js';
import { assertIncludes } from './expect.js';

/** The types of what happens reliably. */
export const RELIABLE = 'join,leave,object-create,object-update,object-delete,user-update,message';

/** Poses of so long may be missing: a second is gathered, and a sample comes every tenth of one. */
const POSES_LOST_MS = 1_000 + 100;

/** How long a pose may take from a busy client to a busy server, and a tick be late. */
const BUSY_MS = 500;

/** The lines of a room's recording, parsed. */
export async function recording(server, room, query) {
  server.replayToken ??= (await server.login('reader')).token;
  const headers = { Authorization: `Bearer ${server.replayToken}`, Accept: 'application/x-ndjson' };
  const target = `/api/rooms/${encodeURIComponent(room)}/replay?${query}`;
  const { status, body } = await server.http('GET', target, { headers });
  assert.equal(status, 200, `${room}: ${JSON.stringify(body)}`);
  const lines = body.split('\n').slice(0, -1);
  const events = lines.map((line) => JSON.parse(line));
  const gap = events.find((event) => event.type === 'gap');
  assert.equal(gap, undefined, `${room}: something in the recording cannot be read`);
  return events;
}

function payloadOf(event) {
  const { object, update, message, id } = event;
  return object ?? update ?? message ?? { id };
}

/** Lists by what `of` says of each item. */
export function groups(items, of) {
  const found = new Map();
  for (const item of items) {
    const key = of(item);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(item);
  }
  return found;
}

/**
 * What one author did in one room, against what the recording tells of it: each deed at most once and in order, each
 * that was acknowledged, and none that was refused. If `isClosed`, the author must have left in the end. Answers when
 * the last acknowledged deed happened.
 */
export function compareDeeds(deeds, events, { what, isClosed }) {
  const told = events.filter((event) => event.type !== 'move');
  const isOf = (deed, event) =>
    deed.outcome !== NO && deed.type === event.type && deed.key === keyOf(event.type, payloadOf(event));
  const missing = (passed) => {
    const lost = passed.find((deed) => deed.outcome === YES);
    assert.equal(lost, undefined, `${what}: acknowledged, but not in the recording`);
  };
  let at = 0;
  let last = 0;
  let isIn = false;
  told.forEach((event, index) => {
    const found = deeds.findIndex((deed, i) => i >= at && isOf(deed, event));
    // Whoever was in when the server died has left when it was opened again.
    const isLeft = event.type === 'leave' && isIn && index === told.length - 1;
    if (found < 0 || (isLeft && deeds.slice(at, found).some((deed) => deed.outcome === YES))) {
      const text = JSON.stringify(event).slice(0, 300);
      assert.ok(isLeft, `${what}: twice, out of order, or never asked for: ${text}`);
      missing(deeds.slice(at));
      at = deeds.length;
    } else {
      missing(deeds.slice(at, found));
      if (deeds[found].outcome === YES) last = event.timestamp;
      at = found + 1;
    }
    isIn = event.type !== 'leave';
  });
  missing(deeds.slice(at));
  assert.ok(!isClosed || !isIn, `${what}: has never left`);
  return last;
}

/** `deeds` as far as they are the recording's: messages are written down where the room says so only. */
export function recorded(deeds, withMessages) {
  return withMessages ? deeds : deeds.filter((deed) => deed.type !== 'message');
}

/**
 * The objects of a persistent room, against what authors did to them; `before` is what was there earlier. Each author
 * has objects of its own, so each is as after the last acknowledged deed, or after one that came later. Answers what
 * is there now.
 */
export function compareObjects(found, before, authors, room) {
  const now = new Map(found.map((object) => [object.id, object]));
  const histories = new Map([...before].map(([id, object]) => [id, [object]]));
  for (const { deeds } of authors) {
    const changes = deeds.filter((deed) => deed.room === room && deed.object !== undefined && deed.outcome !== NO);
    for (const { objectId, object, outcome } of changes) {
      const history = outcome === YES ? [] : (histories.get(objectId) ?? [null]);
      histories.set(objectId, [...history, object]);
    }
  }
  histories.delete('shared');
  const known = new Map();
  for (const [id, history] of histories) {
    const actual = now.get(id) ?? null;
    const match = history.findLast((object) => object?.n === actual?.n);
    const place = `${room}, object ${id}: has ${actual?.n ?? 'gone'}, not ${history.map((o) => o?.n ?? 'gone')}`;
    assert.ok(match !== undefined, place);
    if (actual) {
      const { owner, version, ...given } = match;
      assertIncludes(actual, given);
      assert.deepEqual(Object.keys({ ...given, owner, version }).sort(), Object.keys(actual).sort(), place);
      known.set(id, actual);
    }
    now.delete(id);
  }
  const shared = now.get('shared');
  if (shared) known.set('shared', shared);
  now.delete('shared');
  assert.deepEqual([...now.keys()], [], `${room}: objects that nobody has made`);
  return known;
}

/** The object that everybody changes: no version was given twice, and none that was acknowledged is gone. */
export function compareShared(shared, before, authors, room) {
  const updates = authors.flatMap(({ deeds }) => deeds.filter((d) => d.room === room && d.objectId === 'shared'));
  const byVersion = groups(updates.filter((deed) => deed.outcome === YES), (deed) => deed.answer.version);
  for (const [version, deeds] of byVersion) {
    assert.equal(deeds.length, 1, `${room}: version ${version} was given twice`);
    assert.ok(version > before.version && version <= shared.version, `${room}: ${version}, but ${shared.version}`);
  }
  if (shared.version === before.version) return assert.equal(shared.n, before.n);
  const [acked] = byVersion.get(shared.version) ?? [];
  const names = updates.map((deed) => deed.key);
  assert.ok(names.includes(`shared ${shared.n}`), `${room}: nobody has said ${shared.n}`);
  if (acked) assert.equal(`shared ${shared.n}`, acked.key);
}

/**
 * The poses of a mover: none that was not sent, none twice, in order. Of what was sent before the last acknowledged
 * event, at most the last second is missing. Answers how many ms are.
 */
export function comparePoses(events, mover, lastAckedMs, what) {
  const moves = events.filter((event) => event.type === 'move' && event.userId === mover.id);
  let [last, lastMs] = [-1, 0];
  for (const { position, timestamp } of moves) {
    const n = Math.round(position.x);
    const place = `${what}: ${JSON.stringify(position)} at ${timestamp} after ${last} at ${lastMs}`;
    assert.ok(Math.abs(position.x - n) < 0.001 && n < mover.sentAt.length, place);
    // Before the first one there is where everybody begins.
    assert.ok(timestamp > lastMs && n >= last, place);
    [last, lastMs] = [n, timestamp];
  }
  const firstLost = mover.sentAt[last + 1];
  const lostMs = firstLost === undefined ? 0 : Math.max(0, lastAckedMs - firstLost);
  assert.ok(lostMs <= POSES_LOST_MS + BUSY_MS, `${what}: the last ${lostMs} ms of poses are missing`);
  return lostMs;
}
