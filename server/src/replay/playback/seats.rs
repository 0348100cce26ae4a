//! Which sessions watch a recording, or are about to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::SessionId;
use engine::room::AckId;
use prometheus_client::metrics::gauge::Gauge;
use protocol::playback::Control;
use tokio::sync::mpsc;

use super::MAX_CONTROLS;

/// A control, and the ack that it wants.
pub(super) type Wanted = (Control, AckId);

/// Shared by all playbacks and by those who look for one.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats {
    state: Arc<Mutex<State>>,
    /// How many sessions have a playback.
    active: Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions whose playback is being prepared.
    preparing: HashSet<SessionId>,
    /// How to reach the playback of each session that has one, and a number that tells it from an earlier one.
    playing: HashMap<SessionId, (u64, mpsc::Sender<Wanted>)>,
    next: u64,
}

/// A session's playback is being prepared until this is dropped, be it by a panic.
#[derive(Debug)]
pub(super) struct Preparing {
    seats: Seats,
    session: SessionId,
}

/// A session reaches its playback until this is dropped, or it has another one.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    session: SessionId,
    number: u64,
}

impl Seats {
    pub(super) fn new(active: Gauge) -> Self {
        Self { state: Arc::default(), active }
    }

    /// A playback is being prepared for `session` from here on. `None`: one is already.
    pub(super) fn prepare(&self, session: SessionId) -> Option<Preparing> {
        self.state().preparing.insert(session).then(|| Preparing { seats: self.clone(), session })
    }

    /// From here on `session` reaches the playback that takes from what is returned.
    pub(super) fn seat(&self, session: SessionId) -> (Seat, mpsc::Receiver<Wanted>) {
        let (sender, controls) = mpsc::channel(MAX_CONTROLS);
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.playing.insert(session, (number, sender));
        self.active.inc();
        (Seat { seats: self.clone(), session, number }, controls)
    }

    /// How the session's playback is reached, if it has one.
    pub(super) fn playback(&self, session: SessionId) -> Option<mpsc::Sender<Wanted>> {
        self.state().playing.get(&session).map(|(_, sender)| sender.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.seats.state().preparing.remove(&self.session);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.seats.state();
        if state.playing.get(&self.session).is_some_and(|(playing, _)| *playing == self.number) {
            state.playing.remove(&self.session);
        }
        self.seats.active.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    const SESSION: SessionId = SessionId(7);

    /// Holds `held` while it panics.
    fn panic_with<T>(held: T) {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = held;
            resume_unwind(Box::new("on purpose"));
        }));
        assert!(panicked.is_err());
    }

    #[test]
    fn a_preparation_that_panics_is_over() {
        let seats = Seats::default();
        let preparing = seats.prepare(SESSION).unwrap();
        assert!(seats.prepare(SESSION).is_none(), "one at a time");
        panic_with(preparing);
        assert!(seats.prepare(SESSION).is_some());
    }

    #[test]
    fn a_playback_that_panics_is_over_and_an_earlier_one_takes_nothing_from_the_next() {
        let seats = Seats::default();
        let (first, _controls) = seats.seat(SESSION);
        let (second, _more_controls) = seats.seat(SESSION);
        drop(first);
        assert!(seats.playback(SESSION).is_some());
        panic_with(second);
        assert!(seats.playback(SESSION).is_none());
        assert_eq!(seats.active.get(), 0);
    }
}
