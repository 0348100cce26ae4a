//! Going down without losing anything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::ports::{CloseReason, StoreError};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;
use crate::workers::Workers;

/// How often it is looked whether all that was queued has left.
const LOOK: Duration = Duration::from_millis(10);

/// How long a closed connection gets to say so to its client, of the time that there is.
const GOODBYE: Duration = Duration::from_millis(200);

/// What closing the store may take when the time that there is has been used up. A disk that is only slow is done by
/// then; one that hangs must not keep the process from ending.
const STORE_GRACE: Duration = Duration::from_millis(500);

/// What is left for closing, however long the rest takes: a fifth of the time that there is.
const CLOSING_SHARE: u32 = 5;

/// Resolves when the process is asked to end.
///
/// # Errors
/// If signals cannot be listened to.
pub async fn asked_to_end() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Tells everybody when to come back, waits until what was accepted is stored, tasks are answered and what was queued
/// has left, and ends every session. Tasks for which there is no time are answered with an error before that. Takes
/// `DRAIN_MS` at most; new sessions are refused meanwhile. Answers when that time is over.
pub async fn drain(engine: &Engine, workers: &Workers, config: &Arc<Config>) -> Instant {
    let budget = Duration::from_millis(config.drain_ms);
    let end = Instant::now() + budget;
    let close_by = end - budget / CLOSING_SHARE;
    tracing::info!(sessions = engine.session_count(), "draining");
    engine.begin_drain(config.reconnect_spread_ms);
    let flushed = async {
        // Each core is asked, so whatever it was doing when the drain began is done, and no task begins after this.
        engine.settle().await;
        all_has_left(engine, workers).await;
    };
    if timeout_at(close_by, flushed).await.is_err() {
        let tasks = workers.under_way();
        if tasks > 0 {
            tracing::warn!(tasks, "some tasks are not done in time and are given up");
            workers.give_up();
            let told_by = Instant::now() + end.saturating_duration_since(Instant::now()) / 2;
            let _ = timeout_at(told_by, all_has_left(engine, workers)).await;
        }
        if !engine.is_idle() {
            tracing::warn!("some sessions have not taken all that was queued for them");
        }
    }
    engine.close_sessions(CloseReason::Draining);
    // Departures change persistent rooms no more, but the goodbyes are still being written.
    sleep(GOODBYE.min(end.saturating_duration_since(Instant::now()))).await;
    end
}

/// Waits until every task is answered, and all answers and packets have left.
async fn all_has_left(engine: &Engine, workers: &Workers) {
    // In this order: what comes of a task is queued before the task is over.
    while !(workers.is_idle() && engine.is_idle()) {
        sleep(LOOK).await;
    }
}

/// Waits for the store to close, until `end` and a little longer. What is not on the disk by then is lost, as in a power
/// cut; what is there stays whole.
pub async fn close_store(closing: impl Future<Output = Result<(), StoreError>>, end: Instant) {
    match timeout_at(end + STORE_GRACE, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the store did not close cleanly"),
        Err(_) => tracing::error!("the store did not close in time"),
    }
}

/// When the journal must have written all that waits, if it is to be closed at `end`.
pub fn closed_by(end: Instant) -> std::time::Instant {
    (end + STORE_GRACE / 2).into_std()
}

/// Waits for the journal to close, until `end` and a little longer.
pub async fn close_journal(closing: impl Future<Output = ()>, end: Instant) {
    if timeout_at(end + STORE_GRACE, closing).await.is_err() {
        tracing::error!("the journal did not close in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is paused: it moves only when nothing else can happen, so times are exact and cost none.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_not_waited_for() {
        let end = Instant::now() + Duration::from_secs(10);
        let closed = timeout_at(end + STORE_GRACE * 2, close_store(std::future::pending(), end)).await;
        assert!(closed.is_ok(), "the process would never end");
        assert_eq!(Instant::now(), end + STORE_GRACE);
        let end = Instant::now() + Duration::from_secs(10);
        let closed = timeout_at(end + STORE_GRACE * 2, close_journal(std::future::pending(), end)).await;
        assert!(closed.is_ok(), "nor for a journal");
        assert!(closed_by(end) < Instant::now().into_std(), "it gives up before it is given up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_may_be_slow_and_may_fail() {
        let end = Instant::now();
        let closing = async {
            sleep(STORE_GRACE / 2).await;
            Err(StoreError("the disk is full".into()))
        };
        close_store(closing, end).await;
        assert_eq!(Instant::now(), end + STORE_GRACE / 2);
    }
}
