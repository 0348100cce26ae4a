import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { base64Packet, binaryEvent, event, NOOP, placeholder, PROBE, PROBE_ANSWER, UPGRADE } from "./support/packets.js";
import { Polling, pollingUrl, request } from "./support/polling.js";
import { refused, Wire } from "./support/websocket.js";

const echo = useEcho();

/** Opens the websocket of a polling session and has it probed. */
async function probed(polling) {
  const wire = await Wire.open(echo, { sid: polling.sid });
  wire.send(PROBE);
  assert.equal(await wire.next("the answer to the probe"), PROBE_ANSWER);
  return wire;
}

async function assertEchoes(link, word) {
  await link.send(event("message", word));
  assert.equal(await link.next(), event("message-back", word));
}

describe("the way up", () => {
  test("a poll sent after the probe is let go with a noop, then the websocket carries on", async () => {
    const polling = await Polling.connected(echo);
    const wire = await probed(polling);
    assert.deepEqual((await polling.payload()).packets, [NOOP]);
    wire.send(UPGRADE);
    await assertEchoes(wire, "hello");
  });

  test("a poll that waits during the probe is let go with a noop", async () => {
    const polling = await Polling.connected(echo);
    const waiting = polling.payload();
    const wire = await probed(polling);
    assert.deepEqual((await waiting).packets, [NOOP]);
    wire.send(UPGRADE);
    await assertEchoes(wire, "hello");
  });

  test("a session may connect to its namespace after the upgrade", async () => {
    const polling = await Polling.session(echo);
    const wire = await probed(polling);
    wire.send(UPGRADE);
    wire.send("40");
    assert.match(await wire.next(), /^40\{"sid":/);
    assert.equal(await wire.next(), event("auth", {}));
  });

  test("binary events pass after the upgrade", async () => {
    const wire = await probed(await Polling.connected(echo));
    wire.send(UPGRADE);
    wire.send(binaryEvent(1, "message", placeholder(0)));
    wire.send(Uint8Array.of(1, 2));
    assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
    assert.deepEqual(await wire.next(), Buffer.of(1, 2));
  });
});

describe("packets in flight", () => {
  test("what waits for a poll at the time of the upgrade comes over the websocket", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(event("message", 0), event("message", 1));
    await polling.send(binaryEvent(1, "message", placeholder(0)), base64Packet([7, 8]));
    const wire = await probed(polling);
    wire.send(UPGRADE);
    assert.equal(await wire.next(), event("message-back", 0));
    assert.equal(await wire.next(), event("message-back", 1));
    assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
    assert.deepEqual(await wire.next(), Buffer.of(7, 8));
    await assertEchoes(wire, 2);
  });

  test("an event sent by POST may have its attachment follow over the websocket", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(binaryEvent(2, "message", placeholder(0), placeholder(1)), base64Packet([1]));
    const wire = await probed(polling);
    wire.send(UPGRADE);
    wire.send(Uint8Array.of(2));
    assert.equal(await wire.next(), binaryEvent(2, "message-back", placeholder(0), placeholder(1)));
    assert.deepEqual([await wire.next(), await wire.next()], [Buffer.of(1), Buffer.of(2)]);
  });

  // As a client does it: it goes on polling and posting during the probe, lets both come to their end
  // when the probe is answered, upgrades, and sends what it has kept back over the websocket.
  test("nothing is lost, doubled or overtaken in either direction", async () => {
    for (let repetition = 0; repetition < 10; repetition += 1) {
      const polling = await Polling.connected(echo);
      const received = [];
      let sent = 0;
      let upgrading = false;
      const polls = (async () => {
        while (!upgrading) received.push(...(await polling.payload()).packets);
      })();
      const posts = (async () => {
        while (!upgrading) await polling.send(event("message", sent++), event("message", sent++));
      })();
      const wire = await probed(polling);
      upgrading = true;
      await Promise.all([posts, polls]);
      wire.send(UPGRADE);
      const total = sent + 20;
      while (sent < total) wire.send(event("message", sent++));
      const echoed = received.filter((packet) => packet !== NOOP);
      while (echoed.length < total) echoed.push(await wire.next(`echo ${echoed.length} of ${total}`));
      assert.deepEqual(echoed, Array.from({ length: total }, (_, i) => event("message-back", i)));
      await assertEchoes(wire, "nothing stands behind");
    }
  });
});

describe("after an upgrade", () => {
  test("polls and POSTs of the session are refused and the websocket goes on", async () => {
    const polling = await Polling.connected(echo);
    const wire = await probed(polling);
    wire.send(UPGRADE);
    // The echo shows that the upgrade has been carried out.
    await assertEchoes(wire, "up");
    assert.equal((await polling.poll()).status, 400);
    assert.equal((await polling.post(event("message", "stray"))).status, 400);
    await assertEchoes(wire, "still up");
  });

  test("a further websocket for the session is refused and the first goes on", async () => {
    const polling = await Polling.connected(echo);
    const wire = await probed(polling);
    wire.send(UPGRADE);
    await assertEchoes(wire, "up");
    await refused(echo, { sid: polling.sid });
    await assertEchoes(wire, "still up");
  });

  test("the end of the websocket is the end of the session", async () => {
    const polling = await Polling.connected(echo);
    const wire = await probed(polling);
    wire.send(UPGRADE);
    await assertEchoes(wire, "up");
    wire.close(1000);
    await wire.closed();
    assert.equal((await polling.poll()).status, 400);
  });
});

// The protocol's document leaves open what becomes of the session. The reference server lets it go on polling;
// here it ends (see README.md), and what matters is that it ends properly and that nobody else notices.
describe("an upgrade that comes to nothing", () => {
  async function assertEndedAlone(polling, bystander) {
    assert.equal(await polling.ends(), true);
    assert.equal((await polling.post(event("message", "too late"))).status, 400);
    await refused(echo, { sid: polling.sid });
    await assertEchoes(bystander, "not my affair");
    await assertEchoes(await Polling.connected(echo), "at once again");
  }

  test("a websocket given up before the probe ends the session alone", async () => {
    const [polling, bystander] = [await Polling.connected(echo), await Polling.connected(echo)];
    const wire = await Wire.open(echo, { sid: polling.sid });
    wire.close(1000);
    await wire.closed();
    await assertEndedAlone(polling, bystander);
  });

  test("a websocket given up after the probe ends the session alone", async () => {
    const [polling, bystander] = [await Polling.connected(echo), await Polling.connected(echo)];
    const wire = await probed(polling);
    wire.close(1000);
    await wire.closed();
    await assertEndedAlone(polling, bystander);
  });

  for (const first of [event("message", "too early"), "2wrong", "3probe"]) {
    test(`a websocket that begins with ${first} is closed, and the session ends alone`, async () => {
      const [polling, bystander] = [await Polling.connected(echo), await Polling.connected(echo)];
      const wire = await Wire.open(echo, { sid: polling.sid });
      wire.send(first);
      await wire.closed();
      await assertEndedAlone(polling, bystander);
    });
  }

  test("a poll that waits at the time is not left hanging", async () => {
    const [polling, bystander] = [await Polling.connected(echo), await Polling.connected(echo)];
    const waiting = polling.poll();
    const wire = await Wire.open(echo, { sid: polling.sid });
    wire.close(1000);
    await wire.closed();
    // With a noop, or with a refusal if it came after the websocket.
    assert.ok([200, 400].includes((await waiting).status));
    await assertEndedAlone(polling, bystander);
  });

  test("the client's next session may be upgraded", async () => {
    const first = await probed(await Polling.connected(echo));
    first.close(1000);
    await first.closed();
    const second = await probed(await Polling.connected(echo));
    second.send(UPGRADE);
    await assertEchoes(second, "up at last");
  });

  test("a second websocket during the probe is refused and the first one upgrades", async () => {
    const polling = await Polling.connected(echo);
    const wire = await probed(polling);
    await refused(echo, { sid: polling.sid });
    wire.send(UPGRADE);
    await assertEchoes(wire, "up");
  });

  test("a request for a websocket without a key changes nothing", async () => {
    const polling = await Polling.connected(echo);
    assert.equal((await request(pollingUrl(echo, { sid: polling.sid, transport: "websocket" }))).status, 400);
    await assertEchoes(polling, "still polling");
    const wire = await probed(polling);
    wire.send(UPGRADE);
    await assertEchoes(wire, "up");
  });
});
