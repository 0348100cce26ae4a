//! What a client of Colyseus 0.18 says and hears, without its state: as much as it takes to be in a room, to move
//! there, and to judge what comes.
//!
//! A seat is asked for over HTTP and taken with a WebSocket. Each message is binary; its first byte says what it is.
//! The server sends [`Message::Joined`] and nothing more until [`JOINED_ACK`] has come; then the whole state once,
//! and a patch 20 times a second whenever something has changed. It pings by WebSocket's own means every three
//! seconds, and ends a connection that leaves two of these unanswered.
//!
//! Patches build on each other and name what they change by numbers given out earlier. Whose pose is whose can be told all
//! the same, because each carries its sender and its number: see [`stamped`] and [`patch`].

pub(crate) mod patch;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::stamp::{SENDERS_MAX, Stamp};
use crate::walk::{EYES_M, Place};

/// The room of `relays/colyseus`.
pub(crate) const ROOM: &str = "crowd";

/// The body of the request at [`matchmake_path`]: options for the room, of which ours has none. Its content type is
/// `application/json`.
pub(crate) const MATCHMAKE_BODY: &str = "{}";

/// What answers [`Message::Joined`], as a binary message.
pub(crate) const JOINED_ACK: [u8; 1] = [code::JOIN_ROOM];

/// Numbers of a pose: x, y, z in metres, then three angles in radians.
pub(crate) const POSE_NUMBERS: usize = 6;

/// The longest id that is taken from a server, in characters. They are nine long by default.
const ID_CHARS_MAX: usize = 64;

/// First bytes of messages.
mod code {
    pub(super) const JOIN_ROOM: u8 = 10;
    pub(super) const ERROR: u8 = 11;
    pub(super) const LEAVE_ROOM: u8 = 12;
    pub(super) const ROOM_DATA: u8 = 13;
    pub(super) const ROOM_STATE: u8 = 14;
    pub(super) const ROOM_STATE_PATCH: u8 = 15;
    /// What else the first byte may say stands in the bits above: that a clock or a counter comes before the rest.
    pub(super) const MASK: u8 = 0x1F;
}

/// The path at which a seat is asked for, with POST and [`MATCHMAKE_BODY`]. The answer is 200 and what [`Seat::parse`]
/// takes, or another status (520 where there is no such room) and `{"code", "error"}`.
pub(crate) fn matchmake_path(room: &str) -> String {
    format!("/matchmake/joinOrCreate/{room}")
}

/// A place in a room. It is given to somebody else unless it is taken within 15 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) process_id: String,
    pub(crate) room_id: String,
    pub(crate) session_id: String,
}

impl Seat {
    /// Reads the answer to the request for a seat.
    ///
    /// # Errors
    /// If it is none, or if its ids could not stand in a path.
    pub(crate) fn parse(answer: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Room {
            room_id: String,
            process_id: String,
        }
        /// Up to 0.16 the room's ids stood in an object of their own.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Where {
            Flat(Room),
            Nested { room: Room },
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            session_id: String,
            #[serde(flatten)]
            place: Where,
        }
        let Answer { session_id, place } =
            serde_json::from_slice(answer).context("the answer to the request for a seat offers none")?;
        let (Where::Flat(room) | Where::Nested { room }) = place;
        let seat = Self { process_id: room.process_id, room_id: room.room_id, session_id };
        for id in [&seat.process_id, &seat.room_id, &seat.session_id] {
            let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            ensure!(is_plain && (1..=ID_CHARS_MAX).contains(&id.len()), "not an id: {id:?}");
        }
        Ok(seat)
    }

    /// Where the WebSocket of this seat is opened. No subprotocol is asked for.
    pub(crate) fn websocket_path(&self) -> String {
        let Self { process_id, room_id, session_id } = self;
        format!("/{process_id}/{room_id}?sessionId={session_id}")
    }
}

/// What a binary message from the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The seat is taken, and this is what the state is made of: to be answered with [`JOINED_ACK`].
    Joined,
    /// The whole state, once.
    State,
    /// What has changed since.
    Patch,
    /// The server wants the client to leave, or gives the reason why it will close; see [`reason`].
    Refused,
    /// What the room's own code sends, answers to pings among it; ours sends nothing.
    Other,
}

impl Message {
    /// Judges by the first byte.
    #[inline]
    pub(crate) fn of(message: &[u8]) -> Self {
        match message.first().map(|first| first & code::MASK) {
            Some(code::JOIN_ROOM) => Self::Joined,
            Some(code::ROOM_STATE) => Self::State,
            Some(code::ROOM_STATE_PATCH) => Self::Patch,
            Some(code::ERROR | code::LEAVE_ROOM) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// What can be read of a [`Message::Refused`], for a report.
pub(crate) fn reason(message: &[u8]) -> String {
    // A number and a text come first and last; the bytes between them that say how long these are do no harm.
    let text = String::from_utf8_lossy(message.get(1..).unwrap_or_default());
    let text: String =
        text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).collect();
    format!("the room refused: {text}")
}

/// The numbers of somebody's pose: each a float32, as the room keeps them, and each another one every time. A head that
/// bobs tilts along; the number of its nod is the stamp.
pub(crate) fn numbers(place: &Place, sender: u32, number: u32) -> [f64; POSE_NUMBERS] {
    let Place { x, y, z, yaw } = *place;
    let [x, y, z, yaw, tilt] = [x, y, z, yaw, EYES_M - y].map(f64::from);
    [x, y, z, stamped(sender, number), yaw, tilt]
}

/// After this many poses their numbers start again. At 20 Hz that is 51 s.
pub(crate) const NUMBER_WRAP: u32 = 1_024;
/// Which of a pose's numbers is the stamp.
const STAMP_AT: usize = 3;
/// Steps of a stamp per unit: so many that it stays a small angle, and a power of two, so that it stays exact.
const STAMP_STEPS: f64 = (1 << 20) as f64;
// A float32 holds every integer up to 2^24, and 0 is left for who has sent no pose.
const _: () = assert!(SENDERS_MAX * NUMBER_WRAP < 1 << 24);

/// Sender and number of a pose in one number of it. It is another one for each pose: a number that stays the same is
/// in no patch.
fn stamped(sender: u32, number: u32) -> f64 {
    f64::from(1 + sender * NUMBER_WRAP + number % NUMBER_WRAP) / STAMP_STEPS
}

/// What [`stamped`] has put into `number`, with the pose's number modulo [`NUMBER_WRAP`].
#[inline]
fn stamp_of(number: f32) -> Option<Stamp> {
    let steps = f64::from(number) * STAMP_STEPS - 1.0;
    // What is no number of steps, or out of range, does not come back the same.
    let whole = steps as u32;
    let stamp = Stamp { sender: whole / NUMBER_WRAP, number: whole % NUMBER_WRAP };
    (f64::from(whole) == steps && stamp.sender < SENDERS_MAX).then_some(stamp)
}

/// What every pose begins with: the kind of message, its name, and msgpackr's definition of a record with the members
/// x, y, z, rx, ry and rz. The official client writes objects in this way, each with its definition.
const POSE_HEAD: &[u8] = b"\x0d\xa4pose\xd4\x72\x40\x96\xa1x\xa1y\xa1z\xa2rx\xa2ry\xa2rz";
const _: () = assert!(POSE_HEAD[0] == code::ROOM_DATA);

/// Appends `send("pose", {x, y, z, rx, ry, rz})` as the official client writes it: numbers are doubles, as
/// JavaScript's are, unless they are whole.
pub(crate) fn write_pose(pose: &[f64; POSE_NUMBERS], out: &mut Vec<u8>) {
    out.extend_from_slice(POSE_HEAD);
    for &number in pose {
        write_number(number, out);
    }
}

fn write_number(number: f64, out: &mut Vec<u8>) {
    // Both casts saturate, so that nothing beyond their range comes back the same.
    let (unsigned, signed) = (number as u32, number as i32);
    if f64::from(unsigned) == number {
        match unsigned {
            // The numbers that msgpack has for 64 to 127 stand for definitions here.
            0..0x40 => out.push(unsigned as u8),
            0x40..0x100 => out.extend_from_slice(&[0xCC, unsigned as u8]),
            0x100..0x1_0000 => put(0xCD, (unsigned as u16).to_be_bytes(), out),
            _ => put(0xCE, unsigned.to_be_bytes(), out),
        }
    } else if f64::from(signed) == number {
        match signed {
            -0x20.. => out.push(signed as u8),
            -0x80..-0x20 => out.extend_from_slice(&[0xD0, signed as u8]),
            -0x8000..-0x80 => put(0xD1, (signed as i16).to_be_bytes(), out),
            _ => put(0xD2, signed.to_be_bytes(), out),
        }
    } else {
        put(0xCB, number.to_be_bytes(), out);
    }
}

fn put<const N: usize>(kind: u8, bytes: [u8; N], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Walk;

    pub(super) fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn all_numbers_change_from_pose_to_pose() {
        let mut walk = Walk::new(1, 7, 10.0, 20);
        let poses: Vec<_> = (0..1_000).map(|n| numbers(&walk.step(), 7, n)).collect();
        for at in 0..POSE_NUMBERS {
            let still = poses.windows(2).filter(|pair| pair[0][at] == pair[1][at]).count();
            // Whoever turns round at the edge stays where they are for a step.
            assert!(still < if at == STAMP_AT { 1 } else { 100 }, "number {at} stays the same {still} times");
        }
        assert!(poses.iter().flatten().all(|number| f64::from(*number as f32) == *number), "all are float32");
    }

    /// Bytes that the client of 0.18.4 has sent.
    #[test]
    fn a_pose_is_written_as_the_official_client_writes_it() {
        let sent = [
            (
                [1.25, 1.6, -3.5, 0.1, -2.25, 0.0],
                "0da4706f7365d4724096a178a179a17aa27278a27279a2727acb3ff4000000000000cb3ff999999999999acbc00c00000000\
                 0000cb3fb999999999999acbc00200000000000000",
            ),
            (
                [3.2518, 1.6132, -7.0481, -0.0721, 2.4169, 0.0133],
                "0da4706f7365d4724096a178a179a17aa27278a27279a2727acb400a03afb7e90ff9cb3ff9cfaacd9e83e4cbc01c3141205b\
                 c01acbbfb27525460aa64ccb400355cfaacd9e84cb3f8b3d07c84b5dcc",
            ),
            (
                [3.0, 1.0, -7.0, 100.0, 1000.0, -100_000.0],
                "0da4706f7365d4724096a178a179a17aa27278a27279a2727a0301f9cc64cd03e8d2fffe7960",
            ),
        ];
        for (pose, hex) in sent {
            let mut written = Vec::new();
            write_pose(&pose, &mut written);
            assert_eq!(written, bytes(hex), "{pose:?}");
        }
    }

    /// What msgpackr 2 makes of numbers around its borders.
    #[test]
    fn numbers_are_as_short_as_the_official_client_makes_them() {
        let written = [
            (0.0, "00"),
            (-0.0, "00"),
            (63.0, "3f"),
            (64.0, "cc40"),
            (255.0, "ccff"),
            (256.0, "cd0100"),
            (65_535.0, "cdffff"),
            (65_536.0, "ce00010000"),
            (4_294_967_295.0, "ceffffffff"),
            (4_294_967_296.0, "cb41f0000000000000"),
            (-1.0, "ff"),
            (-32.0, "e0"),
            (-33.0, "d0df"),
            (-128.0, "d080"),
            (-129.0, "d1ff7f"),
            (-32_768.0, "d18000"),
            (-32_769.0, "d2ffff7fff"),
            (-2_147_483_648.0, "d280000000"),
            (-2_147_483_649.0, "cbc1e0000000200000"),
            (0.1, "cb3fb999999999999a"),
            (f64::INFINITY, "cb7ff0000000000000"),
            (f64::NAN, "cb7ff8000000000000"),
        ];
        for (number, hex) in written {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, bytes(hex), "{number}");
        }
    }

    /// Beginnings of what the server of 0.18.17 has sent.
    #[test]
    fn messages_are_told_apart() {
        const EXPIRED: &str = "0bcd0c02b973656174207265736572766174696f6e20657870697265642e";
        for (hex, message) in [
            ("0a09676b6978397554787806736368656d61cc98", Message::Joined),
            ("0e8001ff018000a95931744c5441555431", Message::State),
            ("0fff02800000a03f82000060c083cdcccc3d84000010c0", Message::Patch),
            (EXPIRED, Message::Refused),
            ("0c", Message::Refused),
            ("12", Message::Other),
            ("", Message::Other),
            // With the bits for a clock and for a counter.
            ("8f", Message::Patch),
            ("4f", Message::Patch),
            ("8e", Message::State),
        ] {
            assert_eq!(Message::of(&bytes(hex)), message, "{hex}");
        }
        assert_eq!(reason(&bytes(EXPIRED)), "the room refused: seat reservation expired.");
    }

    #[test]
    fn a_seat_is_found_in_either_answer() {
        let flat =
            br#"{"name":"crowd","sessionId":"1pDGVi6Gd","roomId":"j6nl2b1iR","processId":"MjkJ6MxOp"}"#;
        let nested = br#"{"sessionId":"1pDGVi6Gd","room":{"name":"crowd","roomId":"j6nl2b1iR","processId":"MjkJ6MxOp","clients":1}}"#;
        let seat = Seat::parse(flat).unwrap();
        assert_eq!(seat, Seat::parse(nested).unwrap());
        assert_eq!(seat.websocket_path(), "/MjkJ6MxOp/j6nl2b1iR?sessionId=1pDGVi6Gd");
        assert_eq!(matchmake_path(ROOM), "/matchmake/joinOrCreate/crowd");
    }

    #[test]
    fn what_offers_no_seat_is_refused() {
        for answer in [
            r#"{"code":520,"error":"no handler"}"#,
            r#"{"sessionId":"a","roomId":"b"}"#,
            r#"{"sessionId":"a","roomId":"b","processId":"c d"}"#,
            r#"{"sessionId":"","roomId":"b","processId":"c"}"#,
            "",
        ] {
            assert!(Seat::parse(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
