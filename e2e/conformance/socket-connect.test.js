import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PINGING, useEcho, WAITING_FOR_CONNECT } from "./support/echo.js";
import { event, join, PING, PONG } from "./support/packets.js";
import { Polling } from "./support/polling.js";
import { Wire } from "./support/websocket.js";

const echo = useEcho();
const INVALID_NAMESPACE = '{"message":"Invalid namespace"}';

async function assertEchoes(wire, word) {
  wire.send(event("message", word));
  assert.equal(await wire.next(), event("message-back", word));
}

// Nothing answers a DISCONNECT: the next thing to come is a ping, which shows that the connection stands.
async function disconnectMain(wire) {
  wire.showPings();
  wire.send("41");
  assert.equal(await wire.next("a ping"), PING);
  wire.send(PONG);
  wire.hidePings();
}

for (const [transport, open] of [
  ["websocket", () => Wire.session(echo)],
  ["polling", () => Polling.session(echo)],
]) {
  describe(`CONNECT over ${transport}`, () => {
    for (const namespace of ["/", "/custom"]) {
      test(`to ${namespace} without credentials`, async () => {
        const { connected, auth } = await join(await open(), namespace);
        assert.deepEqual(Object.keys(connected), ["sid"]);
        assert.equal(typeof connected.sid, "string");
        assert.notEqual(connected.sid, "");
        assert.deepEqual(auth, {});
      });

      test(`to ${namespace} with credentials`, async () => {
        const credentials = { token: "abc", nested: { list: [1, null, "é😀"] } };
        const { connected, auth } = await join(await open(), namespace, credentials);
        assert.deepEqual(Object.keys(connected), ["sid"]);
        assert.deepEqual(auth, credentials);
      });
    }

    test("to an unknown namespace is refused and leaves the others open", async () => {
      const link = await open();
      await link.send("40/random,");
      assert.equal(await link.next(), `44/random,${INVALID_NAMESPACE}`);
      await link.send('40/random/deeper,{"token":"x"}');
      assert.equal(await link.next(), `44/random/deeper,${INVALID_NAMESPACE}`);
      await join(link);
    });
  });
}

describe("namespaces", () => {
  test("the comma may be left out when nothing follows", async () => {
    const wire = await Wire.session(echo);
    wire.send("40/random");
    assert.equal(await wire.next(), `44/random,${INVALID_NAMESPACE}`);
    wire.send("40/custom");
    assert.match(await wire.next(), /^40\/custom,\{"sid":"[^"]+"\}$/);
    assert.equal(await wire.next(), '42/custom,["auth",{}]');
  });

  test("the main one may be named", async () => {
    const wire = await Wire.session(echo);
    wire.send('40/,{"token":"named"}');
    assert.match(await wire.next(), /^40\{"sid":"[^"]+"\}$/);
    assert.equal(await wire.next(), event("auth", { token: "named" }));
  });

  test("two on one connection have ids and credentials of their own", async () => {
    const wire = await Wire.session(echo);
    const main = await join(wire, "/", { token: "main" });
    const custom = await join(wire, "/custom", { token: "custom" });
    assert.notEqual(main.sid, custom.sid);
    assert.deepEqual([main.auth, custom.auth], [{ token: "main" }, { token: "custom" }]);
    await assertEchoes(wire, "to the main one");
  });

  test("the custom one needs no main one", async () => {
    const wire = await Wire.session(echo);
    await join(wire, "/custom");
    await join(wire, "/");
  });

  test("a second CONNECT gives no second socket", async () => {
    const wire = await Wire.session(echo);
    await join(wire);
    wire.send("40");
    wire.send(event("message", "marker"));
    const next = await wire.next().catch((error) => {
      assert.match(error.message, /closed/);
      return null;
    });
    if (next !== null) assert.equal(next, event("message-back", "marker"));
  });
});

describe("DISCONNECT", () => {
  for (const packet of ["41/custom", "41/custom,"]) {
    test(`of the custom namespace by ${packet} leaves the main one`, async () => {
      const wire = await Wire.connected(echo);
      const first = await join(wire, "/custom");
      wire.send(packet);
      await assertEchoes(wire, "message to the main namespace");
      const second = await join(wire, "/custom");
      assert.notEqual(second.sid, first.sid);
    });
  }

  test("over polling", async () => {
    const polling = await Polling.connected(echo);
    await polling.send("41");
    await join(polling);
  });
});

describe("DISCONNECT of the main namespace", () => {
  const pinging = useEcho(PINGING);

  test("keeps the connection", async () => {
    const wire = await Wire.session(pinging);
    const first = await join(wire);
    await disconnectMain(wire);
    const second = await join(wire);
    assert.notEqual(second.sid, first.sid);
  });

  test("leaves the custom one", async () => {
    const wire = await Wire.connected(pinging);
    await join(wire, "/custom");
    await disconnectMain(wire);
    await join(wire);
  });
});

describe("a connection without CONNECT", () => {
  const hasty = useEcho(WAITING_FOR_CONNECT);


  for (const packet of [
    "4abc",
    event("message", "before CONNECT"),
    '420["message-with-ack"]',
    "43",
    "4",
    "40[1]",
    '40"token"',
    "40{",
    '40{"token":}',
    "40/custom,[]",
  ]) {
    test(`is closed upon ${packet}`, async () => {
      const wire = await Wire.session(echo);
      wire.send(packet);
      await wire.closed();
    });
  }

  test("is closed upon a binary packet", async () => {
    const wire = await Wire.session(echo);
    wire.send(Uint8Array.of(1, 2, 3));
    await wire.closed();
  });

  test("is closed over polling as well", async () => {
    const polling = await Polling.session(echo);
    await polling.post(event("message", "before CONNECT")).catch(() => {});
    assert.equal(await polling.ends(), true);
  });

  test("is closed after a while", async () => {
    const wire = await Wire.session(hasty);
    await wire.closed();
  });
});
