//! Pings, and the end of those who do not answer: one timer per core for all of its connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::wire::Wire;
use crate::transport::engineio::TransportConfig;
use crate::transport::outbox::CLOSE_TIMEOUT;

/// How often connections are looked at: as often as makes a timer late by a twentieth of its time at most, but not
/// more often than is worth while.
const SWEEP_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(1);

/// The handshake's times, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) ping_interval_ms: u64,
    pub(super) ping_timeout_ms: u64,
}

impl Times {
    pub(super) fn new(config: TransportConfig) -> Self {
        Self {
            ping_interval_ms: config.ping_interval.as_millis() as u64,
            ping_timeout_ms: config.ping_timeout.as_millis() as u64,
        }
    }

    fn sweep_every(self) -> Duration {
        let fine = Duration::from_millis(self.ping_interval_ms.min(self.ping_timeout_ms) / 20);
        fine.clamp(*SWEEP_RANGE.start(), *SWEEP_RANGE.end())
    }
}

/// Milliseconds since the first call.
pub(super) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// What a connection's heartbeat waits for.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When the next ping is to be sent. Of no meaning while an answer is due.
    ping_at_ms: AtomicU64,
    /// By when the answer to the last ping must have come, or the connection must be gone; 0 if neither is due.
    due_ms: AtomicU64,
}

/// What is to be done for a connection now.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Ping,
    End,
}

impl Pulse {
    pub(super) fn new(times: Times) -> Self {
        Self { ping_at_ms: AtomicU64::new(now_ms() + times.ping_interval_ms), due_ms: AtomicU64::new(0) }
    }

    /// The client has answered.
    pub(super) fn answered(&self, times: Times) {
        self.ping_at_ms.store(now_ms() + times.ping_interval_ms, Ordering::Relaxed);
        self.due_ms.store(0, Ordering::Relaxed);
    }

    /// The connection is being closed.
    pub(super) fn closing(&self) {
        self.due_ms.store(now_ms() + CLOSE_TIMEOUT.as_millis() as u64, Ordering::Relaxed);
    }

    fn need(&self, times: Times, now_ms: u64) -> Need {
        match self.due_ms.load(Ordering::Relaxed) {
            0 if now_ms < self.ping_at_ms.load(Ordering::Relaxed) => Need::Nothing,
            0 => {
                self.due_ms.store(now_ms + times.ping_timeout_ms, Ordering::Relaxed);
                Need::Ping
            }
            due if now_ms < due => Need::Nothing,
            _ => Need::End,
        }
    }
}

/// The connections of one core.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    wires: Vec<Weak<Wire>>,
    is_running: bool,
}

impl Heartbeats {
    /// Watches a connection as long as it lives. The first one starts the timer, on the calling core's runtime.
    pub(super) fn watch(self: &Arc<Self>, wire: &Arc<Wire>, times: Times) {
        let mut watched = self.watched();
        watched.wires.push(Arc::downgrade(wire));
        if !std::mem::replace(&mut watched.is_running, true) {
            tokio::spawn(self.clone().run(times));
        }
    }

    async fn run(self: Arc<Self>, times: Times) {
        let mut timer = tokio::time::interval(times.sweep_every());
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            self.sweep(times, now_ms());
        }
    }

    fn sweep(&self, times: Times, now_ms: u64) {
        self.watched().wires.retain(|wire| {
            let Some(wire) = wire.upgrade() else { return false };
            match wire.pulse().need(times, now_ms) {
                Need::Nothing => {}
                Need::Ping => wire.ping(),
                Need::End => wire.cut(),
            }
            true
        });
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { ping_interval_ms: 300, ping_timeout_ms: 200 };

    #[test]
    fn a_client_is_asked_once_per_interval_and_ended_if_it_does_not_answer() {
        let pulse = Pulse { ping_at_ms: AtomicU64::new(300), due_ms: AtomicU64::new(0) };
        assert_eq!(pulse.need(TIMES, 299), Need::Nothing);
        assert_eq!(pulse.need(TIMES, 300), Need::Ping);
        assert_eq!(pulse.need(TIMES, 499), Need::Nothing);
        assert_eq!(pulse.need(TIMES, 500), Need::End);
    }

    #[test]
    fn an_answer_puts_the_next_question_off() {
        let pulse = Pulse { ping_at_ms: AtomicU64::new(0), due_ms: AtomicU64::new(0) };
        assert_eq!(pulse.need(TIMES, now_ms()), Need::Ping);
        pulse.answered(TIMES);
        assert_eq!(pulse.need(TIMES, now_ms()), Need::Nothing);
        assert_eq!(pulse.need(TIMES, now_ms() + 400), Need::Ping);
    }
}
