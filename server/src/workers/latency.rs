//! How long a worker's tasks have taken of late.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

/// How long tasks are gathered before the oldest of them are forgotten: what is told covers between one and two of
/// these.
const WINDOW: Duration = Duration::from_secs(300);

/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST_US: u64 = 600_000_000;

/// Times of the tasks that a worker has done in this window and the one before.
#[derive(Debug)]
pub(super) struct Latency {
    since: Instant,
    current: Histogram<u32>,
    before: Histogram<u32>,
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the tasks took no longer.
    pub p50: f64,
    /// Nineteen of twenty took no longer.
    pub p95: f64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    pub(super) fn new(now: Instant) -> Self {
        let empty = || Histogram::new_with_max(LONGEST_US, 2).expect("the bounds are constants that fit");
        Self { since: now, current: empty(), before: empty() }
    }

    pub(super) fn record(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        self.current.saturating_record(took.as_micros().min(u128::from(LONGEST_US)) as u64);
    }

    /// `None` if nothing was done of late.
    pub(super) fn percentiles(&mut self, now: Instant) -> Option<Percentiles> {
        self.turn(now);
        let mut all = self.current.clone();
        // They have the same bounds, so adding cannot fail.
        let _ = all.add(&self.before);
        if all.is_empty() {
            return None;
        }
        let ms = |us: u64| us as f64 / 1000.0;
        Some(Percentiles {
            p50: ms(all.value_at_quantile(0.50)),
            p95: ms(all.value_at_quantile(0.95)),
            p99: ms(all.value_at_quantile(0.99)),
            max: ms(all.max()),
        })
    }

    fn turn(&mut self, now: Instant) {
        let windows = now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs();
        if windows > 0 {
            std::mem::swap(&mut self.current, &mut self.before);
            self.current.reset();
            if windows > 1 {
                self.before.reset();
            }
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_times_are_forgotten() {
        let start = Instant::now();
        let mut latency = Latency::new(start);
        assert_eq!(latency.percentiles(start), None);
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms), start);
        }
        let told = latency.percentiles(start + WINDOW).unwrap();
        assert!((49.0..=52.0).contains(&told.p50) && (98.0..=101.0).contains(&told.p99), "{told:?}");
        assert!(told.max >= 99.0 && told.p95 <= told.p99);
        latency.record(Duration::from_secs(1), start + WINDOW);
        assert!(latency.percentiles(start + WINDOW).unwrap().p50 < 60.0);
        assert!(latency.percentiles(start + WINDOW * 2).unwrap().p50 > 900.0, "the first are out of sight");
        assert_eq!(latency.percentiles(start + WINDOW * 4), None);
        latency.record(Duration::from_secs(86_400), start + WINDOW * 4);
    }
}
