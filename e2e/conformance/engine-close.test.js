import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { useEcho } from "./support/echo.js";
import { CLOSE, event, NOOP, PING } from "./support/packets.js";
import { Polling } from "./support/polling.js";

const ATTEMPTS = 20;
const echo = useEcho();

describe("closing over polling", () => {
  test("the poll that waits is let go with a noop, and the session is unknown from then on", async () => {
    // The POST may overtake the poll, which then finds no session, or a ping may answer it first; that is
    // right too, but does not show what is to be shown here.
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const polling = await Polling.connected(echo);
      const [poll, post] = await Promise.all([polling.poll(), polling.post(CLOSE)]);
      assert.deepEqual([post.status, post.body], [200, "ok"]);
      assert.equal((await polling.poll()).status, 400);
      assert.equal((await polling.post(event("message", 1))).status, 400);
      if (poll.status === 200 && !poll.packets.includes(PING)) {
        assert.equal(poll.body, NOOP);
        return;
      }
      assert.ok([200, 400].includes(poll.status), `the poll was answered with ${poll.status}`);
    }
    assert.fail("no poll was ever pending");
  });

  test("without a waiting poll the session is unknown as well", async () => {
    const polling = await Polling.connected(echo);
    await polling.send(CLOSE);
    assert.equal((await polling.poll()).status, 400);
  });

  test("one session's close is not another's", async () => {
    const [closing, staying] = [await Polling.connected(echo), await Polling.connected(echo)];
    await closing.send(CLOSE);
    await staying.send(event("message", "still here"));
    assert.equal(await staying.next(), event("message-back", "still here"));
  });
});
