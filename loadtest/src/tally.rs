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

    /// What has been recorded since this was `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut since = self.0.clone();
        since.subtract(&before.0).expect("it was part of this one");
        Self(since)
    }

    /// Milliseconds at a quantile from 0 to 1.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Records it only if all before were shorter: for what is known to have lasted at least so long.
    pub(crate) fn record_if_longest(&mut self, duration: Duration) {
        if duration.as_micros() as u64 > self.0.max() {
            self.record(duration);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
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

/// What one client got during the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// WebSocket frames.
    pub(crate) frames: u64,
    /// Bytes, frames' headers included.
    pub(crate) bytes: u64,
    /// Messages of which a server sends one per tick: pose frames, `users-moved`, patches.
    pub(crate) ticks: u64,
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
    /// Poses that were handed to the kernel in all, those of the warm-up and after the window included.
    pub(crate) sent_in_all: u64,
    /// Poses that count and were left out, because the connection took no more.
    pub(crate) not_sent: u64,
    /// Answers asked for with poses that count; how many of them came, and how many never did.
    pub(crate) acks_asked: u64,
    pub(crate) acks_answered: u64,
    pub(crate) acks_missing: u64,
    /// Answers that nobody had asked for, or that came twice.
    pub(crate) acks_unasked: u64,
    /// From when each question was due to its answer; to the end, where none came.
    pub(crate) acks: Durations,
    /// How much later than due poses were sent: the load generator's own share of their age.
    pub(crate) lateness: Durations,
    /// Poses that count and arrived for the first time at a receiver.
    pub(crate) received: u64,
    /// Poses that arrived once more, right after themselves.
    pub(crate) repeated: u64,
    /// Poses that arrived after a later one of the same sender.
    pub(crate) behind: u64,
    /// Age of each received pose of somebody near.
    pub(crate) age_near: Durations,
    /// Age of each of the others.
    pub(crate) age_far: Durations,
    /// From one update of a member that a receiver sees to the next, while the two are near.
    pub(crate) gaps_near: Durations,
    /// The same for all members of the room, wherever they are.
    pub(crate) gaps: Durations,
    /// Poses that are not where their sender can have been.
    pub(crate) misplaced: u64,
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
    /// How many receivers were judged pose by pose.
    pub(crate) judged: u64,
    /// WebSocket frames that arrived during the window, and the most that one client got.
    pub(crate) frames: u64,
    pub(crate) frames_most: u64,
    /// Bytes that arrived during the window, frames' headers included; and the most that one client got.
    pub(crate) bytes: u64,
    pub(crate) bytes_most: u64,
    /// Messages that arrived during the window of which a server sends one per tick, and the fewest that one client got.
    pub(crate) ticks: u64,
    pub(crate) ticks_fewest: Option<u64>,
    /// Of the bytes, those of judged receivers.
    pub(crate) bytes_judged: u64,
    /// Pose frames that cannot be read, and those whose tick is before that of an earlier one.
    pub(crate) frames_unreadable: u64,
    pub(crate) frames_back: u64,
    /// `room-rate` events, and the lowest rate that they told, in Hz.
    pub(crate) room_rates: u64,
    pub(crate) lowest_rate_hz: Option<f64>,
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
            sent_in_all: 0,
            not_sent: 0,
            acks_asked: 0,
            acks_answered: 0,
            acks_missing: 0,
            acks_unasked: 0,
            acks: Durations::new(),
            lateness: Durations::new(),
            received: 0,
            repeated: 0,
            behind: 0,
            age_near: Durations::new(),
            age_far: Durations::new(),
            gaps_near: Durations::new(),
            gaps: Durations::new(),
            misplaced: 0,
            longest_gap: 0,
            own: 0,
            strays: 0,
            unreadable: 0,
            per_receiver: None,
            judged: 0,
            frames: 0,
            frames_most: 0,
            bytes: 0,
            bytes_most: 0,
            ticks: 0,
            ticks_fewest: None,
            bytes_judged: 0,
            frames_unreadable: 0,
            frames_back: 0,
            room_rates: 0,
            lowest_rate_hz: None,
            disconnects: Reasons::new(),
            errors: Reasons::new(),
        }
    }

    /// Adds the counts of another core.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, others) in [
            (&mut self.connect, &other.connect),
            (&mut self.join, &other.join),
            (&mut self.acks, &other.acks),
            (&mut self.lateness, &other.lateness),
            (&mut self.age_near, &other.age_near),
            (&mut self.age_far, &other.age_far),
            (&mut self.gaps_near, &other.gaps_near),
            (&mut self.gaps, &other.gaps),
        ] {
            own.merge(others);
        }
        for (own, others) in [
            (&mut self.sent, other.sent),
            (&mut self.sent_in_all, other.sent_in_all),
            (&mut self.not_sent, other.not_sent),
            (&mut self.acks_asked, other.acks_asked),
            (&mut self.acks_answered, other.acks_answered),
            (&mut self.acks_missing, other.acks_missing),
            (&mut self.acks_unasked, other.acks_unasked),
            (&mut self.received, other.received),
            (&mut self.repeated, other.repeated),
            (&mut self.behind, other.behind),
            (&mut self.own, other.own),
            (&mut self.strays, other.strays),
            (&mut self.unreadable, other.unreadable),
            (&mut self.misplaced, other.misplaced),
            (&mut self.judged, other.judged),
            (&mut self.frames, other.frames),
            (&mut self.bytes, other.bytes),
            (&mut self.ticks, other.ticks),
            (&mut self.bytes_judged, other.bytes_judged),
            (&mut self.frames_unreadable, other.frames_unreadable),
            (&mut self.frames_back, other.frames_back),
            (&mut self.room_rates, other.room_rates),
        ] {
            *own += others;
        }
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.frames_most = self.frames_most.max(other.frames_most);
        self.bytes_most = self.bytes_most.max(other.bytes_most);
        self.ticks_fewest = self.ticks_fewest.into_iter().chain(other.ticks_fewest).min();
        self.lowest_rate_hz = lower(self.lowest_rate_hz, other.lowest_rate_hz);
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

    /// Takes note of a rate that a `room-rate` event told.
    pub(crate) fn count_rate(&mut self, hz: f64) {
        self.room_rates += 1;
        self.lowest_rate_hz = lower(self.lowest_rate_hz, Some(hz));
    }

    /// Takes note of what one client got during the window.
    pub(crate) fn count_traffic(&mut self, traffic: &Traffic, judged: bool) {
        let Traffic { frames, bytes, ticks } = *traffic;
        self.ticks += ticks;
        self.ticks_fewest = Some(self.ticks_fewest.map_or(ticks, |fewest| fewest.min(ticks)));
        self.frames += frames;
        self.frames_most = self.frames_most.max(frames);
        self.bytes += bytes;
        self.bytes_most = self.bytes_most.max(bytes);
        if judged {
            self.judged += 1;
            self.bytes_judged += bytes;
        }
    }

    /// Poses that count and arrived at anybody. Those who were not judged have got as many for each byte as those
    /// who were.
    pub(crate) fn delivered(&self) -> f64 {
        if self.bytes_judged == 0 {
            return self.received as f64;
        }
        self.received as f64 * self.bytes as f64 / self.bytes_judged as f64
    }

    /// Age of each received pose.
    pub(crate) fn age(&self) -> Durations {
        let mut age = self.age_near.clone();
        age.merge(&self.age_far);
        age
    }

    /// Takes note of how many poses one judged receiver got in all.
    pub(crate) fn count_receiver(&mut self, received: u64) {
        let (fewest, most) = self.per_receiver.unwrap_or((received, received));
        self.per_receiver = Some((fewest.min(received), most.max(received)));
    }
}

fn lower(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_become_one() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        for (tally, poses, ms) in [(&mut a, 3, 10), (&mut b, 4, 30)] {
            tally.received = poses;
            tally.count_receiver(poses);
            tally.longest_gap = poses as u32;
            tally.age_near.record(Duration::from_millis(ms));
            let traffic = Traffic { frames: poses, bytes: 100 * poses, ticks: 2 * poses };
            tally.count_traffic(&traffic, ms == 10);
            tally.count_rate(poses as f64);
            count_reason(&mut tally.disconnects, "closed");
        }
        a.merge(&b);
        assert_eq!((a.received, a.per_receiver, a.longest_gap), (7, Some((3, 4)), 4));
        assert_eq!(a.disconnects["closed"], 2);
        let age = a.age();
        assert!((age.max_ms() - 30.0).abs() < 0.1, "{}", age.max_ms());
        assert!((age.quantile_ms(0.5) - 10.0).abs() < 0.1, "{}", age.quantile_ms(0.5));
        assert_eq!((a.bytes, a.bytes_most, a.bytes_judged, a.judged), (700, 400, 300, 1));
        assert_eq!((a.ticks, a.ticks_fewest), (14, Some(6)));
        assert_eq!(a.delivered(), 7.0 * 700.0 / 300.0);
        assert_eq!((a.frames, a.frames_most, a.room_rates, a.lowest_rate_hz), (7, 4, 2, Some(3.0)));
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
