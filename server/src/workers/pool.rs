//! The workers and what is shared about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::board::{Board, Call, Choice, Grant, Seat, Set};
use super::breaker::Verdict;
use super::client::{Client, Fault, http_client};
use super::metrics::Metrics;
use super::settings::{BridgeSettings, WorkerSettings};

/// Where somebody waits for a worker.
type Waiter = oneshot::Sender<Option<Lease>>;

/// All workers.
pub(super) struct Pool {
    pub(super) workers: Vec<Worker>,
    pub(super) settings: BridgeSettings,
    pub(super) metrics: Metrics,
    board: Mutex<Board<Waiter>>,
}

/// One worker.
pub(super) struct Worker {
    pub(super) settings: WorkerSettings,
    pub(super) client: Client,
    /// Told when its circuit has opened, so that whoever looks after its health reckons anew.
    pub(super) opened: Notify,
}

/// A place at a worker, until it is dropped.
pub(super) struct Lease {
    pool: Arc<Pool>,
    grant: Grant,
}

/// A place in the queue, until it is dropped.
struct Wait<'a> {
    pool: &'a Pool,
    number: u64,
}

impl Pool {
    pub(super) fn new(settings: BridgeSettings, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let http = http_client(&settings)?;
        let workers: Vec<_> = settings
            .workers
            .iter()
            .map(|worker| Worker {
                settings: worker.clone(),
                client: Client::new(http.clone(), worker, settings.times),
                opened: Notify::new(),
            })
            .collect();
        let rest = (settings.times.rest, settings.times.rest_max);
        let board = Board::new(workers.len(), settings.concurrency, rest, Instant::now());
        Ok(Self { workers, settings, metrics, board: Mutex::new(board) })
    }

    pub(super) fn healthy(&self) -> usize {
        self.board().healthy()
    }

    pub(super) fn waiting(&self) -> usize {
        self.board().waiting()
    }

    /// Looks at what is known of a worker, or changes it. `look` must not call the pool.
    pub(super) fn with_seat<T>(&self, worker: usize, look: impl FnOnce(&mut Seat) -> T) -> T {
        look(self.board().seat(worker))
    }

    /// A place at a worker that is `not` one of these. Waits for one if all are busy. `None` if there is none left
    /// that could ever have one.
    pub(super) async fn acquire(self: &Arc<Self>, not: Set) -> Option<Lease> {
        let (receiver, _wait) = {
            let mut board = self.board();
            match board.choose(not) {
                Choice::Now(grant) => return Some(Lease { pool: self.clone(), grant }),
                Choice::Never => return None,
                Choice::Later => {
                    let (sender, receiver) = oneshot::channel();
                    let number = board.wait(not, sender);
                    (receiver, Wait { pool: self, number })
                }
            }
        };
        receiver.await.unwrap_or(None)
    }

    /// A worker's health was asked for.
    pub(super) fn looked(self: &Arc<Self>, worker: usize, answer: Result<(), Fault>) {
        let now = Instant::now();
        let (was, is) = {
            let mut board = self.board();
            let was = board.seat(worker).state();
            board.looked(worker, answer.is_ok(), now);
            if let Err(fault) = answer {
                board.seat(worker).last_error = Some((fault, now));
            }
            (was, board.seat(worker).state())
        };
        if was != is {
            let name = &self.workers[worker].settings.name;
            match answer {
                Ok(()) => tracing::info!(worker = name, circuit = is.as_str(), "a worker is well"),
                Err(fault) => tracing::warn!(worker = name, %fault, "a worker is not well"),
            }
        }
        self.tell(worker);
        self.call_waiting();
    }

    /// Gives places to those who wait, and tells those who wait in vain.
    fn call_waiting(self: &Arc<Self>) {
        loop {
            let Some(Call { whom, grant }) = self.board().next_call() else { return };
            // Sent without the lock: a place that nobody takes any more is given back at once.
            let _ = whom.send(grant.map(|grant| Lease { pool: self.clone(), grant }));
        }
    }

    fn tell(&self, worker: usize) {
        let mut board = self.board();
        let seat = board.seat(worker);
        self.metrics.show(&self.workers[worker].settings.name, seat.state(), seat.in_flight());
    }

    fn board(&self) -> MutexGuard<'_, Board<Waiter>> {
        // Nothing that holds this lock can panic half-way through a change.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn index(&self) -> usize {
        self.grant.worker
    }

    pub(super) fn worker(&self) -> &Worker {
        &self.pool.workers[self.grant.worker]
    }

    pub(super) fn with_seat<T>(&self, look: impl FnOnce(&mut Seat) -> T) -> T {
        self.pool.with_seat(self.grant.worker, look)
    }

    /// The worker does its work.
    pub(super) fn is_well(&self) {
        self.pool.board().record(self.grant, Verdict::Well, Instant::now());
    }

    /// There is something wrong with the worker.
    pub(super) fn complain(&self, fault: Fault, verdict: Verdict) {
        let now = Instant::now();
        let opened = {
            let mut board = self.pool.board();
            board.seat(self.grant.worker).last_error = Some((fault, now));
            board.record(self.grant, verdict, now)
        };
        let worker = self.worker();
        self.pool.metrics.fault(&worker.settings.name, fault);
        if opened {
            tracing::warn!(worker = worker.settings.name, %fault, "a worker gets no tasks for now");
            worker.opened.notify_one();
            self.pool.tell(self.grant.worker);
            self.pool.call_waiting();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.board().leave(self.grant);
        self.pool.tell(self.grant.worker);
        self.pool.call_waiting();
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.pool.board().give_up(self.number);
    }
}
