//! The engine: shards, fan-outs and the directory, put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use prometheus_client::registry::Registry;
use protocol::Outgoing;
use protocol::error::{ClientError, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::allowance::Allowance;
use crate::directory::{Directory, Lease, RoomShared};
use crate::fanout::{Fanout, FanoutMessage};
use crate::journal::Journal;
use crate::limits::{FANOUT_CAPACITY, MAILBOX_CAPACITY};
use crate::metrics::EngineMetrics;
use crate::options::{RoomDefaults, RoomOptions, RoomRequest};
use crate::ports::{CloseReason, Outbox, RoomStore, RoomWrite, StoreError, StoredRoom};
use crate::room::{SessionId, User};
use crate::session::Session;
use crate::shard::{Shard, ShardMessage};
use crate::time::{Clock, Time};

/// What the engine is built from.
pub struct EngineConfig {
    /// How many cores it runs on: as many shards and fan-outs there are.
    pub cores: usize,
    /// What rooms get that do not say otherwise, and what they may ask for.
    pub rooms: RoomDefaults,
    /// Where persistent rooms are kept.
    pub store: Arc<dyn RoomStore>,
    /// Where what happens in rooms is written down.
    pub journal: Arc<dyn Journal>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

/// One core's part of the engine. Both halves are to be run on that core.
#[derive(Debug)]
pub struct Core {
    /// The rooms of this core.
    pub shard: Shard,
    /// The viewers of this core.
    pub fanout: Fanout,
}

/// The engine as everybody else sees it. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) directory: Directory,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) fanouts: Vec<mpsc::Sender<FanoutMessage>>,
    pub(crate) metrics: EngineMetrics,
    pub(crate) defaults: RoomDefaults,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: DashMap<SessionId, Arc<Session>>,
    /// Rooms that are in no directory.
    pub(crate) private_rooms: AtomicUsize,
    next_session: AtomicU64,
    draining: AtomicBool,
    /// Over how long clients spread their return, in milliseconds. Of meaning while draining.
    spread_ms: AtomicU64,
}

pub(crate) struct ShardHandle {
    pub(crate) mailbox: mpsc::Sender<ShardMessage>,
    /// Members of all its rooms: what placement goes by.
    pub(crate) load: AtomicUsize,
}

/// What came of [`Engine::load_rooms`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedRooms {
    /// How many rooms the store has that can be joined.
    pub rooms: usize,
    /// Rooms whose options cannot be understood.
    pub unreadable: Vec<String>,
}

/// What became of a request for a new room.
#[derive(Debug)]
pub enum Created {
    /// The room is there, with these options: made now, or before and just the same.
    Room(Arc<RoomShared>),
    /// There is a room of that id with other options.
    Conflict,
}

/// Why a room could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// What was asked for is not to be had.
    #[error(transparent)]
    Refused(#[from] ClientError),
    /// The store could not take it.
    #[error("the room could not be stored: {0}")]
    Store(#[from] StoreError),
}

impl Engine {
    /// An engine and the parts of it that are to be run, one [`Core`] per core.
    pub fn new(config: EngineConfig, registry: &mut Registry) -> (Self, Vec<Core>) {
        let (shards, mailboxes): (Vec<_>, Vec<_>) = (0..config.cores)
            .map(|_| {
                let (mailbox, inbox) = mpsc::channel(MAILBOX_CAPACITY);
                (ShardHandle { mailbox, load: AtomicUsize::new(0) }, inbox)
            })
            .unzip();
        let (fanouts, feeds): (Vec<_>, Vec<_>) =
            (0..config.cores).map(|_| mpsc::channel(FANOUT_CAPACITY)).unzip();
        let inner = Arc::new(Inner {
            directory: Directory::default(),
            shards,
            fanouts,
            metrics: EngineMetrics::new(config.cores, registry),
            defaults: config.rooms,
            store: config.store,
            journal: config.journal,
            clock: config.clock,
            sessions: DashMap::new(),
            private_rooms: AtomicUsize::new(0),
            next_session: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            spread_ms: AtomicU64::new(0),
        });
        let cores = mailboxes
            .into_iter()
            .zip(feeds)
            .enumerate()
            .map(|(index, (inbox, feed))| Core {
                shard: Shard::new(index, inbox, inner.clone()),
                fanout: Fanout::new(index, feed, inner.clone()),
            })
            .collect();
        (Self(inner), cores)
    }

    /// Makes the persistent rooms known that the store holds. To be called before the first session, and again when
    /// the store has got rooms from elsewhere; those that are known stay as they are. A room whose options cannot be
    /// understood stays unknown: nobody could tell who may come in.
    ///
    /// # Errors
    /// The store's.
    pub async fn load_rooms(&self) -> Result<LoadedRooms, StoreError> {
        let mut loaded = LoadedRooms::default();
        for room in self.0.store.rooms().await? {
            let Ok(options) = serde_json::from_str::<RoomOptions>(&room.options) else {
                loaded.unreadable.push(room.id);
                continue;
            };
            loaded.rooms += 1;
            let created = Time::from_micros(room.created_ms.saturating_mul(1000));
            self.0.directory.restore(&room.id, options, || self.0.place(), created, self.0.clock.now());
        }
        Ok(loaded)
    }

    /// A new session of `user`, whose way out is `outbox` and whose connection lives on `core`.
    /// `allowance` is that connection's, and outlives the session with it.
    pub fn open_session(
        &self,
        user: User,
        outbox: Arc<dyn Outbox>,
        core: usize,
        allowance: Arc<Allowance>,
    ) -> Arc<Session> {
        let id = SessionId(self.0.next_session.fetch_add(1, Ordering::Relaxed));
        let core = core % self.0.shards.len();
        let session = Arc::new(Session::new(id, user, outbox, core, allowance, self.0.clone()));
        self.0.sessions.insert(id, session.clone());
        self.0.metrics.sessions.inc();
        session
    }

    /// Makes a room, unless it is there already. Once begun this is carried through, whether or not its caller
    /// waits for it.
    ///
    /// # Errors
    /// [`CreateError`]. A persistent room that could not be stored does not exist.
    pub async fn create_room(&self, id: &str, request: &RoomRequest) -> Result<Created, CreateError> {
        protocol::event::check_room_id(id)?;
        if self.is_draining() {
            return Err(draining().into());
        }
        let options = self.0.defaults.accept(request, rand::random())?;
        let place = || self.0.place();
        let lease = self.0.directory.create(id, options.clone(), place, self.0.clock.now())?;
        let room = lease.room().clone();
        if !room.options.matches(&options, request.password.as_deref()) {
            return Ok(Created::Conflict);
        }
        // Not for a new room only: whoever made it may still be waiting for the store at this moment.
        if room.is_unstored() {
            // In a task of its own: a caller that stops waiting must not leave a room that is neither there nor gone.
            let storing = tokio::spawn(store_room(self.0.clone(), lease));
            storing.await.map_err(|_| StoreError("the write was given up".into()))??;
        }
        Ok(Created::Room(room))
    }

    /// All rooms, in no particular order.
    pub fn rooms(&self) -> Vec<Arc<RoomShared>> {
        self.0.directory.rooms()
    }

    /// The room of that id.
    pub fn room(&self, id: &str) -> Option<Arc<RoomShared>> {
        self.0.directory.room(id)
    }

    /// How many rooms there are.
    pub fn room_count(&self) -> usize {
        self.0.directory.len()
    }

    /// How many sessions are connected.
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// What the engine counts.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.0.metrics
    }

    /// The time by the engine's clock.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Whether the engine is going down.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// Begins to go down: joins and new rooms are refused, and every session is told to come back after a time
    /// of its own, chosen evenly from `0..spread_ms`, so that they do not all come at once. Whoever opens a session
    /// from here on is to be sent a [`restart_notice`](Self::restart_notice) with its welcome.
    pub fn begin_drain(&self, spread_ms: u64) {
        self.0.spread_ms.store(spread_ms, Ordering::Relaxed);
        self.0.draining.store(true, Ordering::Release);
        for session in self.sessions() {
            // A session that cannot take it any more is ending anyway.
            let _ = session.outbox().send(&self.restart_packet());
            session.outbox().flush();
        }
    }

    /// What tells one session to come back after a time of its own, if the engine is going down. To be asked for once
    /// the session is open: either it was found when all were told, or this finds that they have been. Both may happen
    /// to one that opens in that very moment; then the later time holds.
    pub fn restart_notice(&self) -> Option<Outgoing> {
        self.is_draining().then(|| self.restart_packet())
    }

    fn restart_packet(&self) -> Outgoing {
        let wait_ms = rand::random_range(0..self.0.spread_ms.load(Ordering::Relaxed).max(1));
        Outgoing::event("server-restart", &serde_json::json!({ "reconnectInMs": wait_ms }))
    }

    /// Waits until every command that was accepted has been carried out, what it changed is stored, and the journal has
    /// said of every record that somebody waits for whether it is durable, for which it has
    /// [`JOURNAL_PATIENCE`](crate::limits::JOURNAL_PATIENCE).
    pub async fn settle(&self) {
        for shard in &self.0.shards {
            let (done, settled) = oneshot::channel();
            if shard.mailbox.send(ShardMessage::Settle(done)).await.is_ok() {
                let _ = settled.await;
            }
        }
    }

    /// Whether every session has been sent all that was queued for it.
    pub fn is_idle(&self) -> bool {
        self.0.sessions.iter().all(|session| session.outbox().is_idle())
    }

    /// Ends every session.
    pub fn close_sessions(&self, reason: CloseReason) {
        for session in self.sessions() {
            session.end(reason);
        }
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.0.sessions.iter().map(|session| session.value().clone()).collect()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("shards", &self.0.shards.len()).finish_non_exhaustive()
    }
}

impl Inner {
    /// The least-loaded shard. Rooms that have no members yet weigh as one, so that a burst of new rooms is
    /// spread as well.
    fn place(&self) -> usize {
        let load = |shard: &ShardHandle| shard.load.load(Ordering::Relaxed);
        let index = (0..self.shards.len()).min_by_key(|&index| load(&self.shards[index])).unwrap_or(0);
        self.shards[index].load.fetch_add(1, Ordering::Relaxed);
        index
    }

    /// Takes back what [`Inner::place`] counted: the room is gone, or was never made.
    pub(crate) fn unplace(&self, shard: usize) {
        self.shards[shard].load.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes out the rooms that were made over HTTP and never entered.
    pub(crate) fn sweep(&self, now: Time) {
        for room in self.directory.sweep(now) {
            self.unplace(room.shard);
        }
    }

    /// The room `id`, made if need be, and a lease on it.
    pub(crate) fn resolve(&self, id: &str) -> Result<Lease, ClientError> {
        if self.is_draining() {
            return Err(draining());
        }
        self.directory.resolve(id, || self.defaults.options(), || self.place(), self.clock.now())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Puts a new room into the store, and lets everybody find it when it is there.
async fn store_room(inner: Arc<Inner>, lease: Lease) -> Result<(), StoreError> {
    let room = lease.room().clone();
    let result = inner.store.write(vec![RoomWrite::CreateRoom(stored(&room))]).await;
    if result.is_ok() {
        room.set_stored();
        return Ok(());
    }
    inner.metrics.store_failures.inc();
    drop(lease);
    if inner.directory.revoke(&room) {
        inner.unplace(room.shard);
    }
    result
}

pub(crate) fn draining() -> ClientError {
    ClientError::new(ErrorCode::Draining, "the server is restarting")
}

fn stored(room: &RoomShared) -> StoredRoom {
    StoredRoom {
        id: room.id.to_string(),
        options: serde_json::to_string(&room.options).expect("options are plain data"),
        created_ms: room.created.as_millis(),
    }
}
