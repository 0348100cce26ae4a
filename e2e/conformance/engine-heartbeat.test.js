import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MORTAL, PINGING, useEcho } from "./support/echo.js";
import { event, PING, PONG, PROBE, PROBE_ANSWER, UPGRADE } from "./support/packets.js";
import { Polling } from "./support/polling.js";
import { Wire } from "./support/websocket.js";

const ROUNDS = 3;
const pinging = useEcho(PINGING);
const mortal = useEcho(MORTAL);
const unhurried = useEcho();

// A ping that came too early would come before the answers.
describe("before the first interval is over", () => {
  test("no ping comes over polling", async () => {
    const polling = await Polling.session(unhurried);
    await polling.send("40");
    assert.match((await polling.poll()).body, /^40\{/);
    await polling.send(event("message", 1));
    assert.equal((await polling.poll()).body, event("message-back", 1));
  });

  test("no ping comes over websocket", async () => {
    const wire = await Wire.session(unhurried);
    wire.showPings();
    wire.send("40");
    assert.match(await wire.next(), /^40\{/);
    assert.equal(await wire.next(), event("auth", {}));
  });
});

describe("heartbeat over polling", () => {
  test("the server pings again after every pong", async () => {
    const polling = await Polling.session(pinging);
    for (let round = 0; round < ROUNDS; round += 1) {
      const { status, body } = await polling.poll();
      assert.deepEqual({ status, body }, { status: 200, body: PING });
      await polling.send(PONG);
    }
  });

  test("a session that polls but never answers a ping ends", async () => {
    const polling = await Polling.session(mortal);
    const seen = [];
    // Each poll waits for the server, so a handful is more than a session without pongs can live through.
    for (let poll = 0; poll < 5; poll += 1) {
      const { status, packets } = await polling.poll();
      seen.push(...packets);
      if (status === 400) {
        assert.deepEqual(seen.filter((packet) => packet === PING), [PING]);
        return;
      }
    }
    assert.fail(`the session lived on without a pong: ${JSON.stringify(seen)}`);
  });

  test("a session that never polls ends", async () => {
    const polling = await Polling.session(mortal);
    // Silent websockets opened one after the other outlive the session before them.
    for (let later = 0; later < 2; later += 1) {
      const wire = await Wire.session(mortal);
      wire.showPings();
      assert.equal(await wire.next("a ping"), PING);
      await wire.closed();
    }
    assert.equal((await polling.poll()).status, 400);
    assert.equal((await polling.post(PONG)).status, 400);
  });

  test("a pong may share a payload with events", async () => {
    const polling = await Polling.connected(pinging);
    const echoed = [];
    for (let round = 0; round < ROUNDS || echoed.length < ROUNDS; ) {
      for (const packet of (await polling.poll()).packets) {
        if (packet === PING) await polling.send(PONG, event("message", round++));
        else echoed.push(packet);
      }
    }
    assert.deepEqual(echoed.slice(0, ROUNDS), Array.from({ length: ROUNDS }, (_, i) => event("message-back", i)));
  });
});

describe("heartbeat over websocket", () => {
  test("the server pings again after every pong", async () => {
    const wire = await Wire.session(pinging);
    wire.showPings();
    for (let round = 0; round < ROUNDS; round += 1) {
      assert.equal(await wire.next("a ping"), PING);
      wire.send(PONG);
    }
  });

  test("a session that does not answer the ping is closed", async () => {
    const wire = await Wire.session(mortal);
    wire.showPings();
    assert.equal(await wire.next("a ping"), PING);
    await wire.closed();
  });

  test("a session that stops answering is closed", async () => {
    const wire = await Wire.connected(mortal);
    wire.showPings();
    assert.equal(await wire.next("a ping"), PING);
    wire.send(PONG);
    assert.equal(await wire.next("a ping"), PING);
    await wire.closed();
  });

  test("a pong between an event and its attachment belongs to neither", async () => {
    const wire = await Wire.connected(pinging);
    wire.showPings();
    wire.send('451-["message",{"_placeholder":true,"num":0}]');
    assert.equal(await wire.next("a ping"), PING);
    wire.send(PONG);
    wire.hidePings();
    wire.send(Uint8Array.of(9));
    assert.equal(await wire.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
    assert.deepEqual(await wire.next(), Buffer.of(9));
  });
});

describe("heartbeat after an upgrade", () => {
  async function upgraded(echo) {
    const polling = await Polling.session(echo);
    const wire = await Wire.open(echo, { sid: polling.sid });
    wire.showPings();
    wire.send(PROBE);
    assert.equal(await wire.next(), PROBE_ANSWER);
    wire.send(UPGRADE);
    return wire;
  }

  test("goes on over the websocket", async () => {
    const wire = await upgraded(pinging);
    for (let round = 0; round < ROUNDS; round += 1) {
      assert.equal(await wire.next("a ping"), PING);
      wire.send(PONG);
    }
  });

  test("closes the websocket that does not answer", async () => {
    const wire = await upgraded(mortal);
    assert.equal(await wire.next("a ping"), PING);
    await wire.closed();
  });
});
