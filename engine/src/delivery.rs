//! How long it takes until a tick has gone out on all cores.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::time::Time;

/// One tick on its way. Whoever has a part in it says when that is done; the room asks at its next tick.
#[derive(Debug)]
pub(crate) struct Delivery {
    due: Time,
    /// Parts that are not done: the shard's own, and one for each core that it is handed to.
    parts: AtomicUsize,
    /// When the last of them was, in microseconds.
    done_at: AtomicU64,
}

impl Delivery {
    /// A tick that was due at `due`. The shard's own part is under way.
    pub(crate) fn new(due: Time) -> Self {
        Self { due, parts: AtomicUsize::new(1), done_at: AtomicU64::new(due.as_micros()) }
    }

    /// One part more is under way.
    pub(crate) fn begin_part(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }

    /// A part is done.
    pub(crate) fn end_part(&self, now: Time) {
        self.done_at.fetch_max(now.as_micros(), Ordering::Relaxed);
        // Release: who finds no part left sees when each was done.
        self.parts.fetch_sub(1, Ordering::Release);
    }

    /// How long it took from when the tick was due until it had gone out; `None` if it has not.
    pub(crate) fn took(&self) -> Option<Duration> {
        (self.parts.load(Ordering::Acquire) == 0)
            .then(|| Time::from_micros(self.done_at.load(Ordering::Relaxed)).since(self.due))
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_tick_takes_as_long_as_its_slowest_part() {
        let at = |ms: u64| Time::from_micros(1_000_000 + ms * 1_000);
        let delivery = Delivery::new(at(0));
        for _ in 0..2 {
            delivery.begin_part();
        }
        delivery.end_part(at(3));
        delivery.end_part(at(40));
        assert_eq!(delivery.took(), None);
        delivery.end_part(at(20));
        assert_eq!(delivery.took(), Some(Duration::from_millis(40)));
    }
}
