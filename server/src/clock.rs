//! The engine's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::{Clock, Time};

/// Begins at the wall clock's time and goes on monotonically.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    epoch: Time,
}

impl SystemClock {
    /// A clock that begins now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), epoch: Time::from_micros(unix.as_micros() as u64) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        self.epoch + self.started.elapsed()
    }
}
