//! Persistent rooms and their objects in SQLite.
//!
//! One thread owns the database. Requests wait in one bounded queue, so that they take effect in the order in
//! which they were made; the thread takes all that are waiting, carries them out in one transaction, and
//! answers when the disk has it. The more there is to write, the more shares one fsync.

mod database;
mod files;
mod outbox;
mod salvage;
mod worker;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use engine::ports::{RoomStore, RoomWrite, StoreError, StoreFuture, StoredObject, StoredRoom};
use tokio::sync::{mpsc, oneshot, watch};

pub use outbox::{Change, Changes, Found, OUTBOX_ROWS_MAX};
use worker::{Answer, Request, Work};

/// Requests that wait for the disk. Full: the next one fails at once; the engine tries a write again.
pub const QUEUE_CAPACITY: usize = 8_192;

/// Bytes of all writes that wait for the disk. Full: the next one fails at once.
pub const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Requests that share a transaction. The rest of the queue waits for the next one.
pub const BATCH_REQUESTS: usize = 1_024;

/// A [`RoomStore`] in a directory of its own.
pub struct SqliteStore {
    queue: Option<mpsc::Sender<Work>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    id: String,
}

/// How a store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why the last write or read failed, if it did. Gone with the next one that succeeds.
    pub last_error: Option<String>,
    /// Where the database of before is, if it could not be read at the start and a new one was begun.
    pub corrupt_moved_to: Option<PathBuf>,
    /// Requests that wait.
    pub queued: usize,
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("DATA_DIR {directory}: {source}")]
    Directory {
        /// `DATA_DIR`.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("DATA_DIR {0} is in use by another server: stop that one or choose another directory")]
    InUse(PathBuf),
    /// The database was written by a newer version.
    #[error(
        "the database in DATA_DIR has format {found}, this server knows up to {known}: use a newer server"
    )]
    TooNew {
        /// The format that was found.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// The database is damaged, and what can be read of it cannot be written. Nothing was changed.
    #[error("the database in DATA_DIR is damaged, and what can be read of it cannot be written: {0}")]
    Salvage(StoreError),
    /// SQLite's own reason, other than corruption.
    #[error("the database in DATA_DIR cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// What the store's thread and everybody else both see.
#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    last_error: Mutex<Option<String>>,
    corrupt_moved_to: Option<PathBuf>,
    /// Counts the batches that have changed something.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn last_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteStore {
    /// The store in `directory`, which is made if absent and is this store's alone until it is closed. A
    /// database that cannot be read is moved aside and a new one begun; [`health`](Self::health) tells.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_as(directory, None)
    }

    /// The same, with an outbox: what changes is noted in the same transaction, so that it can be copied elsewhere. It
    /// holds no more than about `rows_max` changes, as [`OUTBOX_ROWS_MAX`] says.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open_with_outbox(directory: &Path, rows_max: u64) -> Result<Self, OpenError> {
        Self::open_as(directory, Some(rows_max))
    }

    fn open_as(directory: &Path, outbox_rows: Option<u64>) -> Result<Self, OpenError> {
        let opened = files::open(directory, outbox_rows)?;
        let id = opened.database.id()?;
        let shared = Arc::new(Shared { corrupt_moved_to: opened.corrupt_moved_to, ..Shared::default() });
        let (queue, work) = mpsc::channel(QUEUE_CAPACITY);
        let worker = worker::Worker::new(opened.database, opened.lock, work, shared.clone());
        let thread = std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || worker.run())
            .map_err(|source| OpenError::Directory { directory: directory.to_owned(), source })?;
        Ok(Self { queue: Some(queue), shared, thread: Some(thread), id })
    }

    /// How the store is now.
    pub fn health(&self) -> StoreHealth {
        // A thread that has ended, for whatever reason, can store nothing, though no request has failed yet.
        let ended = self.queue.as_ref().is_none_or(mpsc::Sender::is_closed).then(|| closed().to_string());
        StoreHealth {
            last_error: self.shared.last_error().clone().or(ended),
            corrupt_moved_to: self.shared.corrupt_moved_to.clone(),
            queued: self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity()),
        }
    }

    /// What tells this store's database from every other.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Counts the batches of changes that are on the disk; one is counted before its answers are given.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// What the outbox holds after the number `after`, oldest first, `rows_max` at most.
    pub fn changes(&self, after: u64, rows_max: usize) -> StoreFuture<Changes> {
        self.ask(|answer| Request::Changes(after, rows_max, answer))
    }

    /// Takes everything up to the number `until` out of the outbox.
    pub fn copied(&self, until: u64) -> StoreFuture<()> {
        self.ask(|answer| Request::Copied(until, answer))
    }

    /// Takes what was found elsewhere, as far as it is missing here or newer, and not changed here since it was
    /// copied last. How many rooms were new here.
    pub fn merge(&self, found: Vec<Found>) -> StoreFuture<usize> {
        self.ask(|answer| Request::Merge(found, answer))
    }

    /// Waits until everything asked for so far is on the disk.
    ///
    /// # Errors
    /// The store is closed already.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.send_and_wait(Work::Flush).await
    }

    /// Waits until everything asked for so far is on the disk, and gives the directory back. What is asked
    /// for later fails.
    ///
    /// # Errors
    /// The store is closed already.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.send_and_wait(Work::Close).await
    }

    /// Unlike a request, this waits for its place in a full queue.
    async fn send_and_wait(&self, work: impl FnOnce(oneshot::Sender<()>) -> Work) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        let (done, waiting) = oneshot::channel();
        queue.send(work(done)).await.map_err(|_| closed())?;
        waiting.await.map_err(|_| closed())
    }

    /// Takes its place in the queue before it returns: the order of the calls is the order of the effects.
    fn ask<T: Send + 'static>(&self, make: impl FnOnce(Answer<T>) -> Request) -> StoreFuture<T> {
        let (answer, waiting) = oneshot::channel();
        match self.enqueue(make(answer)) {
            Ok(()) => Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(closed())) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn enqueue(&self, request: Request) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        let bytes = request.bytes();
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let result = if before > 0 && before + bytes > QUEUE_BYTES {
            Err(StoreError("too many bytes wait for the disk".into()))
        } else {
            queue.try_send(Work::Request(request)).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    StoreError("too many requests wait for the disk".into())
                }
                mpsc::error::TrySendError::Closed(_) => closed(),
            })
        };
        if result.is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        result
    }
}

fn closed() -> StoreError {
    StoreError("the store is closed".into())
}

impl RoomStore for SqliteStore {
    fn rooms(&self) -> StoreFuture<Vec<StoredRoom>> {
        self.ask(Request::Rooms)
    }

    fn objects(&self, room: &str) -> StoreFuture<Vec<StoredObject>> {
        let room = room.to_owned();
        self.ask(|answer| Request::Objects(room, answer))
    }

    fn write(&self, writes: Vec<RoomWrite>) -> StoreFuture<()> {
        self.ask(|answer| Request::Write(writes, answer))
    }
}

impl Drop for SqliteStore {
    /// Waits for what is queued, so that a store that is dropped is as whole as one that is closed.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there has been logged; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("health", &self.health()).finish_non_exhaustive()
    }
}
