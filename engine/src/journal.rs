//! What the engine asks to be written down of its rooms.

use std::sync::Arc;

use replay::Record;
use tokio::sync::oneshot;

/// Where what happens in rooms is written down.
///
/// Records of a room are kept in the order in which they were given. There are two lanes: what is
/// [reliable](replay::RecordKind::is_reliable), and poses. Each holds a limited number of bytes.
pub trait Journal: Send + Sync + 'static {
    /// Whether anything is written down at all.
    fn is_on(&self) -> bool;

    /// How many samples of poses a second are wanted at present: 0 for none. It may change at any time, because a
    /// journal that cannot keep up asks for fewer.
    fn pose_hz(&self) -> u32;

    /// How often something was lost that had been taken. Whoever refers to what it has handed over before hands that
    /// over again when this has grown.
    fn losses(&self) -> u64 {
        0
    }

    /// Takes a record of `room`. Returns at once, whatever the disk does, and may be called from any thread.
    ///
    /// # Errors
    /// [`NotRecorded`]; the record is lost, and counted by the journal.
    fn try_record(
        &self,
        room: &Arc<str>,
        record: Record,
        receipt: Option<Receipt>,
    ) -> Result<(), NotRecorded>;
}

/// Told when a record would survive the machine's death. Dropped if it never will.
pub type Receipt = oneshot::Sender<()>;

/// The journal's lane is full, or it writes nothing down any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal takes no more")]
pub struct NotRecorded;

/// A journal that writes nothing down.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn is_on(&self) -> bool {
        false
    }

    fn pose_hz(&self) -> u32 {
        0
    }

    fn try_record(&self, _: &Arc<str>, _: Record, _: Option<Receipt>) -> Result<(), NotRecorded> {
        Err(NotRecorded)
    }
}
