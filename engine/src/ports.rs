//! What the engine asks of its surroundings.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use protocol::Outgoing;
use protocol::outgoing::FrameSpan;

/// A session's way out.
///
/// Reliable packets arrive in the order in which they were sent, or the session ends. A tick is volatile: a
/// session that is behind skips it. All methods return at once and may be called from any thread at any time;
/// nearly always it is the fan-out of the session's own core.
pub trait Outbox: Send + Sync + 'static {
    /// Queues a packet that must arrive.
    ///
    /// # Errors
    /// [`OutboxError`]; the caller ends the session.
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError>;

    /// Lets what was queued leave. Whoever sends calls it when it has sent all that it has for now, so that many
    /// packets leave in one write. An outbox that lets them leave by itself needs none.
    fn flush(&self) {}

    /// Sends a tick's poses, with what was queued before, unless the tick before has not left yet.
    ///
    /// # Errors
    /// [`OutboxError`]; the caller ends the session.
    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError>;

    /// Whether everything that was sent has left the queue.
    fn is_idle(&self) -> bool;

    /// Ends the session. What is queued may be lost.
    fn close(&self, reason: CloseReason);
}

/// Why an outbox took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The client does not read: its queue is full.
    #[error("the session's queue is full")]
    Full,
    /// The connection is gone.
    #[error("the session is closed")]
    Closed,
}

/// What became of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickOutcome {
    /// It is on its way.
    Sent,
    /// The queue was not empty: the viewer sees the next one.
    Skipped,
}

/// One tick as one viewer sees it.
#[derive(Debug, Clone, Copy)]
pub enum TickView<'a> {
    /// Many packets in one buffer: all of `spans` but the one at `own`, which is the viewer's own.
    Packets {
        /// Whole WebSocket frames, one after the other.
        buffer: &'a Bytes,
        /// Where each packet stands.
        spans: &'a [FrameSpan],
        /// Index of the span to leave out.
        own: Option<usize>,
    },
    /// One packet.
    Single(&'a Outgoing),
}

/// Why the server ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It took nothing from its queue for too long, or its queue is full. Coming back is welcome.
    SlowReader,
    /// The server is going down. Come back when told.
    Draining,
    /// It broke the protocol.
    ProtocolError,
}

impl CloseReason {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Draining => "draining",
            Self::ProtocolError => "protocol_error",
        }
    }
}

/// Where persistent rooms and their objects are kept.
///
/// Writes take effect in the order in which [`write`](RoomStore::write) was called. Its future resolves when
/// the data would survive the machine's death.
pub trait RoomStore: Send + Sync + 'static {
    /// Every persistent room.
    fn rooms(&self) -> StoreFuture<Vec<StoredRoom>>;

    /// The objects of a room, in no particular order.
    fn objects(&self, room: &str) -> StoreFuture<Vec<StoredObject>>;

    /// Writes all of `writes` or none of them.
    fn write(&self, writes: Vec<RoomWrite>) -> StoreFuture<()>;
}

/// What a store returns.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A store's failure. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A persistent room as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRoom {
    /// The room's id.
    pub id: String,
    /// Its [`RoomOptions`](crate::RoomOptions) as JSON.
    pub options: String,
    /// When it was created, Unix ms.
    pub created_ms: u64,
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The id within its room.
    pub id: String,
    /// Counts its changes, from 1.
    pub version: u64,
    /// The id of the user who created it.
    pub owner: String,
    /// Its members as a JSON object.
    pub json: String,
}

/// One change to be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomWrite {
    /// A persistent room has come to be.
    CreateRoom(StoredRoom),
    /// An object is now this.
    PutObject {
        /// The room's id.
        room: String,
        /// The object, whole.
        object: StoredObject,
    },
    /// An object is gone.
    DeleteObject {
        /// The room's id.
        room: String,
        /// The object's id.
        id: String,
    },
}

/// A store that keeps nothing: persistent rooms live as long as the process.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoStore;

impl RoomStore for NoStore {
    fn rooms(&self) -> StoreFuture<Vec<StoredRoom>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn objects(&self, _: &str) -> StoreFuture<Vec<StoredObject>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn write(&self, _: Vec<RoomWrite>) -> StoreFuture<()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl fmt::Debug for dyn Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}
