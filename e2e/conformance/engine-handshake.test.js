import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AS_IT_IS, useEcho } from "./support/echo.js";
import { ANNOUNCED, event, join } from "./support/packets.js";
import { Polling, pollingUrl, request } from "./support/polling.js";
import { refused, Wire, wsUrl } from "./support/websocket.js";

const UNKNOWN_SID = "AAAAAAAAAAAAAAAAAAAA";
const echo = useEcho();

function assertHandshake({ sid, ...announced }, upgrades) {
  assert.equal(typeof sid, "string");
  // It travels as a query parameter, so it must need no escaping.
  assert.match(sid, /^[A-Za-z0-9_.~-]+$/);
  assert.deepEqual(announced, { upgrades, ...ANNOUNCED });
}

describe("what the handshake announces", () => {
  const quick = useEcho(AS_IT_IS);

  test("over polling: the session, the upgrade and the limits", async () => {
    const { status, headers, body } = await request(pollingUrl(quick));
    assert.equal(status, 200);
    assert.match(headers.get("content-type"), /^text\/plain; *charset=utf-8$/i);
    assert.equal(body[0], "0");
    assertHandshake(JSON.parse(body.slice(1)), ["websocket"]);
  });

  test("over polling: the same when there are parameters that it does not know", async () => {
    const { status, body } = await request(pollingUrl(quick, { t: "k3x9", b64: "1", token: "a%20&=" }));
    assert.equal(status, 200);
    assertHandshake(JSON.parse(body.slice(1)), ["websocket"]);
  });

  test("over websocket: nothing to upgrade to", async () => {
    const wire = await Wire.session(quick);
    assertHandshake(wire.handshake, []);
  });
});

describe("handshake over polling", () => {
  test("gives every session an id of its own", async () => {
    const sessions = await Promise.all(Array.from({ length: 20 }, () => Polling.session(echo)));
    assert.equal(new Set(sessions.map(({ sid }) => sid)).size, sessions.length);
  });

  for (const version of [undefined, "", "abc", "3", "5", "44"]) {
    test(`refuses protocol version ${version ?? "left out"}`, async () => {
      assert.equal((await request(pollingUrl(echo, { EIO: version }))).status, 400);
    });
  }

  for (const transport of [undefined, "", "abc", "Polling", "websocket"]) {
    test(`refuses transport ${transport ?? "left out"} in a plain request`, async () => {
      assert.equal((await request(pollingUrl(echo, { transport }))).status, 400);
    });
  }

  for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
    test(`opens no session by ${method}`, async () => {
      assert.equal((await request(pollingUrl(echo), { method })).status, 400);
    });
  }

  for (const [what, sid] of [
    ["unknown", UNKNOWN_SID],
    ["overlong", "x".repeat(4_000)],
    ["non-ASCII", "сессия-€"],
    ["path-like", "../../etc"],
  ]) {
    test(`refuses an ${what} session id in a poll and in a POST`, async () => {
      const url = pollingUrl(echo, { sid });
      assert.equal((await request(url)).status, 400);
      assert.equal((await request(url, { method: "POST", body: "40" })).status, 400);
    });
  }
});

describe("handshake over websocket", () => {
  for (const version of [undefined, "", "abc", "3"]) {
    test(`refuses protocol version ${version ?? "left out"}`, () => refused(echo, { EIO: version }));
  }

  for (const transport of [undefined, "", "abc", "polling"]) {
    test(`refuses transport ${transport ?? "left out"}`, () => refused(echo, { transport }));
  }

  test("refuses an unknown session id", () => refused(echo, { sid: UNKNOWN_SID }));

  test("refuses a second websocket for a session that began as one", async () => {
    const wire = await Wire.connected(echo);
    await refused(echo, { sid: wire.handshake.sid });
    wire.send(event("message", "still here"));
    assert.equal(await wire.next(), event("message-back", "still here"));
  });

  test("refuses polling for a session that began as a websocket", async () => {
    const wire = await Wire.connected(echo);
    const url = pollingUrl(echo, { sid: wire.handshake.sid });
    assert.equal((await request(url)).status, 400);
    assert.equal((await request(url, { method: "POST", body: event("message", "stray") })).status, 400);
    wire.send(event("message", "still here"));
    assert.equal(await wire.next(), event("message-back", "still here"));
  });
});

describe("what lies beside the handshake", () => {
  test("sessions do not hear each other", async () => {
    const one = await Polling.connected(echo);
    const other = await Wire.connected(echo);
    await one.send(event("message", "from one"));
    assert.equal(await one.next(), event("message-back", "from one"));
    other.send(event("message", "from the other"));
    assert.equal(await other.next(), event("message-back", "from the other"));
  });

  test("the id under which others know a socket is not the one that opens its session", async () => {
    const wire = await Wire.session(echo);
    const { sid } = await join(wire);
    assert.notEqual(sid, wire.handshake.sid);
  });

  // Whether other origins are let in is configuration. If they are, both the question and the answer
  // that it is about have to say so, or the browser throws the answer away.
  test("a preflight and the request after it agree on the origin", async () => {
    const origin = "http://elsewhere.example";
    const preflight = await request(pollingUrl(echo), {
      method: "OPTIONS",
      headers: {
        Origin: origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
      },
    });
    assert.ok(preflight.status < 500, `a preflight was answered with ${preflight.status}`);
    assert.doesNotMatch(preflight.body, /"sid"/);
    const allowed = preflight.headers.get("access-control-allow-origin");
    const handshake = await request(pollingUrl(echo), { headers: { Origin: origin } });
    assert.equal(handshake.headers.get("access-control-allow-origin"), allowed);
    if (allowed !== null) assert.ok(["*", origin].includes(allowed), `the allowed origin is ${allowed}`);
  });

  test("a plain request to the websocket address of a session leaves the session alone", async () => {
    const polling = await Polling.connected(echo);
    const url = wsUrl(echo, { sid: polling.sid });
    url.protocol = "http:";
    assert.equal((await request(url)).status, 400);
    await polling.send(event("message", 1));
    assert.equal(await polling.next(), event("message-back", 1));
  });
});
