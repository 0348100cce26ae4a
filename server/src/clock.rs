//! The engine's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::{Clock, Time};

/// A time in milliseconds since 1970.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What the wall clock says, Unix ms.
pub(crate) fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

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
