//! The binary pose frame (server to client) and the binary pose (client to server), version 1.
//!
//! All numbers are little-endian. Writing never fails: what is out of range is brought to the nearest value
//! that can be written. Reading checks everything before it gives anything out.

use thiserror::Error;

use crate::pose::{Part, Pose, Rotation};

mod rotation;

pub use rotation::{dequantise_rotation, quantise_rotation};

/// The frame layout's version, its first byte.
pub const FRAME_VERSION: u8 = 1;
/// Flag: the frame is a full refresh of what its receiver sees.
pub const FLAG_FULL: u8 = 1;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 8;
/// Bytes of the longest entry: head and both hands.
pub const ENTRY_BYTES_MAX: usize = 3 + 3 * PART_BYTES;
/// Bytes of the longest pose that a client sends.
pub const POSE_BYTES_MAX: usize = 7 + 3 * PART_BYTES;

/// Edge of the cells to which positions are relative, in metres.
pub const CELL_M: f64 = 32.0;
/// Steps of a head's position per metre.
const HEAD_STEPS_PER_M: f64 = 1024.0;
/// Steps of a hand's position per metre.
const HAND_STEPS_PER_M: f64 = 4096.0;
/// Bytes of a head or of a hand.
const PART_BYTES: usize = 10;

const MASK_LEFT: u8 = 1;
const MASK_RIGHT: u8 = 2;

/// Why bytes were refused as a frame or as a pose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end too early.
    #[error("frame is cut short")]
    Truncated,
    /// There are bytes behind the end.
    #[error("bytes behind the frame's end")]
    TrailingBytes,
    /// The version is not [`FRAME_VERSION`].
    #[error("unknown frame version")]
    UnknownVersion,
    /// A mask has bits set that mean nothing in this version.
    #[error("unknown bits in a mask")]
    UnknownMask,
}

/// The 32 m cell that a group's positions are relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell32 {
    /// Along x.
    pub x: i16,
    /// Along y.
    pub y: i16,
    /// Along z.
    pub z: i16,
}

impl Cell32 {
    /// The cell whose origin is nearest to `position` (metres). Positions reach 32 m either way from it, so
    /// one that moves on has 16 m to go before it must change cells.
    pub fn nearest(position: [f32; 3]) -> Self {
        // The cast saturates, and makes 0 of NaN.
        let [x, y, z] = position.map(|metres| (f64::from(metres) / CELL_M).round() as i16);
        Self { x, y, z }
    }

    fn origin_m(self) -> [f64; 3] {
        [self.x, self.y, self.z].map(|index| f64::from(index) * CELL_M)
    }
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// [`FLAG_FULL`]; other bits are kept as they are.
    pub flags: u8,
    /// The room's tick.
    pub tick: u32,
    /// Milliseconds since the room's epoch.
    pub time_ms: u32,
}

/// One member's pose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The member's small number in its room.
    pub slot: u16,
    /// Head and hands.
    pub pose: Pose,
}

/// Appends a frame's header. `groups` groups must follow, as [`GroupWriter`] makes them; this is the way to
/// put a frame together from groups that were encoded once for many viewers.
pub fn write_frame_header(header: FrameHeader, groups: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FRAME_VERSION, header.flags]);
    out.extend_from_slice(&groups.to_le_bytes());
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
        for index in [cell.x, cell.y, cell.z] {
            out.extend_from_slice(&index.to_le_bytes());
        }
        let count_at = out.len();
        out.extend_from_slice(&[0, 0]);
        Self { out, count_at, cell, members: 0 }
    }

    /// Appends a member. Its head is brought to within 32 m of the group's cell, its hands to within 8 m of
    /// the head.
    ///
    /// # Panics
    /// After 65,535 members: a room has fewer.
    pub fn entry(&mut self, slot: u16, pose: &Pose) {
        self.members = self.members.checked_add(1).expect("a group has fewer than 65,536 members");
        let mut bytes = [0; ENTRY_BYTES_MAX];
        bytes[..2].copy_from_slice(&slot.to_le_bytes());
        bytes[2] = mask_of(pose);
        let end = put_parts(&mut bytes, 3, self.cell, pose);
        self.out.extend_from_slice(&bytes[..end]);
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
        write_frame_header(header, 0, out);
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

    /// Fills in the group count and gives it.
    pub fn finish(self) -> u16 {
        self.out[self.start + 2..self.start + 4].copy_from_slice(&self.groups.to_le_bytes());
        self.groups
    }
}

/// A frame, checked whole, read in place.
#[derive(Clone, Debug)]
pub struct FrameReader<'a> {
    header: FrameHeader,
    group_count: u16,
    body: &'a [u8],
}

impl<'a> FrameReader<'a> {
    /// Checks `bytes` from beginning to end. Allocates nothing, whatever the counts in them say.
    ///
    /// # Errors
    /// When they are not exactly one frame of this version.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let mut cursor = Cursor { rest: bytes };
        let [version, flags] = cursor.take()?;
        if version != FRAME_VERSION {
            return Err(FrameError::UnknownVersion);
        }
        let group_count = u16::from_le_bytes(cursor.take()?);
        let tick = u32::from_le_bytes(cursor.take()?);
        let time_ms = u32::from_le_bytes(cursor.take()?);
        let body = cursor.rest;
        for _ in 0..group_count {
            read_group(&mut cursor)?;
        }
        if !cursor.rest.is_empty() {
            return Err(FrameError::TrailingBytes);
        }
        Ok(Self { header: FrameHeader { flags, tick, time_ms }, group_count, body })
    }

    /// Flags, tick and time.
    pub fn header(&self) -> FrameHeader {
        self.header
    }

    /// The groups in order.
    pub fn groups(&self) -> impl Iterator<Item = Group<'a>> + use<'a> {
        let mut cursor = Cursor { rest: self.body };
        // `new` has read all of them, so none is lost here.
        (0..self.group_count).map_while(move |_| read_group(&mut cursor).ok())
    }

    /// Every group's members in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<'a> {
        self.groups().flat_map(|group| group.entries())
    }
}

/// The members of one cell in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// What the positions are relative to.
    pub cell: Cell32,
    members: u16,
    body: &'a [u8],
}

impl<'a> Group<'a> {
    /// How many members there are.
    pub fn members(&self) -> u16 {
        self.members
    }

    /// The members in order. Rotations are quaternions.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<'a> {
        let mut cursor = Cursor { rest: self.body };
        let cell = self.cell;
        (0..self.members).map_while(move |_| {
            let slot = u16::from_le_bytes(cursor.take().ok()?);
            let [mask] = cursor.take().ok()?;
            let pose = read_parts(&mut cursor, cell, mask).ok()?;
            Some(Entry { slot, pose })
        })
    }
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

/// Reads a pose that a client sent. Rotations are quaternions. The format can say positions that are beyond
/// [`crate::limits::MAX_POSITION_M`]: [`Pose::validate`] has the last word.
///
/// # Errors
/// When the bytes are not exactly one pose.
pub fn decode_pose(bytes: &[u8]) -> Result<Pose, FrameError> {
    let mut cursor = Cursor { rest: bytes };
    let [mask] = cursor.take()?;
    let cell = read_cell(&mut cursor)?;
    let pose = read_parts(&mut cursor, cell, check_mask(mask)?)?;
    if cursor.rest.is_empty() { Ok(pose) } else { Err(FrameError::TrailingBytes) }
}

fn mask_of(pose: &Pose) -> u8 {
    let left = if pose.left_hand.is_some() { MASK_LEFT } else { 0 };
    let right = if pose.right_hand.is_some() { MASK_RIGHT } else { 0 };
    left | right
}

fn check_mask(mask: u8) -> Result<u8, FrameError> {
    if mask & !(MASK_LEFT | MASK_RIGHT) == 0 { Ok(mask) } else { Err(FrameError::UnknownMask) }
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

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), FrameError> {
        self.rest = self.rest.get(count..).ok_or(FrameError::Truncated)?;
        Ok(())
    }
}

fn read_cell(cursor: &mut Cursor<'_>) -> Result<Cell32, FrameError> {
    let x = i16::from_le_bytes(cursor.take()?);
    let y = i16::from_le_bytes(cursor.take()?);
    let z = i16::from_le_bytes(cursor.take()?);
    Ok(Cell32 { x, y, z })
}

/// Reads a group's header and walks over its members.
fn read_group<'a>(cursor: &mut Cursor<'a>) -> Result<Group<'a>, FrameError> {
    let cell = read_cell(cursor)?;
    let members = u16::from_le_bytes(cursor.take()?);
    let body = cursor.rest;
    for _ in 0..members {
        cursor.skip(2)?;
        let [mask] = cursor.take()?;
        let parts = 1 + check_mask(mask)?.count_ones() as usize;
        cursor.skip(parts * PART_BYTES)?;
    }
    let used = body.len() - cursor.rest.len();
    Ok(Group { cell, members, body: &body[..used] })
}

fn read_parts(cursor: &mut Cursor<'_>, cell: Cell32, mask: u8) -> Result<Pose, FrameError> {
    let (head_m, rotation) = read_part(cursor, cell.origin_m(), HEAD_STEPS_PER_M)?;
    let mut hand = |bit: u8| -> Result<Option<Part>, FrameError> {
        if mask & bit == 0 {
            return Ok(None);
        }
        let (position, rotation) = read_part(cursor, head_m, HAND_STEPS_PER_M)?;
        Ok(Some(Part { position: position.map(|metres| metres as f32), rotation }))
    };
    let left_hand = hand(MASK_LEFT)?;
    let right_hand = hand(MASK_RIGHT)?;
    let head = Part { position: head_m.map(|metres| metres as f32), rotation };
    Ok(Pose { head, left_hand, right_hand })
}

fn read_part(
    cursor: &mut Cursor<'_>,
    origin_m: [f64; 3],
    steps_per_m: f64,
) -> Result<([f64; 3], Rotation), FrameError> {
    let mut position = origin_m;
    for axis in &mut position {
        *axis += f64::from(i16::from_le_bytes(cursor.take()?)) / steps_per_m;
    }
    let rotation = dequantise_rotation(u32::from_le_bytes(cursor.take()?));
    Ok((position, Rotation::Quaternion(rotation)))
}
