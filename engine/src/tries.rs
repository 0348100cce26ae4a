//! Counting what is tried at one thing within a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Time;

/// How often something was tried of late. Kept with what it is tried at, the count goes with that and no sooner.
#[derive(Debug, Default)]
pub struct Tries(Mutex<Option<Count>>);

#[derive(Debug)]
struct Count {
    since: Time,
    tries: u32,
}

impl Tries {
    /// Counts one more, of `most` within the time `within` of the first. After that the count begins anew.
    ///
    /// # Errors
    /// How long to wait if there were as many as may be.
    pub fn take(&self, most: u32, within: Duration, now: Time) -> Result<(), Duration> {
        let mut count = self.count();
        match &mut *count {
            Some(Count { since, tries }) if now.since(*since) < within => {
                if *tries >= most {
                    return Err(within.saturating_sub(now.since(*since)));
                }
                *tries += 1;
            }
            _ => *count = Some(Count { since: now, tries: 1 }),
        }
        Ok(())
    }

    /// One that was counted is not to count after all.
    pub fn give_back(&self) {
        let mut count = self.count();
        if let Some(counted) = count.as_mut() {
            counted.tries -= 1;
            // The next one is the first then.
            if counted.tries == 0 {
                *count = None;
            }
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
