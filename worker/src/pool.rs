//! Threads for tasks, with a bounded queue before them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::limits::STACK_BYTES;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs on threads of its own. They end when the pool is dropped and its queue is empty.
#[derive(Debug)]
pub(crate) struct Pool {
    queue: SyncSender<Job>,
}

/// As many jobs wait as may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Pool {
    /// A pool of `threads` threads, before which `queued` jobs may wait.
    pub(crate) fn start(threads: usize, queued: usize) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(queued);
        let jobs = Arc::new(Mutex::new(jobs));
        for index in 0..threads {
            let jobs = jobs.clone();
            let builder = thread::Builder::new().name(format!("task-{index}")).stack_size(STACK_BYTES);
            builder.spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Queues `job`; never waits.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Full> {
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Full,
        })
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever submitted it sees to what a panic means; here the thread must live on.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_full_queue_refuses_and_a_panic_costs_no_thread() {
        let pool = Pool::start(1, 1).unwrap();
        let (started, has_started) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let (done, is_done) = sync_channel(1);
        pool.submit(Box::new(move || {
            started.send(()).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
            panic!("a job that breaks off");
        }))
        .unwrap();
        has_started.recv_timeout(PATIENCE).unwrap();
        pool.submit(Box::new(move || done.send(()).unwrap())).unwrap();
        assert_eq!(pool.submit(Box::new(|| {})), Err(Full));
        release.send(()).unwrap();
        is_done.recv_timeout(PATIENCE).expect("the only thread outlived the panic");
    }
}
