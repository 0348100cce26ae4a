//! When each pose of each user is due.

use std::time::{Duration, Instant};

use crate::options::Phases;

/// When each pose of each user is due, and which poses count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    period: Duration,
    /// From one user's pose to the next one's.
    step: Duration,
    /// Number of the first pose that counts; those before it warm the server up.
    first: u32,
    /// Number of the first pose that does not count any more.
    end: u32,
}

/// What a schedule says of one moment. Worked out once for all that is read at that moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    since_start_ns: u64,
    /// The latest number that anybody can have sent.
    latest: u32,
}

impl Schedule {
    /// A schedule of `users` at `hz` poses per second each, of which none counts so far.
    pub(crate) fn new(start: Instant, hz: u32, users: u32, phases: Phases) -> Self {
        let period = Duration::from_secs(1) / hz;
        let step = match phases {
            Phases::Spread => period / users,
            Phases::Together => Duration::ZERO,
        };
        Self { start, period, step, first: u32::MAX, end: u32::MAX }
    }

    /// The same, but that from number `from` on `warmup` passes, and what follows counts for `window`.
    pub(crate) fn counting(self, from: u32, warmup: Duration, window: Duration) -> Self {
        let poses = |span: Duration| span.as_nanos().div_ceil(self.period.as_nanos()) as u32;
        let first = from + poses(warmup);
        Self { first, end: first + poses(window).max(1), ..self }
    }

    /// Whether it has been said which poses count.
    pub(crate) fn has_window(&self) -> bool {
        self.end != u32::MAX
    }

    /// When the pose `number` of the user `index` is due.
    pub(crate) fn due(&self, index: u32, number: u32) -> Instant {
        self.start + self.period * number + self.step * index
    }

    /// Whether poses of this number count.
    pub(crate) fn counts(&self, number: u32) -> bool {
        (self.first..self.end).contains(&number)
    }

    /// Number of the first pose that counts.
    pub(crate) fn first_counted(&self) -> u32 {
        self.first
    }

    /// Number of the last pose that counts.
    pub(crate) fn last_counted(&self) -> u32 {
        self.end - 1
    }

    /// Number of the first pose that is not sent any more, if everybody moves on for `grace` after the window.
    pub(crate) fn end_of_sending(&self, grace: Duration) -> u32 {
        self.end.saturating_add(grace.as_nanos().div_ceil(self.period.as_nanos()) as u32)
    }

    /// How many poses of each user count.
    pub(crate) fn poses_counted(&self) -> u32 {
        self.end - self.first
    }

    /// The span of time in which the poses that count are sent.
    pub(crate) fn window(&self) -> (Instant, Instant) {
        (self.due(0, self.first), self.due(0, self.end))
    }

    /// What the schedule says of `now`.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        let since_start_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        Moment { since_start_ns, latest: (since_start_ns / self.period.as_nanos() as u64) as u32 }
    }

    /// The pose `number` of the user `index` has come at `moment`: how long after it was due.
    pub(crate) fn age(&self, index: u32, number: u32, moment: Moment) -> Duration {
        let due_ns = self.period.as_nanos() as u64 * u64::from(number)
            + self.step.as_nanos() as u64 * u64::from(index);
        Duration::from_nanos(moment.since_start_ns.saturating_sub(due_ns))
    }
}

impl Moment {
    /// Time since the schedule's start in steps of 100 µs: 32 bits hold five days.
    pub(crate) fn stamp(self) -> u32 {
        (self.since_start_ns / 100_000) as u32
    }

    /// The latest number that anybody can have sent.
    pub(crate) fn latest(self) -> u32 {
        self.latest
    }

    /// The number that `wire` stands for, which is that number modulo `wrap`: the latest that can have been sent.
    /// `None` if there is none.
    #[inline]
    pub(crate) fn number(self, wire: u32, wrap: u32) -> Option<u32> {
        let back = (self.latest % wrap + wrap - wire) % wrap;
        self.latest.checked_sub(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let schedule = Schedule::new(Instant::now(), 20, 100, Phases::Spread);
        schedule.counting(0, Duration::from_secs(1), Duration::from_secs(2))
    }

    #[test]
    fn a_number_is_the_latest_that_can_have_been_sent() {
        let schedule = schedule();
        for wrap in [1_024, 8_192] {
            for number in [0, 5, wrap - 1, wrap, 3 * wrap + 17] {
                for age in [0, 1, 40, 5_000] {
                    let moment = schedule.moment(schedule.due(99, number) + Duration::from_millis(age));
                    assert_eq!(moment.number(number % wrap, wrap), Some(number), "{number} after {age} ms");
                    assert_eq!(schedule.age(99, number, moment), Duration::from_millis(age));
                }
            }
        }
        let early = schedule.moment(schedule.due(0, 1));
        assert_eq!(early.number(3, 1_024), None, "nobody has sent number 3 yet");
        assert_eq!(schedule.age(0, 2, early), Duration::ZERO, "no age is negative");
    }

    #[test]
    fn phases_are_spread_over_the_period_and_the_window_follows_the_warm_up() {
        let schedule = schedule();
        assert_eq!(schedule.due(50, 0) - schedule.due(0, 0), Duration::from_millis(25));
        assert_eq!(schedule.poses_counted(), 40);
        assert!(!schedule.counts(19) && schedule.counts(20) && schedule.counts(59) && !schedule.counts(60));
        let (start, end) = schedule.window();
        assert_eq!(end - start, Duration::from_secs(2));
    }

    #[test]
    fn nothing_counts_until_it_is_said_what_does() {
        let unbounded = Schedule::new(Instant::now(), 20, 100, Phases::Spread);
        assert!([0, 1_000_000].iter().all(|number| !unbounded.counts(*number)));
        assert_eq!(unbounded.end_of_sending(Duration::from_secs(1)), u32::MAX);
        let later = unbounded.counting(500, Duration::ZERO, Duration::from_millis(50));
        assert!(!later.counts(499) && later.counts(500) && !later.counts(501));
    }
}
