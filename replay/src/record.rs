//! What a recording consists of.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Pose;

use crate::RecordId;

/// One thing that is written down of a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it happened, Unix ms.
    pub at_ms: u64,
    /// What it is.
    pub content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Something happened.
    Event(Event),
    /// How everything stands.
    Keyframe(Keyframe),
    /// Who moved where.
    Poses(PoseSamples),
}

/// Tells one member from every other of the same room, as long as one process has the room open. A keyframe that
/// [opens](Keyframe::opens) a recording begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Something that a member did.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Who.
    pub member: MemberId,
    /// The user's id.
    pub user_id: Arc<str>,
    /// The session's public name.
    pub socket_id: Arc<str>,
    /// What.
    pub action: Action,
}

/// What a member did. The texts are JSON, as the others in the room were told.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It came: one `user` of the contract.
    Join {
        /// The `user`, its pose included.
        user: String,
    },
    /// It went.
    Leave,
    /// It made an object, or replaced its own one of that id.
    ObjectCreate {
        /// The object, with its `id`.
        object: String,
        /// Its version.
        version: u64,
    },
    /// It changed an object.
    ObjectUpdate {
        /// `{id, version, …changed members}`
        update: String,
    },
    /// It took an object away.
    ObjectDelete {
        /// The object's id, a JSON string or number.
        id: String,
    },
    /// It said something of itself.
    UserUpdate {
        /// `{id, socketId, …changed members}`
        update: String,
    },
    /// It said something to everybody.
    Message {
        /// `{type, data, from, socketId}`
        message: String,
        /// What `data` refers to.
        attachments: Vec<Bytes>,
    },
}

/// How everything stands at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyframe {
    /// Nobody who was in before is in any more: a process has opened the room.
    pub opens: bool,
    /// How many the room holds at most.
    pub max_users: u32,
    /// Who is in: each one's `user` of the contract, pose included, as JSON.
    pub members: Vec<(MemberId, String)>,
    /// What stands in the room.
    pub objects: Objects,
}

/// The objects of a keyframe.
#[derive(Debug, Clone, PartialEq)]
pub enum Objects {
    /// All of them, as `room-objects` shows them: a JSON array.
    All(String),
    /// The same as in the keyframe of that time, Unix ms, which has all. It is of the same hour.
    UnchangedSince(u64),
}

/// Poses of about a second.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoseSamples {
    /// When samples were taken, Unix ms, each later than the one before.
    pub instants_ms: Vec<u64>,
    /// In the order of their instants. Of a member that has not moved there is none.
    pub samples: Vec<PoseSample>,
}

impl PoseSamples {
    /// The first instant, or 0 if there is none.
    pub fn first_ms(&self) -> u64 {
        self.instants_ms.first().copied().unwrap_or(0)
    }

    /// The last instant, or 0 if there is none.
    pub fn last_ms(&self) -> u64 {
        self.instants_ms.last().copied().unwrap_or(0)
    }
}

/// Where one member was at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoseSample {
    /// Index into the instants.
    pub instant: u16,
    /// Who.
    pub member: MemberId,
    /// Where.
    pub pose: Pose,
}

/// What a stored record is, without a look into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// [`Content::Event`]
    Event = 1,
    /// [`Content::Poses`]
    Poses = 2,
    /// [`Content::Keyframe`] with all objects.
    Keyframe = 3,
    /// [`Content::Keyframe`] whose objects are those of an earlier one.
    KeyframeUnchanged = 4,
}

impl RecordKind {
    /// The kind of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Event, Self::Poses, Self::Keyframe, Self::KeyframeUnchanged]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// Whether it must not be lost.
    pub fn is_reliable(self) -> bool {
        self != Self::Poses
    }
}

impl Content {
    /// What kind of record holds it.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Event(_) => RecordKind::Event,
            Self::Poses(_) => RecordKind::Poses,
            Self::Keyframe(Keyframe { objects: Objects::All(_), .. }) => RecordKind::Keyframe,
            Self::Keyframe(_) => RecordKind::KeyframeUnchanged,
        }
    }
}

/// A record as a store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it stands. Its time may be later than what it tells of.
    pub id: RecordId,
    /// What it is.
    pub kind: RecordKind,
    /// The record, encoded.
    pub payload: Bytes,
}
