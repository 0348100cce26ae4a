//! The one frame that everybody gets, of exactly as many bytes as asked for.

use anyhow::{Context, Result, ensure};
use benches::{ids_json, pose};
use bytes::Bytes;
use clap::ValueEnum;
use protocol::Outgoing;
use protocol::frame::{Cell32, FRAME_HEADER_BYTES, FrameHeader, FrameWriter, GROUP_HEADER_BYTES};
use protocol::outgoing::AttachmentEvents;

/// The most that is sent per client and tick.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// How long a WebSocket frame's header may be.
const HEADER_BYTES: [usize; 3] = [2, 4, 10];
/// Bytes of a head in a pose frame, slot and mask included.
const HEAD_BYTES: usize = 13;
/// Bytes that a hand adds.
const HAND_BYTES: usize = 10;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// As many `user-moved` as fit, one message each
    Json,
    /// One `pose-frame`, a text and a binary message
    Binary,
}

/// All WebSocket frames of a tick one behind the other, of `bytes` bytes together.
///
/// # Errors
/// If so few cannot be filled with what is asked for, or so many are not allowed.
pub(crate) fn build(encoding: Encoding, bytes: usize) -> Result<Bytes> {
    ensure!(bytes <= FRAME_BYTES_MAX, "at most {FRAME_BYTES_MAX} bytes per frame");
    let frame = match encoding {
        Encoding::Json => json(bytes),
        Encoding::Binary => binary(bytes),
    };
    let frame = frame.with_context(|| format!("no frame of such poses has {bytes} bytes: try a few more"))?;
    debug_assert_eq!(frame.len(), bytes);
    Ok(frame)
}

fn json(bytes: usize) -> Option<Bytes> {
    let mut frame = Vec::with_capacity(bytes);
    let mut last = 0;
    let mut left = bytes.checked_sub(moved(last, 0).frame().len())?;
    // The last one is stretched over what is too little for one more.
    while let Some(less) = left.checked_sub(moved(last + 1, 0).frame().len()) {
        frame.extend_from_slice(&moved(last, 0).frame());
        last += 1;
        left = less;
    }
    frame.extend_from_slice(&moved(last, left).frame());
    Some(frame.into())
}

/// A `user-moved`, with this much space in it that means nothing.
fn moved(index: u16, padding: usize) -> Outgoing {
    let mut json = format!("{:padding$}{{{}", "", ids_json(index)).into_bytes();
    pose(index, 0).write_json_members(&mut json);
    json.push(b'}');
    Outgoing::event_raw("user-moved", &String::from_utf8_lossy(&json))
}

fn binary(bytes: usize) -> Option<Bytes> {
    // The length of the attachment decides about the length of its own header.
    let text_bytes = attachment(&[]).frame().len();
    let payload_bytes = HEADER_BYTES
        .into_iter()
        .filter_map(|header| bytes.checked_sub(text_bytes + header))
        .find(|&payload| attachment(&vec![0; payload]).wire_bytes() == bytes)?;
    attachment(&pose_frame(payload_bytes)?).contiguous().cloned()
}

fn attachment(payload: &[u8]) -> Outgoing {
    AttachmentEvents::new("pose-frame").event(payload.len(), |out| out.extend_from_slice(payload))
}

/// Heads, a few of them with a hand, in as few groups as make the sum come out.
fn pose_frame(bytes: usize) -> Option<Vec<u8>> {
    let rest = bytes.checked_sub(FRAME_HEADER_BYTES)?;
    let sums = (1..=HEAD_BYTES).flat_map(|groups| (0..HEAD_BYTES).map(move |hands| (groups, hands)));
    let (groups, hands, heads) = sums.into_iter().find_map(|(groups, hands)| {
        let heads_bytes = rest.checked_sub(groups * GROUP_HEADER_BYTES + hands * HAND_BYTES)?;
        let heads = heads_bytes / HEAD_BYTES;
        (heads_bytes % HEAD_BYTES == 0 && heads >= hands.max(1)).then_some((groups, hands, heads))
    })?;
    let mut out = Vec::with_capacity(bytes);
    let mut frame = FrameWriter::new(FrameHeader::default(), &mut out);
    for group in 0..groups {
        let cell = Cell32 { x: group as i16, y: 0, z: 0 };
        let mut writer = frame.group(cell);
        for head in (group..heads).step_by(groups) {
            let slot = head as u16;
            let mut pose = pose(slot, 0);
            pose.left_hand = (head < hands).then_some(pose.head);
            writer.entry(slot, &pose);
        }
        writer.finish();
    }
    frame.finish();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::frame::FrameReader;

    #[test]
    fn a_frame_has_the_bytes_that_were_asked_for() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            for bytes in (600..1_000).chain(65_520..65_560).chain([19_777, 131_072]) {
                assert_eq!(build(encoding, bytes).unwrap().len(), bytes, "{encoding:?}");
            }
            assert!(build(encoding, 40).is_err(), "that is no pose");
        }
    }

    #[test]
    fn poses_are_such_as_a_client_can_read() {
        for bytes in 200..300 {
            let frame = pose_frame(bytes).unwrap();
            let groups: Vec<_> = FrameReader::new(&frame).unwrap().groups().collect();
            assert!(groups.iter().map(|group| group.entries().count()).sum::<usize>() > 5);
        }
        let json = json(1_000).unwrap();
        let text = String::from_utf8_lossy(&json[4..]);
        assert!(text.starts_with("42[\"user-moved\",{\"id\":"), "{text}");
    }
}
