// Names for what the two protocols write as single characters, so that the tests can be read.
export const SEPARATOR = "\x1e";
export const PING = "2";
export const PONG = "3";
export const PROBE = "2probe";
export const PROBE_ANSWER = "3probe";
export const UPGRADE = "5";
export const NOOP = "6";
export const CLOSE = "1";

/** What the echo server announces; the heartbeat is quick so that the tests of it are. */
export const ANNOUNCED = { pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 };

/** An event of the main namespace as an Engine.IO message. */
export const event = (name, ...args) => `42${JSON.stringify([name, ...args])}`;

/** The stand-in for the attachment of index `num`. */
export const placeholder = (num) => ({ _placeholder: true, num });

/** A binary event of the main namespace; its attachments follow as packets of their own. */
export const binaryEvent = (attachments, name, ...args) => `45${attachments}-${JSON.stringify([name, ...args])}`;

/** A binary packet as a polling payload holds it. */
export const base64Packet = (bytes) => `b${Buffer.from(bytes).toString("base64")}`;

/**
 * Connects `link` (either transport) to a namespace of the echo server and takes in the two packets
 * that it answers with. Returns the namespace's session id and the echoed credentials.
 */
export async function join(link, namespace = "/", auth = undefined) {
  const prefix = namespace === "/" ? "" : `${namespace},`;
  await link.send(`40${prefix}${auth === undefined ? "" : JSON.stringify(auth)}`);
  const accepted = await link.next("the answer to CONNECT");
  if (!accepted.startsWith?.(`40${prefix}{`)) throw new Error(`CONNECT was answered with ${accepted}`);
  const greeting = await link.next("the auth event");
  if (!greeting.startsWith?.(`42${prefix}["auth",`)) throw new Error(`in place of the auth event came ${greeting}`);
  const connected = JSON.parse(accepted.slice(2 + prefix.length));
  const [, echoedAuth] = JSON.parse(greeting.slice(2 + prefix.length));
  return { connected, sid: connected.sid, auth: echoedAuth };
}
