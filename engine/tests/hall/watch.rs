//! What one member of a hall is shown.

use std::collections::{BTreeMap, VecDeque};

use engine::broadcast::TickPoses;
use engine::ports::TickView;
use protocol::event::Encoding;
use protocol::frame::{ENTRY_BYTES_MAX, FrameReader, GROUP_HEADER_BYTES};
use protocol::{Outgoing, Packet};
use serde::Deserialize;

/// Half a step of a head's position in a frame, in metres.
const HEAD_ERROR_M_MAX: f32 = 0.5 / 1024.0;

/// What a tick may take more of the budget than its part: one member's entry in a cell of its own.
const SLACK_BYTES: usize = GROUP_HEADER_BYTES + ENTRY_BYTES_MAX;

/// A member's picture of the others.
pub(crate) struct Watch {
    pub(crate) encoding: Encoding,
    /// Where it believes each other session to be.
    pub(crate) picture: BTreeMap<u64, Position>,
    /// The tick at which it was last shown each.
    pub(crate) shown_at: BTreeMap<u64, u32>,
    /// The last tick before its welcome.
    pub(crate) since: u32,
    /// Bytes of its frames of the last second.
    bytes: VecDeque<usize>,
}

/// Where somebody is seen, in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Position {
    pub(crate) at: [f32; 3],
    /// It came in a frame, which rounds it.
    pub(crate) is_rounded: bool,
}

impl Position {
    pub(crate) fn exact(at: [f32; 3]) -> Self {
        Self { at, is_rounded: false }
    }

    /// Whether this is `truth`, as far as it can be told.
    pub(crate) fn is(&self, truth: [f32; 3]) -> bool {
        let step = if self.is_rounded { HEAD_ERROR_M_MAX } else { 0.0 };
        self.at.iter().zip(truth).all(|(seen, truth)| {
            (seen - truth).abs() <= step + if self.is_rounded { truth.abs() * f32::EPSILON } else { 0.0 }
        })
    }
}

/// Whom a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Session(u64),
    Slot(u16),
}

impl Watch {
    pub(crate) fn new(encoding: Encoding, since: u32, picture: BTreeMap<u64, Position>) -> Self {
        Self { encoding, picture, shown_at: BTreeMap::new(), since, bytes: VecDeque::new() }
    }

    /// Takes note of how much a tick has sent. A second never has more than `budget`, but for some slack.
    pub(crate) fn count(&mut self, bytes: usize, hz: u32, budget: u32) {
        self.bytes.push_back(bytes);
        if self.bytes.len() > hz as usize {
            self.bytes.pop_front();
        }
        let second: usize = self.bytes.iter().sum();
        let allowed = budget as usize + hz as usize * SLACK_BYTES;
        assert!(second <= allowed, "{second} bytes in a second of {budget}, {hz} Hz: {:?}", self.bytes);
    }
}

/// What a tick shows to the member in `slot`, and how many bytes of frames that takes.
pub(crate) fn shown(poses: &TickPoses, slot: u16, encoding: Encoding) -> (Vec<(About, Position)>, usize) {
    match encoding {
        Encoding::Json => (json(poses, slot), 0),
        Encoding::Batch => (poses.batch(slot).map(|packet| batch(&packet)).unwrap_or_default(), 0),
        Encoding::Binary => {
            poses.binary(slot).map(|packet| (frame(packet), packet.wire_bytes())).unwrap_or_default()
        }
    }
}

#[derive(Deserialize)]
struct Moved<'a> {
    #[serde(rename = "socketId")]
    socket_id: &'a str,
    position: Xyz,
}

#[derive(Deserialize)]
struct Xyz {
    x: f32,
    y: f32,
    z: f32,
}

#[derive(Deserialize)]
struct UsersMoved<'a> {
    #[serde(borrow)]
    users: Vec<Moved<'a>>,
}

impl Moved<'_> {
    fn seen(&self) -> (About, Position) {
        let session = self.socket_id.strip_prefix('s').unwrap().parse().unwrap();
        let Xyz { x, y, z } = self.position;
        (About::Session(session), Position::exact([x, y, z]))
    }
}

fn json(poses: &TickPoses, slot: u16) -> Vec<(About, Position)> {
    let Some(TickView::Packets { buffer, spans, own }) = poses.json(slot) else { return Vec::new() };
    let others = spans.iter().enumerate().filter(|(index, _)| Some(*index) != own);
    others
        .map(|(_, span)| {
            let packet = Packet::decode(std::str::from_utf8(&buffer[span.text()]).unwrap()).unwrap();
            let event = packet.event().unwrap();
            assert_eq!(event.name, "user-moved");
            event.first_arg::<Moved<'_>>().unwrap().unwrap().seen()
        })
        .collect()
}

fn batch(packet: &Outgoing) -> Vec<(About, Position)> {
    let packet = Packet::decode(packet.text()).unwrap();
    let event = packet.event().unwrap();
    assert_eq!(event.name, "users-moved");
    event.first_arg::<UsersMoved<'_>>().unwrap().unwrap().users.iter().map(Moved::seen).collect()
}

fn frame(packet: &Outgoing) -> Vec<(About, Position)> {
    let [bytes] = packet.attachments() else { panic!("a frame is one attachment") };
    let frame = FrameReader::new(bytes).unwrap();
    let seen = |entry: protocol::frame::Entry| {
        (About::Slot(entry.slot), Position { at: entry.pose.head.position, is_rounded: true })
    };
    frame.entries().map(seen).collect()
}
