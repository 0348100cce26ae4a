//! What a pose carries so that whoever receives it can tell who sent it, and when.
//!
//! Everybody sends on one schedule that is fixed before the first pose leaves: user `u`'s pose number `n` is
//! due at `start + n × period + u/users × period` (or all of them at once, if so asked for). So a pose needs to
//! carry no time, only its sender and its number, and these go where every server passes them on unharmed: into
//! the head's rotation.
//!
//! - `rotation.x` is the sender's index, an integer below [`SENDERS_MAX`];
//! - `rotation.z` is the pose's number modulo [`NUMBER_WRAP`].
//!
//! (Binary poses have no room for that; see [`crate::binary`].)
//!
//! Both are integers far below 2^24 and therefore exact in float32, both are within the angles that a server
//! has reason to allow, and `rotation.y` and the position stay free for motion that looks human.
//!
//! A pose's age counts from when it was *due*, not from when the load generator got round to sending it: a
//! generator or a server that stalls cannot hide the poses that waited meanwhile (coordinated omission).

use std::io::Write;

use memchr::memmem::Finder;

use crate::walk::Place;

/// Senders that can be told apart.
pub(crate) const SENDERS_MAX: u32 = 10_000;

/// After this many poses the number starts again. At 90 Hz that is 91 s, far longer than a pose may take.
pub(crate) const NUMBER_WRAP: u32 = 8_192;

/// Who sent a pose, and its number modulo [`NUMBER_WRAP`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sender: u32,
    pub(crate) number: u32,
}

/// Writes the `update-position` message (Engine.IO's type in front) of a stamped pose.
pub(crate) fn write_update(place: &Place, sender: u32, number: u32, out: &mut Vec<u8>) {
    let Place { x, y, z, yaw } = place;
    let number = number % NUMBER_WRAP;
    write!(
        out,
        "42[\"update-position\",{{\"position\":{{\"x\":{x:.3},\"y\":{y:.3},\"z\":{z:.3}}},\
         \"rotation\":{{\"x\":{sender},\"y\":{yaw:.4},\"z\":{number}}}}}]"
    )
    .expect("a Vec takes every write");
}

/// Finds the stamps in the text of an event, without parsing the JSON around them.
#[derive(Debug)]
pub(crate) struct Scanner(Finder<'static>);

const ROTATION: &str = "\"rotation\":{";

impl Scanner {
    pub(crate) fn new() -> Self {
        Self(Finder::new(ROTATION))
    }

    /// Calls `each` with every stamp in `text`; with `None` for a rotation that carries none.
    pub(crate) fn scan(&self, text: &[u8], mut each: impl FnMut(Option<Stamp>)) {
        let mut rest = text;
        while let Some(at) = self.0.find(rest) {
            rest = &rest[at + ROTATION.len()..];
            each(read_stamp(rest));
        }
    }
}

/// Reads `"x":…,"y":…,"z":…`. Every server writes the three in this order: as they came, or sorted.
fn read_stamp(text: &[u8]) -> Option<Stamp> {
    let (sender, rest) = read_integer(text.strip_prefix(b"\"x\":")?)?;
    let yaw = rest.strip_prefix(b",\"y\":")?;
    let rest = &yaw[memchr::memchr(b',', yaw)?..];
    let (number, _) = read_integer(rest.strip_prefix(b",\"z\":")?)?;
    (sender < SENDERS_MAX && number < NUMBER_WRAP).then_some(Stamp { sender, number })
}

/// A small integer, and what follows it. Some servers print a float as `7.0`.
fn read_integer(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=6).contains(&digits) {
        return None;
    }
    let value = text[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    let rest = &text[digits..];
    Some((value, rest.strip_prefix(b".0").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { x: 1.25, y: 1.6, z: -3.0, yaw: -0.5 };

    fn stamps(text: &str) -> Vec<Option<Stamp>> {
        let mut found = Vec::new();
        Scanner::new().scan(text.as_bytes(), |stamp| found.push(stamp));
        found
    }

    #[test]
    fn what_is_written_is_found_and_is_a_legal_pose() {
        for (sender, number) in [(0, 0), (99, 1), (SENDERS_MAX - 1, NUMBER_WRAP - 1), (7, NUMBER_WRAP + 3)] {
            let mut text = Vec::new();
            write_update(&PLACE, sender, number, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(stamps(&text), [Some(Stamp { sender, number: number % NUMBER_WRAP })]);
            let packet = protocol::Packet::decode(text.strip_prefix('4').unwrap()).unwrap();
            protocol::Pose::from_json(packet.event().unwrap().first_raw()).unwrap();
        }
    }

    #[test]
    fn a_stamp_survives_every_way_of_writing_it_back() {
        let pose = r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":12,"y":-0.5,"z":345}}"#;
        let json: serde_json::Value = serde_json::from_str(pose).unwrap();
        let mut ours = Vec::new();
        protocol::Pose::from_json(pose).unwrap().write_json_members(&mut ours);
        let float = r#"{"rotation":{"x":12.0,"y":-0.5,"z":345.0},"position":{"x":1,"y":2,"z":3}}"#;
        for text in [json.to_string(), String::from_utf8(ours).unwrap(), float.to_owned()] {
            assert_eq!(stamps(&text), [Some(Stamp { sender: 12, number: 345 })], "{text}");
        }
    }

    #[test]
    fn a_batch_has_many_and_what_is_no_stamp_is_told() {
        let text = r#"[{"rotation":{"x":1,"y":0,"z":2}},{"rotation":{"x":0.5,"y":0,"z":0}},{"rotation":{"x":3,"y":1e-7,"z":4}}]"#;
        let stamp = |sender, number| Some(Stamp { sender, number });
        assert_eq!(stamps(text), [stamp(1, 2), None, stamp(3, 4)]);
        assert_eq!(stamps(r#""rotation":{"x":10000,"y":0,"z":0}"#), [None]);
        assert_eq!(stamps(r#""rotation":{"x":1"#), [None]);
    }
}
