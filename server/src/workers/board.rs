//! Who is free, who is well, and who waits. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState, Verdict};
use super::client::Fault;
use super::latency::{Latency, Percentiles};

/// A set of workers: a bit for each.
pub(super) type Set = u64;

/// What is known of one worker.
#[derive(Debug)]
pub(super) struct Seat {
    breaker: Breaker,
    in_flight: usize,
    latency: Latency,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) last_error: Option<(Fault, Instant)>,
    /// The call by which it has last taken a task. `None` if it has taken none since it came back.
    pub(super) dialect: Option<Dialect>,
}

/// A call by which a worker takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `POST /tasks`.
    Tasks,
    /// The older `POST /execute`.
    Execute,
}

/// A task that waits for a worker. `W` is how it is called.
#[derive(Debug)]
struct Waiting<W> {
    /// Grows from one to the next.
    number: u64,
    not: Set,
    whom: W,
}

/// A place at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) worker: usize,
    turn: u64,
}

/// What there is for a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This worker.
    Now(Grant),
    /// All that could do it are busy.
    Later,
    /// None can do it.
    Never,
}

/// What those are told who have waited.
#[derive(Debug)]
pub(super) struct Call<W> {
    pub(super) whom: W,
    /// `None`: no worker is left to wait for.
    pub(super) grant: Option<Grant>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Board<W> {
    seats: Vec<Seat>,
    concurrency: usize,
    waiting: VecDeque<Waiting<W>>,
    last_number: u64,
}

impl<W> Board<W> {
    pub(super) fn new(workers: usize, concurrency: usize, rest: (Duration, Duration), now: Instant) -> Self {
        let seat = || Seat {
            breaker: Breaker::new(rest.0, rest.1, now),
            in_flight: 0,
            latency: Latency::new(now),
            completed: 0,
            failed: 0,
            last_error: None,
            dialect: None,
        };
        let seats = (0..workers).map(|_| seat()).collect();
        Self { seats, concurrency, waiting: VecDeque::new(), last_number: 0 }
    }

    pub(super) fn seat(&mut self, worker: usize) -> &mut Seat {
        &mut self.seats[worker]
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn healthy(&self) -> usize {
        self.seats.iter().filter(|seat| seat.is_healthy()).count()
    }

    /// A place for a task that `not` these workers may have: of two free ones, chosen at random, the one that has
    /// less to do. Those who wait already come first.
    pub(super) fn choose(&mut self, not: Set) -> Choice {
        let mut free = Vec::new();
        let mut is_hopeless = true;
        for (worker, seat) in self.seats.iter().enumerate() {
            if not & bit(worker) == 0 && seat.breaker.admits() {
                is_hopeless = false;
                if seat.in_flight < self.concurrency {
                    free.push(worker);
                }
            }
        }
        if is_hopeless {
            return Choice::Never;
        }
        let two: Vec<_> = free.sample(&mut rand::rng(), 2).copied().collect();
        match two.into_iter().min_by_key(|worker| self.seats[*worker].in_flight) {
            Some(worker) => Choice::Now(self.grant(worker)),
            None => Choice::Later,
        }
    }

    /// Puts somebody in the queue, under the number that comes back.
    pub(super) fn wait(&mut self, not: Set, whom: W) -> u64 {
        self.last_number += 1;
        self.waiting.push_back(Waiting { number: self.last_number, not, whom });
        self.last_number
    }

    /// Whoever waits under this number, if anybody still does, waits no more. Otherwise what those leave behind who
    /// give up would grow as long as nobody is called.
    pub(super) fn give_up(&mut self, number: u64) {
        if let Ok(index) = self.waiting.binary_search_by_key(&number, |waiting| waiting.number) {
            self.waiting.remove(index);
        }
    }

    fn grant(&mut self, worker: usize) -> Grant {
        let seat = &mut self.seats[worker];
        seat.in_flight += 1;
        Grant { worker, turn: seat.breaker.begin() }
    }

    /// A task has shown something of its worker. `true` if nobody is sent there from now on.
    pub(super) fn record(&mut self, grant: Grant, verdict: Verdict, now: Instant) -> bool {
        let seat = &mut self.seats[grant.worker];
        let opened = seat.breaker.record(grant.turn, verdict, now);
        // Whoever puts something newer in its place is back under the same address.
        if opened {
            seat.dialect = None;
        }
        opened
    }

    /// A task has left its worker.
    pub(super) fn leave(&mut self, grant: Grant) {
        let seat = &mut self.seats[grant.worker];
        seat.in_flight = seat.in_flight.saturating_sub(1);
        seat.breaker.end(grant.turn);
    }

    /// A worker's health was asked for. `true` if nobody is sent there from now on.
    pub(super) fn looked(&mut self, worker: usize, is_well: bool, now: Instant) -> bool {
        self.seats[worker].breaker.looked(is_well, now)
    }

    /// Whom to call after something has changed: who has a place now, and who will never have one. To be called until
    /// nobody is.
    pub(super) fn next_call(&mut self) -> Option<Call<W>> {
        let (mut index, mut all_busy) = (0, false);
        while index < self.waiting.len() {
            let not = self.waiting[index].not;
            // Whoever may go anywhere has no better chance than the first such; but somebody behind may have none.
            if all_busy && not == 0 {
                index += 1;
                continue;
            }
            let grant = match self.choose(not) {
                Choice::Now(grant) => Some(grant),
                Choice::Never => None,
                Choice::Later => {
                    all_busy |= not == 0;
                    index += 1;
                    continue;
                }
            };
            let waiting = self.waiting.remove(index)?;
            return Some(Call { whom: waiting.whom, grant });
        }
        None
    }
}

impl Seat {
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.breaker.state() == BreakerState::Closed
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.breaker.due()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn done(&mut self, took: Duration, now: Instant) {
        self.completed += 1;
        self.latency.record(took, now);
    }

    pub(super) fn percentiles(&mut self, now: Instant) -> Option<Percentiles> {
        self.latency.percentiles(now)
    }
}

/// The set of one worker.
pub(super) fn bit(worker: usize) -> Set {
    1 << worker
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

    fn board(workers: usize, concurrency: usize) -> (Board<u32>, Instant) {
        let now = Instant::now();
        let mut board = Board::new(workers, concurrency, REST, now);
        assert_eq!(board.choose(0), Choice::Never, "nobody has looked at them yet");
        for worker in 0..workers {
            board.looked(worker, true, now);
        }
        assert_eq!(board.healthy(), workers);
        (board, now)
    }

    fn take(board: &mut Board<u32>, not: Set) -> Grant {
        match board.choose(not) {
            Choice::Now(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tasks_go_where_there_is_less_to_do() {
        let (mut board, _) = board(2, 100);
        for _ in 0..100 {
            take(&mut board, 0);
        }
        assert_eq!([board.seat(0).in_flight(), board.seat(1).in_flight()], [50, 50]);
        let (mut board, _) = self::board(8, 100);
        for _ in 0..400 {
            take(&mut board, 0);
        }
        let counts: Vec<_> = (0..8).map(|worker| board.seat(worker).in_flight()).collect();
        assert!(counts.iter().all(|count| (45..=55).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_worker_has_so_many_at_once_and_the_others_wait_their_turn() {
        let (mut board, _) = board(1, 2);
        let first = take(&mut board, 0);
        take(&mut board, 0);
        assert_eq!(board.choose(0), Choice::Later);
        let numbers = [7, 8, 9].map(|whom| board.wait(0, whom));
        assert!(board.next_call().is_none());
        board.give_up(numbers[0]);
        assert_eq!(board.waiting(), 2, "nothing is left of 7");
        board.leave(first);
        let call = board.next_call().unwrap();
        assert_eq!((call.whom, call.grant.map(|grant| grant.worker)), (8, Some(0)));
        assert!(board.next_call().is_none());
        board.give_up(numbers[1]);
        assert_eq!(board.waiting(), 1, "8 has its place, 9 waits");
    }

    #[test]
    fn nobody_goes_back_to_a_worker_that_it_comes_from() {
        let (mut board, _) = board(2, 1);
        let first = take(&mut board, bit(1));
        assert_eq!(first.worker, 0);
        assert_eq!(board.choose(bit(0) | bit(1)), Choice::Never);
        let second = take(&mut board, bit(0));
        board.wait(bit(1), 1);
        board.wait(0, 2);
        board.leave(second);
        let call = board.next_call().unwrap();
        assert_eq!((call.whom, call.grant.unwrap().worker), (2, 1), "whoever is first cannot use it");
    }

    #[test]
    fn when_the_last_worker_falls_nobody_waits_on() {
        let (mut board, now) = board(2, 1);
        let (first, second) = (take(&mut board, bit(1)), take(&mut board, bit(0)));
        board.wait(0, 1);
        board.wait(bit(0), 2);
        assert!(board.record(second, Verdict::Dead, now));
        board.leave(second);
        let call = board.next_call().unwrap();
        assert_eq!((call.whom, call.grant), (2, None), "it has been at the other one");
        assert!(board.next_call().is_none());
        assert!(board.record(first, Verdict::Dead, now));
        board.leave(first);
        let call = board.next_call().unwrap();
        assert_eq!((call.whom, call.grant), (1, None));
        assert_eq!((board.healthy(), board.choose(0)), (0, Choice::Never));
    }
}
