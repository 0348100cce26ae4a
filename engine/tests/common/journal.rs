//! A journal in memory, which may misbehave.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine::journal::{Journal, NotRecorded, Receipt};
use replay::{Content, Record, RecordKind};

use super::ports::pass;
use super::replayed::Replayed;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is durable after so long.
    Durable(Duration),
    /// It is lost after so long.
    Lost(Duration),
    /// It is not taken.
    Refused,
    /// Nothing is ever said of it.
    Forgotten,
}

/// What it was given, and what it does with what it is given next.
pub(crate) struct MemoryJournal {
    off: AtomicBool,
    pub(crate) hz: AtomicU32,
    /// How often it says that it has lost something.
    pub(crate) losses: AtomicU64,
    /// How often it was asked for that.
    pub(crate) asked: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// What becomes of the records of which nothing else is said.
    usual: Fate,
    /// What becomes of single calls, counted from 0.
    fates: BTreeMap<usize, Fate>,
    calls: usize,
    /// Of each room, what was taken.
    records: BTreeMap<String, Vec<Record>>,
    /// Receipts that were asked for.
    receipts: usize,
    forgotten: Vec<Receipt>,
}

/// The journal as a port.
pub(crate) struct JournalPort(pub(crate) Arc<MemoryJournal>);

impl MemoryJournal {
    pub(crate) fn new(usual: Fate) -> Arc<Self> {
        let state = State {
            usual,
            fates: BTreeMap::new(),
            calls: 0,
            records: BTreeMap::new(),
            receipts: 0,
            forgotten: Vec::new(),
        };
        Arc::new(Self {
            off: AtomicBool::new(false),
            hz: AtomicU32::new(10),
            losses: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn turn_off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    /// From now on this becomes of what it is given.
    pub(crate) fn set_usual(&self, fate: Fate) {
        self.state().usual = fate;
    }

    /// This becomes of the record that it is given after so many others.
    pub(crate) fn set_fate(&self, calls_before: usize, fate: Fate) {
        let mut state = self.state();
        let call = state.calls + calls_before;
        state.fates.insert(call, fate);
    }

    pub(crate) fn receipts(&self) -> usize {
        self.state().receipts
    }

    pub(crate) fn records(&self, room: &str) -> Vec<Record> {
        self.state().records.get(room).cloned().unwrap_or_default()
    }

    pub(crate) fn kinds(&self, room: &str) -> Vec<RecordKind> {
        self.records(room).iter().map(|record| record.content.kind()).collect()
    }

    /// The times of a room's keyframes, Unix ms, and the kind of each.
    pub(crate) fn keyframes(&self, room: &str) -> Vec<(u64, RecordKind)> {
        let records = self.records(room);
        let keyframes = records.iter().filter(|record| matches!(record.content, Content::Keyframe(_)));
        keyframes.map(|record| (record.at_ms, record.content.kind())).collect()
    }

    /// When samples were taken in the room, Unix ms.
    pub(crate) fn instants(&self, room: &str) -> Vec<u64> {
        let records = self.records(room);
        let chunks = records.iter().filter_map(|record| match &record.content {
            Content::Poses(samples) => Some(samples),
            _ => None,
        });
        chunks.flat_map(|samples| samples.instants_ms.iter().copied()).collect()
    }

    /// What the recording says of how the room stands.
    pub(crate) fn replayed(&self, room: &str) -> Replayed {
        let mut replayed = Replayed::default();
        self.records(room).iter().for_each(|record| replayed.read(record));
        replayed
    }
}

impl Journal for JournalPort {
    fn is_on(&self) -> bool {
        !self.0.off.load(Ordering::Relaxed)
    }

    fn pose_hz(&self) -> u32 {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.hz.load(Ordering::Relaxed)
    }

    fn losses(&self) -> u64 {
        self.0.losses.load(Ordering::Relaxed)
    }

    fn try_record(
        &self,
        room: &Arc<str>,
        record: Record,
        receipt: Option<Receipt>,
    ) -> Result<(), NotRecorded> {
        let mut state = self.0.state();
        let call = state.calls;
        state.calls += 1;
        state.receipts += usize::from(receipt.is_some());
        let fate = state.fates.remove(&call).unwrap_or(state.usual);
        if fate == Fate::Refused {
            return Err(NotRecorded);
        }
        state.records.entry(room.to_string()).or_default().push(record);
        let Some(receipt) = receipt else { return Ok(()) };
        match fate {
            Fate::Durable(delay) | Fate::Lost(delay) => {
                tokio::spawn(async move {
                    pass(delay).await;
                    if matches!(fate, Fate::Durable(_)) {
                        let _ = receipt.send(());
                    }
                });
            }
            _ => state.forgotten.push(receipt),
        }
        Ok(())
    }
}
