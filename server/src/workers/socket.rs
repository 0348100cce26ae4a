//! Tasks that come as `worker-task` events.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::room::{error_packet, ok_packet};
use engine::{Session, SessionId};
use protocol::Outgoing;
use protocol::error::ClientError;
use protocol::event::WorkerTask;
use serde::Serialize;
use serde_json::value::RawValue;

use super::bridge::Workers;
use super::limits::MAX_TASK_ID_BYTES;
use super::task::{Outcome, Task, TaskError, Ticket};

/// The tickets of a session's tasks, by their numbers. A session has no more of them than its user may have.
type Tickets = HashMap<u64, Ticket>;

/// Tasks of sessions. Those of a session that ends are given up.
pub struct SocketTasks {
    workers: Workers,
    under_way: Arc<Mutex<HashMap<SessionId, Tickets>>>,
    last: AtomicU64,
}

impl SocketTasks {
    /// Tasks go to `workers`.
    pub fn new(workers: Workers) -> Self {
        Self { workers, under_way: Arc::default(), last: AtomicU64::new(0) }
    }

    /// Has a task done for `session`, which is told what comes of it: `worker-result` or `worker-error`, and the ack if
    /// it wants one.
    pub fn start(&self, session: &Arc<Session>, task: &WorkerTask<'_>, ack: Option<u64>, is_draining: bool) {
        let begun = if task.task_id.get().len() > MAX_TASK_ID_BYTES {
            // Not even told by that name: it would be said again to whoever says it.
            return session.refuse(ack, &ClientError::bad_request("a taskId is at most 128 bytes"));
        } else if is_draining {
            Err(TaskError::Draining)
        } else {
            Task::new(&session.user().id, &task.task, task.payload)
                .and_then(|asked| self.submit(session, asked, task.task_id, ack))
        };
        if let Err(error) = begun {
            tell(session, task.task_id, ack, Err(error));
        }
    }

    fn submit(
        &self,
        session: &Arc<Session>,
        task: Task,
        task_id: &RawValue,
        ack: Option<u64>,
    ) -> Result<(), TaskError> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (ticket, gone) = Ticket::issue();
        // Noted before it is begun, so that it cannot be over before it is noted.
        lock(&self.under_way).entry(session.id()).or_default().insert(number, ticket);
        let (under_way, to, task_id) = (self.under_way.clone(), session.clone(), task_id.to_owned());
        let submitted = self.workers.submit(task, gone, move |outcome| {
            remove(&under_way, to.id(), number);
            tell(&to, &task_id, ack, outcome);
        });
        if submitted.is_err() {
            remove(&self.under_way, session.id(), number);
        }
        submitted
    }

    /// A session has ended: nobody waits for its tasks any more.
    pub fn give_up(&self, session: SessionId) {
        let tickets = lock(&self.under_way).remove(&session);
        drop(tickets);
    }

    /// How many sessions have tasks under way.
    pub fn sessions(&self) -> usize {
        lock(&self.under_way).len()
    }
}

fn remove(under_way: &Mutex<HashMap<SessionId, Tickets>>, session: SessionId, number: u64) {
    let mut under_way = lock(under_way);
    if let Some(tickets) = under_way.get_mut(&session) {
        tickets.remove(&number);
        if tickets.is_empty() {
            under_way.remove(&session);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds this lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(session: &Arc<Session>, task_id: &RawValue, ack: Option<u64>, outcome: Outcome) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WorkerResult<'a> {
        task_id: &'a RawValue,
        result: &'a RawValue,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WorkerError<'a> {
        task_id: &'a RawValue,
        error: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        task_id: Box<RawValue>,
    }
    let answer = match outcome {
        Ok(result) => {
            session.send(&Outgoing::event("worker-result", &WorkerResult { task_id, result: &result }));
            ok_packet(ack, Told { task_id: task_id.to_owned() })
        }
        Err(error) => {
            let error = error.to_client_error();
            session.send(&Outgoing::event("worker-error", &WorkerError { task_id, error: &error.message }));
            ack.and_then(|_| error_packet(ack, &error))
        }
    };
    if let Some(packet) = answer {
        session.send(&packet);
    }
}

impl fmt::Debug for SocketTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketTasks").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
