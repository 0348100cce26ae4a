//! Every bound that the contract sets on what a client may send.
//!
//! Bounds that an operator may change (users per room, objects per room) are configuration and live with the
//! engine; these here are part of the contract.

/// Attachments in one binary packet. The JavaScript client's parser takes no more than this either.
pub const MAX_ATTACHMENTS: usize = 10;

/// Bytes of all attachments of one binary packet together.
pub const MAX_ATTACHMENT_BYTES: usize = 1_000_000;

/// How long a binary packet may wait for its attachments, in milliseconds. They follow their text on the same
/// connection, so a gap this long means that they will not come.
pub const ATTACHMENT_TIMEOUT_MS: u64 = 10_000;

/// Bytes of one Engine.IO packet, as announced to the client in the handshake (`maxPayload`).
pub const MAX_PACKET_BYTES: usize = 1_000_000;

/// How deep a client's JSON may nest. What is relayed must not overflow the stack of any receiver's parser.
pub const MAX_JSON_DEPTH: usize = 32;

/// Bytes of a room's id.
pub const MAX_ROOM_ID_BYTES: usize = 128;

/// Bytes of an object's id.
pub const MAX_OBJECT_ID_BYTES: usize = 128;

/// Bytes of one object as JSON, and of the payload that makes or changes one: a payload is refused before it is
/// read, so that nobody has to wait for it.
pub const MAX_OBJECT_BYTES: usize = 64 * 1024;

/// Bytes of a username.
pub const MAX_USERNAME_BYTES: usize = 128;

/// Bytes of a room's password.
pub const MAX_PASSWORD_BYTES: usize = 128;

/// Bytes of everything that a user says of itself through `user-update`.
pub const MAX_USER_UPDATE_BYTES: usize = 4 * 1024;

/// Bytes of one `room-message` or `signal`, attachments included.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How far from the origin a pose may be on each axis, in metres.
pub const MAX_POSITION_M: f32 = 1_000_000.0;

/// The largest angle that is taken, in radians: far beyond a full turn, far below where float32 loses degrees.
pub const MAX_ANGLE_RAD: f32 = 10_000.0;

/// The slowest and the fastest tick of a room, in Hz.
pub const TICK_HZ_RANGE: std::ops::RangeInclusive<u32> = 1..=90;

/// How much slower or faster than it happened a recording is played.
pub const PLAYBACK_SPEED_RANGE: std::ops::RangeInclusive<f64> = 0.25..=8.0;

/// The latest moment that may be named, in Unix ms: the largest whole number that every JavaScript client can name.
pub const MAX_TIME_MS: u64 = (1 << 53) - 1;

// A frame's position is `cell × 32 m ± 32 m` with a 16-bit cell, so it reaches past the furthest legal pose.
const _: () = assert!(i16::MAX as f32 * 32.0 > MAX_POSITION_M);
// A relayed message must fit into a packet of its own with room for its envelope.
const _: () = assert!(MAX_MESSAGE_BYTES * 2 < MAX_PACKET_BYTES);
