import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { binaryEvent, CLOSE, event, placeholder } from "./support/packets.js";
import { Wire } from "./support/websocket.js";

const LIMIT = 1_000_000;
// The announced limit is that of a payload; a server may be a little more generous with a single packet.
const CLEARLY_TOO_LARGE = LIMIT + 1_000;
const echo = useEcho();

/** The one test that a session is alive and well: an event goes there and back. */
async function assertEchoes(wire, word) {
  wire.send(event("message", word));
  assert.equal(await wire.next(), event("message-back", word));
}

describe("packets in frames", () => {
  test("a text packet there and back", async () => {
    await assertEchoes(await Wire.connected(echo), "hello");
  });

  test("a binary packet there and back", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(1, "message", placeholder(0)));
    wire.send(Uint8Array.of(1, 2, 3, 4));
    assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
    assert.deepEqual(await wire.next(), Buffer.of(1, 2, 3, 4));
  });

  test("text is UTF-8 with no byte order mark in front", async () => {
    await assertEchoes(await Wire.connected(echo), "é € 日本語 😀 \ufeff|\u{10ffff}");
  });

  test("the order holds over many packets", async () => {
    const wire = await Wire.connected(echo);
    for (let i = 0; i < 500; i += 1) wire.send(event("message", i));
    for (let i = 0; i < 500; i += 1) assert.equal(await wire.next(), event("message-back", i));
  });

  // A frame's length is written in one of three ways; these lie on both sides of each change.
  for (const size of [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]) {
    test(`an attachment of ${size} bytes and a text of as many`, async () => {
      const wire = await Wire.connected(echo);
      const bytes = Buffer.alloc(size, 0xa5);
      wire.send(binaryEvent(1, "message", placeholder(0)));
      wire.send(bytes);
      assert.equal(await wire.next(), binaryEvent(1, "message-back", placeholder(0)));
      assert.ok(bytes.equals(await wire.next()));
      await assertEchoes(wire, "x".repeat(Math.max(0, size - event("message-back", "").length)));
    });
  }

  test("a packet may come in fragments", async () => {
    const wire = await Wire.connected(echo);
    const packet = Buffer.from(event("message", "in three parts 😀"));
    const tear = packet.indexOf(Buffer.from("😀")) + 1;
    wire.send(packet.subarray(0, 7), { fin: false, binary: false });
    wire.send(packet.subarray(7, tear), { fin: false, binary: false });
    wire.send(packet.subarray(tear), { fin: true, binary: false });
    assert.equal(await wire.next(), event("message-back", "in three parts 😀"));
  });

  test("a ping frame of the websocket protocol is answered with its own payload", async () => {
    const wire = await Wire.connected(echo);
    assert.deepEqual(await wire.pingFrame(Buffer.from("probe me")), Buffer.from("probe me"));
    await assertEchoes(wire, "after the ping frame");
  });
});

describe("what ends a session", () => {
  for (const packet of ["abc", "7", "x", "", "\ufeff4"]) {
    test(`the text ${JSON.stringify(packet)}, which is no packet`, async () => {
      const wire = await Wire.session(echo);
      wire.send(packet);
      await wire.closed();
    });
  }

  test("a text frame that is not UTF-8", async () => {
    const wire = await Wire.connected(echo);
    const packet = Buffer.concat([Buffer.from('42["message","'), Buffer.of(0xc3, 0x28), Buffer.from('"]')]);
    wire.send(packet, { binary: false });
    await wire.closed();
  });

  test("a frame that is not masked", async () => {
    const wire = await Wire.connected(echo);
    wire.send(event("message", "bare"), { mask: false });
    await wire.closed();
  });

  test("the client's close packet", async () => {
    const wire = await Wire.connected(echo);
    wire.send(CLOSE);
    await wire.closed();
  });

  test("the client's close frame, answered with one of the same code", async () => {
    const wire = await Wire.connected(echo);
    wire.close(1000);
    assert.equal((await wire.closed()).code, 1000);
  });

  test("the end of one session is not the end of another", async () => {
    const stays = await Wire.connected(echo);
    const vanishes = await Wire.connected(echo);
    const errs = await Wire.connected(echo);
    vanishes.terminate();
    errs.send("abc");
    await errs.closed();
    await assertEchoes(stays, "still here");
  });
});

describe("the size of a packet", () => {
  const packetOf = (bytes) => {
    const empty = event("message-with-ack", "").replace("42", "421");
    return empty.replace('""', JSON.stringify("x".repeat(bytes - empty.length)));
  };

  test("as large as was announced is taken", async () => {
    const wire = await Wire.connected(echo);
    const packet = packetOf(LIMIT);
    assert.equal(packet.length, LIMIT);
    wire.send(packet);
    assert.equal(await wire.next(), packet.replace('421["message-with-ack",', "431["));
  });

  test("clearly more ends the session, and only that", async () => {
    const other = await Wire.connected(echo);
    const wire = await Wire.connected(echo);
    wire.send(packetOf(CLEARLY_TOO_LARGE));
    await wire.closed();
    await assertEchoes(other, "after");
  });

  test("fragments are counted together", async () => {
    const wire = await Wire.connected(echo);
    const packet = packetOf(CLEARLY_TOO_LARGE);
    for (let start = 0; start < packet.length; start += 100_000) {
      const piece = packet.slice(start, start + 100_000);
      wire.send(piece, { fin: start + 100_000 >= packet.length, binary: false });
    }
    await wire.closed();
  });

  test("a binary packet too large ends the session", async () => {
    const wire = await Wire.connected(echo);
    wire.send(binaryEvent(1, "message", placeholder(0)));
    wire.send(Buffer.alloc(CLEARLY_TOO_LARGE));
    await wire.closed();
  });
});
