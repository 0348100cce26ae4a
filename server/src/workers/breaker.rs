//! Whether a worker is to be given tasks: a circuit breaker.
//!
//! *Closed*, tasks flow. A worker that does not answer, or answers nonsense several times in a row, *opens* it: no task
//! goes there. After a rest the worker's health is asked for, and if it is well the circuit is *half-open*: one task at
//! a time is tried. The first that succeeds closes it, one that fails opens it for twice as long.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::FAULTS_TO_OPEN;

/// What a worker has shown of itself while it had a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Well,
    /// Its answer was bad. One alone may be the task's fault.
    Fault,
    /// It cannot be used: it is not reached, does not answer, or does not let us in.
    Dead,
}

/// The state as others may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Tasks flow.
    Closed,
    /// No task goes there.
    Open,
    /// One task at a time is tried.
    HalfOpen,
}

impl BreakerState {
    /// For status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        /// Bad answers one after the other.
        faults: u32,
    },
    Open {
        until: Instant,
        /// Whether its health alone is in question, so that a good answer to that settles it.
        is_unproven: bool,
    },
    HalfOpen {
        has_trial: bool,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// How long the next rest is.
    rest: Duration,
    rest_first: Duration,
    rest_max: Duration,
    /// Counts how often it has opened. What a task shows that was given out before then is of no interest any more.
    turn: u64,
}

impl Breaker {
    /// A breaker that waits for the first look at the worker's health.
    pub(super) fn new(rest: Duration, rest_max: Duration, now: Instant) -> Self {
        let state = State::Open { until: now, is_unproven: true };
        Self { state, rest, rest_first: rest, rest_max, turn: 0 }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a task may go there now.
    pub(super) fn admits(&self) -> bool {
        matches!(self.state, State::Closed { .. } | State::HalfOpen { has_trial: false })
    }

    /// A task goes there. Answers the turn, to be given back with what comes of it.
    pub(super) fn begin(&mut self) -> u64 {
        if let State::HalfOpen { has_trial } = &mut self.state {
            *has_trial = true;
        }
        self.turn
    }

    /// A task of `turn` has shown something. `true` if that opened the circuit.
    pub(super) fn record(&mut self, turn: u64, verdict: Verdict, now: Instant) -> bool {
        if turn != self.turn {
            return false;
        }
        match (&mut self.state, verdict) {
            (State::Open { .. }, _) => return false,
            (_, Verdict::Well) => {
                self.state = State::Closed { faults: 0 };
                self.rest = self.rest_first;
                return false;
            }
            (State::Closed { faults }, Verdict::Fault) => {
                *faults += 1;
                if *faults < FAULTS_TO_OPEN {
                    return false;
                }
            }
            (State::Closed { .. } | State::HalfOpen { .. }, _) => {}
        }
        self.open(now, false);
        true
    }

    /// A task of `turn` is over, whether or not it has shown anything.
    pub(super) fn end(&mut self, turn: u64) {
        if let (State::HalfOpen { has_trial }, true) = (&mut self.state, turn == self.turn) {
            *has_trial = false;
        }
    }

    /// When the worker's health is to be asked for out of turn.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// The worker's health was asked for. `true` if the answer opened the circuit.
    pub(super) fn looked(&mut self, is_well: bool, now: Instant) -> bool {
        match (&mut self.state, is_well) {
            (State::Open { is_unproven: true, .. }, true) => {
                self.state = State::Closed { faults: 0 };
                self.rest = self.rest_first;
                false
            }
            (State::Open { until, .. }, true) => {
                if *until <= now {
                    self.state = State::HalfOpen { has_trial: false };
                }
                false
            }
            (State::Open { is_unproven, .. }, false) => {
                let is_unproven = *is_unproven;
                self.open(now, is_unproven);
                false
            }
            (State::Closed { .. } | State::HalfOpen { .. }, true) => false,
            (State::Closed { .. }, false) => {
                self.open(now, true);
                true
            }
            (State::HalfOpen { .. }, false) => {
                self.open(now, false);
                true
            }
        }
    }

    fn open(&mut self, now: Instant, is_unproven: bool) {
        self.state = State::Open { until: now + self.rest, is_unproven };
        self.rest = (self.rest * 2).min(self.rest_max);
        self.turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(1);
    const REST_MAX: Duration = Duration::from_secs(3);

    fn closed(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(REST, REST_MAX, now);
        assert!(!breaker.admits() && breaker.due() == Some(now), "nothing is known of it yet");
        assert!(!breaker.looked(true, now));
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker
    }

    #[test]
    fn one_task_that_is_not_answered_opens_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        let turn = breaker.begin();
        assert!(breaker.record(turn, Verdict::Dead, now));
        assert!(!breaker.admits());
        assert_eq!(breaker.due(), Some(now + REST));
        assert!(!breaker.record(turn, Verdict::Dead, now), "the others that were there at that time");
        assert_eq!(breaker.due(), Some(now + REST));
    }

    #[test]
    fn bad_answers_open_it_only_in_a_row() {
        let now = Instant::now();
        let mut breaker = closed(now);
        for _ in 0..2 {
            for _ in 1..FAULTS_TO_OPEN {
                let turn = breaker.begin();
                assert!(!breaker.record(turn, Verdict::Fault, now));
            }
            let turn = breaker.begin();
            assert!(!breaker.record(turn, Verdict::Well, now));
        }
        for index in 1..=FAULTS_TO_OPEN {
            let turn = breaker.begin();
            assert_eq!(breaker.record(turn, Verdict::Fault, now), index == FAULTS_TO_OPEN);
        }
    }

    #[test]
    fn half_open_it_admits_one_at_a_time_until_one_succeeds() {
        let now = Instant::now();
        let mut breaker = closed(now);
        let old = breaker.begin();
        breaker.record(old, Verdict::Dead, now);
        assert!(!breaker.looked(true, now) && !breaker.admits(), "its rest is not over");
        let now = now + REST;
        breaker.looked(true, now);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        let turn = breaker.begin();
        assert!(!breaker.admits());
        breaker.record(old, Verdict::Well, now);
        breaker.end(old);
        assert!(!breaker.admits(), "what was sent long ago is no trial");
        breaker.end(turn);
        assert!(breaker.admits(), "a trial that showed nothing, because its asker went");
        let turn = breaker.begin();
        breaker.record(turn, Verdict::Well, now);
        breaker.end(turn);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn rests_double_up_to_a_longest_and_begin_anew_after_a_success() {
        let mut now = Instant::now();
        let mut breaker = closed(now);
        for rest in [REST, REST * 2, REST_MAX, REST_MAX] {
            let turn = breaker.begin();
            assert!(breaker.record(turn, Verdict::Fault, now) || breaker.record(turn, Verdict::Dead, now));
            assert_eq!(breaker.due(), Some(now + rest));
            now += rest;
            breaker.looked(true, now);
        }
        let turn = breaker.begin();
        breaker.record(turn, Verdict::Well, now);
        let turn = breaker.begin();
        breaker.record(turn, Verdict::Dead, now);
        assert_eq!(breaker.due(), Some(now + REST));
    }

    #[test]
    fn who_was_only_ill_is_back_when_it_is_well() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert!(breaker.looked(false, now));
        assert!(!breaker.looked(false, now + REST) && !breaker.admits());
        assert_eq!(breaker.due(), Some(now + REST * 3), "one second, then two more");
        breaker.looked(true, now + REST * 3);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
