//! The thread that talks to workers, and the way to it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use prometheus_client::registry::Registry;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::attempt::{End, Errand};
use super::board::bit;
use super::health;
use super::limits::{MAX_ATTEMPTS, MAX_TASK_BYTES, MAX_TASKS};
use super::metrics::Metrics;
use super::pool::Pool;
use super::quota::{Place, Quota};
use super::settings::BridgeSettings;
use super::status::{self, WorkerStatus};
use super::task::{Gone, Outcome, Reply, Task, TaskError, Ticket};

/// Why the bridge could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates to trust cannot be read, so nobody could be trusted.
    #[error("cannot call workers over https: {0}")]
    Certificates(#[from] reqwest::Error),
    /// The system gives no thread or runtime.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The way to the workers. Cheap to clone, callable from any thread, never waits.
#[derive(Clone)]
pub struct Workers {
    metrics: Metrics,
    /// `None` if there are no workers.
    bridge: Option<Bridge>,
}

#[derive(Clone)]
struct Bridge {
    pool: Arc<Pool>,
    quota: Arc<Quota>,
    load: Arc<Load>,
    jobs: mpsc::Sender<Job>,
}

/// All that is under way.
#[derive(Debug, Default)]
struct Load {
    tasks: AtomicUsize,
    bytes: AtomicUsize,
    /// Answers that somebody holds until they have left.
    held: AtomicUsize,
    /// Whether all of it is given up.
    is_over: watch::Sender<bool>,
}

/// What keeps the bridge from being idle, until it is dropped: an answer that is on its way.
#[derive(Debug)]
pub struct Held(Option<Arc<Load>>);

/// A task's share of the load, until it is dropped.
struct Share {
    load: Arc<Load>,
    bytes: usize,
    metrics: Metrics,
}

struct Job {
    task: Task,
    deadline: Instant,
    asked: Instant,
    gone: Gone,
    reply: Reply,
    share: Share,
    _place: Place,
}

impl Workers {
    /// Starts the bridge on a thread of its own, on which TLS and large results delay nobody's tick. Without workers
    /// there is no thread. It ends when the last clone of this is dropped.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: BridgeSettings, registry: &mut Registry) -> Result<Self, StartError> {
        let metrics = Metrics::new(registry);
        if settings.workers.is_empty() {
            return Ok(Self { metrics, bridge: None });
        }
        let pool = Arc::new(Pool::new(settings, metrics.clone())?);
        // As many as there may be tasks, so that sending never fails for want of room.
        let (jobs, queue) = mpsc::channel(MAX_TASKS);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let of_thread = pool.clone();
        thread::Builder::new()
            .name("workers".to_owned())
            .spawn(move || runtime.block_on(serve(of_thread, queue)))?;
        let bridge = Bridge { pool, quota: Arc::default(), load: Arc::default(), jobs };
        Ok(Self { metrics, bridge: Some(bridge) })
    }

    /// How many workers are given tasks freely.
    pub fn healthy(&self) -> usize {
        self.bridge.as_ref().map_or(0, |bridge| bridge.pool.healthy())
    }

    /// How many tasks wait for a worker that is free.
    pub fn waiting(&self) -> usize {
        self.bridge.as_ref().map_or(0, |bridge| bridge.pool.waiting())
    }

    /// How many tasks are under way.
    pub fn under_way(&self) -> usize {
        self.bridge.as_ref().map_or(0, |bridge| bridge.load.tasks.load(Ordering::Acquire))
    }

    /// Whether no task is under way, and no answer [held](Self::hold).
    pub fn is_idle(&self) -> bool {
        let held = self.bridge.as_ref().map_or(0, |bridge| bridge.load.held.load(Ordering::Acquire));
        self.under_way() == 0 && held == 0
    }

    /// For an answer that takes time to leave once its task is over. To be taken before the task begins, so that there is
    /// no moment between the two.
    pub fn hold(&self) -> Held {
        let load = self.bridge.as_ref().map(|bridge| bridge.load.clone());
        if let Some(load) = &load {
            load.held.fetch_add(1, Ordering::AcqRel);
        }
        Held(load)
    }

    /// The server ends: whatever is under way, or asked for from here on, is answered with [`TaskError::Draining`].
    pub fn give_up(&self) {
        if let Some(bridge) = &self.bridge {
            bridge.load.is_over.send_replace(true);
        }
    }

    /// Every worker, in the order of the settings.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.bridge.as_ref().map_or_else(Vec::new, |bridge| status::of(&bridge.pool))
    }

    /// Has `task` done. `answer` is called exactly once, on the bridge's thread, unless there is an error; after the
    /// asker has [`Gone`] it may not be called any more.
    ///
    /// # Errors
    /// Why the task is not even begun.
    pub fn submit(
        &self,
        task: Task,
        gone: Gone,
        answer: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TaskError> {
        let submitted = self.try_submit(task, gone, Reply::new(answer));
        if let Err(error) = &submitted {
            self.metrics.refused_or_over(&Err(error.clone()));
        }
        submitted
    }

    fn try_submit(&self, task: Task, gone: Gone, reply: Reply) -> Result<(), TaskError> {
        let admitted = self.bridge.as_ref().ok_or(TaskError::NoWorkers).and_then(|bridge| {
            let now = Instant::now();
            let place = bridge.quota.take(&task.user, now)?;
            let share = Share::take(&bridge.load, task.bytes(), &self.metrics)?;
            Ok((bridge, place, share, now))
        });
        let (bridge, place, share, asked) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                reply.forget();
                return Err(error);
            }
        };
        let deadline = asked + bridge.pool.settings.times.task;
        let job = Job { task, deadline, asked, gone, reply, share, _place: place };
        // If the thread is gone, dropping the job answers.
        let _ = bridge.jobs.try_send(job);
        Ok(())
    }

    /// Has `task` done, and waits for what comes of it. To drop this gives the task up.
    ///
    /// # Errors
    /// [`TaskError`].
    pub async fn run(&self, task: Task) -> Outcome {
        let (_ticket, gone) = Ticket::issue();
        let (sender, receiver) = oneshot::channel();
        self.submit(task, gone, move |outcome| {
            let _ = sender.send(outcome);
        })?;
        receiver.await.unwrap_or(Err(TaskError::Broken))
    }
}

impl Share {
    fn take(load: &Arc<Load>, bytes: usize, metrics: &Metrics) -> Result<Self, TaskError> {
        let tasks = load.tasks.fetch_add(1, Ordering::AcqRel) + 1;
        let all = load.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        // From here on it is counted; to drop it takes that back.
        let share = Self { load: load.clone(), bytes, metrics: metrics.clone() };
        if tasks > MAX_TASKS || all > MAX_TASK_BYTES {
            return Err(TaskError::Busy);
        }
        metrics.under_way(tasks);
        Ok(share)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.held.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Load {
    /// Resolves when all is given up.
    async fn is_given_up(&self) {
        // Fails only without a sender, which is kept here.
        let _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let before = self.load.tasks.fetch_sub(1, Ordering::AcqRel);
        self.metrics.under_way(before.saturating_sub(1));
    }
}

async fn serve(pool: Arc<Pool>, mut queue: mpsc::Receiver<Job>) {
    for index in 0..pool.workers.len() {
        tokio::spawn(health::watch(pool.clone(), index));
    }
    while let Some(job) = queue.recv().await {
        tokio::spawn(carry_out(pool.clone(), job));
    }
}

async fn carry_out(pool: Arc<Pool>, job: Job) {
    // The share lives until the answer is given: whoever sees that no task is under way may rely on that.
    let Job { task, deadline, asked, mut gone, reply, share, _place } = job;
    let errand = Errand::new(task);
    let outcome = tokio::select! {
        // What has come is told, even to somebody who is just leaving.
        biased;
        outcome = timeout_at(deadline, Box::pin(bring_round(&pool, &errand, deadline))) => {
            outcome.unwrap_or(Err(TaskError::Late))
        }
        () = gone.happens() => {
            pool.metrics.cancelled();
            return reply.forget();
        }
        () = share.load.is_given_up() => Err(TaskError::Draining),
    };
    pool.metrics.over(&outcome, asked.elapsed());
    reply.send(outcome);
}

/// Brings a task to one worker after the other until one takes it.
async fn bring_round(pool: &Arc<Pool>, errand: &Errand, deadline: Instant) -> Outcome {
    let (mut tried, mut last) = (0, TaskError::NoWorkers);
    for attempt in 0..MAX_ATTEMPTS {
        let Some(lease) = pool.acquire(tried).await else { break };
        if attempt > 0 {
            pool.metrics.retried();
        }
        tried |= bit(lease.index());
        match errand.run(&lease, deadline, &pool.settings.times).await {
            End::Over(outcome) => return outcome,
            End::Elsewhere(error) => last = error,
        }
        // Another one could not do it any more, and would be blamed.
        if Instant::now() >= deadline {
            return Err(TaskError::Late);
        }
    }
    Err(last)
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
