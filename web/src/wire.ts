/**
 * What arrives from the network, checked. Everything here takes `unknown` and answers `null` for
 * what it does not understand, so that one odd event can never break the page.
 */
import { quatFromEuler, type Quat, type Vec3 } from './math.js';

export interface Part {
  position: Vec3;
  rotation: Quat;
}

export interface Pose {
  head: Part;
  leftHand?: Part;
  rightHand?: Part;
}

export interface User {
  id: string;
  socketId: string | null;
  name: string;
  pose: Pose;
  /** A small number that nobody else in the room has; 0 where a server gives none. */
  slot: number;
}

export interface Move {
  id: string;
  pose: Pose;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields | null {
  return typeof value === 'object' && value !== null ? (value as Fields) : null;
}

function finite(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function vec3(value: unknown): Vec3 | null {
  const v = fields(value);
  return v && finite(v.x) && finite(v.y) && finite(v.z) ? { x: v.x, y: v.y, z: v.z } : null;
}

/** Three components are Euler angles, four are a quaternion. */
function rotation(value: unknown): Quat | null {
  const v = vec3(value);
  if (!v) return null;
  const w = (value as Fields).w;
  return finite(w) ? { ...v, w } : quatFromEuler(v);
}

function part(value: unknown): Part | null {
  const v = fields(value);
  const position = vec3(v?.position);
  const turned = rotation(v?.rotation);
  return position && turned ? { position, rotation: turned } : null;
}

function pose(value: Fields): Pose | null {
  const head = part(value);
  if (!head) return null;
  const result: Pose = { head };
  const leftHand = part(value.leftHand);
  const rightHand = part(value.rightHand);
  if (leftHand) result.leftHand = leftHand;
  if (rightHand) result.rightHand = rightHand;
  return result;
}

export function readUser(value: unknown): User | null {
  const v = fields(value);
  const where = v && pose(v);
  if (!v || !where || typeof v.id !== 'string') return null;
  return {
    id: v.id,
    socketId: typeof v.socketId === 'string' ? v.socketId : null,
    name: typeof v.username === 'string' && v.username.trim() !== '' ? v.username : v.id,
    pose: where,
    slot: typeof v.slot === 'number' && Number.isInteger(v.slot) && v.slot >= 0 ? v.slot : 0,
  };
}

export function readUsers(value: unknown): User[] {
  if (!Array.isArray(value)) return [];
  return value.map(readUser).filter((user) => user !== null);
}

export function readMove(value: unknown): Move | null {
  const v = fields(value);
  const where = v && pose(v);
  return v && where && typeof v.id === 'string' ? { id: v.id, pose: where } : null;
}

export function readMoves(value: unknown): Move[] {
  const users = fields(value)?.users;
  if (!Array.isArray(users)) return [];
  return users.map(readMove).filter((move) => move !== null);
}

/** The text of an `error` event or of a refused acknowledgement. */
export function readMessage(value: unknown): string | null {
  const message = fields(value)?.message;
  return typeof message === 'string' && message !== '' ? message : null;
}

/** `server-restart`: how long to stay away, in milliseconds. */
export function readReconnectInMs(value: unknown): number {
  const delay = fields(value)?.reconnectInMs;
  return finite(delay) ? Math.min(Math.max(delay, 0), RECONNECT_IN_MS_MAX) : 1_000;
}

/** A server that asks for more than this is not obeyed: the visitor would think the page dead. */
const RECONNECT_IN_MS_MAX = 60_000;
