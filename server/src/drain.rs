//! Going down without losing anything.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::ports::CloseReason;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;

/// How often it is looked whether all that was queued has left.
const LOOK: Duration = Duration::from_millis(10);

/// How long a closed connection gets to say so to its client, of the time that there is.
const GOODBYE: Duration = Duration::from_millis(200);

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

/// Tells everybody when to come back, waits until what was accepted is stored and what was queued has left, and
/// ends every session. Takes `DRAIN_MS` at most; new sessions are refused meanwhile.
pub async fn drain(engine: &Engine, config: &Arc<Config>) {
    let budget = Duration::from_millis(config.drain_ms);
    let end = Instant::now() + budget;
    let close_by = end - budget / CLOSING_SHARE;
    tracing::info!(sessions = engine.session_count(), "draining");
    engine.begin_drain(config.reconnect_spread_ms);
    let flushed = async {
        engine.settle().await;
        while !engine.is_idle() {
            sleep(LOOK).await;
        }
    };
    if timeout_at(close_by, flushed).await.is_err() {
        tracing::warn!("some sessions have not taken all that was queued for them");
    }
    engine.close_sessions(CloseReason::Draining);
    // Departures change persistent rooms no more, but the goodbyes are still being written.
    sleep(GOODBYE.min(end.saturating_duration_since(Instant::now()))).await;
}
