//! What the journal writes to.

use std::sync::Arc;

use bytes::Bytes;
use engine::journal::Receipt;
use replay::{RecordId, RecordKind};

/// One record, ready to be stored.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The room's id.
    pub room: Arc<str>,
    /// Greater than that of every entry of the room before.
    pub id: RecordId,
    /// What it is, and so the lane that it came by.
    pub kind: RecordKind,
    /// The record, encoded.
    pub payload: Bytes,
}

/// Where a journal's entries go. The journal's own thread calls it, and may wait for a disk; for a network it may not.
pub trait Backend: Send + 'static {
    /// Takes all of `entries`, in their order, or none. When it returns, those of the reliable lane would survive
    /// the machine's death.
    ///
    /// # Errors
    /// [`BackendError`]; the journal tries again with the same entries, ids included, so that what has been written
    /// all the same is known by its id.
    fn write(&mut self, entries: &[Entry]) -> Result<(), BackendError>;

    /// Called after a [`write`](Self::write) with the receipts of what it took. A backend that copies everything to
    /// another place may wait a little until it is there as well, though not in here.
    fn confirm(&mut self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            // Whoever waited may be gone.
            let _ = receipt.send(());
        }
    }

    /// The newest id of the room, for ids to go on from.
    ///
    /// # Errors
    /// [`BackendError`]
    fn last_id(&mut self, room: &str) -> Result<Option<RecordId>, BackendError>;

    /// Whether poses pile up behind it, so that fewer should be taken.
    fn is_behind(&self) -> bool;

    /// How often it has lost something that it had taken.
    fn losses(&self) -> u64;

    /// Called about once a second: what is too old, or too much, is taken out.
    fn tend(&mut self, now_ms: u64);

    /// Called once, at the end of a drain: what still waits is written, or kept where the next start finds it.
    fn close(&mut self);
}

/// A backend's failure. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// How a backend is, for `/api/health`. It is asked from any thread, while the journal's own has the backend.
pub trait Condition: Send + Sync + 'static {
    /// Why it does not work as it should, if so.
    fn problem(&self) -> Option<String>;

    /// What it tells of itself: a JSON object.
    fn describe(&self) -> serde_json::Value;
}
