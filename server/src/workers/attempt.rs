//! One task at one worker.

use std::sync::OnceLock;
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};

use super::board::Dialect;
use super::breaker::Verdict;
use super::client::{Fault, Whole};
use super::limits::{MAX_POLL_FAILURES, Times};
use super::pool::Lease;
use super::task::{Task, TaskError};
use super::wire::{self, Progress};

/// What came of it.
#[derive(Debug)]
pub(super) enum End {
    /// The task is over, one way or the other.
    Over(Result<Box<RawValue>, TaskError>),
    /// This worker has not taken it, as far as anybody can tell: another one may have it. If there is none, this is
    /// what the asker is told.
    Elsewhere(TaskError),
}

/// A task on its way through the workers.
#[derive(Debug)]
pub(super) struct Errand {
    task: Task,
    /// The same for every attempt, so that a worker that knows it does the task once.
    key: String,
    body: OnceLock<Bytes>,
    older_body: OnceLock<Bytes>,
}

impl Errand {
    pub(super) fn new(task: Task) -> Self {
        let key = format!("{:032x}", rand::random::<u128>());
        Self { task, key, body: OnceLock::new(), older_body: OnceLock::new() }
    }

    fn body(&self) -> Bytes {
        self.body.get_or_init(|| wire::task_body(&self.task).into()).clone()
    }

    fn older_body(&self) -> Bytes {
        self.older_body.get_or_init(|| wire::execute_body(&self.task).into()).clone()
    }

    /// Has the task done by the worker of `lease`, until `deadline` at the latest.
    pub(super) async fn run(&self, lease: &Lease, deadline: Instant, times: &Times) -> End {
        let begun = Instant::now();
        let time = lease.worker().settings.timeout.map_or(times.task, |timeout| timeout.min(times.task));
        let deadline = deadline.min(begun + time);
        let is_fair = (deadline - begun) * 2 >= time;
        let attempt = Attempt { errand: self, lease, times, deadline, is_fair };
        let end = match timeout_at(deadline, Box::pin(attempt.run())).await {
            Ok(end) => end,
            Err(_) => attempt.broken(Fault::Late),
        };
        lease.with_seat(|seat| match &end {
            End::Over(Ok(_)) => {
                let now = Instant::now();
                seat.done(now - begun, now);
            }
            End::Over(Err(_)) | End::Elsewhere(_) => seat.failed += 1,
        });
        end
    }
}

struct Attempt<'a> {
    errand: &'a Errand,
    lease: &'a Lease,
    times: &'a Times,
    deadline: Instant,
    /// Whether the worker has at least half of the time that a task may take there. A task that has waited has less
    /// left, and what it does not get done then is not the worker's fault.
    is_fair: bool,
}

impl Attempt<'_> {
    async fn run(&self) -> End {
        let known = self.lease.with_seat(|seat| seat.dialect);
        let is_older = known == Some(Dialect::Execute);
        let first = if is_older { self.execute().await } else { self.tasks().await };
        let answer = match first {
            Ok(end) => return end,
            Err(answer) => answer,
        };
        // Whoever takes tasks by this call, and gives a reason, means the task.
        if known == Some(Dialect::Tasks)
            && let Some(error) = wire::read_refusal(&answer.body, self.host())
        {
            return self.over(Progress::Failed(error));
        }
        // An older worker knows the older call only, and one that was, and is not any more, the newer one.
        self.lease.with_seat(|seat| seat.dialect = None);
        let second = if is_older { self.tasks().await } else { self.execute().await };
        second.unwrap_or_else(|answer| self.unknown(&answer))
    }

    /// The call of today.
    ///
    /// # Errors
    /// The worker's answer if it does not know the call.
    async fn tasks(&self) -> Result<End, Whole> {
        let (client, errand) = (&self.lease.worker().client, self.errand);
        // Silence that lasts until the end of the attempt is told from a task that was accepted and not done.
        let until = self.deadline.min(Instant::now() + self.times.accept);
        let answer = client.post("/tasks", errand.body(), &errand.key, until).await;
        let whole = match answer {
            Ok(whole) if whole.status == StatusCode::NOT_FOUND => return Err(whole),
            Ok(whole) if whole.status.is_success() => whole,
            Ok(whole) => return Ok(self.refused(&whole)),
            // Nothing of an answer was seen, so nothing was accepted.
            Err(fault @ (Fault::Unreachable | Fault::NoAnswer | Fault::Silent)) => {
                return Ok(self.not_taken(fault, Verdict::Dead));
            }
            Err(fault) => return Ok(self.broken(fault)),
        };
        self.lease.with_seat(|seat| seat.dialect = Some(Dialect::Tasks));
        Ok(match wire::read_accepted(&whole.body, self.host()) {
            Ok(Progress::Under(Some(segment))) => self.follow(&segment).await,
            Ok(progress) => self.over(progress),
            Err(_) => self.broken(Fault::Nonsense),
        })
    }

    /// The older call. Its answer comes when the task is done, so silence says nothing and a connection that ends
    /// may have ended in the midst of the work.
    ///
    /// # Errors
    /// The worker's answer if it does not know the call.
    async fn execute(&self) -> Result<End, Whole> {
        let (client, errand) = (&self.lease.worker().client, self.errand);
        // The end of the attempt comes first.
        let until = self.deadline + Duration::from_secs(1);
        let whole = match client.post("/execute", errand.older_body(), &errand.key, until).await {
            Ok(whole) if whole.status == StatusCode::NOT_FOUND => return Err(whole),
            Ok(whole) => whole,
            Err(Fault::Unreachable) => return Ok(self.not_taken(Fault::Unreachable, Verdict::Dead)),
            Err(fault) => return Ok(self.broken(fault)),
        };
        self.lease.with_seat(|seat| seat.dialect = Some(Dialect::Execute));
        if !whole.status.is_success() {
            return Ok(self.refused(&whole));
        }
        Ok(match wire::read_executed(&whole.body, self.host()) {
            Ok(progress) => self.over(progress),
            Err(_) => self.broken(Fault::Nonsense),
        })
    }

    /// Asks for an accepted task until it is over: at once very soon, then less and less often.
    async fn follow(&self, segment: &str) -> End {
        let mut pause = self.times.poll_pause;
        let mut failures = 0;
        loop {
            sleep(pause).await;
            pause = (pause * 3 / 2).min(self.times.poll_pause_max);
            let progress = match self.lease.worker().client.state(segment).await {
                Ok(whole) if whole.status.is_success() => {
                    wire::read_state(&whole.body, self.host()).map_err(|_| Fault::Nonsense)
                }
                // It has forgotten the task: it was started anew, or is not what accepted it.
                Ok(whole)
                    if whole.status.is_client_error() && whole.status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    return self.broken(Fault::Status(whole.status.as_u16()));
                }
                Ok(whole) => Err(Fault::Status(whole.status.as_u16())),
                Err(fault) => Err(fault),
            };
            match progress {
                Ok(Progress::Under(_)) => {
                    failures = 0;
                }
                Ok(progress) => return self.over(progress),
                Err(fault @ Fault::TooLarge) => return self.broken(fault),
                Err(fault) => {
                    failures += 1;
                    if fault == Fault::Unreachable {
                        // Its task may still be saved by a restart, but nobody else is to go there meanwhile.
                        self.complain(fault, Verdict::Dead);
                    }
                    if failures >= MAX_POLL_FAILURES {
                        return self.broken(fault);
                    }
                }
            }
        }
    }

    fn over(&self, progress: Progress) -> End {
        match progress {
            Progress::Done(result) => {
                self.lease.is_well();
                End::Over(Ok(result))
            }
            Progress::Failed(error @ TaskError::TooLarge) => {
                self.complain(Fault::TooLarge, Verdict::Fault);
                End::Over(Err(error))
            }
            // Who says properly that it cannot does its work.
            Progress::Failed(error) => {
                self.lease.is_well();
                End::Over(Err(error))
            }
            Progress::Under(_) => self.broken(Fault::Nonsense),
        }
    }

    /// An answer that says no.
    fn refused(&self, whole: &Whole) -> End {
        let fault = Fault::Status(whole.status.as_u16());
        match whole.status.as_u16() {
            // Too busy, which may be over soon.
            429 | 503 => self.not_taken(fault, Verdict::Fault),
            // There is nobody behind the gateway.
            502 | 504 => self.not_taken(fault, Verdict::Dead),
            // It does not let us in, or has moved: the operator's to put right.
            300..400 | 401 => self.not_taken(fault, Verdict::Dead),
            400..500 => {
                let error = wire::read_refusal(&whole.body, self.host());
                self.over(Progress::Failed(error.unwrap_or_else(wire::refused)))
            }
            _ => self.broken(fault),
        }
    }

    /// Neither call is known there. Whoever gives a reason means the task, which it does not know; a client that asks
    /// for such ones must not put the worker out of use for others.
    fn unknown(&self, answer: &Whole) -> End {
        match wire::read_refusal(&answer.body, self.host()) {
            Some(error) => self.over(Progress::Failed(error)),
            None => self.not_taken(Fault::Status(answer.status.as_u16()), Verdict::Fault),
        }
    }

    /// The worker has not got the task.
    fn not_taken(&self, fault: Fault, verdict: Verdict) -> End {
        self.complain(fault, verdict);
        End::Elsewhere(match verdict {
            Verdict::Fault => TaskError::NotTaken,
            Verdict::Well | Verdict::Dead => TaskError::NoWorkers,
        })
    }

    /// The worker may have begun with the task, so nobody else gets it.
    fn broken(&self, fault: Fault) -> End {
        let (verdict, error) = match fault {
            Fault::Unreachable | Fault::NoAnswer | Fault::Cut => (Verdict::Dead, TaskError::Lost),
            Fault::Silent | Fault::Status(404 | 410) => (Verdict::Fault, TaskError::Lost),
            Fault::TooLarge => (Verdict::Fault, TaskError::TooLarge),
            Fault::Slow | Fault::Late => (Verdict::Fault, TaskError::Late),
            Fault::Nonsense | Fault::Status(_) => (Verdict::Fault, TaskError::Broken),
        };
        self.complain(fault, verdict);
        End::Over(Err(error))
    }

    fn host(&self) -> &str {
        self.lease.worker().settings.origin.host()
    }

    fn complain(&self, fault: Fault, verdict: Verdict) {
        let is_cut_short = Instant::now() >= self.deadline;
        if self.is_fair || !is_cut_short {
            self.lease.complain(fault, verdict);
        }
    }
}
