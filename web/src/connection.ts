/** The way to the server: signing in, joining, and coming back after whatever went wrong. */
import { io, type Socket } from 'socket.io-client';
import type { Vec3 } from './math.js';
import {
  readMessage,
  readMove,
  readMoves,
  readReconnectInMs,
  readUser,
  readUsers,
  type Move,
  type User,
} from './wire.js';

export type Status =
  | { kind: 'offline' }
  | { kind: 'connecting' }
  | { kind: 'online' }
  | { kind: 'reconnecting' }
  /** The server announced a restart; the page comes back at `at` (milliseconds, `Date.now`). */
  | { kind: 'restarting'; at: number };

export interface Handlers {
  status(status: Status): void;
  /** In the room, for the first time or again. */
  joined(ownId: string, users: User[]): void;
  userJoined(user: User): void;
  userLeft(id: string): void;
  userRenamed(id: string, name: string): void;
  moved(moves: Move[]): void;
  /** Something went wrong that does not end the visit. */
  notice(message: string): void;
  /** The visit is over, or did not begin: the visitor has to do something. */
  refused(message: string): void;
}

interface Session {
  token: string;
  userId: string;
}

/** How long to wait for the answer to a request, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** The longest pause between two attempts to come back, in milliseconds. */
const RETRY_MS_MAX = 5_000;

/** Sign-ins in a row that a connection may be refused with before the visitor is told. */
const REFUSALS_MAX = 3;

export class Connection {
  private socket: Socket | null = null;
  private session: Session | null = null;
  private refusals = 0;
  private comeBackAt: number | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private online = false;
  /** Counts visits, so that an answer which comes after its visit has ended is ignored. */
  private visit = 0;

  constructor(private readonly handlers: Handlers) {}

  /** In the room, and the connection stands. */
  get isOnline(): boolean {
    return this.online;
  }

  /** Signs in as `name` and joins `room`. */
  async start(name: string, room: string): Promise<void> {
    this.stop();
    const visit = this.visit;
    this.report({ kind: 'connecting' });
    try {
      const session = await signIn(name);
      if (visit !== this.visit) return;
      this.session = session;
      this.open(name, room);
    } catch (error) {
      if (visit === this.visit) this.refuse(text(error));
    }
  }

  /** Leaves for good. */
  stop(): void {
    this.visit += 1;
    clearTimeout(this.retry);
    this.comeBackAt = null;
    this.refusals = 0;
    const socket = this.socket;
    this.socket = null;
    socket?.removeAllListeners();
    socket?.disconnect();
    this.report({ kind: 'offline' });
  }

  /** Tells the others where one is. Does nothing while there is no connection. */
  sendPose(pose: { position: Vec3; rotation: Vec3 }): void {
    if (this.online) this.socket?.emit('update-position', pose);
  }

  private report(status: Status): void {
    this.online = status.kind === 'online' || (status.kind === 'restarting' && this.online);
    this.handlers.status(status);
  }

  private open(name: string, room: string): void {
    const socket = io({
      // A function, because a new token may have to be fetched while the page is open.
      auth: (send) => send({ token: this.session?.token }),
      reconnectionDelay: 500,
      reconnectionDelayMax: RETRY_MS_MAX,
    });
    this.socket = socket;
    socket.on('connect', () => void this.join(socket, room));
    socket.on('connect_error', (error) => {
      // An active socket tries again by itself: the server is away. Otherwise it has refused us.
      if (socket.active) this.report({ kind: 'reconnecting' });
      else void this.signInAgain(socket, name, error.message);
    });
    socket.on('disconnect', () => this.lost(socket));
    socket.on('server-restart', (value) => {
      this.comeBackAt = Date.now() + readReconnectInMs(value);
      this.report({ kind: 'restarting', at: this.comeBackAt });
    });
    this.listen(socket);
  }

  private listen(socket: Socket): void {
    const { handlers } = this;
    socket.on('room-users', (value) => {
      if (this.session) handlers.joined(this.session.userId, readUsers(value));
    });
    socket.on('user-joined', (value) => {
      const user = readUser(value);
      if (user) handlers.userJoined(user);
    });
    socket.on('user-left', (id) => handlers.userLeft(String(id)));
    socket.on('user-updated', (value) => {
      const { id, username } = Object(value) as { id?: unknown; username?: unknown };
      if (typeof id === 'string' && typeof username === 'string') handlers.userRenamed(id, username);
    });
    socket.on('user-moved', (value) => {
      const move = readMove(value);
      if (move) handlers.moved([move]);
    });
    socket.on('users-moved', (value) => handlers.moved(readMoves(value)));
    socket.on('error', (value) => handlers.notice(readMessage(value) ?? 'The server reported an error.'));
  }

  private async join(socket: Socket, room: string): Promise<void> {
    this.refusals = 0;
    this.comeBackAt = null;
    try {
      const request = { roomId: room, encoding: 'batch' };
      const answer = await socket.timeout(ANSWER_TIMEOUT_MS).emitWithAck('join-room', request);
      if (socket !== this.socket) return;
      if (answer?.ok === true) this.report({ kind: 'online' });
      else this.refuse(readMessage(answer?.error) ?? 'The room could not be joined.');
    } catch {
      // No answer in time. If the connection is gone, it has already been taken care of.
      if (socket === this.socket && socket.connected) this.refuse('The server did not answer.');
    }
  }

  private lost(socket: Socket): void {
    this.online = false;
    if (this.comeBackAt === null) {
      this.report({ kind: 'reconnecting' });
      // The client library comes back by itself, except when it was the server that hung up.
      if (!socket.active) this.connectIn(socket, RETRY_MS_MAX * Math.random());
      return;
    }
    // Everyone was given a moment of their own, so that they do not all come back at once.
    socket.disconnect();
    this.report({ kind: 'restarting', at: this.comeBackAt });
    this.connectIn(socket, Math.max(0, this.comeBackAt - Date.now()));
    this.comeBackAt = null;
  }

  private connectIn(socket: Socket, delayMs: number): void {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => {
      if (socket !== this.socket) return;
      this.report({ kind: 'reconnecting' });
      socket.connect();
    }, delayMs);
  }

  /** A restarted server may no longer know our token; a new one is fetched before giving up. */
  private async signInAgain(socket: Socket, name: string, reason: string): Promise<void> {
    this.refusals += 1;
    if (this.refusals > REFUSALS_MAX) {
      this.refuse(`The server refused the connection: ${reason}.`);
      return;
    }
    this.report({ kind: 'reconnecting' });
    try {
      const session = await signIn(name);
      if (socket !== this.socket) return;
      this.session = session;
      socket.connect();
    } catch {
      if (socket === this.socket) this.connectIn(socket, RETRY_MS_MAX);
    }
  }

  private refuse(message: string): void {
    this.stop();
    this.handlers.refused(message);
  }
}

async function signIn(username: string): Promise<Session> {
  let response: Response;
  try {
    response = await fetch('/api/auth/login', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ username }),
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
  } catch {
    throw new Error('The server cannot be reached. Is it running?');
  }
  const answer: unknown = await response.json().catch(() => null);
  const { token, userId, error } = Object(answer) as Record<string, unknown>;
  if (response.ok && typeof token === 'string' && typeof userId === 'string') {
    return { token, userId };
  }
  throw new Error(typeof error === 'string' ? error : `Signing in failed (${response.status}).`);
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
