/** One's own avatar: walking, and when a pose is worth sending. Pure; time comes in as an argument. */
import type { Vec3 } from './math.js';

/** Metres per second. */
const SPEED = 3.2;

/** How quickly the avatar turns towards where it walks; larger is quicker. */
const TURN_RATE = 14;

/** Poses per second at most. */
const SEND_HZ = 20;

/** Eye height of someone standing, in metres. */
const EYE_HEIGHT = 1.6;

/** How far from the centre one can walk, in metres. */
const WORLD_RADIUS = 500;

/** Where one wants to go: x to the right, z towards the viewer, together at most 1 long. */
export interface Intent {
  x: number;
  z: number;
}

export interface Avatar {
  position: Vec3;
  /** Euler angle about the vertical, radians; 0 looks towards -z. */
  yaw: number;
}

/**
 * A place to stand for whoever has slot n of the room (0 is the first). Everyone enters the room at
 * its centre; a sunflower's spacing keeps newcomers from standing inside one another. By the slot and
 * not by how many are there, for those who arrive together see the same number.
 */
export function arrivalPlace(n: number): Avatar {
  const angle = n * Math.PI * (3 - Math.sqrt(5));
  const radius = 1.1 * Math.sqrt(n);
  return {
    position: { x: radius * Math.sin(angle), y: EYE_HEIGHT, z: radius * Math.cos(angle) },
    yaw: 0,
  };
}

/** The avatar `seconds` later. */
export function walk(avatar: Avatar, intent: Intent, seconds: number): Avatar {
  const length = Math.hypot(intent.x, intent.z);
  if (length === 0) return avatar;
  const scale = (SPEED * seconds) / Math.max(1, length);
  let x = avatar.position.x + intent.x * scale;
  let z = avatar.position.z + intent.z * scale;
  const out = Math.hypot(x, z) / WORLD_RADIUS;
  if (out > 1) {
    x /= out;
    z /= out;
  }
  const wanted = Math.atan2(-intent.x, -intent.z);
  const turn = Math.atan2(Math.sin(wanted - avatar.yaw), Math.cos(wanted - avatar.yaw));
  const yaw = avatar.yaw + turn * (1 - Math.exp(-TURN_RATE * seconds));
  return {
    position: { x, y: avatar.position.y, z },
    yaw: Math.atan2(Math.sin(yaw), Math.cos(yaw)),
  };
}

/** What goes over the wire: rounded to a millimetre and a milliradian, which nobody can see. */
export function outgoingPose(avatar: Avatar): { position: Vec3; rotation: Vec3 } {
  const { x, y, z } = avatar.position;
  return {
    position: { x: round(x), y: round(y), z: round(z) },
    rotation: { x: 0, y: round(avatar.yaw), z: 0 },
  };
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** Lets a pose through at most 20 times a second, and only when it differs from the last one. */
export class PoseGate {
  private lastAt = -Infinity;
  private last = '';

  /** Whether `avatar` should be sent now; if so, it counts as sent. */
  admit(avatar: Avatar, now: number): boolean {
    if (now - this.lastAt < 1000 / SEND_HZ) return false;
    const next = JSON.stringify(outgoingPose(avatar));
    if (next === this.last) return false;
    this.lastAt = now;
    this.last = next;
    return true;
  }

  /** Forgets what was sent: after joining a room, it knows nothing of us. */
  reset(): void {
    this.last = '';
    this.lastAt = -Infinity;
  }
}
