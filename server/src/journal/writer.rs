//! The journal's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Clock;
use engine::journal::Receipt;
use replay::Encoder;
use tracing::error;

use super::ROOMS_REMEMBERED;
use super::backend::{Backend, BackendError, Entry};
use super::counts::{Dropped, Lane};
use super::ids::Ids;
use super::lanes::{Lanes, Task, Waiting};

/// How often the backend is looked after.
const TEND: Duration = Duration::from_secs(1);

/// How long after a failed write the first new try is made. Each further one comes after twice the time…
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// …up to this.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Takes from the lanes and writes to the backend.
pub(super) struct Writer {
    lanes: Arc<Lanes>,
    backend: Box<dyn Backend>,
    clock: Arc<dyn Clock>,
    encoder: Encoder,
    ids: Ids,
    tend_at: Instant,
}

/// What is written together.
#[derive(Default)]
struct Batch {
    /// As it came. Empty as soon as it has ids.
    waiting: Vec<Waiting>,
    /// The same, encoded. What failed is tried again just as it is, so that nothing is there twice.
    entries: Vec<Entry>,
    receipts: Vec<Receipt>,
}

impl Writer {
    pub(super) fn new(lanes: Arc<Lanes>, backend: Box<dyn Backend>, clock: Arc<dyn Clock>) -> Self {
        let (encoder, ids) = (Encoder::new(), Ids::new(ROOMS_REMEMBERED));
        Self { lanes, backend, clock, encoder, ids, tend_at: Instant::now() }
    }

    /// Works until the journal is closed.
    pub(super) fn run(mut self) {
        // Should it panic, the lanes take no more: rooms are told so, and the server goes on without a journal.
        let _end = End(self.lanes.clone());
        let mut batch = Batch::default();
        loop {
            self.tend_if_due();
            let task = self.lanes.next(&mut batch.waiting, self.tend_at);
            match task {
                Task::Tend => {}
                Task::Write => {
                    // If it is being closed meanwhile, the next task says so.
                    self.write(&mut batch);
                }
                Task::Close(by) => {
                    if Instant::now() >= by {
                        self.give_up(&mut batch);
                    }
                    if batch.waiting.is_empty() || !self.write(&mut batch) {
                        break;
                    }
                }
            }
        }
        self.backend.close();
    }

    fn tend_if_due(&mut self) {
        if Instant::now() >= self.tend_at {
            let now_ms = self.clock.now().as_millis();
            self.backend.tend(now_ms);
            self.lanes.note_backend(&*self.backend);
            self.lanes.note_time(now_ms);
            // Counted from the end: looking after may take a while.
            self.tend_at = Instant::now() + TEND;
        }
    }

    /// Writes the batch, however often it takes. False: there was no time left, and it is lost.
    fn write(&mut self, batch: &mut Batch) -> bool {
        let mut retry = RETRY_FIRST;
        loop {
            match self.attempt(batch) {
                Ok(()) => break,
                Err(error) => {
                    self.lanes.counts.failures.inc();
                    self.lanes.note_problem(Some(error.to_string()));
                }
            }
            if self.lanes.pause(retry).is_some_and(|by| Instant::now() >= by) {
                self.give_up(batch);
                return false;
            }
            retry = (retry * 2).min(RETRY_MAX);
            // Also now: what is too old may be what fills the disk.
            self.tend_if_due();
        }
        self.lanes.note_problem(None);
        self.lanes.note_backend(&*self.backend);
        self.count(&batch.entries);
        batch.entries.clear();
        self.backend.confirm(std::mem::take(&mut batch.receipts));
        true
    }

    fn attempt(&mut self, batch: &mut Batch) -> Result<(), BackendError> {
        if !batch.waiting.is_empty() {
            self.learn(&batch.waiting)?;
            self.encode(batch);
        }
        if batch.entries.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let written = self.backend.write(&batch.entries);
        self.lanes.counts.commit.observe(started.elapsed().as_secs_f64());
        written
    }

    /// Finds out where the ids of the rooms go on that have not been seen yet.
    fn learn(&mut self, waiting: &[Waiting]) -> Result<(), BackendError> {
        self.ids.begin();
        for Waiting { room, .. } in waiting {
            if !self.ids.knows(room) {
                let last = self.backend.last_id(room)?;
                self.ids.learn(room.clone(), last);
            }
        }
        Ok(())
    }

    fn encode(&mut self, batch: &mut Batch) {
        for Waiting { room, record, receipt, .. } in batch.waiting.drain(..) {
            let kind = record.content.kind();
            match self.encoder.encode(&record) {
                Ok(payload) => {
                    let id = self.ids.next(&room, record.at_ms);
                    batch.entries.push(Entry { room, id, kind, payload });
                    batch.receipts.extend(receipt);
                }
                Err(error) => {
                    error!(%error, ?kind, "a record cannot be written down");
                    self.lanes.counts.drop(lane(kind.is_reliable()), Dropped::TooLarge, 1);
                }
            }
        }
    }

    fn count(&mut self, entries: &[Entry]) {
        let counts = &self.lanes.counts;
        let reliable = entries.iter().filter(|entry| entry.kind.is_reliable()).count();
        counts.write(Lane::Reliable, reliable);
        counts.write(Lane::Lossy, entries.len() - reliable);
        counts.bytes.inc_by(entries.iter().map(|entry| entry.payload.len() as u64).sum());
        // All that have an id are written now.
        self.ids.forget();
    }

    fn give_up(&mut self, batch: &mut Batch) {
        if batch.waiting.is_empty() && batch.entries.is_empty() {
            return;
        }
        let kinds = batch.waiting.iter().map(|waiting| waiting.record.content.kind());
        let reliable: Vec<_> = kinds
            .chain(batch.entries.iter().map(|entry| entry.kind))
            .map(|kind| kind.is_reliable())
            .collect();
        error!(records = reliable.len(), "the journal is closed before it could write all that waited");
        for is_reliable in reliable {
            self.lanes.counts.drop(lane(is_reliable), Dropped::Closed, 1);
        }
        *batch = Batch::default();
    }
}

fn lane(is_reliable: bool) -> Lane {
    if is_reliable { Lane::Reliable } else { Lane::Lossy }
}

/// Whatever way the thread ends, whoever waits for that hears of it.
struct End(Arc<Lanes>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note_problem(Some("its thread has panicked".into()));
        }
        self.0.end();
    }
}
