//! One tick's poses, encoded once for everyone.

use bytes::Bytes;
use protocol::frame::{
    Cell32, ENTRY_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameWriter, GROUP_HEADER_BYTES,
};
use protocol::outgoing::{FrameSpan, Outgoing, TextFrames};
use protocol::pose::Pose;

use crate::ports::TickView;

/// About how long one user's pose is as JSON, with its envelope; only a hint for buffers.
const POSE_JSON_BYTES: usize = 200;

/// A member's pose at a tick, with the part of its JSON form that never changes.
#[derive(Debug, Clone, Copy)]
pub struct Moved<'a> {
    /// The member's slot.
    pub slot: u16,
    /// `"id":"…","socketId":"…",`
    pub ids_json: &'a str,
    /// The pose.
    pub pose: Pose,
}

/// The poses of one tick in every encoding that somebody in the room wants.
#[derive(Debug, Default)]
pub struct TickPoses {
    /// How many poses these are.
    pub moved: usize,
    /// For viewers of JSON: a `user-moved` each.
    pub json: Option<JsonTick>,
    /// For viewers of batches: one `users-moved`.
    pub batch: Option<BatchTick>,
    /// For viewers of binary poses: one `pose-frame`.
    pub binary: Option<BinaryTick>,
}

/// One `user-moved` packet per moved member, framed, in one buffer.
#[derive(Debug)]
pub struct JsonTick {
    slots: Vec<u16>,
    spans: Vec<FrameSpan>,
    buffer: Bytes,
}

impl JsonTick {
    /// Encodes `moved`, which is in ascending order of slots.
    pub fn encode(moved: &[Moved<'_>]) -> Self {
        let mut frames = TextFrames::with_capacity(moved.len() * POSE_JSON_BYTES);
        let mut spans = Vec::with_capacity(moved.len());
        for member in moved {
            let out = frames.begin(POSE_JSON_BYTES);
            out.extend_from_slice(b"2[\"user-moved\",{");
            out.extend_from_slice(member.ids_json.as_bytes());
            member.pose.write_json_members(out);
            out.extend_from_slice(b"}]");
            spans.push(frames.end());
        }
        Self { slots: moved.iter().map(|member| member.slot).collect(), spans, buffer: frames.finish() }
    }

    /// What the viewer in `slot` gets: everybody but itself. `None` if that is nobody.
    pub fn view(&self, slot: u16) -> Option<TickView<'_>> {
        let own = self.slots.binary_search(&slot).ok();
        let others = self.spans.len() - usize::from(own.is_some());
        (others > 0).then_some(TickView::Packets { buffer: &self.buffer, spans: &self.spans, own })
    }
}

/// One `users-moved` packet for all moved members.
#[derive(Debug)]
pub struct BatchTick {
    slots: Vec<u16>,
    /// `{"tick":…,"time":…,"users":[`
    head: String,
    /// The users, with a comma after each.
    items: Vec<u8>,
    /// Where each user ends in `items`.
    ends: Vec<usize>,
    whole: Outgoing,
}

impl BatchTick {
    /// Encodes `moved`, which is in ascending order of slots. `time_ms` counts from the room's epoch.
    pub fn encode(tick: u32, time_ms: u32, moved: &[Moved<'_>]) -> Self {
        let mut items = Vec::with_capacity(moved.len() * POSE_JSON_BYTES);
        let mut ends = Vec::with_capacity(moved.len());
        for member in moved {
            items.push(b'{');
            items.extend_from_slice(member.ids_json.as_bytes());
            member.pose.write_json_members(&mut items);
            items.extend_from_slice(b"},");
            ends.push(items.len());
        }
        let head = format!("{{\"tick\":{tick},\"time\":{time_ms},\"users\":[");
        let whole = assemble(&head, &[&items]);
        Self { slots: moved.iter().map(|member| member.slot).collect(), head, items, ends, whole }
    }

    /// What the viewer in `slot` gets: everybody but itself. `None` if that is nobody. A viewer that has not
    /// moved shares one packet with all others of its kind; for one that has, a packet is put together.
    pub fn view(&self, slot: u16) -> Option<std::borrow::Cow<'_, Outgoing>> {
        let Ok(own) = self.slots.binary_search(&slot) else {
            return (!self.slots.is_empty()).then_some(std::borrow::Cow::Borrowed(&self.whole));
        };
        if self.slots.len() == 1 {
            return None;
        }
        let start = if own == 0 { 0 } else { self.ends[own - 1] };
        let parts = [&self.items[..start], &self.items[self.ends[own]..]];
        Some(std::borrow::Cow::Owned(assemble(&self.head, &parts)))
    }
}

/// One `pose-frame` packet, the same for all: it costs less to send each viewer its own pose too than to put a
/// frame together for each.
#[derive(Debug)]
pub struct BinaryTick {
    /// The only member in it, if there is only one.
    alone: Option<u16>,
    packet: Outgoing,
}

impl BinaryTick {
    /// Encodes `moved`, grouped by the cells of the frame's layout.
    pub fn encode(header: FrameHeader, moved: &[Moved<'_>]) -> Self {
        let mut by_cell: Vec<(Cell32, &Moved<'_>)> =
            moved.iter().map(|member| (Cell32::nearest(member.pose.head.position), member)).collect();
        by_cell.sort_by_key(|(cell, member)| (cell.x, cell.z, cell.y, member.slot));
        let bytes_hint = FRAME_HEADER_BYTES + moved.len() * (GROUP_HEADER_BYTES + ENTRY_BYTES_MAX);
        let packet = Outgoing::attachment_event("pose-frame", bytes_hint, |out| {
            let mut frame = FrameWriter::new(header, out);
            for members in by_cell.chunk_by(|(one, _), (other, _)| one == other) {
                let mut group = frame.group(members[0].0);
                for (_, member) in members {
                    group.entry(member.slot, &member.pose);
                }
                group.finish();
            }
            frame.finish();
        });
        let alone = if let [member] = moved { Some(member.slot) } else { None };
        Self { alone, packet }
    }

    /// What the viewer in `slot` gets. `None` if there is nobody but itself in it.
    pub fn view(&self, slot: u16) -> Option<&Outgoing> {
        (self.alone != Some(slot)).then_some(&self.packet)
    }
}

/// The packet of these users; `parts` end in a comma each, of which the last is taken away.
fn assemble(head: &str, parts: &[&[u8]]) -> Outgoing {
    let mut args = Vec::with_capacity(head.len() + parts.iter().map(|part| part.len()).sum::<usize>() + 2);
    args.extend_from_slice(head.as_bytes());
    for part in parts {
        args.extend_from_slice(part);
    }
    if args.last() == Some(&b',') {
        args.pop();
    }
    args.extend_from_slice(b"]}");
    let args = String::from_utf8(args).expect("built from JSON texts");
    Outgoing::event_raw("users-moved", &args)
}

#[cfg(all(test, not(loom_model)))]
#[allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
mod tests {
    use super::*;
    use protocol::Packet;
    use serde_json::Value;

    fn moved(slots: &[u16]) -> Vec<(u16, String)> {
        slots.iter().map(|slot| (*slot, format!("\"id\":\"u{slot}\",\"socketId\":\"s{slot}\","))).collect()
    }

    fn with_poses(ids: &[(u16, String)]) -> Vec<Moved<'_>> {
        ids.iter()
            .map(|(slot, ids_json)| {
                let mut pose = Pose::INITIAL;
                pose.head.position[0] = f32::from(*slot) + 0.5;
                Moved { slot: *slot, ids_json, pose }
            })
            .collect()
    }

    fn payload(text: &str) -> Value {
        let packet = Packet::decode(text).unwrap();
        serde_json::from_str::<Value>(packet.data.unwrap()).unwrap()[1].clone()
    }

    #[test]
    fn everybody_sees_everybody_else_once() {
        let ids = moved(&[0, 3, 9]);
        let json = JsonTick::encode(&with_poses(&ids));
        for (viewer, expected) in [(0, "u3 u9"), (3, "u0 u9"), (9, "u0 u3"), (5, "u0 u3 u9")] {
            let Some(TickView::Packets { buffer, spans, own }) = json.view(viewer) else { panic!("no view") };
            let seen: Vec<String> = spans
                .iter()
                .enumerate()
                .filter(|(index, _)| Some(*index) != own)
                .map(|(_, span)| {
                    let user = payload(std::str::from_utf8(&buffer[span.text()]).unwrap());
                    user["id"].as_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(seen.join(" "), expected, "viewer {viewer}");
        }
    }

    #[test]
    fn a_batch_is_the_same_without_oneself() {
        let ids = moved(&[0, 3, 9]);
        let batch = BatchTick::encode(7, 350, &with_poses(&ids));
        for (viewer, expected) in [(0, "u3 u9"), (3, "u0 u9"), (9, "u0 u3"), (5, "u0 u3 u9")] {
            let view = batch.view(viewer).unwrap();
            let payload = payload(view.text());
            assert_eq!((payload["tick"].as_u64(), payload["time"].as_u64()), (Some(7), Some(350)));
            let seen: Vec<&str> = payload["users"]
                .as_array()
                .unwrap()
                .iter()
                .map(|user| user["id"].as_str().unwrap())
                .collect();
            assert_eq!(seen.join(" "), expected, "viewer {viewer}");
        }
    }

    #[test]
    fn a_frame_has_everybody_in_its_cell() {
        let ids = moved(&[0, 3, 9]);
        let mut poses = with_poses(&ids);
        poses[1].pose.head.position[0] = 500.0;
        let tick = BinaryTick::encode(FrameHeader { flags: 0, tick: 7, time_ms: 350 }, &poses);
        let packet = tick.view(3).unwrap();
        assert_eq!(packet.text(), r#"51-["pose-frame",{"_placeholder":true,"num":0}]"#);
        let frame = protocol::frame::FrameReader::new(&packet.attachments()[0]).unwrap();
        assert_eq!((frame.header().tick, frame.header().time_ms), (7, 350));
        assert_eq!(frame.groups().count(), 2);
        let mut seen: Vec<_> =
            frame.entries().map(|entry| (entry.slot, entry.pose.head.position[0])).collect();
        seen.sort_by_key(|(slot, _)| *slot);
        assert_eq!(seen, [(0, 0.5), (3, 500.0), (9, 9.5)]);
    }

    #[test]
    fn who_moves_alone_is_told_nothing() {
        let ids = moved(&[4]);
        assert!(JsonTick::encode(&with_poses(&ids)).view(4).is_none());
        assert!(BatchTick::encode(1, 50, &with_poses(&ids)).view(4).is_none());
        assert!(BatchTick::encode(1, 50, &with_poses(&ids)).view(5).is_some());
        let header = FrameHeader { flags: 0, tick: 1, time_ms: 50 };
        assert!(BinaryTick::encode(header, &with_poses(&ids)).view(4).is_none());
        assert!(BinaryTick::encode(header, &with_poses(&ids)).view(5).is_some());
    }
}
