//! What happened at one moment, as it is read from a recording.

use std::collections::HashSet;
use std::ops::BitOr;
use std::sync::Arc;

use protocol::Pose;

use crate::{Action, MemberId};

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// When, Unix ms.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Somebody moved.
    Move {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
        /// Where to.
        pose: Pose,
    },
    /// Somebody did something.
    Event {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
        /// What.
        action: Action,
    },
    /// The room is opened anew, with these objects and no others, as `room-objects` shows them: a JSON array. Of a room
    /// that ended nothing else tells that what stood there is gone. Only if [wanted](Filter::openings).
    Objects(String),
    /// Here is a record that cannot be read.
    Gap,
}

/// A member's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The user's id.
    pub user_id: Arc<str>,
    /// The session's public name.
    pub socket_id: Arc<str>,
    /// Both as JSON strings, because they are written with every move.
    pub(crate) user_json: Box<str>,
    pub(crate) socket_json: Box<str>,
}

impl Who {
    /// The member of these names.
    pub fn new(user_id: &str, socket_id: &str) -> Self {
        let json = |text: &str| protocol::members::json_string(text).get().into();
        Self {
            user_id: user_id.into(),
            socket_id: socket_id.into(),
            user_json: json(user_id),
            socket_json: json(socket_id),
        }
    }
}

/// Kinds of moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    /// Nothing.
    pub const NONE: Types = Types(0);
    /// Somebody came.
    pub const JOIN: Types = Types(1);
    /// Somebody went.
    pub const LEAVE: Types = Types(2);
    /// Somebody moved.
    pub const MOVE: Types = Types(4);
    /// Somebody made or replaced an object.
    pub const OBJECT_CREATE: Types = Types(8);
    /// Somebody changed an object.
    pub const OBJECT_UPDATE: Types = Types(16);
    /// Somebody took an object away.
    pub const OBJECT_DELETE: Types = Types(32);
    /// Somebody said something of itself.
    pub const USER_UPDATE: Types = Types(64);
    /// Somebody said something to everybody.
    pub const MESSAGE: Types = Types(128);
    /// Everything.
    pub const ALL: Types = Types(u8::MAX);

    const NAMES: [(&'static str, Types); 8] = [
        ("join", Self::JOIN),
        ("leave", Self::LEAVE),
        ("move", Self::MOVE),
        ("object-create", Self::OBJECT_CREATE),
        ("object-update", Self::OBJECT_UPDATE),
        ("object-delete", Self::OBJECT_DELETE),
        ("user-update", Self::USER_UPDATE),
        ("message", Self::MESSAGE),
    ];

    /// The type of that name, as in the `type` of a moment's JSON.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The type of what a member did.
    pub fn of(action: &Action) -> Self {
        match action {
            Action::Join { .. } => Self::JOIN,
            Action::Leave => Self::LEAVE,
            Action::ObjectCreate { .. } => Self::OBJECT_CREATE,
            Action::ObjectUpdate { .. } => Self::OBJECT_UPDATE,
            Action::ObjectDelete { .. } => Self::OBJECT_DELETE,
            Action::UserUpdate { .. } => Self::USER_UPDATE,
            Action::Message { .. } => Self::MESSAGE,
        }
    }

    /// Whether all of `other` is among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The name of a single type.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl BitOr for Types {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which moments are wanted. [Gaps](What::Gap) always are.
#[derive(Debug, Clone)]
pub struct Filter {
    /// None before that time, Unix ms.
    pub from_ms: u64,
    /// None after that time, Unix ms.
    pub to_ms: u64,
    /// Of these types only.
    pub types: Types,
    /// Of the users of these ids only.
    pub users: Option<HashSet<String>>,
    /// Of each member at most so many moves a second, the first of each such part of a second. Above 0.
    pub hz: Option<f64>,
    /// Of each chunk only the last move of each member up to `to_ms`, which takes a fraction of the time and is enough
    /// to know how everything stands then.
    pub only_last_moves: bool,
    /// Also [what stands there](What::Objects) when the room is opened anew, whatever the types and users.
    pub openings: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            from_ms: 0,
            to_ms: u64::MAX,
            types: Types::ALL,
            users: None,
            hz: None,
            only_last_moves: false,
            openings: false,
        }
    }
}

impl Filter {
    pub(crate) fn wants_time(&self, at_ms: u64) -> bool {
        (self.from_ms..=self.to_ms).contains(&at_ms)
    }

    pub(crate) fn wants_user(&self, user_id: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user_id))
    }

    /// Which part of time a move is in, of whose moves only the first is wanted.
    pub(crate) fn part_of_time(&self, at_ms: u64) -> Option<u64> {
        self.hz.map(|hz| (at_ms as f64 * hz / 1_000.0) as u64)
    }

    /// Whether any move from `first_ms` to `last_ms` may be wanted, or may be the first of a part of time that
    /// reaches into what is wanted.
    pub(crate) fn wants_moves_in(&self, first_ms: u64, last_ms: u64) -> bool {
        let part_ms = self.hz.map_or(0, |hz| (1_000.0 / hz).ceil() as u64);
        let is_in_time = last_ms >= self.from_ms.saturating_sub(part_ms) && first_ms <= self.to_ms;
        is_in_time && self.types.contains(Types::MOVE)
    }
}
