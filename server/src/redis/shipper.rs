//! The thread that has to do with Redis: it connects, brings both sides together, and sends what comes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::keys::WRITER;
use super::link::Link;
use super::nodes::Nodes;
use super::queue::{Batch, Item, Queue};
use super::repair::SPOOL;
use super::rooms::Rooms;
use super::spool::Waiting;
use super::status::Status;
use super::streams::Streams;
use super::{ShipError, limits};
use crate::clock::now_ms;
use crate::journal::table::{Table, TableError};

/// Everything that the thread has.
pub(super) struct Shipper {
    pub(super) nodes: Nodes,
    pub(super) directory: PathBuf,
    pub(super) rooms: Rooms,
    pub(super) streams: Streams,
    pub(super) queue: Arc<Queue>,
    pub(super) status: Arc<Status>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) position: Position,
}

/// How far the spool is shipped on this connection, and how fast.
#[derive(Debug)]
pub(super) struct Position {
    row: i64,
    /// The spool, and which of them it is. Closed between connections.
    spool: Option<(u64, Table)>,
    batch_bytes: usize,
    /// Who answered at the first beat of this connection; see [`Link::servers`].
    servers: Option<BTreeSet<String>>,
    /// The newest time of all ids that were shipped, Unix ms.
    newest_ms: u64,
}

impl Position {
    pub(super) fn new() -> Self {
        Self { row: 0, spool: None, batch_bytes: limits::BATCH_BYTES_MAX, servers: None, newest_ms: 0 }
    }
}

impl Shipper {
    /// Works until the server closes.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let error = match self.session(&mut failures).await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.status.set_away(&error.to_string());
            self.position.batch_bytes = (self.position.batch_bytes / 2).max(limits::BATCH_BYTES_MIN);
            failures += 1;
            tokio::select! {
                () = sleep(pause(failures)) => {}
                _ = self.closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    /// One connection from its beginning until it breaks or the server closes.
    async fn session(&mut self, failures: &mut u32) -> Result<(), ShipError> {
        let mut link = Link::connect(&self.nodes).await?;
        self.status.reconnects.inc();
        self.position.servers = None;
        self.rooms.reconcile(&mut link).await?;
        // What was shipped may be gone: everything that the spool has is offered again.
        self.streams.forget();
        self.reopen_spool()?;
        let head = self.queue.head();
        while self.position.row < head && self.ship(&link).await? {}
        *failures = 0;
        self.status.set_healthy();
        let mut next_beat = Instant::now();
        loop {
            if Instant::now() >= next_beat {
                self.beat(&mut link).await?;
                next_beat = Instant::now() + limits::BEAT;
            }
            let has_more = self.rooms.copy(&mut link).await? | self.ship(&link).await?;
            if has_more {
                continue;
            }
            if *self.closing.borrow() {
                self.rooms.forget();
                return Ok(());
            }
            tokio::select! {
                () = self.queue.more.notified() => {}
                () = self.rooms.changed() => {}
                _ = self.closing.wait_for(|closing| *closing) => {}
                _ = tokio::time::sleep_until(next_beat) => {}
            }
        }
    }

    /// Says that we are there, how late it is, and so finds out whether Redis still takes what it is told.
    async fn beat(&mut self, link: &mut Link) -> Result<(), ShipError> {
        let at_ms = self.position.newest_ms.max(self.status.floor_ms.load(Ordering::Relaxed));
        let new: i64 = redis::cmd("HSET").arg(WRITER).arg("at").arg(at_ms).query_async(link).await?;
        let servers = link.servers().await?;
        // Somebody has emptied it, or another server has taken over, without our connection breaking.
        if self.position.servers.as_ref().is_some_and(|before| new > 0 || *before != servers) {
            return Err(ShipError::Changed);
        }
        self.position.servers = Some(servers);
        self.rooms.forget();
        self.streams.tidy_list(link, now_ms()).await?;
        self.status.update_gauges();
        Ok(())
    }

    /// The journal's thread, which writes the spool, puts it right.
    fn damage(&self, error: TableError) -> ShipError {
        let text = error.to_string();
        self.status.report(error);
        ShipError::Spool(text)
    }

    fn reopen_spool(&mut self) -> Result<(), ShipError> {
        let number = self.status.spool();
        let table = Table::open_to_read(&self.directory.join(SPOOL)).map_err(|error| self.damage(error))?;
        if self.position.spool.as_ref().is_some_and(|(before, _)| *before != number) {
            self.streams.forget_rows(self.queue.head());
        }
        self.position.spool = Some((number, table));
        self.position.row = 0;
        Ok(())
    }

    /// Ships the next batch. Whether there was any.
    async fn ship(&mut self, link: &Link) -> Result<bool, ShipError> {
        let number = self.status.spool();
        if self.position.spool.as_ref().is_none_or(|(open, _)| *open != number) {
            self.streams.forget();
            self.reopen_spool()?;
        }
        if self.queue.is_empty(self.position.row) {
            return Ok(false);
        }
        let batch = self.next_batch()?;
        let sent = self.streams.append(link, &batch, now_ms(), &self.status).await?;
        self.queue.remove(&batch);
        self.position.row = batch.until;
        self.position.batch_bytes = (self.position.batch_bytes * 2).min(limits::BATCH_BYTES_MAX);
        let newest_ms = batch.items.iter().map(|item| item.entry.id.ms).max().unwrap_or(0);
        self.position.newest_ms = self.position.newest_ms.max(newest_ms);
        self.status.shipped.inc_by(sent);
        if let Some((spool, _)) = &self.position.spool {
            self.status.reach(*spool, batch.until);
        }
        Ok(true)
    }

    fn next_batch(&self) -> Result<Batch, ShipError> {
        let (after, bytes_max) = (self.position.row, self.position.batch_bytes);
        if let Some(recent) = self.queue.recent(after) {
            let until = recent.last().map_or(after, |item| item.row).max(after);
            return Ok(self.queue.merge(after, recent, until, bytes_max));
        }
        // Read before the table is: what comes in between is for the next time.
        let head = self.queue.head();
        let Some((_, table)) = &self.position.spool else { return Ok(Batch::default()) };
        let mut rows = table.after(after, bytes_max).map_err(|error| self.damage(error))?;
        rows.retain(|(row, _)| *row <= head);
        // Nothing is left of it: what is missing was dropped, or cannot be read.
        let until = rows.last().map_or(head, |(row, _)| *row);
        let items = rows.into_iter().map(|(row, entry)| Item::spooled(row, entry)).collect();
        Ok(self.queue.merge(after, items, until, bytes_max))
    }
}

/// How long to wait after so many failures in a row: longer and longer, and never all servers at once.
fn pause(failures: u32) -> Duration {
    let longest = (limits::PAUSE_MIN * 2u32.saturating_pow(failures - 1)).min(limits::PAUSE_MAX);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Gives receipts when Redis has it too, or has not soon enough. They come in the order of their rows.
pub(super) async fn give_receipts(mut waiting: mpsc::Receiver<Waiting>, status: Arc<Status>) {
    let mut progress = status.progress.subscribe();
    while let Some(next) = waiting.recv().await {
        let row = next.row;
        let shipped = progress.wait_for(|progress| !progress.is_healthy || progress.row >= row);
        let _ = timeout_at(next.until, shipped).await;
        next.tell();
    }
}
