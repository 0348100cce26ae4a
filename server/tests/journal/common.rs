//! What the tests of the journal share.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::journal::{Journal as _, Receipt};
use engine::{Clock, Time};
use prometheus_client::registry::Registry;
use protocol::Pose;
use replay::{
    Action, Content, Event, MemberId, PoseSample, PoseSamples, Record, RecordId, RecordKind, StoredRecord,
};
use serde_json::{Value, json};
use server::journal::RoomJournal;
use server::journal::backend::{Backend, BackendError, Condition, Entry};
use server::journal::hours::{Hours, HoursSettings};
use server::replay::recordings::Recordings as _;
use server::replay::sqlite::SqliteRecordings;
use tokio::sync::oneshot;

/// Some hour's beginning.
pub(crate) const HOUR: u64 = 1_700_002_800_000;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ALL: HoursSettings = HoursSettings { ttl_ms: u64::MAX, bytes_max: u64::MAX };

pub(crate) fn event(at_ms: u64, text: &str) -> Record {
    let action = Action::ObjectUpdate { update: format!(r#"{{"id":"1","version":2,"text":"{text}"}}"#) };
    let event = Event { member: MemberId(7), user_id: "user_1".into(), socket_id: "socket_1".into(), action };
    Record { at_ms, content: Content::Event(event) }
}

pub(crate) fn poses(at_ms: u64, samples: u16) -> Record {
    let pose: Pose =
        Pose::from_json(r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":0,"y":0,"z":0}}"#).unwrap();
    let sample = |index| PoseSample { instant: 0, member: MemberId(index), pose };
    let samples = (0..u64::from(samples)).map(sample).collect();
    Record { at_ms, content: Content::Poses(PoseSamples { instants_ms: vec![at_ms - 1], samples }) }
}

/// An entry with a payload that is no record: storage does not look into it.
pub(crate) fn entry(room: &str, ms: u64, seq: u32, payload: Vec<u8>) -> Entry {
    let kind = match seq % 3 {
        0 => RecordKind::Poses,
        1 => RecordKind::Event,
        _ => RecordKind::Keyframe,
    };
    Entry { room: room.into(), id: RecordId { ms, seq }, kind, payload: payload.into() }
}

/// A clock that stands still.
pub(crate) struct Standing(pub(crate) AtomicU64);

impl Standing {
    pub(crate) fn at(unix_ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(unix_ms)))
    }
}

impl Clock for Standing {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed) * 1000)
    }
}

pub(crate) fn open_hours(data: &Path, settings: HoursSettings, now_ms: u64) -> Hours {
    Hours::open(data, settings, now_ms, &mut Registry::default()).unwrap()
}

/// A journal that writes to files of hours.
pub(crate) fn on_files(data: &Path, now_ms: u64) -> RoomJournal {
    let hours = open_hours(data, ALL, now_ms);
    let condition = hours.condition();
    let registry = &mut Registry::default();
    RoomJournal::start(10, Box::new(hours), condition, Standing::at(now_ms), registry).unwrap()
}

pub(crate) async fn close(journal: &RoomJournal) {
    let closed = journal.close(Instant::now() + PATIENCE);
    tokio::time::timeout(PATIENCE, closed).await.expect("the journal closes");
}

/// Records and waits until that is durable.
pub(crate) async fn record(journal: &RoomJournal, room: &str, record: Record) {
    let (receipt, durable) = oneshot::channel();
    journal.try_record(&room.into(), record, Some(receipt)).unwrap();
    tokio::time::timeout(PATIENCE, durable).await.expect("an answer").expect("it is durable");
}

/// All that is there of a room, read in pages of `bytes_max`.
pub(crate) fn read_all(recordings: &SqliteRecordings, room: &str, bytes_max: usize) -> Vec<StoredRecord> {
    let (mut records, mut from) = (Vec::new(), RecordId::default());
    loop {
        let page = recordings.page(room, from, u64::MAX, bytes_max).unwrap();
        let Some(last) = page.last() else { return records };
        let sizes: Vec<_> = page.iter().map(|record| record.payload.len()).filter(|size| *size > 0).collect();
        assert!(sizes.len() <= 1 || sizes.iter().sum::<usize>() <= bytes_max);
        from = last.id.next();
        records.extend(page);
        assert!(records.is_sorted_by(|a, b| a.id < b.id));
    }
}

/// A backend that does what a test says.
pub(crate) struct Scripted {
    calls: SyncSender<Vec<Entry>>,
    answers: Mutex<Receiver<Result<(), BackendError>>>,
    last: Option<RecordId>,
    losses: Arc<AtomicU64>,
}

/// The test's end of it.
pub(crate) struct Script {
    /// What is to be written.
    pub(crate) calls: Receiver<Vec<Entry>>,
    /// What comes of it.
    pub(crate) answers: SyncSender<Result<(), BackendError>>,
    /// How often it says that it has lost something.
    pub(crate) losses: Arc<AtomicU64>,
}

impl Script {
    pub(crate) fn call(&self) -> Vec<Entry> {
        self.calls.recv_timeout(PATIENCE).expect("a write")
    }

    pub(crate) fn succeed(&self) {
        self.answers.send(Ok(())).unwrap();
    }

    pub(crate) fn fail(&self) {
        self.answers.send(Err(BackendError("the disk is full".into()))).unwrap();
    }

    /// Lets writes succeed until `count` entries are written, and answers them.
    pub(crate) fn written(&self, count: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        while entries.len() < count {
            entries.extend(self.call());
            self.succeed();
        }
        entries
    }
}

impl Backend for Scripted {
    fn write(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        let gone = |_| BackendError("the test is over".into());
        self.calls.send(entries.to_vec()).map_err(|_| BackendError("the test is over".into()))?;
        self.answers.lock().unwrap().recv().map_err(gone)?
    }

    fn last_id(&mut self, _: &str) -> Result<Option<RecordId>, BackendError> {
        Ok(self.last)
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    fn tend(&mut self, _: u64) {}

    fn close(&mut self) {}
}

pub(crate) struct Fine;

impl Condition for Fine {
    fn problem(&self) -> Option<String> {
        None
    }

    fn describe(&self) -> Value {
        json!({})
    }
}

/// A journal whose backend waits for the test's word at every write.
pub(crate) fn scripted(last: Option<RecordId>) -> (RoomJournal, Script) {
    let (calls, seen) = sync_channel(1);
    let (answers, given) = sync_channel(1_000);
    let losses = Arc::new(AtomicU64::new(0));
    let backend = Scripted { calls, answers: Mutex::new(given), last, losses: losses.clone() };
    let registry = &mut Registry::default();
    let journal =
        RoomJournal::start(10, Box::new(backend), Arc::new(Fine), Standing::at(HOUR), registry).unwrap();
    (journal, Script { calls: seen, answers, losses })
}

pub(crate) fn receipt() -> (Receipt, oneshot::Receiver<()>) {
    oneshot::channel()
}
