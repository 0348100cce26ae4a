//! Binary poses: how they are sent, and pose frames read in place.
//!
//! A binary pose has no room for a stamp in its rotation: ten bits of each component are left of it. Who sent it
//! is told by the slot that the server puts in front. Its number modulo [`NUMBER_WRAP`] goes into the height:
//! y = 1 m + number / 1,024 m, which float32 and the frame's steps of 1/1,024 m both hold exactly.
//!
//! [`scan`] is for a load generator that reads more of these frames than any client would: it makes one pass,
//! gives out only slot and position, and leaves rotations and hands alone. That it accepts what
//! [`protocol::frame::FrameReader`] accepts is tested below.

use protocol::frame::{FRAME_HEADER_BYTES, FRAME_VERSION, GROUP_HEADER_BYTES, encode_pose};
use protocol::pose::{Part, Pose, Rotation};

use crate::walk::Place;

/// After this many poses the number starts again. At 90 Hz that is 11 s.
pub(crate) const NUMBER_WRAP: u32 = 1_024;

/// The text that announces a pose to the server (Engine.IO's type in front).
pub(crate) const ANNOUNCEMENT: &[u8] = br#"451-["update-position",{"_placeholder":true,"num":0}]"#;

/// Steps of a head's position per metre, and their size.
const STEPS_PER_M: i32 = 1_024;
const STEP_M: f32 = 1.0 / STEPS_PER_M as f32;
/// Edge of a group's cell, in steps.
const CELL_STEPS: i32 = 32 * STEPS_PER_M;
/// The height that is number 0, in steps.
const ZERO_STEPS: i32 = STEPS_PER_M;
/// The height at which people stand before their first pose, in steps: 1.6 m.
const INITIAL_STEPS: i32 = 1_638;
/// Bytes of a head or of a hand.
const PART_BYTES: usize = 10;

/// Appends a pose that carries `number`; with both hands if `hands`.
pub(crate) fn write_pose(place: &Place, number: u32, hands: bool, out: &mut Vec<u8>) {
    let y = (ZERO_STEPS + (number % NUMBER_WRAP) as i32) as f32 * STEP_M;
    let (sin, cos) = (place.yaw / 2.0).sin_cos();
    let rotation = Rotation::Quaternion([0.0, sin, 0.0, cos]);
    let part = |dx: f32, dy: f32| Part { position: [place.x + dx, y + dy, place.z], rotation };
    // The hands follow the head's bob, so that no two poses of theirs are alike either.
    let hand = |dx: f32| hands.then(|| part(dx, place.y - 2.0));
    let pose = Pose { head: part(0.0, 0.0), left_hand: hand(-0.3), right_hand: hand(0.3) };
    encode_pose(&pose, out);
}

/// A frame's tick, if its version is right.
#[inline]
pub(crate) fn tick_of(frame: &[u8]) -> Option<u32> {
    let header = frame.first_chunk::<FRAME_HEADER_BYTES>()?;
    (header[0] == FRAME_VERSION).then(|| u32::from_le_bytes([header[4], header[5], header[6], header[7]]))
}

/// One member in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub(crate) slot: u16,
    /// The head's position in steps of 1/1,024 m.
    steps: [i32; 3],
}

/// What a member's height says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Height {
    /// A pose's number modulo [`NUMBER_WRAP`].
    Number(u32),
    /// The member has not sent a pose yet.
    Unmoved,
    /// Nothing that anybody here has sent.
    Unreadable,
}

impl Entry {
    /// What its height says.
    #[inline]
    pub(crate) fn height(&self) -> Height {
        let [x, y, z] = self.steps;
        match u32::try_from(y - ZERO_STEPS) {
            _ if (x, y, z) == (0, INITIAL_STEPS, 0) => Height::Unmoved,
            Ok(number) if number < NUMBER_WRAP => Height::Number(number),
            _ => Height::Unreadable,
        }
    }

    /// x and z in metres.
    #[inline]
    pub(crate) fn place(&self) -> [f32; 2] {
        [self.steps[0] as f32 * STEP_M, self.steps[2] as f32 * STEP_M]
    }
}

/// Calls `each` with every entry of a frame.
///
/// # Errors
/// If the bytes are not exactly one frame of this version; some entries may have been given out by then.
#[inline]
pub(crate) fn scan(frame: &[u8], mut each: impl FnMut(Entry)) -> Result<(), &'static str> {
    const CUT_SHORT: &str = "pose frame cut short";
    tick_of(frame).ok_or("no pose frame of this version")?;
    let groups = u16::from_le_bytes([frame[2], frame[3]]);
    let mut rest = &frame[FRAME_HEADER_BYTES..];
    for _ in 0..groups {
        let (head, members) = rest.split_first_chunk::<GROUP_HEADER_BYTES>().ok_or(CUT_SHORT)?;
        rest = members;
        let cell = [0, 2, 4].map(|at| i32::from(i16::from_le_bytes([head[at], head[at + 1]])) * CELL_STEPS);
        for _ in 0..u16::from_le_bytes([head[6], head[7]]) {
            let (entry, _) = rest.split_first_chunk::<{ 3 + PART_BYTES }>().ok_or(CUT_SHORT)?;
            let mask = entry[2];
            if mask > 3 {
                return Err("unknown bits in a mask");
            }
            let step = |axis: usize| {
                cell[axis] + i32::from(i16::from_le_bytes([entry[3 + 2 * axis], entry[4 + 2 * axis]]))
            };
            each(Entry {
                slot: u16::from_le_bytes([entry[0], entry[1]]),
                steps: [step(0), step(1), step(2)],
            });
            let bytes = 3 + PART_BYTES * (1 + mask.count_ones() as usize);
            rest = rest.get(bytes..).ok_or(CUT_SHORT)?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes behind a pose frame's end") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::frame::{Cell32, FrameHeader, FrameReader, FrameWriter, decode_pose};
    use rand::rngs::SmallRng;
    use rand::{Rng, RngExt, SeedableRng};

    fn place(x: f32, z: f32) -> Place {
        Place { x, y: 1.6, z, yaw: 0.7 }
    }

    fn scanned(frame: &[u8]) -> Result<Vec<Entry>, &'static str> {
        let mut found = Vec::new();
        scan(frame, |entry| found.push(entry)).map(|()| found)
    }

    /// A frame of some members with and without hands, in some cells.
    fn random_frame(random: &mut impl Rng) -> Vec<u8> {
        let mut frame = Vec::new();
        let header = FrameHeader { flags: 0, tick: random.random(), time_ms: random.random() };
        let mut writer = FrameWriter::new(header, &mut frame);
        for _ in 0..random.random_range(0..4) {
            let mut within = |half: f32| random.random_range(-half..half);
            let centre = place(within(1_000.0), within(1_000.0));
            let mut group = writer.group(Cell32::nearest([centre.x, 1.6, centre.z]));
            for slot in 0..random.random_range(0..5) {
                let mut bytes = Vec::new();
                write_pose(&centre, random.random(), random.random(), &mut bytes);
                group.entry(slot * 1_000, &decode_pose(&bytes).unwrap());
            }
            group.finish();
        }
        writer.finish();
        frame
    }

    #[test]
    fn every_number_survives_the_way_through_the_server() {
        for number in (0..NUMBER_WRAP).chain([NUMBER_WRAP + 3, u32::MAX]) {
            for (x, z, hands) in [(1.0, 0.0, false), (-199.99, 87.5, true)] {
                let mut sent = Vec::new();
                write_pose(&place(x, z), number, hands, &mut sent);
                let pose = decode_pose(&sent).unwrap();
                pose.validate().unwrap();
                assert_eq!((pose.left_hand.is_some(), pose.right_hand.is_some()), (hands, hands));
                let mut frame = Vec::new();
                let mut writer = FrameWriter::new(FrameHeader::default(), &mut frame);
                // Any cell that reaches so far will do.
                let near = Cell32::nearest([x + 15.0, 14.0, z - 15.0]);
                let mut group = writer.group(near);
                group.entry(7, &pose);
                group.finish();
                writer.finish();
                let [entry] = scanned(&frame).unwrap()[..] else { panic!("one member") };
                assert_eq!((entry.slot, entry.height()), (7, Height::Number(number % NUMBER_WRAP)));
                let [rx, rz] = entry.place();
                assert!((rx - x).hypot(rz - z) < 0.002, "{rx} {rz}");
            }
        }
    }

    #[test]
    fn whoever_has_not_moved_and_whoever_is_not_ours_is_told() {
        let mut frame = Vec::new();
        let mut writer = FrameWriter::new(FrameHeader::default(), &mut frame);
        let mut group = writer.group(Cell32::default());
        let low = Part { position: [0.0, 0.5, 0.0], ..Pose::INITIAL.head };
        group.entry(1, &Pose::INITIAL);
        group.entry(2, &Pose { head: low, ..Pose::INITIAL });
        group.finish();
        writer.finish();
        let heights: Vec<Height> = scanned(&frame).unwrap().iter().map(Entry::height).collect();
        assert_eq!(heights, [Height::Unmoved, Height::Unreadable]);
    }

    #[test]
    fn a_mask_of_another_version_is_refused_even_where_the_length_would_fit() {
        let mut frame = Vec::new();
        let mut writer = FrameWriter::new(FrameHeader::default(), &mut frame);
        let mut group = writer.group(Cell32::default());
        group.entry(1, &Pose { left_hand: Some(Pose::INITIAL.head), ..Pose::INITIAL });
        group.finish();
        writer.finish();
        let mask_at = FRAME_HEADER_BYTES + GROUP_HEADER_BYTES + 2;
        for (mask, fits) in [(1, true), (2, true), (4, false), (128, false)] {
            frame[mask_at] = mask;
            assert_eq!((scanned(&frame).is_ok(), FrameReader::new(&frame).is_ok()), (fits, fits), "{mask}");
        }
    }

    #[test]
    fn what_the_contracts_own_reader_says_of_a_frame_is_said_here() {
        let mut random = SmallRng::seed_from_u64(4);
        let mut refused = 0;
        for _ in 0..3_000 {
            let mut frame = random_frame(&mut random);
            match random.random_range(0..4) {
                0 => {}
                1 => frame.truncate(random.random_range(0..=frame.len())),
                2 => frame.extend_from_slice(&[0; 13][..random.random_range(0..13)]),
                _ => {
                    let at = random.random_range(0..frame.len());
                    frame[at] ^= 1 << random.random_range(0..8);
                }
            }
            let reader = FrameReader::new(&frame);
            let found = scanned(&frame);
            assert_eq!(found.is_ok(), reader.is_ok(), "{frame:?}: {found:?}");
            let (Ok(reader), Ok(found)) = (reader, found) else {
                refused += 1;
                continue;
            };
            assert_eq!(tick_of(&frame), Some(reader.header().tick));
            let entries: Vec<_> = reader.entries().collect();
            assert_eq!(entries.len(), found.len());
            for (entry, found) in entries.iter().zip(&found) {
                let [x, _, z] = entry.pose.head.position;
                assert_eq!((entry.slot, [x, z]), (found.slot, found.place()));
            }
        }
        assert!((300..2_700).contains(&refused), "both kinds are tried: {refused}");
    }
}
