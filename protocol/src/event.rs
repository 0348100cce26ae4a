//! The events that a client may send, as types.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{ClientError, ErrorCode};
use crate::limits::{
    MAX_MESSAGE_BYTES, MAX_OBJECT_BYTES, MAX_OBJECT_ID_BYTES, MAX_PASSWORD_BYTES, MAX_ROOM_ID_BYTES,
    MAX_USER_UPDATE_BYTES, MAX_USERNAME_BYTES,
};
use crate::members::Members;
use crate::playback::{self, Replay};
use crate::pose::Pose;
pub use crate::view::{Point, View};

/// The name of the hot event. A transport may look for it before it looks at anything else.
pub const UPDATE_POSITION: &str = "update-position";

/// Every event that a client may send.
const NAMES: [&str; 15] = [
    UPDATE_POSITION,
    "join-room",
    "leave-room",
    "object-create",
    "object-update",
    "object-delete",
    "user-update",
    "room-message",
    "signal",
    "view",
    "time-sync",
    "worker-task",
    "replay-seek",
    "replay-pause",
    "replay-speed",
];

/// An event from a client, checked.
#[derive(Debug, Clone)]
pub enum ClientEvent<'a> {
    /// `join-room`
    JoinRoom(JoinRoom<'a>),
    /// `leave-room`
    LeaveRoom,
    /// `update-position` with a JSON pose. One with a binary pose is read by [`crate::frame::decode_pose`].
    UpdatePosition(Pose),
    /// `object-create`: any JSON object
    ObjectCreate(Members),
    /// `object-update`
    ObjectUpdate(ObjectUpdate),
    /// `object-delete`: the object's id
    ObjectDelete(String),
    /// `user-update`: what changed
    UserUpdate(Members),
    /// `room-message`
    RoomMessage(RoomMessage<'a>),
    /// `signal`
    Signal(Signal<'a>),
    /// `view`
    View(View),
    /// `time-sync`
    TimeSync,
    /// `worker-task`
    WorkerTask(WorkerTask<'a>),
    /// `replay-seek`, `replay-pause` or `replay-speed`
    Playback(playback::Control),
}

/// How a client wants poses sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One `user-moved` event per moved user.
    #[default]
    Json,
    /// One `users-moved` event per tick.
    Batch,
    /// One `pose-frame` event per tick.
    Binary,
}

/// Payload of `join-room`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRoom<'a> {
    /// The room to join; it is created if there is none of that id.
    #[serde(borrow)]
    pub room_id: Cow<'a, str>,
    /// The room's password, if it has one.
    #[serde(default, borrow)]
    pub password: Option<Cow<'a, str>>,
    /// How poses are to be sent.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Where the client looks from and how far, if not from where it stands and as far as the room lets.
    #[serde(default)]
    pub view: Option<View>,
    /// Of the room's recording rather than of the room as it is now: which part, and how it is played.
    #[serde(default)]
    pub replay: Option<Replay>,
}

/// Payload of `object-update`.
#[derive(Debug, Clone)]
pub struct ObjectUpdate {
    /// Which object.
    pub id: String,
    /// The version that the sender knew, if it wants a conflict told.
    pub version: Option<u64>,
    /// The changed members, without `id` and `version`.
    pub changes: Members,
}

/// Payload of `room-message`. Its `data` stays text, or placeholders of binary attachments.
#[derive(Debug, Clone, Deserialize)]
pub struct RoomMessage<'a> {
    /// What kind of message it is; the application's own word.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Anything.
    #[serde(default, borrow)]
    pub data: Option<&'a RawValue>,
    /// A user's id or a socketId: only that member gets it.
    #[serde(default, borrow)]
    pub to: Option<Cow<'a, str>>,
    /// It may be dropped for a receiver that is behind.
    #[serde(default)]
    pub volatile: bool,
}

/// Payload of `signal`.
#[derive(Debug, Clone, Deserialize)]
pub struct Signal<'a> {
    /// A user's id or a socketId.
    #[serde(borrow)]
    pub to: Cow<'a, str>,
    /// An offer, an answer, a candidate: the application's own.
    #[serde(default, borrow)]
    pub data: Option<&'a RawValue>,
}

/// Payload of `worker-task`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerTask<'a> {
    /// The client's own name for this task; it comes back with the result.
    #[serde(borrow)]
    pub task_id: &'a RawValue,
    /// Which task.
    #[serde(borrow)]
    pub task: Cow<'a, str>,
    /// Its input.
    #[serde(default, borrow)]
    pub payload: Option<&'a RawValue>,
}

impl<'a> ClientEvent<'a> {
    /// Whether the contract knows an event of this name.
    pub fn is_known(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Reads the event `name` with the JSON text of its first argument (empty if it came with none).
    /// `None` for a name that the contract does not know: such events are ignored.
    ///
    /// # Errors
    /// A `bad_request` that says what the event takes.
    pub fn parse(name: &str, payload: &'a str) -> Result<Option<Self>, ClientError> {
        Ok(Some(match name {
            UPDATE_POSITION => Self::UpdatePosition(Pose::from_json(payload)?),
            "join-room" => Self::JoinRoom(JoinRoom::parse(payload)?),
            "leave-room" => Self::LeaveRoom,
            "object-create" => {
                within(payload, MAX_OBJECT_BYTES, "an object is at most 64 KiB")?;
                Self::ObjectCreate(members(payload, "object-create takes a JSON object")?)
            }
            "object-update" => {
                within(payload, MAX_OBJECT_BYTES, "an object is at most 64 KiB")?;
                Self::ObjectUpdate(ObjectUpdate::parse(payload)?)
            }
            "object-delete" => Self::ObjectDelete(
                object_id(&members(payload, "object-delete takes {id}")?)?.ok_or_else(no_object_id)?,
            ),
            "user-update" => Self::UserUpdate(user_update(payload)?),
            "room-message" => {
                within(payload, MAX_MESSAGE_BYTES, "a room-message is at most 64 KiB")?;
                Self::RoomMessage(read(payload, "room-message takes {type, data[, to][, volatile]}")?)
            }
            "signal" => {
                within(payload, MAX_MESSAGE_BYTES, "a signal is at most 64 KiB")?;
                Self::Signal(read(payload, "signal takes {to, data}")?)
            }
            "view" => Self::View(View::parse(payload)?),
            "time-sync" => Self::TimeSync,
            "worker-task" => Self::WorkerTask(read(payload, "worker-task takes {taskId, task, payload}")?),
            "replay-seek" | "replay-pause" | "replay-speed" => {
                Self::Playback(playback::Control::parse(name, payload)?)
            }
            _ => return Ok(None),
        }))
    }
}

impl<'a> JoinRoom<'a> {
    fn parse(payload: &'a str) -> Result<Self, ClientError> {
        let join: Self = read(
            payload,
            "join-room takes {roomId[, password][, encoding: json | batch | binary][, view][, replay]}",
        )?;
        check_room_id(&join.room_id)?;
        if join.password.as_ref().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
            return Err(ClientError::bad_request("a password is at most 128 bytes"));
        }
        if let Some(view) = &join.view {
            view.validate()?;
        }
        if let Some(replay) = &join.replay {
            replay.validate()?;
        }
        Ok(join)
    }
}

/// Checks a room's id: 1 to 128 bytes without control characters.
///
/// # Errors
/// A `bad_request`.
pub fn check_room_id(id: &str) -> Result<(), ClientError> {
    if id.is_empty() || id.len() > MAX_ROOM_ID_BYTES || id.chars().any(char::is_control) {
        return Err(ClientError::bad_request("roomId must be 1 to 128 bytes without control characters"));
    }
    Ok(())
}

/// Checks a username: 1 to 128 bytes without control characters.
///
/// # Errors
/// A `bad_request`.
pub fn check_username(name: &str) -> Result<(), ClientError> {
    if name.trim().is_empty() || name.len() > MAX_USERNAME_BYTES || name.chars().any(char::is_control) {
        return Err(ClientError::bad_request("username must be 1 to 128 bytes without control characters"));
    }
    Ok(())
}

impl ObjectUpdate {
    fn parse(payload: &str) -> Result<Self, ClientError> {
        const TAKES: &str = "object-update takes {id[, version], …changed members}";
        let mut changes = members(payload, TAKES)?;
        let id = object_id(&changes)?.ok_or_else(no_object_id)?;
        changes.remove("id");
        let version = match changes.remove("version") {
            Some(version) => Some(
                serde_json::from_str(version.get())
                    .map_err(|_| ClientError::bad_request("version must be a whole number"))?,
            ),
            None => None,
        };
        Ok(Self { id, version, changes })
    }
}

/// Below this every whole number is a float of its own, in JavaScript as here.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// The id under which an object with these members is kept: its `id` member if that is a string or a number.
///
/// # Errors
/// A `bad_request` if there is an `id` of another kind, or an empty or too long one.
pub fn object_id(members: &Members) -> Result<Option<String>, ClientError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id<'a> {
        #[serde(borrow)]
        Text(Cow<'a, str>),
        Number(serde_json::Number),
    }
    let Some(value) = members.value("id") else { return Ok(None) };
    let id = match serde_json::from_str(value.get()) {
        Ok(Id::Text(text)) => text.into_owned(),
        // Python sends 1.0 where JavaScript, which makes no difference, sends 1.
        Ok(Id::Number(number)) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < MAX_SAFE_INTEGER => {
                (whole as i64).to_string()
            }
            _ => number.to_string(),
        },
        Err(_) => return Err(ClientError::bad_request("an object's id must be a string or a number")),
    };
    if id.is_empty() || id.len() > MAX_OBJECT_ID_BYTES {
        return Err(ClientError::bad_request("an object's id must be 1 to 128 bytes"));
    }
    Ok(Some(id))
}

fn no_object_id() -> ClientError {
    ClientError::bad_request("the object's id is missing")
}

/// Members of a user that only the server sets.
const RESERVED_USER_MEMBERS: [&str; 8] =
    ["id", "socketId", "slot", "position", "rotation", "leftHand", "rightHand", "__proto__"];

fn user_update(payload: &str) -> Result<Members, ClientError> {
    within(payload, MAX_USER_UPDATE_BYTES, "a user-update is at most 4 KiB")?;
    let mut changes = members(payload, "user-update takes {username?, …}")?;
    for name in RESERVED_USER_MEMBERS {
        changes.remove(name);
    }
    if let Some(name) = changes.value("username") {
        let name: Cow<'_, str> = serde_json::from_str(name.get())
            .map_err(|_| ClientError::bad_request("username must be a string"))?;
        check_username(&name)?;
    }
    if changes.is_empty() {
        return Err(ClientError::bad_request("user-update takes at least one member that a user may set"));
    }
    Ok(changes)
}

fn members(payload: &str, takes: &'static str) -> Result<Members, ClientError> {
    serde_json::from_str(payload).map_err(|_| ClientError::bad_request(takes))
}

fn read<'a, T: Deserialize<'a>>(payload: &'a str, takes: &'static str) -> Result<T, ClientError> {
    serde_json::from_str(payload).map_err(|_| ClientError::bad_request(takes))
}

fn within(payload: &str, limit: usize, message: &'static str) -> Result<(), ClientError> {
    if payload.len() > limit { Err(ClientError::new(ErrorCode::Limit, message)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
