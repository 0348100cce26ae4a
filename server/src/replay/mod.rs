//! What was written down, read back.

mod begun;
pub mod both;
pub mod command;
mod mend;
pub mod playback;
pub mod query;
pub mod readers;
pub mod recordings;
pub mod sqlite;
pub mod transfer;
pub mod walk;

use std::fmt;
use std::io;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use readers::Readers;
use recordings::Recordings;

/// The recordings, and all that is needed to tell somebody of them.
pub struct Replays {
    /// Where they are.
    pub recordings: Arc<dyn Recordings>,
    /// Who reads them.
    pub readers: Readers,
    /// What has come of it.
    pub counts: ReplayCounts,
}

/// What `/metrics` shows of reading.
#[derive(Debug, Default, Clone)]
pub struct ReplayCounts {
    /// Readings refused because too many were under way.
    pub refused: Counter,
    /// Readings that failed.
    pub failed: Counter,
    /// Readings given up because nobody took what was read.
    pub abandoned: Counter,
    /// Records that were damaged and left out, once for each reading.
    pub damaged: Counter,
}

impl Replays {
    /// Starts the threads that read `recordings`. To be called from a thread that is bound to no core.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(recordings: Arc<dyn Recordings>, registry: &mut Registry) -> io::Result<Self> {
        let counts = ReplayCounts::default();
        for (name, help, counter) in [
            ("replay_refused", "Readings refused because too many were under way", &counts.refused),
            ("replay_failed", "Readings of recordings that failed", &counts.failed),
            ("replay_abandoned", "Readings given up because nobody took what was read", &counts.abandoned),
            ("replay_damaged_records", "Damaged records left out of a reading", &counts.damaged),
        ] {
            registry.register(name, help, counter.clone());
        }
        Ok(Self { recordings, readers: Readers::start()?, counts })
    }
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replays").field("readers", &self.readers).finish_non_exhaustive()
    }
}
