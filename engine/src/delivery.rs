//! How long it takes until a tick has gone out on all cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::time::Time;

/// One tick on its way. Whoever has a part in it says when that is done; the room asks at its next tick.
///
/// A part that is dropped is over, said or not: a room must not wait for ever for a core that will never send.
#[derive(Debug)]
pub(crate) struct Delivery {
    due: Time,
    /// Parts that are not done: the shard's own, and one for each core that it is handed to.
    parts: AtomicUsize,
    /// When the last of them was, in microseconds.
    done_at: AtomicU64,
}

impl Delivery {
    /// A tick that was due at `due`.
    pub(crate) fn new(due: Time) -> Arc<Self> {
        Arc::new(Self { due, parts: AtomicUsize::new(0), done_at: AtomicU64::new(due.as_micros()) })
    }

    /// One part more is under way, until it is dropped.
    pub(crate) fn part(self: &Arc<Self>) -> DeliveryPart {
        self.parts.fetch_add(1, Ordering::Relaxed);
        DeliveryPart(self.clone())
    }

    /// How long it took from when the tick was due until it had gone out; `None` if it has not.
    pub(crate) fn took(&self) -> Option<Duration> {
        (self.parts.load(Ordering::Acquire) == 0)
            .then(|| Time::from_micros(self.done_at.load(Ordering::Relaxed)).since(self.due))
    }
}

/// A part of a tick's delivery.
#[derive(Debug)]
pub(crate) struct DeliveryPart(Arc<Delivery>);

impl DeliveryPart {
    /// The part is done.
    pub(crate) fn end(self, now: Time) {
        self.0.done_at.fetch_max(now.as_micros(), Ordering::Relaxed);
    }
}

impl Drop for DeliveryPart {
    fn drop(&mut self) {
        // Release: who finds no part left sees when each was done.
        self.0.parts.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_tick_takes_as_long_as_its_slowest_part() {
        let at = |ms: u64| Time::from_micros(1_000_000 + ms * 1_000);
        let delivery = Delivery::new(at(0));
        let [first, second, third, lost] = [(); 4].map(|()| delivery.part());
        first.end(at(3));
        second.end(at(40));
        drop(lost);
        assert_eq!(delivery.took(), None);
        third.end(at(20));
        assert_eq!(delivery.took(), Some(Duration::from_millis(40)));
    }
}
