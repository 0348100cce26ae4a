import assert from 'node:assert/strict';
import { Crowd, ENCODINGS, placeOf } from '../crowd.js';
import { withServer } from '../harness.js';
import { assertAccepted } from '../expect.js';

/** Too little to show everybody at every tick. */
const SCARCE = { tickHz: 10, viewBudget: 4_096 };
const GROUPS = 12;
const FAR = GROUPS - 1;
const TICKS = 15;

/** Reaches all who stand together, and nobody else. */
const ROOM_FOR_ONE_M = 16;

/** `viewer` is shown all of `members` but itself, and nobody besides. */
function assertSeesOnly(viewer, members) {
  const seen = [...viewer.picture.shows.keys()].filter((id) => id !== viewer.id);
  const expected = members.filter((member) => member !== viewer).map(({ id }) => id);
  assert.deepEqual(seen.sort(), expected.sort(), viewer.client.account.username);
}

/** `viewer` is shown `near` at most ticks, and `far` now and then. */
function assertSeesMore(viewer, near, far) {
  const times = (members) =>
    members.filter((member) => member !== viewer).map((member) => viewer.picture.times(member));
  const what = `${viewer.client.account.username}: ${times(near)} near, ${times(far)} far`;
  assert.ok(Math.min(...times(near)) > TICKS / 2, what);
  assert.ok(Math.max(...times(far)) < TICKS / 2, what);
  assert.ok(Math.min(...times(far)) > 0, what);
}

withServer('where one looks from', {}, (check) => {
  /** A crowd, and some of it who look around: one of each encoding. */
  const gather = async (server) => {
    const crowd = await Crowd.gather(server, GROUPS, SCARCE);
    return { crowd, viewers: crowd.group(0) };
  };
  const look = (viewers, view) =>
    Promise.all(viewers.map(async ({ client }) => assertAccepted(await client.call('view', view))));

  check('who looks far away sees what is there, and is back with {}', async (server) => {
    const { crowd, viewers } = await gather(server);
    for (const [view, near, far] of [
      [{ position: placeOf(FAR) }, FAR, 5],
      [{}, 0, FAR],
      [{ position: placeOf(5) }, 5, FAR],
      [null, 0, 5],
    ]) {
      await look(viewers, view);
      await crowd.count(crowd.members, TICKS);
      for (const viewer of viewers) assertSeesMore(viewer, crowd.group(near), crowd.group(far));
    }
    await crowd.converge();
  });

  check('a radius leaves out poses and nothing else', async (server) => {
    const { crowd, viewers } = await gather(server);
    await look(viewers, { position: placeOf(FAR), radius: ROOM_FOR_ONE_M });
    const [leaver] = crowd.group(5);
    crowd.members = crowd.except(leaver);
    leaver.client.close();
    const comer = await crowd.add({ encoding: 'json', place: placeOf(5) });
    for (const { client } of viewers) {
      await client.next('user-left', (id) => id === leaver.id);
      await client.next('user-joined', ({ id }) => id === comer.id);
    }
    await crowd.knowEachOther();
    await crowd.count(crowd.members, TICKS);
    for (const viewer of viewers) assertSeesOnly(viewer, crowd.group(FAR));
    await look(viewers, { radius: ROOM_FOR_ONE_M });
    await crowd.count(crowd.members, TICKS);
    for (const viewer of viewers) assertSeesOnly(viewer, crowd.group(0));
    await look(viewers, {});
    viewers.forEach(({ picture }) => picture.shows.clear());
    const areAllSeen = () =>
      viewers.every((viewer) => crowd.except(viewer).every((member) => viewer.picture.times(member) > 0));
    await crowd.moveUntil(crowd.members, areAllSeen, 'everybody is seen again');
    await crowd.converge();
  });

  check('who moved out of view is where it is once it is in view again', async (server) => {
    const { crowd, viewers } = await gather(server);
    await look(viewers, { radius: ROOM_FOR_ONE_M });
    await crowd.count(crowd.members, TICKS);
    for (const viewer of viewers) assertSeesOnly(viewer, crowd.group(0));
    for (const mover of crowd.group(3)) await mover.goTo(placeOf(4));
    await crowd.move(crowd.group(FAR), TICKS);
    await look(viewers, {});
    await crowd.converge();
  });

  check('one may look elsewhere from the beginning', async (server) => {
    const { crowd } = await gather(server);
    const view = { position: placeOf(FAR), radius: ROOM_FOR_ONE_M };
    const viewers = await Promise.all(
      ENCODINGS.map((encoding) => crowd.add({ encoding, place: placeOf(0), view })),
    );
    await crowd.knowEachOther();
    await crowd.count(crowd.members, TICKS);
    for (const viewer of viewers) assertSeesOnly(viewer, crowd.group(FAR));
    for (const { client, encoding } of viewers) {
      assertAccepted(await client.call('join-room', { roomId: crowd.room, encoding }));
    }
    await crowd.count(crowd.members, TICKS);
    for (const viewer of viewers) assertSeesMore(viewer, crowd.group(0), crowd.group(FAR));
    await crowd.converge();
  });
});

withServer('how far a room lets see', {}, (check) => {
  check('nobody sees further, however far they look', async (server) => {
    const crowd = await Crowd.gather(server, 3, { viewRadius: ROOM_FOR_ONE_M });
    await crowd.count(crowd.members, TICKS);
    for (const n of [0, 1, 2]) for (const viewer of crowd.group(n)) assertSeesOnly(viewer, crowd.group(n));
    for (const { client } of crowd.group(0)) assertAccepted(await client.call('view', { radius: 1_000 }));
    const elsewhere = { position: placeOf(2), radius: 1_000 };
    for (const { client } of crowd.group(1)) assertAccepted(await client.call('view', elsewhere));
    await crowd.count(crowd.members, TICKS);
    for (const viewer of crowd.group(0)) assertSeesOnly(viewer, crowd.group(0));
    for (const viewer of crowd.group(1)) assertSeesOnly(viewer, crowd.group(2));
  });

  check('who stands still is seen by those who come near', async (server) => {
    const crowd = await Crowd.gather(server, 3, { viewRadius: ROOM_FOR_ONE_M });
    const [comers, standing] = [crowd.group(0), crowd.group(1)];
    for (const member of standing) await member.goTo(placeOf(5));
    for (const member of comers) await member.goTo(placeOf(4));
    await crowd.move(crowd.group(2), 5);
    for (const member of comers) await member.goTo(placeOf(5));
    await crowd.converge(comers, standing);
  });
});
