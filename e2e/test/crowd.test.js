import assert from 'node:assert/strict';
import { Crowd, ENCODINGS, placeOf } from '../crowd.js';
import { TRANSPORTS, unique, until, withServer } from '../harness.js';
import { assertAccepted, assertError, assertIncludes, poseNumber, seesMove } from '../expect.js';

/** Of a crowd of 40 this brings 8 heads a tick to everybody, and about as many more to those near them. */
const SCARCE = { tickHz: 10, viewBudget: 4_096 };
const GROUPS = 13;

withServer('crowds', {}, (check) => {
  check('who is near is shown more often than who is far away', async (server) => {
    const crowd = await Crowd.gather(server, GROUPS, SCARCE);
    const ticks = 30;
    await crowd.count(crowd.members, ticks);
    for (let n = 0; n < GROUPS; n += 1) {
      for (const viewer of crowd.group(n)) {
        const times = (members) => members.map((member) => viewer.picture.times(member));
        const near = times(crowd.group(n).filter((member) => member !== viewer));
        const far = times(crowd.group((n + 6) % GROUPS));
        const what = `${viewer.client.account.username}: ${near} near, ${far} far`;
        assert.ok(Math.min(...near) > ticks / 2, what);
        assert.ok(Math.max(...far) < ticks / 2, what);
        assert.ok(Math.min(...far) > 0, what);
      }
    }
    await crowd.converge();
  });

  check('who stops is soon where it stands in every picture, whatever the others do', async (server) => {
    const crowd = await Crowd.gather(server, GROUPS, SCARCE);
    await crowd.move(crowd.members, 10);
    const [standing, moving] = [[], []];
    crowd.members.forEach((member, n) => (n % 4 ? standing : moving).push(member));
    const areRight = () =>
      crowd.members.every(({ picture }) => standing.every((member) => picture.isRight(member)));
    await crowd.moveUntil(moving, areRight, 'who stands is seen where it stands');
    await crowd.converge();
    // From here on nothing is news; whoever takes frames is shown everybody even so, again and again.
    const { picture } = crowd.members.find(({ encoding }) => encoding === 'binary');
    picture.shows.clear();
    const others = crowd.members.filter((member) => member.picture !== picture);
    await until(() => others.every((member) => picture.times(member) >= 2), 'everybody to be repeated');
    await crowd.converge();
  });

  check('who leaves is shown no more, and who comes is shown', async (server) => {
    const crowd = await Crowd.gather(server, GROUPS, SCARCE);
    await crowd.move(crowd.members, 5);
    const leavers = [...crowd.group(2), ...crowd.group(9)];
    crowd.members = crowd.except(...leavers);
    for (const leaver of leavers) {
      leaver.step();
      leaver.client.emit('leave-room');
    }
    await crowd.move(crowd.members, 5);
    await Promise.all(ENCODINGS.map((encoding, n) => crowd.add({ encoding, place: placeOf(3 * n) })));
    await crowd.knowEachOther();
    // A picture finds fault with anybody who is shown and is not there.
    await crowd.move(crowd.members, 15);
    await crowd.converge();
  });

  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    check(`a crowd goes by without harm to one who takes everything slowly, ${mode}`, async (server) => {
      const crowd = await Crowd.gather(server, 6, SCARCE);
      const late = await Promise.all(
        ENCODINGS.map((encoding) => crowd.add({ encoding, place: placeOf(1), transports })),
      );
      await crowd.knowEachOther();
      await crowd.move(crowd.members, 10);
      await crowd.converge(late);
    });
  }

  check('a small room shows everybody at every tick, five kilometres away too', async (server) => {
    const crowd = await Crowd.gather(server, 3);
    const [far] = crowd.group(2);
    const [near] = crowd.group(0).filter(({ encoding }) => encoding === 'json');
    await far.goTo({ x: 4_000, z: -3_000 });
    const viewers = crowd.except(far, near);
    const rounds = 30;
    const together = new Map(viewers.map((viewer) => [viewer, 0]));
    for (let round = 0; round < rounds; round += 1) {
      // First the one far away: whoever sees the other's step at a tick has seen that one's by then too.
      viewers.forEach((viewer) => viewer.step());
      await far.goTo({ x: 4_000 + round, z: -3_000 });
      near.step();
      await Promise.all(
        viewers.map(async (viewer) => {
          await until(() => viewer.picture.isRight(near), 'the neighbour to be seen');
          await viewer.client.flush();
          if (viewer.picture.isRight(far)) together.set(viewer, together.get(viewer) + 1);
        }),
      );
    }
    for (const [{ client, picture }, times] of together) {
      // A viewer that was not ready for a tick misses it, which a busy machine may bring about now and then.
      assert.ok(times > rounds * 0.8, `${client.account.username}: ${times} of ${rounds}`);
      picture.check();
    }
  });
});

withServer('rates that follow the members', {}, (check) => {
  check('the fuller a room is, the slower it ticks', async (server) => {
    const room = unique('auto');
    const listed = async () => {
      const { body } = await server.http('GET', '/api/rooms');
      return body.find(({ id }) => id === room);
    };
    assertIncludes((await server.createRoom({ roomId: room, tickHz: 'auto' })).body, {
      tickHz: 'auto',
      currentTickHz: 90,
    });
    const enter = async () => {
      const client = await server.enter(room);
      client.hz = client.joinAnswer.tickHz;
      return client;
    };
    const inside = [await enter()];
    assert.equal(inside[0].hz, 90);
    inside.push(...(await Promise.all(Array.from({ length: 28 }, enter))));
    const arrive = async (hz) => {
      const told = inside.filter((one) => one.hz !== hz);
      const changed = (one) => one.next('room-rate', ({ tickHz }) => tickHz === hz);
      const changes = await Promise.all(told.map(changed));
      inside.forEach((one) => (one.hz = hz));
      // A machine that is too busy for 90 Hz may bring it there by way of an overload and the recovery from it.
      const reasons = [...changes, ...told.flatMap((one) => one.unread('room-rate'))].map(({ reason }) => reason);
      if (reasons.includes('overload')) return;
      for (const { reason } of changes) assert.equal(reason, 'members');
    };
    await arrive(45);
    assertIncludes(await listed(), { tickHz: 'auto', currentTickHz: 45, users: 29 });
    assert.equal((await enter()).hz, 45);
    for (const one of inside.splice(10)) assertAccepted(await one.call('leave-room'));
    await arrive(90);
    assertIncludes(await listed(), { tickHz: 'auto', currentTickHz: 90, users: 11 });
    const [one, other] = inside;
    one.emit('update-position', poseNumber(1));
    await seesMove(other, one, poseNumber(1));
  });

  check('a room that has chosen its rate is told of none', async (server) => {
    const room = unique('fixed');
    const { body } = await server.createRoom({ roomId: room, tickHz: 12 });
    assertIncludes(body, { tickHz: 12, currentTickHz: 12 });
    const inside = await Promise.all(Array.from({ length: 26 }, () => server.enter(room)));
    await Promise.all(inside.map((one) => one.flush()));
    for (const one of inside) {
      assert.equal(one.joinAnswer.tickHz, 12);
      assert.ok(one.unread('room-rate').every(({ reason }) => reason !== 'members'));
    }
  });
});

withServer('options of a room that say who sees whom', {}, (check) => {
  check('the same options again are the same room, others are a conflict', async (server) => {
    const options = { tickHz: 30, viewRadius: 40, viewPeriods: [1, 3], viewBudget: 40_000 };
    const request = { roomId: unique('options'), ...options };
    const first = await server.createRoom(request);
    assert.equal(first.status, 200);
    assertIncludes(first.body, options);
    assert.deepEqual((await server.createRoom(request)).body, first.body);
    for (const other of [
      { tickHz: 'auto' },
      { viewRadius: 41 },
      { viewRadius: undefined },
      { viewPeriods: [1, 3, 3] },
      { viewBudget: 40_001 },
    ]) {
      const { status, body } = await server.createRoom({ ...request, ...other });
      assert.equal(status, 409, JSON.stringify(other));
      assert.equal(typeof body.error, 'string');
    }
  });

  for (const options of [
    { viewRadius: 0 },
    { viewRadius: 'far' },
    { viewPeriods: [] },
    { viewPeriods: [2, 1] },
    { viewBudget: 4_095 },
    { viewBudget: 4_096, tickHz: 17 },
    { tickHz: 'fast' },
  ]) {
    check(`${JSON.stringify(options)} is refused`, async (server) => {
      const roomId = unique('bad-options');
      const { status, body } = await server.createRoom({ roomId, ...options });
      assert.equal(status, 400);
      assert.equal(typeof body.error, 'string');
      assert.equal((await server.createRoom({ roomId })).status, 200, 'nothing was made');
    });
  }
});

const HUGE = { x: 1e6, y: -1e6, z: 1e6 };

/** Places that are none, and some that are at the end of all places. */
const ODD_VIEWS = [
  { position: HUGE },
  { position: { x: -1e6, y: 1e6, z: -1e6 }, radius: 1e6 },
  { position: { x: 1e300, y: 0, z: 0 } },
  { position: { x: NaN, y: Infinity, z: 0 } },
  { position: { x: 'NaN', y: 0, z: 0 } },
  { position: HUGE, radius: -1 },
  { radius: 1e308 },
  { radius: Number.MIN_VALUE },
  [HUGE],
  'x'.repeat(1_000),
];

withServer('a client that looks everywhere', {}, (check) => {
  check('thousands of views harm nobody', async (server) => {
    const crowd = await Crowd.gather(server, 4, { tickHz: 10, viewBudget: 4_096, viewRadius: 300 });
    const villain = await server.enter(crowd.room, { name: 'Villain' });
    const lookAround = (times) => {
      for (let n = 0; n < times; n += 1) villain.emit('view', ODD_VIEWS[n % ODD_VIEWS.length]);
    };
    const codes = ['bad_request', 'rate_limited'];
    lookAround(1_000);
    for (const code of codes) assertError(await villain.next('error', (error) => error.code === code));
    lookAround(4_000);
    await villain.next('(disconnect)');
    // What it had sent before it was told that it is out comes from somebody who is in no room.
    for (const { code } of villain.unread('error')) assert.ok([...codes, 'not_in_room'].includes(code), code);
    await crowd.move(crowd.members, 10);
    await crowd.converge();
    for (const { client } of crowd.members) assert.deepEqual(client.unread('error'), []);
  });

  check('who stands and looks at the end of the world goes on being served', async (server) => {
    const crowd = await Crowd.gather(server, 4, SCARCE);
    const [odd] = crowd.group(3);
    assertAccepted(await odd.client.call('view', { position: HUGE, radius: 1 }));
    await odd.goTo(HUGE);
    await crowd.move(crowd.except(odd), 5);
    assertAccepted(await odd.client.call('view', {}));
    const all = () => crowd.except(odd).every((member) => odd.picture.times(member) > 0);
    odd.picture.shows.clear();
    await crowd.moveUntil(crowd.except(odd), all, 'it sees everybody again');
    await crowd.converge();
  });
});
