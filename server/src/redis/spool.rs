//! The journal's backend: to the disk first, and from there to Redis.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::journal::Receipt;
use replay::RecordId;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::queue::Queue;
use super::repair;
use super::status::{Dropped, Progress, Status};
use super::store::COPY_WAIT;
use crate::journal::backend::{Backend, BackendError, Condition, Entry};
use crate::journal::table::{Table, TableError};

/// How long a record stays in the spool after Redis has taken it. A Redis that comes back empty, or as it was not
/// longer ago than this, gets everything again.
pub const KEPT_AFTER_SHIPPING: Duration = Duration::from_secs(15 * 60);

/// Rows that are taken out at once. More wait for the next second, so that writing is never held up for long.
const ROWS_REMOVED_MAX: i64 = 50_000;

/// Rooms that the spool remembers, so that it is known what was recorded here. Full: those go that have no records in it,
/// the oldest first, and count as rooms that were never recorded here.
const ROOMS_MAX: u64 = 100_000;

/// How often rooms are counted.
const ROOMS_COUNTED_EVERY_MS: u64 = 3_600_000;

/// The part of a full spool that is dropped: the oldest records.
const DROPPED_PART: i64 = 8;

/// Receipts that wait for Redis, in lots of one write each. Full: they are given without it.
pub(super) const RECEIPTS_WAITING: usize = 4_096;

/// Those who wait for everything up to a row.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) row: i64,
    pub(super) until: Instant,
    pub(super) receipts: Vec<Receipt>,
}

/// Writes everything reliable to a file, and hands it and all poses to the thread that ships.
#[derive(Debug)]
pub struct SpoolBackend {
    directory: PathBuf,
    /// None while one that was damaged could not be put together anew. Nothing is taken until there is one on the disk.
    table: Option<Table>,
    bytes_max: u64,
    /// The last row that is known to be written.
    row: i64,
    losses: u64,
    /// Until when what was shipped, Unix ms, in which row; oldest first.
    shipped: VecDeque<(u64, i64)>,
    /// How often some of that had been sent once more by then; see [`Progress`].
    resent: u64,
    /// When rooms are counted next, Unix ms.
    count_rooms_ms: u64,
    queue: Arc<Queue>,
    status: Arc<Status>,
    waiting: mpsc::Sender<Waiting>,
}

impl SpoolBackend {
    pub(super) fn new(
        (directory, table): (&Path, Table),
        bytes_max: u64,
        queue: Arc<Queue>,
        status: Arc<Status>,
        waiting: mpsc::Sender<Waiting>,
    ) -> Result<Self, TableError> {
        let row = table.rows()?.map_or(0, |(_, last)| last);
        let (directory, table) = (directory.to_owned(), Some(table));
        let shipped = VecDeque::new();
        let mut backend = Self {
            directory,
            table,
            bytes_max,
            row,
            losses: 0,
            shipped,
            resent: 0,
            count_rooms_ms: 0,
            queue,
            status,
            waiting,
        };
        backend.queue.push(&[], None, row);
        backend.status.last_row.store(row, Ordering::Relaxed);
        backend.measure();
        Ok(backend)
    }

    fn measure(&mut self) -> u64 {
        let bytes = self.table.as_ref().and_then(|table| table.bytes().ok()).unwrap_or(0);
        self.status.spool_bytes.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// A file that has become unreadable would refuse everything for ever, whoever has found that out.
    fn repair(&mut self, error: &TableError) -> Result<&mut Table, TableError> {
        // The old one must not write anything any more.
        if let Some(table) = self.table.take() {
            table.abandon();
        }
        let table = repair::repair(&self.directory, error)?;
        self.begin(table)
    }

    /// The spool. If the last attempt to put it together anew came to nothing, this is the next.
    fn table(&mut self) -> Result<&mut Table, TableError> {
        match self.table.take() {
            Some(table) => Ok(self.table.insert(table)),
            None => {
                let table = repair::open(&self.directory)?;
                self.begin(table)
            }
        }
    }

    /// Goes on with another spool, of which Redis has nothing as far as is known.
    fn begin(&mut self, table: Table) -> Result<&mut Table, TableError> {
        self.row = table.rows()?.map_or(0, |(_, last)| last);
        self.losses += 1;
        self.shipped.clear();
        self.queue.begin_anew(self.row);
        self.status.begin_spool(self.row);
        Ok(self.table.insert(table))
    }

    fn insert(&mut self, entries: &[Entry]) -> Result<i64, TableError> {
        if let Some(error) = self.status.take_damage() {
            self.repair(&error)?;
        }
        match self.table()?.insert(entries) {
            Err(error) if error.is_damage() => self.repair(&error)?.insert(entries)?,
            other => other?,
        }
        Ok(self.table()?.rows()?.map_or(0, |(_, last)| last))
    }

    /// Notes until when what was shipped. Of what was sent once more the time begins anew, and not before all of it is
    /// there again.
    fn mark(&mut self, now_ms: u64, progress: Progress) {
        if self.resent != progress.resent {
            self.resent = progress.resent;
            self.shipped.clear();
        }
        if progress.is_healthy && self.shipped.back().is_none_or(|(_, row)| *row < progress.row) {
            self.shipped.push_back((now_ms, progress.row));
        }
    }

    fn remove(&mut self, now_ms: u64) -> Result<(), TableError> {
        let Some((first, last)) = self.table()?.rows()? else { return Ok(()) };
        // Not before, since it may be another spool by now.
        let progress = *self.status.progress.borrow();
        self.mark(now_ms, progress);
        let old_ms = now_ms.saturating_sub(KEPT_AFTER_SHIPPING.as_millis() as u64);
        let mut until = None;
        // As long as Redis is away it may come back without what it had: everything stays.
        while progress.is_healthy && self.shipped.front().is_some_and(|(at_ms, _)| *at_ms < old_ms) {
            until = self.shipped.front().map(|(_, row)| *row);
            // A mark that is not reached within one round stays for the next one.
            if until.is_some_and(|row| row - first >= ROWS_REMOVED_MAX) {
                break;
            }
            self.shipped.pop_front();
        }
        if let Some(until) = until.filter(|until| *until >= first) {
            self.table()?.remove_through(until.min(first + ROWS_REMOVED_MAX).min(progress.row))?;
        }
        if now_ms >= self.count_rooms_ms {
            self.count_rooms_ms = now_ms + ROOMS_COUNTED_EVERY_MS;
            self.table()?.forget_rooms(ROOMS_MAX)?;
        }
        if self.measure() > self.bytes_max {
            let until = first + ((last - first) / DROPPED_PART).min(ROWS_REMOVED_MAX);
            self.table()?.remove_through(until)?;
            self.queue.drop_through(until);
            let dropped = (until - progress.row.max(first - 1)).max(0).cast_unsigned();
            self.status.count_dropped(Dropped::SpoolFull, dropped);
            if dropped > 0 {
                self.losses += 1;
                tracing::error!(dropped, "the spool is full: the oldest records will never get to Redis");
            }
        }
        Ok(())
    }
}

impl Backend for SpoolBackend {
    fn write(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        let reliable: Vec<Entry> = entries.iter().filter(|entry| entry.kind.is_reliable()).cloned().collect();
        let mut first = Some(self.row);
        let spool = self.status.spool();
        if !reliable.is_empty() {
            let last = self.insert(&reliable).map_err(|error| BackendError(error.to_string()))?;
            // Otherwise some had been written before, and which row is whose is not known.
            let is_same = spool == self.status.spool();
            first = first.filter(|first| is_same && last - first == reliable.len() as i64);
            self.row = last;
        }
        self.status.last_row.store(self.row, Ordering::Relaxed);
        self.status.spooled.inc_by(reliable.len() as u64);
        let dropped = self.queue.push(entries, first, self.row);
        self.status.count_dropped(Dropped::QueueFull, dropped);
        Ok(())
    }

    fn confirm(&mut self, receipts: Vec<Receipt>) {
        let progress = *self.status.progress.borrow();
        let waiting = Waiting { row: self.row, until: Instant::now() + COPY_WAIT, receipts };
        if !progress.is_healthy || progress.row >= self.row {
            return waiting.tell();
        }
        match self.waiting.try_send(waiting) {
            Ok(()) => {}
            Err(TrySendError::Full(waiting) | TrySendError::Closed(waiting)) => waiting.tell(),
        }
    }

    fn last_id(&mut self, room: &str) -> Result<Option<RecordId>, BackendError> {
        // The room's own records may be gone from here; then the newest of any room tells how late it was.
        let floor = self.status.floor_ms.load(Ordering::Relaxed);
        let floor = (floor > 0).then(|| RecordId::at(floor));
        let ids = self.table().and_then(|table| Ok([table.last_id(room)?, table.newest_id()?]));
        let ids = ids.map_err(|error| BackendError(error.to_string()))?;
        Ok(ids.into_iter().fold(floor, Option::max))
    }

    fn is_behind(&self) -> bool {
        self.queue.is_behind()
    }

    fn losses(&self) -> u64 {
        // What Redis has lost may be what rooms refer to, for longer than it is kept here.
        self.losses + self.status.setbacks()
    }

    fn tend(&mut self, now_ms: u64) {
        let repaired = match self.status.take_damage() {
            Some(error) => self.repair(&error).map(|_| ()),
            None => Ok(()),
        };
        if let Err(error) = repaired.and_then(|()| self.remove(now_ms)) {
            tracing::warn!(%error, "the spool cannot be shortened");
        }
    }

    fn close(&mut self) {
        let Some(table) = &self.table else { return };
        if let Err(error) = table.checkpoint() {
            // Nothing is lost: the log is read at the next start.
            tracing::warn!(%error, "the spool's log stays as it is");
        }
    }
}

/// How it goes with Redis, for the journal's part of `/api/health`.
#[derive(Debug)]
pub struct SpoolCondition(Arc<Status>);

impl SpoolBackend {
    /// How it is, for those who ask.
    pub fn condition(&self) -> Arc<SpoolCondition> {
        Arc::new(SpoolCondition(self.status.clone()))
    }
}

impl Condition for SpoolCondition {
    fn problem(&self) -> Option<String> {
        let health = self.0.health();
        (!health.connected).then(|| health.last_error.unwrap_or_else(|| "Redis is not there yet".into()))
    }

    fn describe(&self) -> Value {
        let health = self.0.health();
        json!({
            "kind": "redis",
            "bytes": health.spool_bytes,
            "waitingRecords": health.waiting_records,
            "recordsDropped": health.dropped,
        })
    }
}

impl Waiting {
    pub(super) fn tell(self) {
        for receipt in self.receipts {
            // Whoever waited may be gone.
            let _ = receipt.send(());
        }
    }
}

#[cfg(test)]
mod tests;
