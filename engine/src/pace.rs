//! A room's pace: how many ticks per second it has at present.
//!
//! Two things decide. The rate that was chosen for the room says what is wanted: a number, or for
//! [`TickRate::Auto`] one that depends on how many are in the room. And where ticks cannot be delivered in time, a
//! ceiling is put on that: late poses are worth less than few ones, and a queue of them helps nobody. The ceiling
//! comes down fast and goes up with care, the more so the more often it had to come down again at once.
//!
//! Nothing here reads a clock, and nothing here counts what a tick costs: whoever drives the ticks says so.

#[cfg(test)]
mod tests;

use std::mem;
use std::time::Duration;

use protocol::limits::TICK_HZ_RANGE;

use crate::options::TickRate;
use crate::time::Time;

/// The slowest rate that an overload brings a room to, in Hz. Members are told everyone's pose at least once a
/// second, and fewer ticks than one a second could not keep that.
pub const MIN_HZ: u32 = *TICK_HZ_RANGE.start();

/// Ticks that are looked back on to tell an overload from a moment's delay…
pub const OVERLOAD_WINDOW: u32 = 8;

/// …of which so many took longer than their period. One delay is one of them, however long it is.
pub const OVERLOAD_TICKS: u32 = 3;

/// How long every tick must have been quick before a room that was slowed down is sped up again…
pub const RECOVERY_AFTER: Duration = Duration::from_secs(5);

/// …which means that it took less than this part of the period that it is to have then, in percent. A crowd's tick takes
/// about as long at any rate, so that the rest is what is left for hiccups.
pub const CALM_PERCENT: u32 = 70;

/// An overload so soon after a recovery says that the recovery was a mistake: the next one waits twice as long…
pub const RELAPSE_WITHIN: Duration = Duration::from_secs(10);

/// …but not longer than this.
pub const MAX_RECOVERY_AFTER: Duration = Duration::from_secs(60);

/// How long the room must have gone without an overload, and on the rate that it has, for that to be forgotten.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How long the number of members must have allowed a faster rate before a room with [`TickRate::Auto`] takes it, so
/// that one who comes and goes does not take everybody's rate along. It takes a slower one at once.
pub const RAISE_AFTER: Duration = Duration::from_secs(2);

const _: () = assert!(OVERLOAD_WINDOW < u32::BITS && OVERLOAD_TICKS <= OVERLOAD_WINDOW);

/// Decides a room's rate. Told of every tick and of members who come and go, it answers with what changes.
#[derive(Debug, Clone)]
pub struct Pace {
    rate: TickRate,
    /// Hz without a ceiling.
    wanted: u32,
    /// Since when at least that many Hz have been allowed, if that is more than is wanted.
    allowed: Option<(Time, u32)>,
    /// Hz that the last overload leaves.
    ceiling: Option<u32>,
    /// The last ticks at this rate, one bit for each, the latest lowest. Set: it was late.
    late: u32,
    /// The tick that is under way has its bit already.
    is_counted: bool,
    /// Since when all ticks have been quick.
    calm_since: Option<Time>,
    /// How long they have to be.
    recovery_after: Duration,
    /// The last overload or recovery, or the beginning.
    turned: Time,
    /// That was a recovery.
    has_recovered: bool,
}

/// A room's new rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateChange {
    /// Ticks per second from now on.
    pub hz: u32,
    /// What brought it about.
    pub reason: RateReason,
}

/// Why a room's rate has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateReason {
    /// Ticks took longer than their period.
    Overload,
    /// They have not for a while.
    Recovered,
    /// The room is [`TickRate::Auto`], and members came or went.
    Members,
}

impl RateReason {
    /// For clients and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Recovered => "recovered",
            Self::Members => "members",
        }
    }
}

impl Pace {
    /// The pace of a room for which `rate` was chosen and which begins to tick.
    pub fn new(rate: TickRate, now: Time) -> Self {
        Self {
            rate,
            wanted: rate.initial_hz(),
            allowed: None,
            ceiling: None,
            late: 0,
            is_counted: false,
            calm_since: None,
            recovery_after: RECOVERY_AFTER,
            turned: now,
            has_recovered: false,
        }
    }

    /// Ticks per second at present.
    pub fn hz(&self) -> u32 {
        self.ceiling.map_or(self.wanted, |ceiling| ceiling.min(self.wanted))
    }

    /// How long a tick has at present.
    pub fn period(&self) -> Duration {
        period(self.hz())
    }

    /// A tick has been delivered by all cores. It took `busy` from when it was due until then. To be called once for
    /// each tick that was begun.
    pub fn tick_done(&mut self, now: Time, busy: Duration, members: usize) -> Option<RateChange> {
        let before = self.hz();
        let was_counted = mem::take(&mut self.is_counted);
        let reason = if !was_counted && self.count(busy > period(before)) {
            self.slow_down(now);
            RateReason::Overload
        } else if self.speed_up(now, busy) {
            RateReason::Recovered
        } else {
            RateReason::Members
        };
        self.follow(now, members);
        self.changed_from(before, reason)
    }

    /// A tick is due while the one before it is still being delivered. May be called at each such moment: they all
    /// count as one late tick.
    pub fn overrun(&mut self, now: Time, members: usize) -> Option<RateChange> {
        let before = self.hz();
        let was_counted = mem::replace(&mut self.is_counted, true);
        self.calm_since = None;
        let reason = if !was_counted && self.count(true) {
            self.slow_down(now);
            RateReason::Overload
        } else {
            RateReason::Members
        };
        self.follow(now, members);
        self.changed_from(before, reason)
    }

    /// Somebody came or went.
    pub fn members_changed(&mut self, now: Time, members: usize) -> Option<RateChange> {
        let before = self.hz();
        self.follow(now, members);
        self.changed_from(before, RateReason::Members)
    }

    fn changed_from(&mut self, before: u32, reason: RateReason) -> Option<RateChange> {
        let hz = self.hz();
        if hz == before {
            return None;
        }
        // Whether ticks were late at the old rate says nothing about the new one.
        self.late = 0;
        Some(RateChange { hz, reason })
    }

    /// Notes one tick more. Whether too many were late.
    fn count(&mut self, is_late: bool) -> bool {
        self.late = (self.late << 1 | u32::from(is_late)) & ((1 << OVERLOAD_WINDOW) - 1);
        self.late.count_ones() >= OVERLOAD_TICKS
    }

    fn slow_down(&mut self, now: Time) {
        let quiet = now.since(self.turned);
        if self.has_recovered && quiet < RELAPSE_WITHIN {
            self.recovery_after = (self.recovery_after * 2).min(MAX_RECOVERY_AFTER);
        } else if quiet >= FORGIVEN_AFTER {
            self.recovery_after = RECOVERY_AFTER;
        }
        self.ceiling = Some((self.hz() / 2).max(MIN_HZ));
        self.calm_since = None;
        (self.turned, self.has_recovered) = (now, false);
    }

    /// Raises the ceiling if there is one and ticks have been quick for long enough; takes it away once it is in
    /// nobody's way. Whether it was.
    fn speed_up(&mut self, now: Time, busy: Duration) -> bool {
        let Some(ceiling) = self.ceiling else { return false };
        let next = (ceiling * 2).min(self.wanted);
        if busy >= period(next) * CALM_PERCENT / 100 {
            self.calm_since = None;
            return false;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.since(since) < self.recovery_after {
            return false;
        }
        if next > self.hz() {
            (self.turned, self.has_recovered) = (now, true);
        }
        self.ceiling = (next < self.wanted).then_some(next);
        self.calm_since = None;
        true
    }

    /// Wants what `members` have a right to: a slower rate at once, a faster one after a while.
    fn follow(&mut self, now: Time, members: usize) {
        let hz = self.rate.hz_for(members);
        if hz <= self.wanted {
            self.wanted = hz;
            self.allowed = None;
            return;
        }
        let (since, least) = self.allowed.map_or((now, hz), |(since, least)| (since, least.min(hz)));
        if now.since(since) < RAISE_AFTER {
            self.allowed = Some((since, least));
        } else {
            self.wanted = least;
            self.allowed = (hz > least).then_some((now, hz));
        }
    }
}

fn period(hz: u32) -> Duration {
    Duration::from_secs(1) / hz
}
