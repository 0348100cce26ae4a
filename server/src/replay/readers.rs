//! The threads that read recordings.
//!
//! A core must never wait for a disk, nor spend its time on somebody's history. So reading, and all that has to be
//! done to what was read, is work for threads of their own, in steps of limited length.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Readings under way at once. One more is refused: the client is told to come back.
pub const MAX_READERS: usize = 8;

/// Threads that do the work of all readings. They may take so many processors from the cores, and no more.
pub const READER_THREADS: usize = 2;

/// How much the reading threads give way to others, as `nice` counts it: reading can wait, a tick cannot.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, and who may have them work.
#[derive(Debug)]
pub struct Readers {
    jobs: SyncSender<Job>,
    places: Arc<Semaphore>,
}

/// The right to have work done, one step at a time.
#[derive(Debug)]
pub struct Place {
    jobs: SyncSender<Job>,
    permit: Arc<OwnedSemaphorePermit>,
}

/// A step of work was lost: it has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reading thread has lost its work")]
pub struct Lost;

impl Readers {
    /// Starts the threads. They end when this and every place is gone. To be called from a thread that is bound to no
    /// core: threads inherit that.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Self> {
        // Each place has one job at most that waits or is done.
        let (jobs, queue) = sync_channel::<Job>(MAX_READERS);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..READER_THREADS {
            let queue = queue.clone();
            thread::Builder::new().name(format!("reader-{index}")).spawn(move || work(&queue))?;
        }
        Ok(Self { jobs, places: Arc::new(Semaphore::new(MAX_READERS)) })
    }

    /// A place, if one is free.
    pub fn try_place(&self) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        Some(Place { jobs: self.jobs.clone(), permit: Arc::new(permit) })
    }

    /// How many places are free.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }
}

impl Place {
    /// Has `step` done by one of the threads. Should nobody wait for it any more, it is done all the same, and the
    /// place stays taken until then.
    ///
    /// # Errors
    /// [`Lost`]
    pub async fn run<T: Send + 'static>(
        &mut self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, waiting) = oneshot::channel();
        let permit = self.permit.clone();
        let job: Job = Box::new(move || {
            let done = step();
            drop(permit);
            // Whoever asked may have gone.
            let _ = answer.send(done);
        });
        // Cannot be full, and the threads live as long as a place does.
        self.jobs.try_send(job).map_err(|_| Lost)?;
        waiting.await.map_err(|_| Lost)
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "reading threads do not give way to others");
    }
    loop {
        // One waits for the next job, the others for their turn to wait.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // The log has the panic's words. A thread less would be missed by everybody.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("reading a recording has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_so_many_places_and_each_comes_back() {
        let readers = Readers::start().unwrap();
        let mut places: Vec<Place> = (0..MAX_READERS).map(|_| readers.try_place().unwrap()).collect();
        assert!(readers.try_place().is_none());
        for (index, place) in places.iter_mut().enumerate() {
            assert_eq!(place.run(move || index * 2).await, Ok(index * 2));
        }
        places.pop();
        assert!(readers.try_place().is_some());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_keeps_its_place_until_it_is_done() {
        let readers = Readers::start().unwrap();
        let mut places: Vec<Place> = (0..MAX_READERS).map(|_| readers.try_place().unwrap()).collect();
        let mut abandoned = places.pop().unwrap();
        let (finish, finished) = std::sync::mpsc::sync_channel::<()>(0);
        let (begun, has_begun) = oneshot::channel();
        let step = abandoned.run(move || {
            let _ = begun.send(());
            finished.recv().unwrap();
        });
        tokio::select! {
            biased;
            _ = step => panic!("it cannot be done yet"),
            begun = has_begun => begun.unwrap(),
        }
        drop(abandoned);
        assert!(readers.try_place().is_none());
        finish.send(()).unwrap();
        let free = readers.places.clone().acquire_owned();
        tokio::time::timeout(std::time::Duration::from_secs(20), free).await.unwrap().map(drop).unwrap();
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let readers = Readers::start().unwrap();
        let mut place = readers.try_place().unwrap();
        for _ in 0..READER_THREADS * 2 {
            assert_eq!(place.run(|| panic!("a test's own")).await, Err::<(), _>(Lost));
        }
        assert_eq!(place.run(|| 7).await, Ok(7));
    }
}
