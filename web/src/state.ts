/**
 * Who is in the room and where they are. Pure: no sockets, no drawing, and the time in
 * milliseconds comes in as an argument.
 */
import { lerp, nlerp } from './math.js';
import type { Move, Part, Pose, User } from './wire.js';

/**
 * Others are shown this far in the past, so that there is nearly always a later pose to move
 * towards: two ticks at 20 Hz, and a little for the network's unevenness.
 */
export const INTERPOLATION_DELAY_MS = 120;

/** After a silence longer than this a member is taken to have stood still until just now. */
const STILL_AFTER_MS = 150;

/** The time that one step is spread over when a member starts to move again. */
const STEP_MS = 50;

/** Poses kept per member; more than the interpolation delay can ever need, even at 90 Hz. */
const SAMPLES_MAX = 16;

interface Sample {
  at: number;
  pose: Pose;
}

export interface Member {
  readonly id: string;
  name: string;
  samples: Sample[];
}

/** The room as this visitor sees it. */
export class World {
  /** Everyone else, by user id; one's own avatar is not among them. */
  readonly others = new Map<string, Member>();
  private ownId: string | null = null;

  /** How many people are in the room, oneself included. */
  get count(): number {
    return this.others.size + (this.ownId === null ? 0 : 1);
  }

  /** Takes `room-users`: the whole truth at the moment of joining. */
  enter(ownId: string, users: User[], now: number): void {
    this.ownId = ownId;
    this.others.clear();
    for (const user of users) this.add(user, now);
  }

  /** Forgets the room. */
  leave(): void {
    this.ownId = null;
    this.others.clear();
  }

  add(user: User, now: number): void {
    if (this.ownId === null || user.id === this.ownId) return;
    this.others.set(user.id, {
      id: user.id,
      name: user.name,
      samples: [{ at: now, pose: user.pose }],
    });
  }

  remove(id: string): void {
    this.others.delete(id);
  }

  rename(id: string, name: string): void {
    const member = this.others.get(id);
    if (member) member.name = name;
  }

  /** A new pose of someone. Unknown members are ignored: their `user-joined` is still to come. */
  move(move: Move, now: number): void {
    const member = this.others.get(move.id);
    const last = member?.samples.at(-1);
    if (!member || !last) return;
    if (now - last.at > STILL_AFTER_MS) {
      // Otherwise the first step would be spread over the whole silence and jump at its end.
      member.samples.push({ at: now - STEP_MS, pose: last.pose });
    }
    member.samples.push({ at: Math.max(now, last.at), pose: move.pose });
    if (member.samples.length > SAMPLES_MAX) {
      member.samples.splice(0, member.samples.length - SAMPLES_MAX);
    }
  }

  /** Where to show a member at `now`, or `null` if there is no such member. */
  poseAt(id: string, now: number): Pose | null {
    const samples = this.others.get(id)?.samples;
    const newest = samples?.at(-1);
    if (!samples || !newest) return null;
    const shown = now - INTERPOLATION_DELAY_MS;
    if (shown >= newest.at) return newest.pose;
    for (let i = samples.length - 1; i > 0; i -= 1) {
      const from = samples[i - 1] as Sample;
      const to = samples[i] as Sample;
      if (shown >= from.at) {
        const span = to.at - from.at;
        return blendPose(from.pose, to.pose, span > 0 ? (shown - from.at) / span : 1);
      }
    }
    return (samples[0] as Sample).pose;
  }
}

function blendPose(a: Pose, b: Pose, t: number): Pose {
  const pose: Pose = { head: blendPart(a.head, b.head, t) };
  const leftHand = blendHand(a.leftHand, b.leftHand, t);
  const rightHand = blendHand(a.rightHand, b.rightHand, t);
  if (leftHand) pose.leftHand = leftHand;
  if (rightHand) pose.rightHand = rightHand;
  return pose;
}

function blendPart(a: Part, b: Part, t: number): Part {
  return {
    position: lerp(a.position, b.position, t),
    rotation: nlerp(a.rotation, b.rotation, t),
  };
}

/** A hand that has just appeared or gone has nothing to be blended with. */
function blendHand(a: Part | undefined, b: Part | undefined, t: number): Part | undefined {
  return a && b ? blendPart(a, b, t) : b;
}
