//! What a shard gives to the journal, and who waits for it.

use std::sync::Arc;

use replay::{Record, RecordKind};
use tokio::sync::oneshot;
use tokio::time::{Timeout, timeout};

use super::{Hosted, JobDone, Shard};
use crate::limits::{JOURNAL_PATIENCE, MAX_AWAITED_RECORDS, POSE_CHUNK};
use crate::room::{Awaits, RecordEffect, StoreEffect};
use crate::session::Session;
use crate::time::Time;

/// The journal's word on a record, which is waited for until a certain moment.
pub(super) type Promise = Timeout<oneshot::Receiver<()>>;

/// What the journal has said of itself.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct JournalWord {
    /// How many samples of poses a second it wants.
    pub(super) pose_hz: u32,
    /// How often it has lost something.
    pub(super) losses: u64,
    /// When it is asked again.
    until: Time,
}

/// Who waits for a record.
pub(super) enum Awaited {
    /// Whoever the room says.
    Record(Awaits<Arc<Session>>),
    /// Who has changed a persistent room. The store has the change.
    Change(Box<StoreEffect<Arc<Session>>>),
}

impl Shard {
    /// Whether what happens in this room is written down; it begins with how the room stands.
    pub(super) async fn begin_recording(&mut self, now: Time, key: u64) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        if !self.engine.journal.is_on() || !open.room.shared().options.record {
            return;
        }
        open.room.begin_recording(now, self.engine.journal.losses(), &mut self.effects);
        self.apply(now, key, None).await;
    }

    /// Gives the journal a record of the room.
    pub(super) fn record(&mut self, key: u64, effect: RecordEffect<Arc<Session>>) {
        let RecordEffect { record, awaits } = effect;
        let promise = self.give(key, record, awaits.is_some());
        if let Some((awaits, promise)) = awaits.zip(promise) {
            self.await_record(key, Awaited::Record(awaits), promise);
        }
    }

    /// Gives the journal a record of the room, and asks it to say when that is durable if anybody wants to know.
    pub(super) fn give(&mut self, key: u64, record: Record, is_awaited: bool) -> Option<Promise> {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return None };
        let kind = record.content.kind();
        let (mut receipt, mut promise) = (None, None);
        if is_awaited {
            let (sender, receiver) = oneshot::channel();
            promise = Some(timeout(JOURNAL_PATIENCE, receiver));
            // Dropped, it says at once that nobody will ever know.
            receipt = (self.awaited < MAX_AWAITED_RECORDS).then_some(sender);
        }
        if self.engine.journal.try_record(&open.room.shared().id, record, receipt).is_err() {
            self.engine.metrics.record_refused(kind.is_reliable());
            if matches!(kind, RecordKind::Keyframe | RecordKind::KeyframeUnchanged) {
                open.room.keyframe_refused();
            }
        }
        promise
    }

    pub(super) fn await_record(&mut self, key: u64, awaited: Awaited, promise: Promise) {
        self.awaited += 1;
        self.jobs.spawn(async move { JobDone::Recorded(key, awaited, matches!(promise.await, Ok(Ok(())))) });
    }

    /// The journal has said whether a record is durable, or its time is up.
    pub(super) fn recorded(&mut self, key: u64, awaited: Awaited, is_durable: bool) {
        self.awaited -= 1;
        if !is_durable {
            self.engine.metrics.late_acks.inc();
        }
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        match awaited {
            Awaited::Record(awaits) => open.room.recorded(awaits, is_durable),
            Awaited::Change(effect) if is_durable => open.room.stored(*effect, true),
            Awaited::Change(effect) => open.room.stored_unrecorded(*effect),
        }
        self.touched.push(key);
    }

    /// What the journal says of itself, as of about a second ago.
    pub(super) fn journal_word(&mut self, now: Time) -> JournalWord {
        if now >= self.journal_word.until {
            let journal = &self.engine.journal;
            let (pose_hz, losses) = (journal.pose_hz(), journal.losses());
            self.journal_word = JournalWord { pose_hz, losses, until: now + POSE_CHUNK };
        }
        self.journal_word
    }
}
