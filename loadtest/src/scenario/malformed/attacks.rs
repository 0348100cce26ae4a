//! What is broken, and what the contract says of it.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::ATTACK_ACK;
use crate::websocket::{opcode, write_frame};

/// What the server has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Must {
    /// End the session.
    End,
    /// Say that it does not do that, and go on.
    Refuse,
    /// Go on, without a word.
    Ignore,
    /// Any of these, but one of them.
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A WebSocket message.
    Text(String),
    Binary(Vec<u8>),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// One broken input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) inputs: Vec<Input>,
    pub(super) must: Must,
}

/// Levels of JSON that are too many, and bytes of a frame.
const TOO_DEEP: usize = 40;
const TOO_LONG: u64 = 2_000_000;

type Make = fn(&mut SmallRng) -> Vec<Input>;

fn raw(bytes: &[u8]) -> Vec<Input> {
    vec![Input::Raw(bytes.to_vec())]
}

fn text(text: &str) -> Vec<Input> {
    vec![Input::Text(text.to_owned())]
}

/// A frame as a client sends it, with other bits in its first byte.
fn frame(first: u8, payload: &[u8], random: &mut SmallRng) -> Vec<Input> {
    let mut bytes = Vec::new();
    write_frame(opcode::TEXT, payload, random.random(), &mut bytes);
    bytes[0] = first;
    vec![Input::Raw(bytes)]
}

/// What no WebSocket client may send, what is no Socket.IO packet, and attachments that do not fit.
const ENDS: &[(&str, Make)] = &[
    ("a frame without a mask", |_| raw(b"\x81\x05hello")),
    ("a frame of a reserved type", |random| frame(0x83, b"hello", random)),
    ("a frame with a reserved bit", |random| frame(0xC1, b"hello", random)),
    ("the rest of a message that has not begun", |random| frame(0x80, b"hello", random)),
    ("a frame that is too long", |_| raw(&[&[0x81, 0xFF][..], &TOO_LONG.to_be_bytes(), &[0; 4]].concat())),
    ("a text that is not UTF-8", |random| frame(0x81, b"42[\"\xFF\"]", random)),
    ("a packet of an unknown type", |_| text("49[]")),
    ("a packet without a type", |_| text("4")),
    ("an event that is no array", |_| text("42{\"a\":1}")),
    ("an event without a name", |_| text("42[5]")),
    ("an event that breaks off", |_| text("42[\"join-room\",{\"roomId\":")),
    ("an event nested too deep", |_| {
        text(&format!("42[\"room-message\",{}{}]", "[".repeat(TOO_DEEP), "]".repeat(TOO_DEEP)))
    }),
    ("too many attachments", |_| text("4511-[\"room-message\",{\"_placeholder\":true,\"num\":0}]")),
    ("a text where an attachment was due", |_| {
        let announced = Input::Text("451-[\"update-position\",{\"_placeholder\":true,\"num\":0}]".to_owned());
        vec![announced, Input::Text("42[\"time-sync\"]".to_owned())]
    }),
    ("an attachment that nothing announced", |_| vec![Input::Binary(vec![7; 20])]),
];

/// Events that are well formed, with payloads that they do not take; the name behind the ack id.
const REFUSED: &[(&str, &str)] = &[
    ("a join without an object", "[\"join-room\",5]"),
    ("a join without a room", "[\"join-room\",{}]"),
    ("a join of a room without a name", "[\"join-room\",{\"roomId\":\"\"}]"),
    ("a join of a room with a line break", "[\"join-room\",{\"roomId\":\"a\\nb\"}]"),
    ("a pose without a place", "[\"update-position\",{\"rotation\":{\"x\":0,\"y\":0,\"z\":0}}]"),
    ("a pose in words", "[\"update-position\",{\"position\":\"here\",\"rotation\":\"there\"}]"),
    (
        "a pose beyond all bounds",
        "[\"update-position\",{\"position\":{\"x\":1e30,\"y\":0,\"z\":0},\"rotation\":{\"x\":0,\"y\":0,\"z\":0}}]",
    ),
    ("an object that is none", "[\"object-create\",\"chair\"]"),
    ("an update without an id", "[\"object-update\",{\"colour\":1}]"),
    ("an update of nothing", "[\"object-update\",{\"id\":\"no such object\",\"version\":1}]"),
    ("a deletion of nothing", "[\"object-delete\",{\"id\":\"no such object\"}]"),
    ("a message that is none", "[\"room-message\",7]"),
    ("a signal to nobody", "[\"signal\",{\"data\":1}]"),
    ("a user that is none", "[\"user-update\",[1,2]]"),
    ("a view from nowhere", "[\"view\",{\"position\":\"here\"}]"),
];

/// What is changed at random.
const VALID: &[&str] = &[
    "42[\"room-message\",{\"type\":\"note\",\"data\":[1,2,3]}]",
    "42[\"object-create\",{\"id\":\"malformed\",\"colour\":\"red\"}]",
    "42[\"user-update\",{\"mood\":\"fine\"}]",
    "42[\"time-sync\"]",
];

/// Chooses a broken input.
pub(super) fn choose(random: &mut SmallRng) -> Attack {
    match random.random_range(0..10) {
        0..4 => {
            let (name, make) = ENDS.choose(random).expect("it is not empty");
            Attack { name, inputs: make(random), must: Must::End }
        }
        4..8 => {
            let (name, event) = REFUSED.choose(random).expect("it is not empty");
            // With an ack the refusal is the answer, without one it is an event.
            let ack = if random.random() { ATTACK_ACK.to_string() } else { String::new() };
            Attack { name, inputs: text(&format!("42{ack}{event}")), must: Must::Refuse }
        }
        8 => {
            let event = format!("42[\"unknown-{}\",{{\"a\":[1]}}]", random.random::<u32>());
            Attack { name: "an unknown event", inputs: text(&event), must: Must::Ignore }
        }
        _ => Attack { name: "a packet with random changes", inputs: changed(random), must: Must::Any },
    }
}

/// A packet that was valid, with some of its characters changed.
fn changed(random: &mut impl Rng) -> Vec<Input> {
    let mut bytes = VALID.choose(random).expect("it is not empty").as_bytes().to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(1..bytes.len());
        bytes[at] = random.random_range(b' '..=b'~');
    }
    vec![Input::Text(String::from_utf8_lossy(&bytes).into_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Packet, PacketKind};
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_breaks_the_same_and_everything_has_its_turn() {
        let attacks = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            (0..2_000).map(|_| choose(&mut random)).collect::<Vec<_>>()
        };
        let first = attacks(1);
        assert_eq!(first, attacks(1));
        assert_ne!(first, attacks(2));
        let names: BTreeSet<_> = first.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), ENDS.len() + REFUSED.len() + 2);
    }

    #[test]
    fn what_is_to_be_refused_is_a_packet_all_the_same() {
        for (name, event) in REFUSED {
            for ack in ["", "7"] {
                let text = format!("2{ack}{event}");
                let packet = Packet::decode(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(packet.kind, PacketKind::Event);
                assert!(protocol::ClientEvent::is_known(&packet.event().unwrap().name), "{name}");
            }
        }
    }
}
