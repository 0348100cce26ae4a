//! How many rooms each user makes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::Time;

use crate::windows::{Rule, Windows};

/// Rooms that one user may make within [`MAKER_WINDOW`] of the first of them. Above: 429.
pub const MAX_ROOMS_PER_USER: u32 = 100;

/// How long a user's rooms are counted, from the first one on. After that the count begins anew.
pub const MAKER_WINDOW: Duration = Duration::from_secs(3600);

/// Users whose rooms are counted at once. Full: the one whose count is the oldest is forgotten and may make its rooms
/// anew. Refusing others instead would let whoever logs in often enough shut everybody out.
pub const MAX_MAKERS: usize = 10_000;

/// The users who have made rooms of late.
#[derive(Debug)]
pub(super) struct Makers(Mutex<Windows>);

impl Default for Makers {
    fn default() -> Self {
        let rule = Rule { most: MAX_ROOMS_PER_USER, within: MAKER_WINDOW, names_max: MAX_MAKERS };
        Self(Mutex::new(Windows::new(rule)))
    }
}

impl Makers {
    /// Counts one more room of `user`.
    ///
    /// # Errors
    /// How long the user has to wait if it has made as many as it may.
    pub(super) fn take(&self, user: &str, now: Time) -> Result<(), Duration> {
        self.counts().take(user, now)
    }

    /// A room that was counted was not made after all.
    pub(super) fn give_back(&self, user: &str) {
        self.counts().give_back(user);
    }

    fn counts(&self) -> MutexGuard<'_, Windows> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
