//! Time as the engine knows it: an argument.

use std::time::Duration;

/// A moment: microseconds since the Unix epoch on a clock that never goes back.
///
/// One number serves for both order and dates. It starts from the wall clock and goes on monotonically, so a
/// step of the wall clock while the server runs neither stops nor hurries a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration.as_micros() as u64))
    }
}

/// Where the engine's drivers take the time from, once per wake. Rooms are handed it.
pub trait Clock: Send + Sync + 'static {
    /// The time now. Never less than an earlier answer.
    fn now(&self) -> Time;
}
