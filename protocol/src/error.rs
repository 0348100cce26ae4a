//! The codes in which a failure is told to a client.

use serde::Serialize;

/// What went wrong, as a client's code may test it. The text form is part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The payload is not what the event takes.
    BadRequest,
    /// The sender is in no room.
    NotInRoom,
    /// The room has as many members as it may have.
    RoomFull,
    /// The room wants a password, and this is not it.
    WrongPassword,
    /// There is no such object or member in the room.
    NotFound,
    /// The object exists and belongs to somebody else.
    Exists,
    /// The object has changed since the version that the sender knew.
    StaleVersion,
    /// A limit of the room or of the server is reached.
    Limit,
    /// The sender is sending more than it may.
    RateLimited,
    /// The server is too busy to take this now; it did not happen.
    Overloaded,
    /// It happened, but could not be stored durably.
    Storage,
    /// This server cannot do that (yet, or as it is configured).
    Unavailable,
    /// The server is going down; connect again when told.
    Draining,
    /// A worker could not do the task, or its answer was no good.
    WorkerFailed,
}

impl ErrorCode {
    /// The code's text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotInRoom => "not_in_room",
            Self::RoomFull => "room_full",
            Self::WrongPassword => "wrong_password",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::StaleVersion => "stale_version",
            Self::Limit => "limit",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Storage => "storage",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::WorkerFailed => "worker_failed",
        }
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A failure in the contract's form: `{code, message}`. The message is for a developer to read and never holds
/// anything that the client did not send or that the server should keep to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// What a program tests.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: std::borrow::Cow<'static, str>,
}

impl ClientError {
    /// An error with this code and text.
    pub fn new(code: ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The payload is not what the event takes; `message` says what it should be.
    pub fn bad_request(message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// What was asked for is done in a room, and the session is in none.
    pub fn not_in_room() -> Self {
        Self::new(ErrorCode::NotInRoom, "join a room first")
    }
}
