//! How many rooms each user makes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::Time;

/// Rooms that one user may make within [`MAKER_WINDOW`] of the first of them. Above: 429.
pub const MAX_ROOMS_PER_USER: u32 = 100;

/// How long a user's rooms are counted, from the first one on. After that the count begins anew.
pub const MAKER_WINDOW: Duration = Duration::from_secs(3600);

/// Users whose rooms are counted at once. Full: the one whose count is the oldest is forgotten and may make its rooms
/// anew. Refusing others instead would let whoever logs in often enough shut everybody out.
pub const MAX_MAKERS: usize = 10_000;

/// The users who have made rooms of late.
#[derive(Debug, Default)]
pub(super) struct Makers(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// When the count began, and how many rooms it is.
    by_user: HashMap<String, (Time, u32)>,
    /// The same users, in the order in which their counts began.
    oldest: VecDeque<String>,
}

impl Makers {
    /// Counts one more room of `user`.
    ///
    /// # Errors
    /// How long the user has to wait if it has made as many as it may.
    pub(super) fn take(&self, user: &str, now: Time) -> Result<(), Duration> {
        let mut counts = self.counts();
        counts.forget(now);
        if let Some((since, count)) = counts.by_user.get_mut(user) {
            if *count >= MAX_ROOMS_PER_USER {
                return Err(MAKER_WINDOW.saturating_sub(now.since(*since)));
            }
            *count += 1;
            return Ok(());
        }
        counts.by_user.insert(user.to_owned(), (now, 1));
        counts.oldest.push_back(user.to_owned());
        Ok(())
    }

    /// A room that was counted was not made after all.
    pub(super) fn give_back(&self, user: &str) {
        if let Some((_, count)) = self.counts().by_user.get_mut(user) {
            *count = count.saturating_sub(1);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Forgets who is over its time, and makes room for one more.
    fn forget(&mut self, now: Time) {
        while let Some(user) = self.oldest.front() {
            let is_over = |(since, _): &(Time, u32)| now.since(*since) >= MAKER_WINDOW;
            if self.oldest.len() < MAX_MAKERS && !self.by_user.get(user).is_none_or(is_over) {
                return;
            }
            self.by_user.remove(user);
            self.oldest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_000_000);

    fn make_all(makers: &Makers, user: &str) {
        assert!((0..MAX_ROOMS_PER_USER).all(|_| makers.take(user, NOW).is_ok()));
    }

    #[test]
    fn a_user_makes_so_many_rooms_and_then_waits() {
        let makers = Makers::default();
        make_all(&makers, "ada");
        let later = NOW + MAKER_WINDOW / 4;
        assert_eq!(makers.take("ada", later), Err(MAKER_WINDOW * 3 / 4));
        assert!(makers.take("bob", later).is_ok(), "somebody else");
        makers.give_back("ada");
        assert!(makers.take("ada", later).is_ok() && makers.take("ada", later).is_err());
        assert!(makers.take("ada", NOW + MAKER_WINDOW).is_ok());
        assert_eq!(makers.counts().by_user.len(), 2, "bob's time is not over");
    }

    #[test]
    fn only_so_many_users_are_remembered() {
        let makers = Makers::default();
        make_all(&makers, "ada");
        for index in 1..MAX_MAKERS {
            assert!(makers.take(&index.to_string(), NOW).is_ok());
        }
        assert!(makers.take("ada", NOW).is_ok(), "the oldest of so many is forgotten");
        let counts = makers.counts();
        assert_eq!((counts.by_user.len(), counts.oldest.len()), (MAX_MAKERS, MAX_MAKERS));
    }
}
