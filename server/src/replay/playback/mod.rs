//! Walking inside the past: a client in a private room where a recording is played.
//!
//! Each playback is a task of its own. It reads the recording a little ahead, and once a tick has the private room do
//! what is due by its clock. Ticks, encodings and all that decides who sees whom are those of any room.

mod driver;
mod find;
mod reader;
mod seats;
mod start;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use engine::room::AckId;
use engine::{Engine, Session};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use protocol::error::{ClientError, ErrorCode};
use protocol::event::JoinRoom;
use protocol::playback::Control;
use tokio::sync::{Semaphore, mpsc};

use super::recordings::Recordings;
use seats::{Preparing, Seats};
use start::Wish;

/// Playbacks at once. Full: a join into the past gets `limit`.
pub const MAX_PLAYBACKS: usize = 256;

/// What a client asks of its playback and waits to be looked at, and as much again that waits until the room has been told
/// all that is due. Full: `overloaded`.
pub const MAX_CONTROLS: usize = 16;

/// Reads of recordings at once, of all playbacks together. The others wait for their turn.
pub const MAX_READS: usize = 4;

/// About how many encoded bytes a playback reads at once. It reads the next as many while it plays these.
pub const READ_AHEAD_BYTES: usize = 256 * 1024;

/// Events that a playback hands to its room in one tick, without poses. More wait for the next, and the clock with them.
pub const MAX_EVENTS_PER_PUSH: usize = 1_024;

/// The least time from one beginning to the next of a part that is played again and again.
pub const MIN_LOOP: Duration = Duration::from_secs(1);

/// The most that a playback's clock goes on at once, however long its core was busy with something else: what it has
/// missed is then played late rather than all at once.
pub const MAX_STEP: Duration = Duration::from_secs(2);

/// Reading that takes longer stops a playback's clock meanwhile.
pub const STALL: Duration = Duration::from_millis(100);

/// All playbacks of the server.
pub struct Playbacks {
    engine: Engine,
    recordings: Arc<dyn Recordings>,
    places: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    seats: Seats,
    metrics: PlaybackMetrics,
}

/// What playbacks count.
#[derive(Debug, Clone, Default)]
struct PlaybackMetrics {
    active: Gauge,
    seeks: Counter,
    failed_reads: Counter,
}

impl Playbacks {
    /// No playbacks yet; they will read from `recordings`.
    pub fn new(engine: Engine, recordings: Arc<dyn Recordings>, registry: &mut Registry) -> Arc<Self> {
        let metrics = PlaybackMetrics::default();
        registry.register("playbacks", "Clients who watch a recording", metrics.active.clone());
        registry.register("playback_seeks", "Moments gone to in recordings", metrics.seeks.clone());
        registry.register(
            "playback_failed_reads",
            "Reads of recordings that failed under a playback",
            metrics.failed_reads.clone(),
        );
        Arc::new(Self {
            engine,
            recordings,
            places: Arc::new(Semaphore::new(MAX_PLAYBACKS)),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            seats: Seats::new(metrics.active.clone()),
            metrics,
        })
    }

    /// How many clients watch a recording, or are about to.
    pub fn count(&self) -> usize {
        MAX_PLAYBACKS - self.places.available_permits()
    }

    /// Brings a client into the past. It is answered when it is there, and until then it stays where it is.
    pub fn join(self: &Arc<Self>, session: &Arc<Session>, join: &JoinRoom<'_>, ack: AckId) {
        match self.wish(session, join) {
            Ok((wish, preparing)) => {
                tokio::spawn(start::start(self.clone(), session.clone(), wish, preparing, ack));
            }
            Err(error) => session.refuse(ack, &error),
        }
    }

    /// What is to be prepared, if it may be.
    fn wish(&self, session: &Session, join: &JoinRoom<'_>) -> Result<(Wish, Preparing), ClientError> {
        let replay = join.replay.ok_or_else(|| ClientError::bad_request("replay is missing"))?;
        let room = self.engine.room(&join.room_id);
        let options = room.map_or_else(|| self.engine.default_options(), |room| room.options.clone());
        if !options.admits(join.password.as_deref()) {
            return Err(ClientError::new(ErrorCode::WrongPassword, "Wrong password"));
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            ClientError::new(ErrorCode::Limit, "the server plays as many recordings as it may")
        })?;
        let preparing = self.seats.prepare(session.id()).ok_or_else(|| {
            ClientError::new(ErrorCode::Overloaded, "a recording is being prepared for you")
        })?;
        let wish = Wish {
            room: (&*join.room_id).into(),
            options,
            replay,
            encoding: join.encoding.unwrap_or_default(),
            view: join.view.unwrap_or_default(),
            standing: session.standing(),
            place,
        };
        Ok((wish, preparing))
    }

    /// Hands over what a client asks of its playback.
    pub fn control(&self, session: &Arc<Session>, control: Control, ack: AckId) {
        let playback = self.seats.playback(session.id());
        let error = match playback.map(|sender| sender.try_send((control, ack))) {
            Some(Ok(())) => return,
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                ClientError::new(ErrorCode::Overloaded, "the server is too busy, try again")
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => not_in_past(),
        };
        session.refuse(ack, &error);
    }
}

fn not_in_past() -> ClientError {
    ClientError::new(ErrorCode::NotInRoom, "join a recording first")
}

/// A recording cannot be read now. Why stands in the log.
fn unreadable() -> ClientError {
    ClientError::new(ErrorCode::Storage, "the recording cannot be read")
}

impl std::fmt::Debug for Playbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playbacks").field("count", &self.count()).finish_non_exhaustive()
    }
}
