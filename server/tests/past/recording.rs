//! Recordings in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use engine::journal::{Journal, NotRecorded, Receipt};
use replay::{Content, Record, RecordId, RecordKind, StoredRecord, encode};
use server::replay::recordings::{ReadError, Recordings, Span};

/// One room's recording.
pub(crate) struct Memory {
    room: String,
    records: Mutex<BTreeMap<RecordId, StoredRecord>>,
    /// Nothing can be read.
    pub(crate) broken: AtomicBool,
    pub(crate) reads: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(room: &str, records: Vec<StoredRecord>) -> Self {
        let records = records.into_iter().map(|record| (record.id, record)).collect();
        Self {
            room: room.into(),
            records: Mutex::new(records),
            broken: AtomicBool::default(),
            reads: AtomicUsize::default(),
        }
    }

    /// As if all files had been unlinked.
    pub(crate) fn forget(&self) {
        self.records.lock().unwrap().clear();
    }

    /// How many records there are.
    pub(crate) fn count(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    fn read<T>(
        &self,
        room: &str,
        read: impl FnOnce(&BTreeMap<RecordId, StoredRecord>) -> T,
    ) -> Result<T, ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(ReadError("broken on purpose".into()));
        }
        let records = self.records.lock().unwrap();
        Ok(if room == self.room { read(&records) } else { read(&BTreeMap::new()) })
    }
}

impl Recordings for Memory {
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError> {
        self.read(room, |records| {
            let (first, last) = (records.keys().next()?, records.keys().next_back()?);
            Some(Span { first: *first, last: *last })
        })
    }

    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        self.read(room, |records| {
            let mut bytes = 0;
            let within = records.range(from..).take_while(|(id, _)| id.ms <= until_ms);
            let fitting = within.take_while(|(_, record)| {
                let is_first = bytes == 0;
                bytes += record.payload.len();
                is_first || bytes <= bytes_max
            });
            fitting.map(|(_, record)| record.clone()).collect()
        })
    }

    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        self.read(room, |records| {
            let until = RecordId { ms: at_ms, seq: u32::MAX };
            let is_keyframe = |kind| matches!(kind, RecordKind::Keyframe | RecordKind::KeyframeUnchanged);
            records
                .range(..=until)
                .rev()
                .find(|(_, record)| is_keyframe(record.kind))
                .map(|(_, record)| record.clone())
        })
    }
}

/// A journal that writes into a recording, at once.
pub(crate) struct MemoryJournal(pub(crate) Arc<Memory>);

impl Journal for MemoryJournal {
    fn is_on(&self) -> bool {
        true
    }

    fn pose_hz(&self) -> u32 {
        10
    }

    fn try_record(
        &self,
        room: &Arc<str>,
        record: Record,
        receipt: Option<Receipt>,
    ) -> Result<(), NotRecorded> {
        if **room == *self.0.room {
            let (kind, payload) = (record.content.kind(), encode(&record).unwrap());
            // A chunk is written down after its last pose.
            let at_ms = match &record.content {
                Content::Poses(poses) => record.at_ms.max(*poses.instants_ms.last().unwrap()),
                _ => record.at_ms,
            };
            let mut records = self.0.records.lock().unwrap();
            let at = RecordId::at(at_ms);
            let id = records.keys().next_back().map_or(at, |last| at.max(last.next()));
            records.insert(id, StoredRecord { id, kind, payload });
        }
        if let Some(receipt) = receipt {
            // Whoever wanted it may be gone.
            let _ = receipt.send(());
        }
        Ok(())
    }
}
