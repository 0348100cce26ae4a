//! The steady load: everybody joins, then everybody moves at a fixed rate.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::http::Target;
use crate::options::{Auth, LoadOptions};
use crate::process::{Process, allow_connections};
use crate::report::{Cost, Report};
use crate::session::Stage;
use crate::stamp::Schedule;
use crate::tally::Tally;
use crate::worker::{self, Crowd, Phase, Plan};

/// Between the last arrival and the first pose.
const LEAD_IN: Duration = Duration::from_millis(300);

/// One run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) url: &'a str,
    pub(crate) load: &'a LoadOptions,
    pub(crate) server: Option<Process>,
    /// A thread for each; one thread anywhere if empty.
    pub(crate) cores: &'a [usize],
}

/// The threads that make the load, all of whose users are ready.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<thread::JoinHandle<Result<Tally>>>,
    phase: watch::Sender<Phase>,
    ready: Receiver<Result<(), String>>,
}

impl Workers {
    /// Starts a thread on each of `cores` and waits until every user has come as far as the plan says.
    ///
    /// # Errors
    /// Why one of them has not.
    pub(crate) fn gather(plan: &Plan, cores: &[usize]) -> Result<Self> {
        allow_connections(plan.crowd.users)?;
        let cores = if cores.is_empty() { vec![None] } else { cores.iter().copied().map(Some).collect() };
        let (tell_ready, ready) = sync_channel(2 * cores.len());
        let (phase, phases) = watch::channel(Phase::Gathering);
        let mut threads = Vec::with_capacity(cores.len());
        for (worker, core) in cores.iter().copied().enumerate() {
            let indices =
                (0..plan.crowd.users).filter(|index| *index as usize % cores.len() == worker).collect();
            let (plan, ready, phases) = (plan.clone(), tell_ready.clone(), phases.clone());
            let work = move || run_worker(plan, indices, core, &ready, phases);
            threads.push(thread::Builder::new().name(format!("load-{worker}")).spawn(work)?);
        }
        drop(tell_ready);
        let workers = Self { threads, phase, ready };
        workers.wait_for_all()?;
        Ok(workers)
    }

    /// Waits until every thread has said that it is ready: first to move, then that all has arrived.
    fn wait_for_all(&self) -> Result<()> {
        for _ in &self.threads {
            self.ready.recv().context("a thread has ended")?.map_err(|reason| anyhow!(reason))?;
        }
        Ok(())
    }

    /// Lets everybody move.
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
fn run_worker(
    plan: Plan,
    indices: Vec<u32>,
    core: Option<usize>,
    ready: &SyncSender<Result<(), String>>,
    phases: watch::Receiver<Phase>,
) -> Result<Tally> {
    let outcome = worker::run(plan, indices, core, ready, phases);
    if let Err(error) = &outcome {
        // Whoever waited has gone if another thread failed before.
        let _ = ready.send(Err(format!("{error:#}")));
    }
    outcome
}

/// CPU times at one moment.
struct Sample {
    at: Instant,
    server: Option<Duration>,
    own: Duration,
}

impl Sample {
    fn take(server: Option<Process>) -> Result<Self> {
        let server = server.map(Process::cpu_time).transpose()?;
        Ok(Self { at: Instant::now(), server, own: Process::own().cpu_time()? })
    }
}

/// Runs the load and reports.
///
/// # Errors
/// If the run could not be completed. Faults that it found are in the report.
pub(crate) fn run(run: &Run<'_>) -> Result<Report> {
    let LoadOptions { users, rooms, hz, duration, warmup, phases, encoding, auth } = run.load.clone();
    ensure!(
        users >= 2 * rooms,
        "{users} users in {rooms} rooms: at least two in each, so that somebody watches"
    );
    let crowd = Crowd { users, rooms, room_prefix: format!("load-{:08x}", rand::random::<u32>()) };
    let target = Target::new(run.url)?;
    create_rooms(&target, auth, &crowd)?;
    let plan = Plan { target, auth, encoding, crowd: crowd.clone(), stage: Stage::Joined, hz };
    let workers = Workers::gather(&plan, run.cores)?;

    let schedule = Schedule::new(Instant::now() + LEAD_IN, hz, users, phases, warmup, duration);
    workers.start(schedule);
    let (window_start, window_end) = schedule.window();
    sleep_until(window_start);
    let before = Sample::take(run.server)?;
    sleep_until(window_end);
    let after = Sample::take(run.server)?;
    let resident_bytes = run.server.map(Process::resident_bytes).transpose()?;
    workers.wait_for_all()?;
    let tally = workers.finish()?;

    let elapsed = after.at - before.at;
    let cpu = before.server.zip(after.server).map(|(before, after)| after - before);
    let server = cpu.zip(resident_bytes).map(|(cpu, resident)| Cost::new(&tally, cpu, elapsed, resident));
    let load_cpu_share = (after.own - before.own).as_secs_f64() / elapsed.as_secs_f64();
    Ok(Report::new(run, &crowd, &schedule, &tally, server, load_cpu_share))
}

/// Creates rooms that are large enough, if the server is one where that is possible.
pub(crate) fn create_rooms(target: &Target, auth: Auth, crowd: &Crowd) -> Result<()> {
    if auth == Auth::None {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let token = target.login("load").await?;
        for room in 0..crowd.rooms {
            target.create_room(&token, &crowd.room_name(room), crowd.room_size(room)).await?;
        }
        Ok(())
    })
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
