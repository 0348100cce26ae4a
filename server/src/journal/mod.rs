//! What happens in rooms, on its way to where it is kept.
//!
//! Rooms hand their records to two lanes (`lanes`) and go on. One thread (`writer`) takes what waits there, encodes
//! it, gives it ids and hands it to a [`Backend`] in batches: by default files, one for each hour ([`hours`]).

pub mod backend;
mod counts;
pub mod folder;
pub mod hours;
mod ids;
mod lanes;
pub mod leftovers;
mod pace;
pub mod salvage;
pub mod table;
mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Clock;
use engine::journal::{Journal, NotRecorded, Receipt};
use prometheus_client::registry::Registry;
use replay::Record;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use backend::{Backend, Condition};
use counts::{Counts, Lane};
use lanes::Lanes;
use writer::Writer;

/// Bytes of the reliable lane: what waits to be written and must not be lost. Full: the next record is refused, which
/// whoever asked for an ack is told.
pub const RELIABLE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of the lossy lane: poses that wait. Half full: fewer are asked for. Full: the oldest second goes.
pub const LOSSY_BYTES: usize = 32 * 1024 * 1024;

/// Records that are written in one go, and their bytes. The rest waits for the next one.
pub const BATCH_RECORDS: usize = 4_096;
/// See [`BATCH_RECORDS`]. A single record may be larger.
pub const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long records are gathered for which nobody waits.
pub const GATHER: Duration = Duration::from_millis(100);

/// How long a journal that is dropped without being closed goes on trying to write what waits.
const CLOSE_UNWATCHED: Duration = Duration::from_secs(10);

/// Rooms whose last id is known without asking the backend. Full: the half that has been silent for longest is
/// forgotten.
pub const ROOMS_REMEMBERED: usize = 65_536;

/// The journal of all rooms.
pub struct RoomJournal {
    lanes: Arc<Lanes>,
    condition: Arc<dyn Condition>,
}

impl RoomJournal {
    /// Starts the journal's thread, which writes to `backend`. Of each room's poses `pose_hz` samples a second are
    /// asked for, as long as they can be written.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        pose_hz: u32,
        backend: Box<dyn Backend>,
        condition: Arc<dyn Condition>,
        clock: Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let lanes = Arc::new(Lanes::new(pose_hz, Counts::new(registry)));
        let writer = Writer::new(lanes.clone(), backend, clock);
        std::thread::Builder::new().name("journal".into()).spawn(move || writer.run())?;
        Ok(Self { lanes, condition })
    }

    /// Takes no more, and writes what waits, for as long as there is time until `by`. Resolves when that is done.
    pub fn close(&self, by: Instant) -> impl Future<Output = ()> + use<> {
        let (closed, waiting) = oneshot::channel();
        self.lanes.close(by, closed);
        async move {
            // A thread that has panicked tells nothing, and has nothing more to write.
            let _ = waiting.await;
        }
    }

    /// How it is, for `/api/health`, and whether it does what it should.
    pub fn health(&self) -> JournalHealth {
        let counts = &self.lanes.counts;
        let problem = self.lanes.problem().or_else(|| self.condition.problem());
        let pose_hz = self.pose_hz();
        let is_degraded = problem.is_some() || pose_hz < self.lanes.pose_hz_max;
        let mut told = self.condition.describe();
        told["status"] = json!(if is_degraded { "degraded" } else { "healthy" });
        told["poseHz"] = json!(pose_hz);
        let of = |lane: Lane| json!({"waitingBytes": counts.waiting(lane), "dropped": counts.dropped(lane)});
        told["reliable"] = of(Lane::Reliable);
        told["lossy"] = of(Lane::Lossy);
        if let Some(problem) = problem {
            told["lastError"] = json!(problem);
        }
        JournalHealth { is_degraded, told }
    }
}

/// How a journal is.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalHealth {
    /// Whether something is lost, or would be if it went on.
    pub is_degraded: bool,
    /// All of it, as `/api/health` tells it.
    pub told: Value,
}

impl Journal for RoomJournal {
    fn is_on(&self) -> bool {
        true
    }

    fn pose_hz(&self) -> u32 {
        self.lanes.pose_hz()
    }

    fn losses(&self) -> u64 {
        self.lanes.losses()
    }

    fn try_record(
        &self,
        room: &Arc<str>,
        record: Record,
        receipt: Option<Receipt>,
    ) -> Result<(), NotRecorded> {
        self.lanes.push(room, record, receipt)
    }
}

impl Drop for RoomJournal {
    /// What waits is written all the same; nobody waits for it.
    fn drop(&mut self) {
        let (closed, _) = oneshot::channel();
        self.lanes.close(Instant::now() + CLOSE_UNWATCHED, closed);
    }
}

impl fmt::Debug for RoomJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomJournal").field("health", &self.health()).finish_non_exhaustive()
    }
}
