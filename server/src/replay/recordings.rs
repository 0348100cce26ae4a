//! Where recordings are read from.

use replay::{RecordId, StoredRecord};

/// The recordings of all rooms. Every method may wait for a disk or a network, so it is called from a thread that may.
pub trait Recordings: Send + Sync + 'static {
    /// From when to when there are records of the room; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`]
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError>;

    /// The room's records from `from` on, in the order of their ids, none later than `until_ms`: as many as fit into
    /// about `bytes_max` bytes, and at least one if there is one. None: there are no more.
    /// A record that is there and damaged comes without its payload, or as it is.
    ///
    /// # Errors
    /// [`ReadError`]
    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError>;

    /// The room's newest keyframe, of either kind, whose id is not later than `at_ms`.
    ///
    /// # Errors
    /// [`ReadError`]
    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError>;

    /// Whether asking is in vain at present, as far as is known.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether it is known, without asking far away, that nothing was ever recorded of the room here.
    fn is_surely_without(&self, _room: &str) -> bool {
        false
    }
}

/// The first and the last record of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest that is still kept.
    pub first: RecordId,
    /// The newest.
    pub last: RecordId,
}

/// Recordings cannot be read. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);
