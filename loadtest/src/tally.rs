//! What is counted, and how the counts of several cores become one.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer than this is counted as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Durations in microseconds, to three significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Durations(Histogram<u64>);

impl Durations {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3);
        Self(histogram.expect("the bounds are constant and valid"))
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(duration.as_micros() as u64);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Milliseconds at a quantile from 0 to 1.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }
}

/// How many sessions met with each reason. Reasons are texts of ours or of the server's, cut to a length.
pub(crate) type Reasons = BTreeMap<String, u32>;

/// Different reasons that are kept apart; more are counted together.
const REASONS_MAX: usize = 50;
/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 120;

/// Counts one more for `reason`.
pub(crate) fn count_reason(reasons: &mut Reasons, reason: &str) {
    let short: String = reason.chars().take(REASON_CHARS_MAX).collect();
    let key =
        if reasons.len() < REASONS_MAX || reasons.contains_key(&short) { short } else { "other".to_owned() };
    *reasons.entry(key).or_default() += 1;
}

/// Counts of one core.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// From the TCP connection's start to the server's answer to Socket.IO's CONNECT.
    pub(crate) connect: Durations,
    /// From `join-room` to `room-users`.
    pub(crate) join: Durations,
    /// Poses that count and were handed to the kernel.
    pub(crate) sent: u64,
    /// Poses that count and were left out, because the connection took no more.
    pub(crate) not_sent: u64,
    /// How much later than due poses were sent: the load generator's own share of their age.
    pub(crate) lateness: Durations,
    /// Poses that count and arrived for the first time at a receiver.
    pub(crate) received: u64,
    /// Poses that arrived once more, or after a later one of the same sender.
    pub(crate) repeated: u64,
    /// Age of each received pose.
    pub(crate) age: Durations,
    /// The longest run of one sender's poses that one receiver did not get.
    pub(crate) longest_gap: u32,
    /// Poses that a receiver got of itself.
    pub(crate) own: u64,
    /// Poses that a receiver got from another room.
    pub(crate) strays: u64,
    /// Poses without a readable stamp.
    pub(crate) unreadable: u64,
    /// The fewest and the most poses that one receiver got.
    pub(crate) per_receiver: Option<(u64, u64)>,
    /// WebSocket frames that arrived during the window.
    pub(crate) frames: u64,
    /// Bytes that arrived during the window, frames' headers included.
    pub(crate) bytes: u64,
    /// Why sessions ended that should not have.
    pub(crate) disconnects: Reasons,
    /// `error` events.
    pub(crate) errors: Reasons,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            connect: Durations::new(),
            join: Durations::new(),
            sent: 0,
            not_sent: 0,
            lateness: Durations::new(),
            received: 0,
            repeated: 0,
            age: Durations::new(),
            longest_gap: 0,
            own: 0,
            strays: 0,
            unreadable: 0,
            per_receiver: None,
            frames: 0,
            bytes: 0,
            disconnects: Reasons::new(),
            errors: Reasons::new(),
        }
    }

    /// Adds the counts of another core.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, others) in [
            (&mut self.connect, &other.connect),
            (&mut self.join, &other.join),
            (&mut self.lateness, &other.lateness),
            (&mut self.age, &other.age),
        ] {
            own.merge(others);
        }
        for (own, others) in [
            (&mut self.sent, other.sent),
            (&mut self.not_sent, other.not_sent),
            (&mut self.received, other.received),
            (&mut self.repeated, other.repeated),
            (&mut self.own, other.own),
            (&mut self.strays, other.strays),
            (&mut self.unreadable, other.unreadable),
            (&mut self.frames, other.frames),
            (&mut self.bytes, other.bytes),
        ] {
            *own += others;
        }
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        if let Some((fewest, most)) = other.per_receiver {
            self.count_receiver(fewest);
            self.count_receiver(most);
        }
        for (own, others) in [(&mut self.disconnects, &other.disconnects), (&mut self.errors, &other.errors)]
        {
            for (reason, count) in others {
                *own.entry(reason.clone()).or_default() += count;
            }
        }
    }

    /// Takes note of how many poses one receiver got in all.
    pub(crate) fn count_receiver(&mut self, received: u64) {
        let (fewest, most) = self.per_receiver.unwrap_or((received, received));
        self.per_receiver = Some((fewest.min(received), most.max(received)));
    }
}

/// Which poses one receiver has had of each member of its room.
#[derive(Debug)]
pub(crate) struct Seen {
    /// By index in the room: one more than the number of the latest pose that arrived.
    next: Box<[u32]>,
}

/// What an arriving pose is to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is newer than all before; this many of its sender's were skipped.
    New { skipped: u32 },
    /// It was there before, or a later one was.
    Repeated,
}

impl Seen {
    pub(crate) fn new(members: u32) -> Self {
        Self { next: vec![0; members as usize].into() }
    }

    /// Notes the arrival of a member's pose.
    #[inline]
    pub(crate) fn arrival(&mut self, member: u32, number: u32) -> Arrival {
        let next = &mut self.next[member as usize];
        match number.checked_sub(*next) {
            Some(skipped) => {
                *next = number + 1;
                Arrival::New { skipped }
            }
            None => Arrival::Repeated,
        }
    }

    /// How many of the latest poses of a member are missing, given that the last one was `last`.
    pub(crate) fn missing_at_end(&self, member: u32, last: u32) -> u32 {
        (last + 1).saturating_sub(self.next[member as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repeats_are_told_apart() {
        let mut seen = Seen::new(2);
        assert_eq!(seen.arrival(1, 0), Arrival::New { skipped: 0 });
        assert_eq!(seen.arrival(1, 1), Arrival::New { skipped: 0 });
        assert_eq!(seen.arrival(1, 1), Arrival::Repeated);
        assert_eq!(seen.arrival(1, 5), Arrival::New { skipped: 3 });
        assert_eq!(seen.arrival(1, 4), Arrival::Repeated);
        assert_eq!(seen.missing_at_end(1, 5), 0);
        assert_eq!(seen.missing_at_end(1, 9), 4);
        assert_eq!(seen.missing_at_end(0, 9), 10, "nothing of it has ever arrived");
    }

    #[test]
    fn two_cores_become_one() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        for (tally, poses, ms) in [(&mut a, 3, 10), (&mut b, 4, 30)] {
            tally.received = poses;
            tally.count_receiver(poses);
            tally.longest_gap = poses as u32;
            tally.age.record(Duration::from_millis(ms));
            count_reason(&mut tally.disconnects, "closed");
        }
        a.merge(&b);
        assert_eq!((a.received, a.per_receiver, a.longest_gap), (7, Some((3, 4)), 4));
        assert_eq!(a.disconnects["closed"], 2);
        assert!((a.age.max_ms() - 30.0).abs() < 0.1, "{}", a.age.max_ms());
        assert!((a.age.quantile_ms(0.5) - 10.0).abs() < 0.1, "{}", a.age.quantile_ms(0.5));
    }

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = Reasons::new();
        for number in 0..1_000 {
            count_reason(&mut reasons, &format!("{number}{}", "x".repeat(1_000)));
        }
        assert_eq!(reasons.len(), REASONS_MAX + 1);
        assert_eq!(reasons.values().sum::<u32>(), 1_000);
    }
}
