//! Tasks from when they are accepted until their results are forgotten.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits::{
    ASKER_PATIENCE, MAX_QUEUED, MAX_RESULT_BYTES, MAX_RESULTS, MAX_RESULTS_BYTES, RESULT_TTL,
};
use crate::metrics::Metrics;
use crate::pool::Pool;

/// What a task came to: its result as JSON, or why there is none.
pub type Outcome = Result<Arc<RawValue>, Arc<str>>;

/// What there is to do. Runs on a thread of its own, and may panic.
pub type Work = Box<dyn FnOnce() -> Result<Box<RawValue>, String> + Send>;

/// Identifies what a task is, so that a key that comes with another one is noticed.
pub type Fingerprint = [u8; 32];

/// How far a task is.
#[derive(Debug, Clone)]
pub enum State {
    /// It waits for a thread.
    Pending,
    /// A thread is at it.
    Running,
    /// It has ended.
    Ended(Outcome),
}

impl State {
    /// What came of the task, if it has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Pending | Self::Running => None,
        }
    }
}

/// A task that was accepted.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its id: 32 hexadecimal digits that cannot be guessed.
    pub id: Arc<str>,
    /// How far it is.
    pub state: watch::Receiver<State>,
}

/// The key that a client gave to a task, and what the task was.
#[derive(Debug, Clone)]
pub struct Key {
    /// The client's text.
    pub text: Arc<str>,
    /// What it stands for.
    pub fingerprint: Fingerprint,
}

/// Why a task is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many tasks wait as may.
    #[error("The queue is full, try again later")]
    Busy,
    /// The key stands for another task.
    #[error("This Idempotency-Key was used for another task")]
    KeyReused,
}

/// All tasks of a worker.
#[derive(Debug)]
pub struct Tasks {
    pool: Pool,
    metrics: Metrics,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Arc<str>, Entry>,
    /// Ids by the clients' keys. A key lives as long as its task.
    keys: HashMap<Arc<str>, (Fingerprint, Arc<str>)>,
    /// Ids of what has ended, the oldest first, and when it did.
    ended: VecDeque<(Arc<str>, Instant)>,
    ended_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    /// Who holds a handle listens here.
    progress: Arc<watch::Sender<State>>,
    key: Option<Arc<str>>,
    /// When somebody last asked for it.
    asked: Instant,
    /// Bytes of its result.
    bytes: usize,
    /// Whether somebody has seen its result.
    is_fetched: bool,
}

impl Entry {
    fn handle(&mut self, now: Instant) -> Handle {
        self.asked = now;
        Handle { id: self.id.clone(), state: self.progress.subscribe() }
    }

    /// Whether somebody may still want its result.
    fn is_wanted(&self, now: Instant) -> bool {
        !self.is_fetched && (self.progress.receiver_count() > 0 || now - self.asked <= ASKER_PATIENCE)
    }
}

impl Tasks {
    /// Starts `threads` threads for tasks.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(threads: usize) -> io::Result<Arc<Self>> {
        let pool = Pool::start(threads, MAX_QUEUED)?;
        Ok(Arc::new(Self { pool, metrics: Metrics::new(), inner: Mutex::default() }))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The task that `key` stands for, if it is known.
    ///
    /// # Errors
    /// [`Refusal::KeyReused`].
    pub fn of_key(&self, key: &Key) -> Result<Option<Handle>, Refusal> {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.forget(now);
        inner.of_key(key, now)
    }

    /// The task of this id, if it is known.
    pub fn find(&self, id: &str) -> Option<Handle> {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.forget(now);
        inner.entries.get_mut(id).map(|entry| entry.handle(now))
    }

    /// Accepts a task, or finds the one that has come under this key before.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has been done then.
    pub fn submit(
        self: &Arc<Self>,
        name: &'static str,
        key: Option<Key>,
        work: Work,
    ) -> Result<Handle, Refusal> {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.forget(now);
        if let Some(key) = &key
            && let Some(handle) = inner.of_key(key, now)?
        {
            return Ok(handle);
        }
        let id: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let progress = Arc::new(watch::Sender::new(State::Pending));
        let (tasks, job_id, job_progress) = (self.clone(), id.clone(), progress.clone());
        let job = move || tasks.run(name, &job_id, &job_progress, work);
        // The job cannot end before the lock is given back, so it will find its entry.
        if self.pool.submit(Box::new(job)).is_err() {
            self.metrics.refused.inc();
            return Err(Refusal::Busy);
        }
        self.metrics.unfinished.inc();
        if let Some(key) = &key {
            inner.keys.insert(key.text.clone(), (key.fingerprint, id.clone()));
        }
        let key = key.map(|key| key.text);
        let mut entry = Entry { id: id.clone(), progress, key, asked: now, bytes: 0, is_fetched: false };
        let handle = entry.handle(now);
        inner.entries.insert(id, entry);
        Ok(handle)
    }

    /// Notes that somebody has seen the result of this task.
    pub fn note_fetched(&self, id: &str) {
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.is_fetched = true;
        }
    }

    /// Whether every result has been seen that somebody may still want. A task is wanted while somebody waits for it
    /// or has asked for it lately.
    pub fn is_settled(&self) -> bool {
        let now = Instant::now();
        !self.lock().entries.values().any(|entry| entry.is_wanted(now))
    }

    fn run(&self, name: &'static str, id: &str, progress: &watch::Sender<State>, work: Work) {
        progress.send_replace(State::Running);
        let start = Instant::now();
        let outcome: Outcome = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(result)) if result.get().len() > MAX_RESULT_BYTES => {
                Err(format!("The result is larger than {MAX_RESULT_BYTES} bytes").into())
            }
            Ok(outcome) => outcome.map(Arc::from).map_err(Arc::from),
            Err(_) => Err("The task broke off on this input".into()),
        };
        let now = Instant::now();
        self.metrics.ended(name, outcome.is_ok(), now - start);
        self.metrics.unfinished.dec();
        let bytes = outcome.as_ref().map_or_else(|error| error.len(), |result| result.get().len());
        {
            let mut inner = self.lock();
            if let Some(entry) = inner.entries.get_mut(id) {
                entry.bytes = bytes;
                let id = entry.id.clone();
                inner.ended_bytes += bytes;
                inner.ended.push_back((id, now));
            }
            inner.forget(now);
        }
        // Nobody waits any more: the result is fetched later, or never.
        progress.send_replace(State::Ended(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn of_key(&mut self, key: &Key, now: Instant) -> Result<Option<Handle>, Refusal> {
        match self.keys.get(&key.text) {
            None => Ok(None),
            Some((fingerprint, _)) if *fingerprint != key.fingerprint => Err(Refusal::KeyReused),
            Some((_, id)) => Ok(self.entries.get_mut(id).map(|entry| entry.handle(now))),
        }
    }

    /// Forgets results that are too old or too many.
    fn forget(&mut self, now: Instant) {
        while let Some((_, at)) = self.ended.front()
            && (self.ended.len() > MAX_RESULTS
                || self.ended_bytes > MAX_RESULTS_BYTES
                || now - *at > RESULT_TTL)
        {
            let Some(entry) = self.ended.pop_front().and_then(|(id, _)| self.entries.remove(&id)) else {
                continue;
            };
            self.ended_bytes -= entry.bytes;
            if let Some(key) = entry.key {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
