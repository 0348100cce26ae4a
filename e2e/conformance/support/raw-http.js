import http from "node:http";
import net from "node:net";
import { once } from "node:events";
import { within } from "./deadline.js";

/**
 * Sends a GET and hangs up without waiting for the answer. On the loopback what was written is with the
 * other side when the write is done, so the server finds the request first and the hanging up after it.
 */
export async function abandonedGet(url) {
  const socket = net.connect(Number(url.port), url.hostname);
  await within(once(socket, "connect"), "a connection");
  const head = `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\n\r\n`;
  await within(new Promise((resolve) => socket.write(head, resolve)), "a request to be written");
  socket.destroy();
}

/**
 * A POST whose body is sent piece by piece. It is returned once the server has said that it wants the
 * body, so that it is certain to be under way.
 */
export async function openPost(url) {
  const request = http.request(url, { method: "POST", agent: false, headers: { Expect: "100-continue" } });
  const answer = new Promise((resolve) => {
    request.once("error", (error) => resolve({ status: null, error }));
    request.once("response", (response) => {
      response.resume();
      response.once("end", () => resolve({ status: response.statusCode }));
      response.once("error", (error) => resolve({ status: response.statusCode, error }));
    });
  });
  request.flushHeaders();
  await within(Promise.race([once(request, "continue"), answer]), "the server to ask for the body");
  return {
    write: (piece) => within(new Promise((resolve) => request.write(piece, resolve)), "a piece to be written"),
    /** Ends the body; resolves with the status, or with `status: null` when the server hung up instead. */
    finish: () => {
      request.end();
      return within(answer, "the answer to a POST");
    },
    answered: () => within(answer, "the answer to a POST"),
    abandon: () => request.destroy(),
  };
}
