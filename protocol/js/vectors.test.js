// The golden vectors of protocol/vectors, as a stock JavaScript client sees them.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { Decoder, Encoder } from 'socket.io-parser'
import { quaternionOf, readFrame, readPose, writePose } from './pose-frame.js'

const TOLERANCE = 1e-6
const PLACEHOLDER = '_placeholder'

function load(name) {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8'))
}

/** Feeds a packet to the parser; gives the last packet that came out, if any. Throws what the parser throws. */
function receive(text, attachments = []) {
  const decoder = new Decoder()
  let decoded
  decoder.on('decoded', (packet) => (decoded = packet))
  const buffers = []
  decoder.add(text)
  for (const attachment of attachments) {
    if (attachment.startsWith('text:')) {
      decoder.add(attachment.slice('text:'.length))
    } else {
      buffers.push(Buffer.from(attachment, 'hex'))
      decoder.add(buffers.at(-1))
    }
  }
  return decoded && { packet: decoded, buffers }
}

/** The parser's packet in the vectors' form: binary types are 5 and 6, attachments are placeholders again. */
function normalise({ packet, buffers }, text) {
  const withPlaceholders = (value) => {
    if (Buffer.isBuffer(value)) return { [PLACEHOLDER]: true, num: buffers.indexOf(value) }
    if (Array.isArray(value)) return value.map(withPlaceholders)
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withPlaceholders(inner)]))
  }
  const result = { type: Number(text.charAt(0)), namespace: packet.nsp }
  if (packet.id !== undefined) result.id = packet.id
  if (packet.data !== undefined) result.data = withPlaceholders(packet.data)
  return result
}

for (const { name, text, attachments, packet, error, canonical } of load('packets.json').vectors) {
  test(`packet: ${name}`, () => {
    if (error) {
      assert.throws(() => receive(text, attachments))
      return
    }
    const received = receive(text, attachments)
    assert.ok(received, 'nothing came out')
    assert.deepEqual(normalise(received, text), packet)
    if (canonical === false) return
    const [again, ...buffers] = new Encoder().encode({ ...received.packet })
    assert.equal(again, text)
    assert.deepEqual(buffers.map((buffer) => buffer.toString('hex')), attachments ?? [])
  })
}

for (const { id, cases } of load('differences.json').differences) {
  test(`difference: ${id}`, () => {
    // That the two columns differ is asserted in Rust, whose integers lose no digits.
    for (const { text, attachments, theirs } of cases) {
      if (theirs.throws) {
        assert.throws(() => receive(text, attachments), `the parser no longer refuses ${text}`)
        continue
      }
      const received = receive(text, attachments)
      assert.equal(received === undefined, theirs.incomplete === true, text)
      if (theirs.packet) assert.deepEqual(normalise(received, text || '0'), theirs.packet)
    }
  })
}

/** Like deepEqual, but numbers may differ by what decimals lose. */
function assertClose(actual, expected, path = '') {
  if (typeof expected === 'number') {
    const difference = Math.abs(actual - expected)
    assert.ok(difference <= TOLERANCE * Math.max(1, Math.abs(expected)), `${path}: ${actual}, not ${expected}`)
    return
  }
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), path)
  for (const key of Object.keys(expected)) assertClose(actual[key], expected[key], `${path}/${key}`)
}

for (const [file, read] of [
  ['frames.json', readFrame],
  ['poses.json', readPose],
]) {
  for (const { name, hex, decoded, error } of load(file).vectors) {
    test(`${file}: ${name}`, () => {
      const bytes = Buffer.from(hex, 'hex')
      if (error) assert.throws(() => read(bytes), RangeError)
      else assertClose(read(bytes), decoded)
    })
  }
}

/** The angle between two unit quaternions, in degrees. */
function degreesBetween(a, b) {
  const chord = (sign) => Math.hypot(...a.map((component, at) => component - sign * b[at]))
  return (4 * Math.asin(Math.min(chord(1), chord(-1)) / 2) * 180) / Math.PI
}

for (const { name, hex, input, decoded } of load('poses.json').vectors.filter(({ input }) => input)) {
  test(`poses.json, written: ${name}`, () => {
    const bytes = writePose(input)
    assert.equal(bytes.length, hex.length / 2)
    const pose = readPose(bytes)
    assert.deepEqual(Object.keys(pose), Object.keys(decoded))
    for (const part of Object.keys(decoded)) {
      assertClose(pose[part].position, decoded[part].position, part)
      // Where plain rounding and the better neighbour part, both are the format's.
      const degrees = degreesBetween(pose[part].rotation, quaternionOf(input[part].rotation))
      assert.ok(degrees <= 0.28, `${part}: ${degrees}° off`)
    }
    // The cell may be another one, half-way between two; what it says may not.
    assertClose(readPose(writePose(decoded)), decoded)
  })
}
