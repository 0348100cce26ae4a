//! Rooms, objects and recordings in Redis, by way of this machine's disk.
//!
//! Whatever is to be kept is written to the disk first: rooms and objects to the store, what happens to a *spool*. One
//! thread copies both to Redis, in their order. So nothing waits for Redis, and nothing is lost while it is away. What
//! Redis has is always a beginning of what was meant: see `streams` for how.

mod keys;
mod link;
mod nodes;
mod queue;
mod recordings;
mod repair;
mod rooms;
mod shipper;
mod spool;
mod status;
mod store;
mod streams;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::ports::StoreError;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

pub use keys::{HOUR_MS, RECORDED, ROOMS, RoomKeys, WRITER, hour_of};
pub use nodes::{InvalidUrl, Nodes, URL_RULE};
pub use queue::POSE_BYTES_MAX;
pub use recordings::RedisRecordings;
pub use repair::SPOOL;
pub use spool::{KEPT_AFTER_SHIPPING, SpoolBackend, SpoolCondition};
pub use status::RedisHealth;
pub use store::{COPY_WAIT, RedisStore};
pub use streams::STREAM_RECORDS_MAX;

use crate::journal::table::TableError;
use crate::storage::SqliteStore;
use queue::Queue;
use rooms::Rooms;
use shipper::{Position, Shipper};
use status::Status;
use streams::Streams;

/// How long a start waits for Redis, which may have rooms that the disk lacks.
pub const START_WAIT: Duration = Duration::from_secs(5);

/// How long an end waits for Redis to take the rest.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How sending goes.
mod limits {
    use std::time::Duration;

    /// Bytes of records that are sent at once; half as many after each failure.
    pub(super) const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

    /// Never fewer than these.
    pub(super) const BATCH_BYTES_MIN: usize = 16 * 1024;

    /// How long to wait after a failure, at first and at most.
    pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
    pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);

    /// How often we look whether Redis still takes what it is told.
    pub(super) const BEAT: Duration = Duration::from_secs(1);
}

/// What there is to know for using Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Where it is.
    pub nodes: Nodes,
    /// Where the spool lies: `DATA_DIR`.
    pub directory: PathBuf,
    /// How long recordings are kept.
    pub ttl: Duration,
    /// Bytes of the spool. Full: the oldest eighth of it goes, and what of it Redis does not have yet is counted.
    pub spool_bytes_max: u64,
}

/// Why Redis cannot be used. That it is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be used.
    #[error("the spool in DATA_DIR cannot be opened: {0}")]
    Spool(#[from] TableError),
    /// The system gives no thread or no runtime.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Why sending stopped. It begins anew with a new connection.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("this machine's store: {0}")]
    Store(#[from] StoreError),
    #[error("the spool: {0}")]
    Spool(String),
    #[error("what Redis had is not there any more, or somebody else writes there too")]
    Changed,
    #[error("too many changes to remember them one by one")]
    Overflowed,
    #[error("what is in Redis is not {0}")]
    Foreign(&'static str),
}

/// The server's side of Redis: one thread, and what others have of it.
#[derive(Debug)]
pub struct Redis {
    status: Arc<Status>,
    nodes: Nodes,
    directory: PathBuf,
    store: Arc<SqliteStore>,
    arrived: Arc<Notify>,
    closing: watch::Sender<bool>,
    ended: watch::Receiver<()>,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Redis {
    /// Opens the spool and starts the thread, which connects by itself. `store` has an outbox. The backend is for the
    /// journal.
    ///
    /// # Errors
    /// [`StartError`]; never because Redis is away.
    pub fn start(
        config: RedisConfig,
        store: Arc<SqliteStore>,
        registry: &mut Registry,
    ) -> Result<(Self, SpoolBackend), StartError> {
        // Whichever comes first; both would be the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let RedisConfig { nodes, directory, ttl, spool_bytes_max } = config;
        let (status, queue) = (Arc::new(Status::new(registry)), Arc::new(Queue::default()));
        let (receipts, waiting) = mpsc::channel(spool::RECEIPTS_WAITING);
        let table = repair::open(&directory)?;
        let backend =
            SpoolBackend::new((&directory, table), spool_bytes_max, queue.clone(), status.clone(), receipts)?;
        let arrived = Arc::new(Notify::new());
        let (closing, asked) = watch::channel(false);
        let (end, ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let shipper = Shipper {
            nodes: nodes.clone(),
            directory: directory.clone(),
            rooms: Rooms::new(store.clone(), arrived.clone(), status.clone()),
            streams: Streams::new(ttl, queue.head()),
            queue,
            status: status.clone(),
            closing: asked,
            position: Position::new(),
        };
        let receipts_given = shipper::give_receipts(waiting, status.clone());
        let thread = std::thread::Builder::new().name("redis".into()).spawn(move || {
            // Dropped when the thread ends, however it does.
            let _end = end;
            runtime.spawn(receipts_given);
            runtime.block_on(shipper.run());
        })?;
        let thread = Some(thread);
        let redis =
            Self { status, nodes, directory, store, arrived, closing, ended, runtime: handle, thread };
        Ok((redis, backend))
    }

    /// Waits until both sides have been brought together, the first attempt has failed, or `START_WAIT` is over.
    pub async fn first_attempt(&self) {
        let mut progress = self.status.progress.subscribe();
        let _ = timeout(START_WAIT, progress.wait_for(|progress| progress.has_tried)).await;
    }

    /// The store of rooms for the engine.
    pub fn room_store(&self) -> RedisStore {
        RedisStore::new(self.store.clone(), self.status.clone())
    }

    /// The recordings. They may be read as long as this is not closed.
    pub fn recordings(&self) -> RedisRecordings {
        RedisRecordings::new(self.runtime.clone(), self.nodes.clone(), &self.directory, self.status.clone())
    }

    /// Waits until the store has got rooms from Redis that the engine may not know.
    pub async fn rooms_arrived(&self) {
        self.arrived.notified().await;
    }

    /// How it is now.
    pub fn health(&self) -> RedisHealth {
        self.status.health()
    }

    /// Lets Redis have the rest, if it takes it within `CLOSE_WAIT`. What it does not take stays on the disk. Called
    /// when nothing is written any more, and before the store is closed.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let mut ended = self.ended.clone();
        if timeout(CLOSE_WAIT, ended.changed()).await.is_err() {
            tracing::warn!("Redis does not take the rest in time; it stays on this machine's disk");
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        // Its end may take as long as an answer of Redis; nobody is held up for that, and nothing is lost.
        drop(self.thread.take());
    }
}
