//! The workers as `/api/worker/status` shows them.

use serde::Serialize;
use tokio::time::Instant;

use super::board::Dialect;
use super::breaker::BreakerState;
use super::latency::Percentiles;
use super::pool::Pool;

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Its origin.
    pub url: String,
    /// Whether it is given tasks freely.
    pub healthy: bool,
    /// Its circuit: `closed`, `open` or `half-open`.
    pub circuit: &'static str,
    /// Tasks that it has now.
    pub in_flight: usize,
    /// Tasks that it has done.
    pub completed: u64,
    /// Attempts that came to nothing.
    pub failed: u64,
    /// How long its tasks have taken in the last minutes. Absent if it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// What was last wrong with it. Absent if nothing ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// The call by which it takes tasks: `/tasks`, or the older `/execute`.
    pub call: &'static str,
}

/// What was last wrong with a worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// In our words.
    pub message: String,
    /// How long ago that was.
    pub seconds_ago: u64,
}

pub(super) fn of(pool: &Pool) -> Vec<WorkerStatus> {
    let now = Instant::now();
    let one = |(index, worker): (usize, &super::pool::Worker)| {
        pool.with_seat(index, |seat| WorkerStatus {
            name: worker.settings.name.clone(),
            url: worker.settings.origin.as_str().to_owned(),
            healthy: seat.state() == BreakerState::Closed,
            circuit: seat.state().as_str(),
            in_flight: seat.in_flight(),
            completed: seat.completed,
            failed: seat.failed,
            latency_ms: seat.percentiles(now),
            last_error: seat.last_error.map(|(fault, at)| LastError {
                message: fault.to_string(),
                seconds_ago: now.saturating_duration_since(at).as_secs(),
            }),
            call: if seat.dialect == Some(Dialect::Execute) { "/execute" } else { "/tasks" },
        })
    };
    pool.workers.iter().enumerate().map(one).collect()
}
