//! How much a client may say.

use std::sync::{Mutex, PoisonError};

use crate::limits::{EVENT_BURST, EVENT_COST_MAX, EVENT_UNIT_BYTES, EVENTS_PER_SECOND, MAX_REFUSALS};
use crate::time::Time;

/// A token bucket for the reliable events of one connection, whatever sessions it has one after the other. An event
/// costs a token, and another for each KiB that it carries: what one client says is written to everybody else in its
/// room, so it is paid for by size, up to most of a full bucket.
#[derive(Debug, Default)]
pub struct Allowance(Mutex<Bucket>);

#[derive(Debug, Default)]
struct Bucket {
    /// Thousandths of tokens spent and not earned again yet.
    spent: u64,
    /// Until when they were earned.
    at: Time,
    /// Refusals, less one for each event that was granted since.
    refusals: u32,
}

/// Whether an event may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Granted,
    /// Not now: the client is to slow down.
    Refused,
    /// The client has been told often enough.
    Hopeless,
}

impl Allowance {
    /// Pays for an event that carries `bytes` bytes.
    pub fn spend(&self, bytes: usize, now: Time) -> Verdict {
        // Nothing that holds this lock can panic half-way through a change.
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.since(bucket.at).as_millis() as u64 * u64::from(EVENTS_PER_SECOND);
        if earned > 0 {
            bucket.spent = bucket.spent.saturating_sub(earned);
            bucket.at = now;
        }
        let held_at_most = 1000 * u64::from(EVENT_BURST);
        // An event that the protocol allows must be possible, and a task may be longer than a bucket can pay for.
        let cost = 1000 * (1 + (bytes / EVENT_UNIT_BYTES) as u64).min(EVENT_COST_MAX.into());
        if bucket.spent + cost <= held_at_most {
            bucket.spent += cost;
            bucket.refusals = bucket.refusals.saturating_sub(1);
            return Verdict::Granted;
        }
        bucket.refusals += 1;
        if bucket.refusals > MAX_REFUSALS { Verdict::Hopeless } else { Verdict::Refused }
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Time = Time::from_micros(1_000_000_000);

    fn granted(allowance: &Allowance, bytes: usize, now: Time) -> usize {
        (0..10_000).take_while(|_| allowance.spend(bytes, now) == Verdict::Granted).count()
    }

    #[test]
    fn a_burst_then_a_rate() {
        let allowance = Allowance::default();
        assert_eq!(granted(&allowance, 0, NOW), EVENT_BURST as usize);
        assert_eq!(granted(&allowance, 0, NOW + Duration::from_secs(1)), EVENTS_PER_SECOND as usize);
        assert_eq!(granted(&allowance, 0, NOW + Duration::from_secs(3600)), EVENT_BURST as usize);
    }

    #[test]
    fn what_is_long_costs_more() {
        let allowance = Allowance::default();
        let bytes = 64 * 1024;
        assert_eq!(granted(&allowance, bytes, NOW), EVENT_BURST as usize / 65);
    }

    #[test]
    fn whatever_is_long_is_granted_to_who_has_spent_nothing_and_leaves_something() {
        for bytes in [EVENT_COST_MAX as usize * EVENT_UNIT_BYTES, 1_000_000, 10_000_000] {
            let allowance = Allowance::default();
            assert_eq!(granted(&allowance, bytes, NOW), 1);
            assert_eq!(granted(&allowance, 0, NOW), (EVENT_BURST - EVENT_COST_MAX) as usize);
            let earned = Duration::from_secs(1) * EVENT_COST_MAX / EVENTS_PER_SECOND;
            assert_eq!(granted(&allowance, bytes, NOW + (earned - Duration::from_millis(1))), 0);
            assert_eq!(granted(&allowance, bytes, NOW + earned), 1);
        }
    }

    #[test]
    fn who_goes_on_regardless_is_given_up() {
        let allowance = Allowance::default();
        granted(&allowance, 0, NOW);
        let told = (0..10_000).take_while(|_| allowance.spend(0, NOW) == Verdict::Refused).count();
        assert!(told <= MAX_REFUSALS as usize);
        assert_eq!(allowance.spend(0, NOW), Verdict::Hopeless);
    }

    #[test]
    fn who_slows_down_is_forgiven() {
        let allowance = Allowance::default();
        granted(&allowance, 0, NOW);
        let mut now = NOW;
        for _ in 0..4 * MAX_REFUSALS {
            assert_ne!(allowance.spend(0, now), Verdict::Hopeless);
            now = now + Duration::from_millis(1000 / u64::from(EVENTS_PER_SECOND));
            assert_eq!(allowance.spend(0, now), Verdict::Granted);
        }
    }
}
