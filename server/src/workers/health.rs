//! Looks after one worker's health.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::pool::Pool;

/// Asks for the health of worker `index` as long as the pool is used: at once, then at intervals, and after a failure
/// when the worker's rest is over.
pub(super) async fn watch(pool: Arc<Pool>, index: usize) {
    let worker = &pool.workers[index];
    let mut next = Instant::now();
    loop {
        let due = pool.with_seat(index, |seat| seat.due());
        tokio::select! {
            () = sleep_until(due.unwrap_or(next)) => {
                let answer = worker.client.health().await;
                pool.looked(index, answer);
                next = Instant::now() + vary(pool.settings.times.health_interval);
            }
            // Its circuit has opened: the next look is another.
            () = worker.opened.notified() => {}
        }
    }
}

/// A time within a fifth of `interval`.
fn vary(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.8..=1.2))
}
