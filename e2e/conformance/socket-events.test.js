import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { event } from "./support/packets.js";
import { Polling } from "./support/polling.js";
import { Wire } from "./support/websocket.js";

const echo = useEcho();
const RECORD_SEPARATOR = "\x1e";

const withAck = (id, ...args) => `42${id}${JSON.stringify(["message-with-ack", ...args])}`;

describe("events", () => {
  for (const [what, args] of [
    ["no argument", []],
    ["arguments of several kinds", [1, "2", { 3: [true] }]],
    ["null and booleans", [null, true, false]],
    ["numbers", [0, -1, 1.5, 1.1, -2.5e-7, 1e21, 9007199254740991, -9007199254740991]],
    ["empty things", ["", [], {}]],
    ["strings that look like packets", ["42", "1-", "/custom,", "[]", '{"_placeholder":false}', "]"]],
    ["characters that JSON escapes", ['"\\/\b\f\n\r\t', "\u0000\u001f\u007f", RECORD_SEPARATOR]],
    ["characters of every width", ["é", "€", "😀", "\u2028\u2029", "\ufeff", "e\u0301"]],
    ["nested arrays and objects", [[[[[[1]]]]], { a: { b: { c: { "": [{}] } } } }]],
    ["names that objects treat specially", [{ toString: 1, constructor: 2, length: 3 }]],
  ]) {
    test(`with ${what}`, async () => {
      const wire = await Wire.connected(echo);
      wire.send(event("message", ...args));
      const packet = await wire.next();
      assert.ok(!packet.includes(RECORD_SEPARATOR), "a separator went out as it is");
      assert.equal(packet.slice(0, 2), "42");
      assert.deepEqual(JSON.parse(packet.slice(2)), ["message-back", ...args]);
    });
  }

  test("the encoding is compact and as plain as it can be", async () => {
    const wire = await Wire.connected(echo);
    wire.send('42["message",1,"2",{"3":[true]}]');
    assert.equal(await wire.next(), '42["message-back",1,"2",{"3":[true]}]');
  });

  test("white space and escapes in JSON mean nothing", async () => {
    const wire = await Wire.connected(echo);
    wire.send('42[ "mess\\u0061ge" ,\n1 ,\t{ "\\u0061" : [ "\\u20ac\\ud83d\\ude00" ] } ]');
    assert.deepEqual(JSON.parse((await wire.next()).slice(2)), ["message-back", 1, { a: ["€😀"] }]);
  });

  test("an event that nobody listens to is passed over", async () => {
    const wire = await Wire.connected(echo);
    wire.send(event("nobody listens", 1));
    wire.send(event("", 2));
    wire.send(event("message", "marker"));
    assert.equal(await wire.next(), event("message-back", "marker"));
  });

  test("the order holds between events and acknowledgements", async () => {
    const wire = await Wire.connected(echo);
    for (let i = 0; i < 50; i += 1) {
      wire.send(event("message", i));
      wire.send(withAck(i, i));
    }
    for (let i = 0; i < 50; i += 1) {
      assert.equal(await wire.next(), event("message-back", i));
      assert.equal(await wire.next(), `43${i}[${i}]`);
    }
  });
});

describe("acknowledgements", () => {
  for (const id of [0, 1, 456, 4294967296, 9007199254740991]) {
    test(`of event ${id}`, async () => {
      const wire = await Wire.connected(echo);
      wire.send(withAck(id, 1, "2", { 3: [false] }));
      assert.equal(await wire.next(), `43${id}[1,"2",{"3":[false]}]`);
    });
  }

  test("may be empty", async () => {
    const wire = await Wire.connected(echo);
    wire.send(withAck(7));
    assert.equal(await wire.next(), "437[]");
  });

  test("over polling", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(withAck(1, "a"), withAck(2, "b"));
    assert.deepEqual((await polling.payload()).packets, ['431["a"]', '432["b"]']);
  });

  test("that nobody asked for are passed over", async () => {
    const wire = await Wire.connected(echo);
    wire.send('4399["unasked"]');
    wire.send("43100[]");
    wire.send(event("message", "marker"));
    assert.equal(await wire.next(), event("message-back", "marker"));
  });
});

describe("what closes the connection", () => {
  for (const packet of [
    "4",
    "4abc",
    "47",
    "49",
    "4-1",
    "42{}",
    "42[]",
    '42"message"',
    "42null",
    "42[",
    '42["message",',
    '42["message"]x',
    '42["message",01]',
    '42["message",\'single\']',
    "42[{}]",
    "42[null]",
    '42["connect"]',
    '42["disconnect"]',
    '42abc["message-with-ack"]',
    '421x["message-with-ack"]',
    '42/custom["message"]',
    "431{}",
    '431"x"',
    "41[]",
    `42["message","${RECORD_SEPARATOR}"]`,
  ]) {
    test(JSON.stringify(packet), async () => {
      const wire = await Wire.connected(echo);
      wire.send(packet);
      await wire.closed();
    });
  }

  test("a broken event, over polling as well", async () => {
    const polling = await Polling.connected(echo);
    await polling.post("42{}").catch(() => {});
    assert.equal(await polling.ends(), true);
  });

  test("a broken event in one session leaves others alone", async () => {
    const [broken, other] = [await Wire.connected(echo), await Wire.connected(echo)];
    broken.send("42[");
    await broken.closed();
    other.send(event("message", "marker"));
    assert.equal(await other.next(), event("message-back", "marker"));
  });
});

describe("what the server must outlive", () => {
  test("arrays nested deeper than anyone needs do no harm to the server", async () => {
    const other = await Wire.connected(echo);
    const wire = await Wire.connected(echo);
    const depth = 200_000;
    wire.send(`42["message",${"[".repeat(depth)}${"]".repeat(depth)}]`);
    // They may come back or cost the connection, but not the server.
    await wire.next().catch((error) => assert.match(error.message, /closed/));
    other.send(event("message", "marker"));
    assert.equal(await other.next(), event("message-back", "marker"));
  });
});
