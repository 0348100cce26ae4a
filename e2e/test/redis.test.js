import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Actor, random, wordsOf } from '../actor.js';
import { startServer, unique, until, within } from '../harness.js';
import { Redis } from '../redis.js';

const TIMEOUT_MS = 180_000;
const PATIENCE_MS = 60_000;

/** The same seed lets the same people do the same things; how they meet is up to the machine. */
const SEED = Number(process.env.E2E_SEED ?? 20_260);

const ROOMS = 2;
const PEOPLE = 20;

/** How often everybody moves, and does something else unless the last thing is not acknowledged yet. */
const BEAT_MS = 100;

/** Things that everybody has to get done during each outage. */
const ACTS = 4;

const TYPES = 'join,leave,object-create,object-update,object-delete,user-update,message';

/** People who are in rooms and do things until they are stopped. */
class Crowd {
  async gather(server) {
    this.server = server;
    this.actors = [];
    this.rooms = [];
    const next = random(SEED);
    for (let n = 0; n < ROOMS; n += 1) {
      const roomId = unique('outages');
      const { status } = await server.createRoom({ roomId, tickHz: 10, recordMessages: true, persistent: n === 0 });
      assert.equal(status, 200);
      this.rooms.push(roomId);
    }
    for (let n = 0; n < PEOPLE; n += 1) {
      const client = await server.connect({ name: `Actor ${n}`, transports: n % 3 === 2 ? undefined : ['websocket'] });
      // Somebody is always there, so that no room is closed.
      const options = { seed: next() * 2 ** 32, stays: n < ROOMS };
      this.actors.push(new Actor(client, this.rooms[n % ROOMS], options));
    }
  }

  begin() {
    this.isOn = true;
    this.beat = this.nextBeat();
    this.ends = this.actors.map(async (actor) => {
      try {
        while (this.isOn) {
          actor.move();
          await actor.act();
          await this.beat;
        }
      } catch (error) {
        actor.faults.push(error.message);
      }
    });
  }

  nextBeat() {
    return new Promise((resolve) => {
      setTimeout(() => {
        if (this.isOn) this.beat = this.nextBeat();
        resolve();
      }, BEAT_MS);
    });
  }

  assertUnharmed() {
    assert.deepEqual(this.actors.flatMap((actor) => actor.faults.map((fault) => `${actor.id}: ${fault}`)), []);
  }

  /** Waits until everybody has got some things done from now on. */
  async goOn() {
    const goals = new Map(this.actors.map((actor) => [actor, actor.did.length + ACTS]));
    await until(() => {
      this.assertUnharmed();
      return this.actors.every((actor) => actor.did.length >= goals.get(actor));
    }, 'everybody to get on', PATIENCE_MS);
  }

  /** Everybody comes to an end and leaves. */
  async end() {
    this.isOn = false;
    await within(Promise.all(this.ends), 'the last acknowledgements', PATIENCE_MS);
    this.assertUnharmed();
    for (const actor of this.actors) if (actor.isIn) await actor.leave();
  }

  of(room) {
    return this.actors.filter((actor) => actor.room === room);
  }
}

async function health(server) {
  return (await server.http('GET', '/api/health')).body;
}

/** Waits until the server says that it is without Redis. */
async function degraded(server) {
  return until(async () => {
    const { status, redis, storage } = await health(server);
    const isAway = status === 'degraded' && !redis && storage.redis.status === 'degraded';
    return isAway && storage.redis.lastError && storage.redis;
  }, 'the server to be degraded', PATIENCE_MS);
}

/** Waits until the server says that Redis is there. */
async function healthy(server) {
  return until(async () => {
    const { status, redis, storage, replay } = await health(server);
    return status === 'healthy' && redis === true && replay.status === 'healthy' && storage.redis;
  }, 'the server to be healthy', PATIENCE_MS);
}

/** What is recorded of a room beside poses, once it can be read: what is fresh is kept back for a moment. */
async function recorded(server, room, count) {
  const { token } = await server.login('reader');
  const headers = { Authorization: `Bearer ${token}` };
  return until(async () => {
    const target = `/api/rooms/${encodeURIComponent(room)}/replay?types=${TYPES}`;
    const { status, body } = await server.http('GET', target, { headers });
    return status === 200 && body.length >= count && body;
  }, `${count} events of ${room}`, PATIENCE_MS);
}

/** How a room is after some events: who is in and what they last said, and which objects there are. */
function stateAfter(events) {
  const [users, objects] = [new Map(), new Map()];
  for (const { type, userId, object, update, id, version } of events) {
    if (type === 'join') users.set(userId, undefined);
    else if (type === 'leave') users.delete(userId);
    else if (type === 'user-update') users.set(userId, update.n);
    else if (type === 'object-create') objects.set(object.id, `${version} ${object.n}`);
    else if (type === 'object-update') objects.set(update.id, `${update.version} ${update.n}`);
    else if (type === 'object-delete') objects.delete(id);
  }
  return { users: sorted(users), objects: sorted(objects) };
}

const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

function found({ users, objects }) {
  return {
    users: sorted(new Map(users.map(({ id, n }) => [id, n]))),
    objects: sorted(new Map(objects.map(({ id, version, n }) => [id, `${version} ${n}`]))),
  };
}

/** As deepEqual of two long lists, but a failure shows no more than where they part. */
function assertEqualLists(actual, expected, what) {
  const length = Math.max(actual.length, expected.length);
  const at = Array.from({ length }, (_, n) => n).find((n) => actual[n] !== expected[n]);
  if (at === undefined) return;
  const around = (list) => list.slice(Math.max(0, at - 3), at + 5);
  const sizes = `${actual.length} and ${expected.length}`;
  assert.deepEqual(around(actual), around(expected), `${what} differs from the recording at ${at} of ${sizes}`);
}

/**
 * What somebody who came in was told of what others did, if the last `cut` of it were not told. What happens between a
 * join and its welcome shows in the welcome's lists, so of changes only the last `changes` are told; messages all are.
 */
function toldOf(during, changes, cut) {
  const heard = during.slice(0, during.length - cut);
  const isChange = ({ type }) => type !== 'message';
  const untold = heard.filter(isChange).slice(0, -changes || undefined);
  return { last: untold.at(-1), words: heard.filter((event) => !untold.includes(event)).map(wordsOf) };
}

/**
 * Everything that the actor was told while it was in is in the recording, in the same order, and nothing else is. Who
 * leaves is not told what happens at the very end of that; everybody else does one thing at most in that time. What it
 * found on entering is how the room was before what it was told.
 */
function assertSaw(actor, events) {
  const isOf = (kind) => ({ type, userId }) => type === kind && userId === actor.id;
  const joins = events.filter(isOf('join')).map((join) => events.indexOf(join));
  assert.equal(actor.visits.length, joins.length, 'visits');
  actor.visits.forEach((visit, n) => {
    const leave = events.findIndex((event, at) => at > joins[n] && isOf('leave')(event));
    const during = events.slice(joins[n] + 1, leave).filter(({ userId }) => userId !== actor.id);
    const changes = visit.told.filter((words) => !words.startsWith('message ')).length;
    const cuts = Array.from({ length: actor.stays ? 1 : PEOPLE }, (_, cut) => toldOf(during, changes, cut));
    const told = cuts.filter(({ words }) => words.join() === visit.told.join());
    if (told.length === 0) assertEqualLists(visit.told, cuts[0].words, `what ${actor.id} was told on visit ${n}`);
    const states = told.map(({ last }) => stateAfter(events.slice(0, (last ? events.indexOf(last) : joins[n]) + 1)));
    const seen = found(visit);
    const isFound = states.some((state) => isDeepStrictEqual(seen, state));
    if (!isFound) assert.deepEqual(seen, states[0], `what ${actor.id} found on visit ${n}`);
  });
}

/** The recording has what everybody did, once and in its order, and what everybody saw. */
function assertSame(crowd, room, events) {
  const actors = crowd.of(room);
  for (const actor of actors) {
    const own = events.filter(({ userId }) => userId === actor.id);
    assertEqualLists(actor.did, own.map(wordsOf), `what ${actor.id} did`);
    assertSaw(actor, events);
  }
  assert.equal(events.length, actors.reduce((sum, { did }) => sum + did.length, 0), 'nothing else was recorded');
  const times = events.map(({ timestamp }) => timestamp);
  assert.deepEqual(times, times.toSorted((a, b) => a - b));
}

/** What may happen to Redis, each with what has to be done so that it is there again. */
const OUTAGES = {
  'killed': async (redis) => {
    await redis.kill();
    return () => redis.start();
  },
  'paused': async (redis) => {
    redis.pause();
    return () => redis.goOn();
  },
  'full': async (redis) => {
    await redis.fill();
    return () => redis.raiseLimit();
  },
  'killed while paused': async (redis) => {
    redis.pause();
    await redis.kill();
    return () => redis.start();
  },
  'restarted empty': async (redis) => {
    await redis.kill();
    redis.forgetAll();
    return () => redis.start();
  },
};

async function endure(crowd, server, redis) {
  for (const [name, begin] of Object.entries(OUTAGES)) {
    await healthy(server);
    await crowd.goOn();
    const end = await begin(redis);
    const { lastError, dropped } = await degraded(server);
    if (name === 'full') assert.match(lastError, /OOM/);
    assert.equal(dropped, 0);
    await crowd.goOn();
    await end();
  }
  // In the midst of writing, and there again before anybody can say so.
  for (let round = 0; round < 3; round += 1) {
    await healthy(server);
    await crowd.goOn();
    await redis.kill();
    await redis.start();
  }
  await healthy(server);
  await crowd.goOn();
}

/** A server with nothing on its disk has everything from Redis alone. */
async function assertAllInRedis(redis, crowd, recordings) {
  const other = await startServer({ env: { REDIS_URL: redis.url } });
  try {
    for (const [room, events] of recordings) {
      assert.deepEqual(await recorded(other, room, events.length), events);
    }
    const [room, events] = [...recordings][0];
    const visitor = await other.enter(room);
    const { objects } = found({ users: [], objects: visitor.objectsAtJoin });
    assert.deepEqual(objects, stateAfter(events).objects);
  } catch (error) {
    console.error(`--- the other server's log\n${other.output}---`);
    throw error;
  } finally {
    other.closeClients();
    await other.kill();
    other.clean();
  }
}

describe('Redis goes away and comes back', () => {
  it('and nothing is lost, told twice, or out of order', { timeout: TIMEOUT_MS }, async () => {
    const redis = new Redis();
    await redis.start();
    const server = await startServer({ env: { REDIS_URL: redis.url } });
    try {
      const crowd = new Crowd();
      await crowd.gather(server);
      crowd.begin();
      await endure(crowd, server, redis);
      await crowd.end();
      const isDone = ({ waitingRecords, waitingChanges }) => waitingRecords === 0 && waitingChanges === 0;
      await until(async () => isDone(await healthy(server)), 'Redis to have everything', PATIENCE_MS);
      const recordings = new Map();
      for (const room of crowd.rooms) {
        const count = crowd.of(room).reduce((sum, { did }) => sum + did.length, 0);
        recordings.set(room, await recorded(server, room, count));
        assertSame(crowd, room, recordings.get(room));
      }
      assert.equal((await health(server)).storage.redis.dropped, 0);
      crowd.assertUnharmed();
      server.closeClients();
      assert.deepEqual(await server.stop(), { code: 0, signal: null });
      await assertAllInRedis(redis, crowd, recordings);
    } catch (error) {
      console.error(`--- with the seed ${SEED}, the server's log\n${server.output}---`);
      throw error;
    } finally {
      server.closeClients();
      if (server.running) await server.kill();
      server.clean();
      await redis.clean();
    }
  });
});
