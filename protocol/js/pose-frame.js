// A reader of pose frames and a reader and writer of binary poses, from PROTOCOL.md alone. It is what a browser
// client would contain, and it shares nothing with the Rust code, so that a mistake would have to be made twice.

const VERSION = 1
const CELL_M = 32
const HEAD_STEPS_PER_M = 1024
const HAND_STEPS_PER_M = 4096

class Reader {
  constructor(bytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
  }

  // DataView throws a RangeError on its own when there is too little left.
  u8() {
    return this.view.getUint8(this.at++)
  }

  u16() {
    this.at += 2
    return this.view.getUint16(this.at - 2, true)
  }

  i16() {
    this.at += 2
    return this.view.getInt16(this.at - 2, true)
  }

  u32() {
    this.at += 4
    return this.view.getUint32(this.at - 4, true)
  }

  vector() {
    return [this.i16(), this.i16(), this.i16()]
  }

  end() {
    if (this.at !== this.view.byteLength) throw new RangeError('bytes behind the end')
  }
}

function readRotation(reader) {
  const bits = reader.u32()
  const largest = bits >>> 30
  const rotation = [0, 0, 0, 0]
  let squares = 0
  let shift = 20
  for (let component = 0; component < 4; component++) {
    if (component === largest) continue
    const step = (bits >>> shift) & 1023
    rotation[component] = ((step / 1023) * 2 - 1) / Math.SQRT2
    squares += rotation[component] ** 2
    shift -= 10
  }
  rotation[largest] = Math.sqrt(Math.max(0, 1 - squares))
  const length = Math.hypot(...rotation)
  return rotation.map((component) => component / length)
}

function readPart(reader, origin, stepsPerM) {
  const position = reader.vector().map((step, axis) => origin[axis] + step / stepsPerM)
  return { position, rotation: readRotation(reader) }
}

function readParts(reader, mask, cell) {
  if (mask > 3) throw new RangeError('unknown bits in a mask')
  const head = readPart(reader, cell.map((index) => index * CELL_M), HEAD_STEPS_PER_M)
  const pose = { head }
  if (mask & 1) pose.leftHand = readPart(reader, head.position, HAND_STEPS_PER_M)
  if (mask & 2) pose.rightHand = readPart(reader, head.position, HAND_STEPS_PER_M)
  return pose
}

/** Reads a pose as a client sends it: positions in metres, rotations x, y, z, w. Throws on malformed bytes. */
export function readPose(bytes) {
  const reader = new Reader(bytes)
  const mask = reader.u8()
  const pose = readParts(reader, mask, reader.vector())
  reader.end()
  return pose
}

/** Reads a whole pose frame. Throws on malformed bytes. */
export function readFrame(bytes) {
  const reader = new Reader(bytes)
  if (reader.u8() !== VERSION) throw new RangeError('unknown version')
  const flags = reader.u8()
  const groupCount = reader.u16()
  const frame = { flags, tick: reader.u32(), timeMs: reader.u32(), groups: [] }
  for (let group = 0; group < groupCount; group++) {
    const cell = reader.vector()
    const memberCount = reader.u16()
    const members = []
    for (let member = 0; member < memberCount; member++) {
      const slot = reader.u16()
      members.push({ slot, ...readParts(reader, reader.u8(), cell) })
    }
    frame.groups.push({ cell, members })
  }
  reader.end()
  return frame
}

/** Steps of a position from `origin`, as far as they reach. */
function steps(position, origin, stepsPerM) {
  return position.map((metres, axis) => {
    const step = Math.round((metres - origin[axis]) * stepsPerM)
    return Math.min(32767, Math.max(-32768, step))
  })
}

/** A unit quaternion [x, y, z, w] of one of any length, or of Euler angles [x, y, z] in radians, order XYZ. */
export function quaternionOf(rotation) {
  if (rotation.length === 4) {
    const length = Math.hypot(...rotation)
    return rotation.map((component) => component / length)
  }
  // About x, then y, then z, each in the axes that the one before has turned.
  return rotation
    .map((angle, axis) => {
      const turn = [0, 0, 0, Math.cos(angle / 2)]
      turn[axis] = Math.sin(angle / 2)
      return turn
    })
    .reduce(([ax, ay, az, aw], [bx, by, bz, bw]) => [
      aw * bx + ax * bw + ay * bz - az * by,
      aw * by - ax * bz + ay * bw + az * bx,
      aw * bz + ax * by - ay * bx + az * bw,
      aw * bw - ax * bx - ay * by - az * bz,
    ])
}

/** Rounds each component by itself; a writer may do better. */
function rotationBits(rotation) {
  const unit = quaternionOf(rotation)
  const sizes = unit.map(Math.abs)
  const largest = sizes.indexOf(Math.max(...sizes))
  const sign = unit[largest] < 0 ? -1 : 1
  return unit
    .filter((_, component) => component !== largest)
    .map((component) => Math.round(((sign * component * Math.SQRT2 + 1) / 2) * 1023))
    .reduce((bits, step) => bits * 1024 + step, largest)
}

/**
 * Writes a pose as a client sends it, in the form that `readPose` gives; a rotation may also be three Euler angles.
 * A hand that is more than 8 m from the head is brought nearer.
 */
export function writePose(pose) {
  const hands = [pose.leftHand, pose.rightHand]
  const bytes = new Uint8Array(17 + 10 * hands.filter(Boolean).length)
  const view = new DataView(bytes.buffer)
  let at = 0
  const vector = (values) => {
    for (const value of values) view.setInt16((at += 2) - 2, value, true)
  }
  const part = ({ rotation }, positionSteps) => {
    vector(positionSteps)
    view.setUint32((at += 4) - 4, rotationBits(rotation), true)
  }
  const { position } = pose.head
  view.setUint8(at++, (pose.leftHand ? 1 : 0) + (pose.rightHand ? 2 : 0))
  const cell = position.map((metres) => Math.round(metres / CELL_M))
  const origin = cell.map((index) => index * CELL_M)
  const headSteps = steps(position, origin, HEAD_STEPS_PER_M)
  vector(cell)
  part(pose.head, headSteps)
  // From where the reader will see the head.
  const seen = origin.map((metres, axis) => metres + headSteps[axis] / HEAD_STEPS_PER_M)
  for (const hand of hands.filter(Boolean)) part(hand, steps(hand.position, seen, HAND_STEPS_PER_M))
  return bytes
}
