//! The threads that make the load, a core's share on each.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::sync::watch;

use crate::process::allow_connections;
use crate::schedule::Schedule;
use crate::tally::{Durations, Tally};
use crate::worker::{self, Phase, Plan};

/// Snapshots that wait to be looked at. The next is left out if so many do: only a chart misses it.
const SNAPSHOTS: usize = 64;
/// How often is looked how many are in.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What one thread has counted in one second.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Seconds since the window's start, at its end.
    pub(crate) second: u32,
    /// Ages of the poses that arrived in it.
    pub(crate) ages: Durations,
    pub(crate) bytes: u64,
}

/// What a thread tells while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    pub(crate) ready: SyncSender<Result<(), String>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) snapshots: SyncSender<Snapshot>,
}

/// The threads that make the load.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<thread::JoinHandle<Result<Tally>>>,
    phase: watch::Sender<Phase>,
    ready: Receiver<Result<(), String>>,
    /// What they count, second by second.
    pub(crate) snapshots: Receiver<Snapshot>,
}

impl Workers {
    /// Starts a thread on each of `cores`, whose users come in.
    ///
    /// # Errors
    /// If that is not possible.
    pub(crate) fn launch(plan: &Plan, cores: &[usize]) -> Result<Self> {
        allow_connections(plan.crowd.users)?;
        let cores = if cores.is_empty() { vec![None] } else { cores.iter().copied().map(Some).collect() };
        let (tell_ready, ready) = sync_channel(2 * cores.len());
        let (phase, phases) = watch::channel(Phase::Gathering);
        let (snapshot, snapshots) = sync_channel(SNAPSHOTS);
        let channels = Channels { ready: tell_ready, phase: phases, snapshots: snapshot };
        let mut threads = Vec::with_capacity(cores.len());
        for (worker, core) in cores.iter().copied().enumerate() {
            let indices =
                (0..plan.crowd.users).filter(|index| *index as usize % cores.len() == worker).collect();
            let (plan, channels) = (plan.clone(), channels.clone());
            let work = move || run_worker(plan, indices, core, &channels);
            threads.push(thread::Builder::new().name(format!("load-{worker}")).spawn(work)?);
        }
        Ok(Self { threads, phase, ready, snapshots })
    }

    /// Waits until every thread has said that it is ready: first that every user has come as far as the plan says,
    /// then that all has arrived.
    ///
    /// # Errors
    /// Why one never will be.
    pub(crate) fn wait_for_all(&self) -> Result<()> {
        self.wait_with(|| {})
    }

    /// The same, and calls `meanwhile` now and then.
    ///
    /// # Errors
    /// Why one never will be.
    pub(crate) fn wait_with(&self, mut meanwhile: impl FnMut()) -> Result<()> {
        let mut waiting = self.threads.len();
        while waiting > 0 {
            match self.ready.recv_timeout(LOOK_INTERVAL) {
                Ok(outcome) => {
                    outcome.map_err(|reason| anyhow!(reason))?;
                    waiting -= 1;
                }
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => bail!("a thread has ended"),
            }
        }
        Ok(())
    }

    /// Lets everybody who is in move, or says what counts of that.
    pub(crate) fn start(&self, schedule: Schedule) {
        self.phase.send_replace(Phase::Moving(schedule));
    }

    /// Ends it and adds up what the threads have counted.
    ///
    /// # Errors
    /// If a thread failed.
    pub(crate) fn finish(self) -> Result<Tally> {
        self.phase.send_replace(Phase::Over);
        let mut total = Tally::new();
        for thread in self.threads {
            total.merge(&thread.join().map_err(|_| anyhow!("a thread of the load has panicked"))??);
        }
        Ok(total)
    }
}

/// [`worker::run`], with its failure told to whom waits for it.
fn run_worker(plan: Plan, indices: Vec<u32>, core: Option<usize>, channels: &Channels) -> Result<Tally> {
    let outcome = worker::run(plan, indices, core, channels);
    if let Err(error) = &outcome {
        // Whoever waited has gone if another thread failed before.
        let _ = channels.ready.send(Err(format!("{error:#}")));
    }
    outcome
}
