/** Positions are metres, right-handed, y up; -z is ahead (the WebXR and three.js convention). */
export interface Vec3 {
  x: number;
  y: number;
  z: number;
}

/** A unit quaternion. */
export interface Quat extends Vec3 {
  w: number;
}

/** Euler angles in radians, order XYZ, to a quaternion. */
export function quatFromEuler(euler: Vec3): Quat {
  const cx = Math.cos(euler.x / 2);
  const cy = Math.cos(euler.y / 2);
  const cz = Math.cos(euler.z / 2);
  const sx = Math.sin(euler.x / 2);
  const sy = Math.sin(euler.y / 2);
  const sz = Math.sin(euler.z / 2);
  return {
    x: sx * cy * cz + cx * sy * sz,
    y: cx * sy * cz - sx * cy * sz,
    z: cx * cy * sz + sx * sy * cz,
    w: cx * cy * cz - sx * sy * sz,
  };
}

/**
 * Where a head looks, seen from above: the angle of its forward direction in the x/z plane,
 * 0 towards +x and growing towards +z, which is clockwise on a screen with z pointing down.
 */
export function headingOf(q: Quat): number {
  const forwardX = -2 * (q.x * q.z + q.w * q.y);
  const forwardZ = -1 + 2 * (q.x * q.x + q.y * q.y);
  return Math.atan2(forwardZ, forwardX);
}

export function lerp(a: Vec3, b: Vec3, t: number): Vec3 {
  return { x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t, z: a.z + (b.z - a.z) * t };
}

/** Normalised linear interpolation along the shorter way: as good as slerp over one tick. */
export function nlerp(a: Quat, b: Quat, t: number): Quat {
  const sign = a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w < 0 ? -1 : 1;
  const x = a.x + (sign * b.x - a.x) * t;
  const y = a.y + (sign * b.y - a.y) * t;
  const z = a.z + (sign * b.z - a.z) * t;
  const w = a.w + (sign * b.w - a.w) * t;
  const length = Math.hypot(x, y, z, w) || 1;
  return { x: x / length, y: y / length, z: z / length, w: w / length };
}

/** Distance on the floor, in metres. */
export function floorDistance(a: Vec3, b: Vec3): number {
  return Math.hypot(a.x - b.x, a.z - b.z);
}
