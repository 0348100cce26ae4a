//! Writing frames and poses.

use super::{
    Cell32, ENTRY_BYTES_MAX, FRAME_VERSION, FrameHeader, GROUP_HEADER_BYTES, HAND_STEPS_PER_M,
    HEAD_STEPS_PER_M, MASK_LEFT, MASK_RIGHT, PART_BYTES, POSE_BYTES_MAX, quantise_rotation,
};
use crate::pose::{Part, Pose, Rotation};

/// Appends a frame's header. Its group count is filled in by [`FrameWriter::finish`].
fn write_frame_header(header: FrameHeader, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FRAME_VERSION, header.flags, 0, 0]);
    out.extend_from_slice(&header.tick.to_le_bytes());
    out.extend_from_slice(&header.time_ms.to_le_bytes());
}

/// Appends one group; its member count is filled in by [`GroupWriter::finish`].
#[derive(Debug)]
pub struct GroupWriter<'a> {
    out: &'a mut Vec<u8>,
    count_at: usize,
    cell: Cell32,
    members: u16,
}

impl<'a> GroupWriter<'a> {
    /// Begins a group at the end of `out`.
    pub fn new(cell: Cell32, out: &'a mut Vec<u8>) -> Self {
        let mut header = [0; GROUP_HEADER_BYTES];
        for (place, index) in header.chunks_exact_mut(2).zip([cell.x, cell.y, cell.z]) {
            place.copy_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(&header);
        let count_at = out.len() - 2;
        Self { out, count_at, cell, members: 0 }
    }

    /// Appends a member. Its head is brought to within 32 m of the group's cell, its hands to within 8 m of
    /// the head.
    ///
    /// # Panics
    /// After 65,535 members: a room has fewer.
    pub fn entry(&mut self, slot: u16, pose: &Pose) {
        self.members = self.members.checked_add(1).expect("a group has fewer than 65,536 members");
        encode_entry(self.cell, slot, pose, self.out);
    }

    /// Appends `members` members that [`encode_entry`] has encoded for the group's cell.
    ///
    /// # Panics
    /// After 65,535 members: a room has fewer.
    pub fn encoded(&mut self, members: u16, entries: &[u8]) {
        self.members = self.members.checked_add(members).expect("a group has fewer than 65,536 members");
        self.out.extend_from_slice(entries);
    }

    /// How many members there are so far.
    pub fn members(&self) -> u16 {
        self.members
    }

    /// Fills in the member count and gives it.
    pub fn finish(self) -> u16 {
        self.out[self.count_at..self.count_at + 2].copy_from_slice(&self.members.to_le_bytes());
        self.members
    }
}

/// Appends a whole frame, group by group.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    groups: u16,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame at the end of `out`.
    pub fn new(header: FrameHeader, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        write_frame_header(header, out);
        Self { out, start, groups: 0 }
    }

    /// Begins a group. [`GroupWriter::finish`] must be called before the next.
    ///
    /// # Panics
    /// After 65,535 groups.
    pub fn group(&mut self, cell: Cell32) -> GroupWriter<'_> {
        self.groups = self.groups.checked_add(1).expect("a frame has fewer than 65,536 groups");
        GroupWriter::new(cell, self.out)
    }

    /// Appends `groups` whole groups that a [`GroupWriter`] has written elsewhere.
    ///
    /// # Panics
    /// After 65,535 groups.
    pub fn encoded_groups(&mut self, groups: u16, bytes: &[u8]) {
        self.groups = self.groups.checked_add(groups).expect("a frame has fewer than 65,536 groups");
        self.out.extend_from_slice(bytes);
    }

    /// Fills in the group count and gives it.
    pub fn finish(self) -> u16 {
        self.out[self.start + 2..self.start + 4].copy_from_slice(&self.groups.to_le_bytes());
        self.groups
    }
}

/// How many bytes a member's entry takes.
pub fn entry_bytes(pose: &Pose) -> usize {
    3 + PART_BYTES * pose.parts().count()
}

/// Appends one member's entry, for a group of this cell. The head is brought to within 32 m of the cell, the hands
/// to within 8 m of the head.
pub fn encode_entry(cell: Cell32, slot: u16, pose: &Pose, out: &mut Vec<u8>) {
    let mut bytes = [0; ENTRY_BYTES_MAX];
    bytes[..2].copy_from_slice(&slot.to_le_bytes());
    bytes[2] = mask_of(pose);
    let end = put_parts(&mut bytes, 3, cell, pose);
    out.extend_from_slice(&bytes[..end]);
}

/// Appends a pose as a client sends it: mask, cell, head, hands.
pub fn encode_pose(pose: &Pose, out: &mut Vec<u8>) {
    let cell = Cell32::nearest(pose.head.position);
    let mut bytes = [0; POSE_BYTES_MAX];
    bytes[0] = mask_of(pose);
    bytes[1..3].copy_from_slice(&cell.x.to_le_bytes());
    bytes[3..5].copy_from_slice(&cell.y.to_le_bytes());
    bytes[5..7].copy_from_slice(&cell.z.to_le_bytes());
    let end = put_parts(&mut bytes, 7, cell, pose);
    out.extend_from_slice(&bytes[..end]);
}

fn mask_of(pose: &Pose) -> u8 {
    let left = if pose.left_hand.is_some() { MASK_LEFT } else { 0 };
    let right = if pose.right_hand.is_some() { MASK_RIGHT } else { 0 };
    left | right
}

/// Writes head and hands from `at` on, gives the index after them.
fn put_parts(bytes: &mut [u8], at: usize, cell: Cell32, pose: &Pose) -> usize {
    let origin = cell.origin_m();
    let head = steps_from(&pose.head, origin, HEAD_STEPS_PER_M);
    put_part(&mut bytes[at..at + PART_BYTES], head, pose.head.rotation);
    // Hands are relative to where the receiver will see the head, so that its rounding is not added to theirs.
    let head_m: [f64; 3] = [0, 1, 2].map(|axis| origin[axis] + f64::from(head[axis]) / HEAD_STEPS_PER_M);
    let mut end = at + PART_BYTES;
    for hand in [&pose.left_hand, &pose.right_hand].into_iter().flatten() {
        let steps = steps_from(hand, head_m, HAND_STEPS_PER_M);
        put_part(&mut bytes[end..end + PART_BYTES], steps, hand.rotation);
        end += PART_BYTES;
    }
    end
}

fn steps_from(part: &Part, origin_m: [f64; 3], steps_per_m: f64) -> [i16; 3] {
    // The cast saturates, and makes 0 of NaN.
    [0, 1, 2].map(|axis| ((f64::from(part.position[axis]) - origin_m[axis]) * steps_per_m).round() as i16)
}

fn put_part(bytes: &mut [u8], steps: [i16; 3], rotation: Rotation) {
    for (place, step) in bytes.chunks_exact_mut(2).zip(steps) {
        place.copy_from_slice(&step.to_le_bytes());
    }
    let bits = quantise_rotation(rotation.to_quaternion());
    bytes[6..PART_BYTES].copy_from_slice(&bits.to_le_bytes());
}
