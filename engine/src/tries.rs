//! Counting what is tried at one thing within a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Time;

/// How often something was tried of late. Kept with what it is tried at, the count goes with that and no sooner.
#[derive(Debug, Default)]
pub struct Tries(Mutex<Option<Count>>);

/// How often since the first time.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    since: Time,
    tries: u32,
}

impl Count {
    /// The first.
    pub fn begin(now: Time) -> Self {
        Self { since: now, tries: 1 }
    }

    /// When the first was.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Counts one more, of `most` within the time `within` of the first.
    ///
    /// # Errors
    /// How long to wait if there were as many as may be.
    pub fn take(&mut self, most: u32, within: Duration, now: Time) -> Result<(), Duration> {
        if self.tries >= most {
            return Err(within.saturating_sub(now.since(self.since)));
        }
        self.tries += 1;
        Ok(())
    }

    /// One that was counted is not to count after all. Whether any is left.
    pub fn give_back(&mut self) -> bool {
        self.tries = self.tries.saturating_sub(1);
        self.tries > 0
    }
}

impl Tries {
    /// Counts one more, of `most` within the time `within` of the first. After that the count begins anew.
    ///
    /// # Errors
    /// How long to wait if there were as many as may be.
    pub fn take(&self, most: u32, within: Duration, now: Time) -> Result<(), Duration> {
        let mut count = self.count();
        match count.as_mut().filter(|count| now.since(count.since) < within) {
            Some(count) => count.take(most, within, now),
            None => {
                *count = Some(Count::begin(now));
                Ok(())
            }
        }
    }

    /// One that was counted is not to count after all.
    pub fn give_back(&self) {
        let mut count = self.count();
        if count.as_mut().is_some_and(|count| !count.give_back()) {
            // The next one is the first then.
            *count = None;
        }
    }

    fn count(&self) -> MutexGuard<'_, Option<Count>> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_then_one_waits() {
        const NOW: Time = Time::from_micros(1_000_000);
        const WITHIN: Duration = Duration::from_secs(60);
        let (tries, later) = (Tries::default(), NOW + WITHIN / 4);
        assert!(tries.take(2, WITHIN, NOW).is_ok() && tries.take(2, WITHIN, later).is_ok());
        assert_eq!(tries.take(2, WITHIN, later), Err(WITHIN * 3 / 4));
        tries.give_back();
        assert!(tries.take(2, WITHIN, later).is_ok() && tries.take(2, WITHIN, later).is_err());
        assert!(tries.take(2, WITHIN, NOW + WITHIN).is_ok(), "anew");
        tries.give_back();
        tries.give_back();
        assert!(tries.take(1, WITHIN, later).is_ok(), "more than there were");
        assert_eq!(tries.take(1, WITHIN, later), Err(WITHIN), "from the first one on that counts");
    }
}
