import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { base64Packet, binaryEvent, CLOSE, event, PING, placeholder, SEPARATOR } from "./support/packets.js";
import { Polling, request } from "./support/polling.js";
import { abandonedGet, openPost } from "./support/raw-http.js";

const MULTI_BYTE = "é € 日本語 😀 e\u0301 \ufeff|\u2028|\u{10ffff}";
const CROWD = 50;
const echo = useEcho();

describe("payloads", () => {
  test("one text packet there and back", async () => {
    const polling = await Polling.connected(echo);
    const posted = await polling.post(event("message", "hello"));
    assert.equal(posted.status, 200);
    assert.equal(posted.body, "ok");
    const { headers, packets } = await polling.payload();
    assert.match(headers.get("content-type"), /^text\/plain; *charset=utf-8$/i);
    assert.deepEqual(packets, [event("message-back", "hello")]);
  });

  test("several packets in one payload come back in one payload, in order", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(event("message", "one"), event("message", "two"), event("message", "three"));
    const { packets } = await polling.payload();
    assert.deepEqual(packets, ["one", "two", "three"].map((word) => event("message-back", word)));
  });

  test("the order holds over many payloads", async () => {
    const polling = await Polling.connected(echo);
    for (let first = 0; first < 100; first += 10) {
      await polling.send(...Array.from({ length: 10 }, (_, i) => event("message", first + i)));
    }
    for (let i = 0; i < 100; i += 1) assert.equal(await polling.next(), event("message-back", i));
  });

  test("a poll that waits is answered when something comes", async () => {
    const polling = await Polling.connected(echo);
    const waiting = polling.payload();
    await polling.send(event("message", "late"));
    assert.deepEqual((await waiting).packets, [event("message-back", "late")]);
  });

  test("text and binary packets in one payload", async () => {
    const polling = await Polling.connected(echo);
    const bytes = [1, 2, 3, 4];
    await polling.send(binaryEvent(1, "message", "text", placeholder(0)), base64Packet(bytes), event("message", "after"));
    const { packets } = await polling.payload();
    assert.deepEqual(packets, [
      binaryEvent(1, "message-back", "text", placeholder(0)),
      base64Packet(bytes),
      event("message-back", "after"),
    ]);
  });

  test("binary packets of every byte and every padding", async () => {
    const polling = await Polling.connected(echo);
    const all = Array.from({ length: 256 }, (_, byte) => byte);
    for (const bytes of [[], [255], [251, 255], [62, 63, 64], all]) {
      await polling.send(binaryEvent(1, "message", placeholder(0)), base64Packet(bytes));
      assert.equal(await polling.next(), binaryEvent(1, "message-back", placeholder(0)));
      assert.equal(await polling.next(), base64Packet(bytes));
    }
  });

  test("the parts of a binary event may come in payloads of their own", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(binaryEvent(2, "message", placeholder(0), placeholder(1)));
    await polling.send(base64Packet([1]));
    await polling.send(base64Packet([2, 2]));
    assert.equal(await polling.next(), binaryEvent(2, "message-back", placeholder(0), placeholder(1)));
    assert.equal(await polling.next(), base64Packet([1]));
    assert.equal(await polling.next(), base64Packet([2, 2]));
  });

  test("a body without a content type is text", async () => {
    const polling = await Polling.connected(echo);
    const { status, body } = await polling.post(Buffer.from(event("message", "untyped")));
    assert.deepEqual({ status, body }, { status: 200, body: "ok" });
    assert.equal(await polling.next(), event("message-back", "untyped"));
  });
});

describe("text is UTF-8", () => {
  test("characters of one to four bytes come back as they were, with no byte order mark in front", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(event("message", MULTI_BYTE));
    const { bytes, headers, packets } = await polling.payload();
    assert.equal(bytes[0], "4".charCodeAt(0));
    assert.deepEqual(JSON.parse(packets[0].slice(2)), ["message-back", MULTI_BYTE]);
    const length = headers.get("content-length");
    if (length !== null) assert.equal(Number(length), bytes.length);
  });

  test("a character may be torn between two pieces of the body", async () => {
    const polling = await Polling.connected(echo);
    const body = Buffer.from(event("message", MULTI_BYTE));
    const tear = body.indexOf(Buffer.from("😀")) + 2;
    const post = await openPost(polling.url);
    await post.write(body.subarray(0, tear));
    await post.write(body.subarray(tear));
    assert.equal((await post.finish()).status, 200);
    assert.deepEqual(JSON.parse((await polling.next()).slice(2)), ["message-back", MULTI_BYTE]);
  });

  test("a separator inside a string stays escaped and divides nothing", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(event("message", `a${SEPARATOR}b`), event("message", "next"));
    const { packets } = await polling.payload();
    assert.equal(packets.length, 2);
    assert.deepEqual(JSON.parse(packets[0].slice(2)), ["message-back", `a${SEPARATOR}b`]);
  });

  test("bytes that are not UTF-8 never come back as they were", async () => {
    const polling = await Polling.connected(echo);
    const body = Buffer.concat([Buffer.from('42["message","'), Buffer.from([0xc3, 0x28, 0xff]), Buffer.from('"]')]);
    const { status } = await polling.post(body);
    if (status === 400) {
      assert.equal(await polling.ends(), true);
    } else {
      assert.match(await polling.next(), /\ufffd/);
    }
  });
});

describe("what ends a session", () => {
  for (const [what, body] of [
    ["an unknown packet type", "abc"],
    ["an unknown packet type after a good packet", `${event("message", 1)}${SEPARATOR}xyz`],
    ["a type that is a digit too high", "7"],
    ["an empty packet between separators", `${event("message", 1)}${SEPARATOR}${SEPARATOR}${event("message", 2)}`],
    ["a byte order mark in front", `\ufeff${event("message", 1)}`],
    ["a binary packet that is not base64", "b!!!!"],
  ]) {
    test(`${what} in a payload`, async () => {
      const polling = await Polling.connected(echo);
      // A server may also drop the connection instead of answering.
      await polling.post(body).catch(() => {});
      assert.equal(await polling.ends(), true);
    });
  }

  test("a payload that cannot be read is not answered with ok", async () => {
    const polling = await Polling.session(echo);
    const answer = await polling.post("abc").catch(() => null);
    if (answer) assert.equal(answer.status, 400);
    assert.equal((await polling.poll()).status, 400);
  });

  test("two polls at once", async () => {
    const polling = await Polling.connected(echo);
    const answers = await Promise.all([polling.poll(), polling.poll()]);
    answers.sort((a, b) => a.status - b.status);
    assert.equal(answers[0].status, 200);
    assert.deepEqual(answers[0].packets.filter((packet) => packet !== PING), [CLOSE]);
    assert.ok([400, 500].includes(answers[1].status), `the poll too many was answered with ${answers[1].status}`);
    assert.equal((await polling.poll()).status, 400);
  });

  test("two POSTs at once", async () => {
    const polling = await Polling.connected(echo);
    const first = await openPost(polling.url);
    await first.write(event("message", "first").slice(0, 5));
    assert.equal((await polling.post(event("message", "second"))).status, 400);
    first.abandon();
    assert.equal(await polling.ends(), true);
  });

  test("a poll that the client gives up", async () => {
    const polling = await Polling.connected(echo);
    await abandonedGet(polling.url);
    assert.equal(await polling.ends(), true);
  });

  // So many that the server finds some of them gone by the time it reads what they wanted.
  test("polls that many clients give up at once", async () => {
    const sessions = await Promise.all(Array.from({ length: CROWD }, () => Polling.connected(echo)));
    await Promise.all(sessions.map(({ url }) => abandonedGet(url)));
    const ended = await Promise.all(sessions.map((session) => session.ends()));
    assert.deepEqual(ended, sessions.map(() => true));
  });

  test("a POST that the client gives up", async () => {
    const polling = await Polling.connected(echo);
    const post = await openPost(polling.url);
    await post.write(event("message", "half").slice(0, 10));
    post.abandon();
    assert.equal(await polling.ends(), true);
  });
});

describe("the size of a payload", () => {
  const limit = 1_000_000;
  const bodyOf = (bytes) => {
    const frame = event("message-with-ack", "").replace("42", "421").length;
    return event("message-with-ack", "x".repeat(bytes - frame)).replace("42", "421");
  };

  test("as large as was announced is taken", async () => {
    const polling = await Polling.connected(echo);
    const body = bodyOf(limit);
    assert.equal(Buffer.byteLength(body), limit);
    await polling.send(body);
    const answer = await polling.next();
    assert.ok(answer.startsWith('431["xxx') && answer.endsWith('xxx"]'), `the answer begins ${answer.slice(0, 40)}`);
    assert.equal(answer.length, limit - event("message-with-ack", "").length - 1 + '431[""]'.length);
  });

  test("one byte more is refused, and the server goes on", async () => {
    const polling = await Polling.connected(echo);
    // The server may hang up while the rest of the body is still being written.
    const answer = await polling.post(bodyOf(limit + 1)).catch(() => null);
    if (answer) assert.equal(answer.status, 413);
    const other = await Polling.connected(echo);
    await other.send(event("message", "after"));
    assert.equal(await other.next(), event("message-back", "after"));
  });

  test("it is counted in bytes and not in characters", async () => {
    const polling = await Polling.connected(echo);
    const answer = await polling.post(event("message", "€".repeat(limit / 2))).catch(() => null);
    if (answer) assert.equal(answer.status, 413);
  });

  test("a body of unannounced length is cut off as well", async () => {
    const polling = await Polling.connected(echo);
    const post = await openPost(polling.url);
    const piece = "x".repeat(100_000);
    await post.write('42["message","');
    for (let written = 0; written <= limit; written += piece.length) await post.write(piece);
    await post.write('"]');
    const { status } = await post.finish();
    assert.ok([413, null].includes(status), `the body too long was answered with ${status}`);
    const other = await request(polling.url, { method: "POST", body: "" }).catch(() => ({ status: 400 }));
    assert.ok(other.status < 500);
  });
});
