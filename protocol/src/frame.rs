//! The binary pose frame (server to client) and the binary pose (client to server), version 1.
//!
//! All numbers are little-endian. Writing never fails: what is out of range is brought to the nearest value
//! that can be written. Reading checks everything before it gives anything out.

use thiserror::Error;

use crate::pose::{Part, Pose, Rotation};

mod rotation;
mod write;

pub use rotation::{dequantise_rotation, quantise_rotation};
pub use write::{FrameWriter, GroupWriter, encode_entry, encode_pose, entry_bytes};

/// The frame layout's version, its first byte.
pub const FRAME_VERSION: u8 = 1;
/// Flag: the frame is a full refresh of what its receiver sees.
pub const FLAG_FULL: u8 = 1;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 8;
/// Bytes of the shortest entry: a head.
pub const ENTRY_BYTES_MIN: usize = 3 + PART_BYTES;
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

    pub(crate) fn origin_m(self) -> [f64; 3] {
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

fn check_mask(mask: u8) -> Result<u8, FrameError> {
    if mask & !(MASK_LEFT | MASK_RIGHT) == 0 { Ok(mask) } else { Err(FrameError::UnknownMask) }
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
