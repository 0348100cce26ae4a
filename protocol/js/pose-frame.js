// A reader of pose frames and binary poses, written from PROTOCOL.md alone. It is what a browser client would
// contain, and it shares nothing with the Rust reader, so that a mistake would have to be made twice.

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
