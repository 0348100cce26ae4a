import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { base64Packet, binaryEvent, event, placeholder } from "./support/packets.js";
import { Polling } from "./support/polling.js";
import { Wire } from "./support/websocket.js";

const ATTACHMENTS_MAX = 10;
const echo = useEcho();

const withAck = (attachments, id, ...args) => `45${attachments}-${id}${JSON.stringify(["message-with-ack", ...args])}`;

async function assertEchoes(wire, word) {
  wire.send(event("message", word));
  assert.equal(await wire.next(), event("message-back", word));
}

describe("binary events", () => {
  test("with several attachments", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(2, "message", placeholder(0), placeholder(1)));
    wire.send(Uint8Array.of(1, 2, 3));
    wire.send(Uint8Array.of(4, 5, 6));
    assert.equal(await wire.next(), binaryEvent(2, "message-back", placeholder(0), placeholder(1)));
    assert.deepEqual([await wire.next(), await wire.next()], [Buffer.of(1, 2, 3), Buffer.of(4, 5, 6)]);
    await assertEchoes(wire, "after");
  });

  test("with attachments deep inside other arguments", async () => {
    const wire = await Wire.connected(echo);
    const args = ["text", { list: [placeholder(0), { deep: placeholder(1) }] }, 3];
    wire.send(binaryEvent(2, "message", ...args));
    wire.send(Uint8Array.of(10));
    wire.send(Uint8Array.of(11));
    assert.equal(await wire.next(), binaryEvent(2, "message-back", ...args));
    assert.deepEqual([await wire.next(), await wire.next()], [Buffer.of(10), Buffer.of(11)]);
  });

  test("with an empty attachment", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(1, "message", placeholder(0)));
    wire.send(new Uint8Array(0));
    assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
    assert.deepEqual(await wire.next(), Buffer.alloc(0));
  });

  test("one after the other do not mix", async () => {
    const wire = await Wire.connected(echo);
    for (let i = 0; i < 50; i += 1) {
      wire.send(binaryEvent(1, "message", i, placeholder(0)));
      wire.send(Uint8Array.of(i));
      wire.send(event("message", i));
    }
    for (let i = 0; i < 50; i += 1) {
      assert.equal(await wire.next(), binaryEvent(1, "message-back", i, placeholder(0)));
      assert.deepEqual(await wire.next(), Buffer.of(i));
      assert.equal(await wire.next(), event("message-back", i));
    }
  });

  test("of two sessions, their parts interleaved, do not mix", async () => {
    const [one, other] = [await Wire.connected(echo), await Wire.connected(echo)];
    one.send(binaryEvent(1, "message", "one", placeholder(0)));
    other.send(binaryEvent(1, "message", "other", placeholder(0)));
    other.send(Uint8Array.of(2));
    assert.equal(await other.next(), binaryEvent(1, "message-back", "other", placeholder(0)));
    assert.deepEqual(await other.next(), Buffer.of(2));
    one.send(Uint8Array.of(1));
    assert.equal(await one.next(), binaryEvent(1, "message-back", "one", placeholder(0)));
    assert.deepEqual(await one.next(), Buffer.of(1));
  });

  test("over polling, text and attachments in one payload", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(
      binaryEvent(2, "message", placeholder(0), placeholder(1)),
      base64Packet([1, 2, 3]),
      base64Packet([4, 5, 6]),
    );
    assert.deepEqual((await polling.payload()).packets, [
      binaryEvent(2, "message-back", placeholder(0), placeholder(1)),
      base64Packet([1, 2, 3]),
      base64Packet([4, 5, 6]),
    ]);
  });
});

describe("binary acknowledgements", () => {
  test("over websocket", async () => {
    const wire = await Wire.connected(echo);
    wire.send(withAck(2, 789, placeholder(0), placeholder(1)));
    wire.send(Uint8Array.of(1, 2, 3));
    wire.send(Uint8Array.of(4, 5, 6));
    assert.equal(await wire.next(), `462-789${JSON.stringify([placeholder(0), placeholder(1)])}`);
    assert.deepEqual([await wire.next(), await wire.next()], [Buffer.of(1, 2, 3), Buffer.of(4, 5, 6)]);
  });

  test("over polling", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(withAck(1, 0, "text", placeholder(0)), base64Packet([255, 0]));
    assert.deepEqual((await polling.payload()).packets, [
      `461-0${JSON.stringify(["text", placeholder(0)])}`,
      base64Packet([255, 0]),
    ]);
  });
});

describe("the number of attachments", () => {
  const placeholders = (count) => Array.from({ length: count }, (_, num) => placeholder(num));

  test(`${ATTACHMENTS_MAX} are taken`, async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(ATTACHMENTS_MAX, "message", ...placeholders(ATTACHMENTS_MAX)));
    for (let i = 0; i < ATTACHMENTS_MAX; i += 1) wire.send(Uint8Array.of(i));
    assert.equal(await wire.next(), binaryEvent(ATTACHMENTS_MAX, "message-back", ...placeholders(ATTACHMENTS_MAX)));
    for (let i = 0; i < ATTACHMENTS_MAX; i += 1) assert.deepEqual(await wire.next(), Buffer.of(i));
  });

  for (const packet of [
    binaryEvent(ATTACHMENTS_MAX + 1, "message", ...placeholders(ATTACHMENTS_MAX + 1)),
    binaryEvent("18446744073709551617", "message", placeholder(0)),
    binaryEvent("99999999999", "message", placeholder(0)),
    '45-["message",{"_placeholder":true,"num":0}]',
    '45x-["message",{"_placeholder":true,"num":0}]',
    '451["message",{"_placeholder":true,"num":0}]',
    "451-{}",
    "461-1{}",
  ]) {
    test(`${packet.slice(0, 40)} closes the connection`, async () => {
      const wire = await Wire.connected(echo);
      wire.send(packet);
      await wire.closed();
    });
  }

  for (const num of [1, 99, -1, 0.5, "0", null, 18446744073709551616]) {
    test(`a stand-in of number ${JSON.stringify(num)} where there is one attachment closes the connection`, async () => {
      const wire = await Wire.connected(echo);
      wire.send(binaryEvent(1, "message", { _placeholder: true, num }));
      wire.send(Uint8Array.of(1));
      await wire.closed();
    });
  }
});

describe("the sequence of a binary event", () => {
  test("an attachment that no event has announced closes the connection", async () => {
    const wire = await Wire.connected(echo);
    wire.send(Uint8Array.of(1));
    await wire.closed();
  });

  test("an attachment too many closes the connection", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(1, "message", placeholder(0)));
    wire.send(Uint8Array.of(1));
    assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
    assert.deepEqual(await wire.next(), Buffer.of(1));
    wire.send(Uint8Array.of(2));
    await wire.closed();
  });

  test("an event before the last attachment closes the connection", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(2, "message", placeholder(0), placeholder(1)));
    wire.send(Uint8Array.of(1));
    wire.send(event("message", "in between"));
    await wire.closed();
  });

  test("an unannounced attachment over polling ends the session", async () => {
    const polling = await Polling.connected(echo);
    await polling.post(base64Packet([1])).catch(() => {});
    assert.equal(await polling.ends(), true);
  });

  test("a session that goes while its attachments are awaited takes nothing with it", async () => {
    const other = await Wire.connected(echo);
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(2, "message", placeholder(0), placeholder(1)));
    wire.send(Uint8Array.of(1));
    wire.close(1000);
    await wire.closed();
    await assertEchoes(other, "still here");
  });
});
