//! The steady load: everybody joins, then everybody moves at a fixed rate.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::crowd::{Board, Crowd};
use crate::http::Target;
use crate::options::{Auth, Encoding, LoadOptions, Protocol, RoomOptions};
use crate::process::{Process, allow_connections};
use crate::report::{Cost, Report};
use crate::schedule::Schedule;
use crate::session::Stage;
use crate::tally::Tally;
use crate::walk::SIDE_M;
use crate::worker::{self, Phase, Plan, Ramp};

/// Between the last arrival and the first pose.
const LEAD_IN: Duration = Duration::from_millis(300);

/// One run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) url: &'a str,
    pub(crate) load: &'a LoadOptions,
    pub(crate) protocol: Protocol,
    /// Whether poses are judged. If not, messages and bytes are counted.
    pub(crate) judged: bool,
    pub(crate) server: Option<Process>,
    /// A thread for each; one thread anywhere if empty.
    pub(crate) cores: &'a [usize],
}

/// The threads that make the load.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<thread::JoinHandle<Result<Tally>>>,
    phase: watch::Sender<Phase>,
    ready: Receiver<Result<(), String>>,
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
        let mut threads = Vec::with_capacity(cores.len());
        for (worker, core) in cores.iter().copied().enumerate() {
            let indices =
                (0..plan.crowd.users).filter(|index| *index as usize % cores.len() == worker).collect();
            let (plan, ready, phases) = (plan.clone(), tell_ready.clone(), phases.clone());
            let work = move || run_worker(plan, indices, core, &ready, phases);
            threads.push(thread::Builder::new().name(format!("load-{worker}")).spawn(work)?);
        }
        drop(tell_ready);
        Ok(Self { threads, phase, ready })
    }

    /// Waits until every thread has said that it is ready: first that every user has come as far as the plan says,
    /// then that all has arrived.
    ///
    /// # Errors
    /// Why one never will be.
    pub(crate) fn wait_for_all(&self) -> Result<()> {
        for _ in &self.threads {
            self.ready.recv().context("a thread has ended")?.map_err(|reason| anyhow!(reason))?;
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
    /// What the server has used, and how long it has waited for a core.
    server: Option<[Duration; 2]>,
    own: Duration,
}

impl Sample {
    fn take(server: Option<Process>) -> Result<Self> {
        let server =
            server.map(|server| Ok::<_, anyhow::Error>([server.cpu_time()?, server.waiting_time()?]));
        let server = server.transpose()?;
        Ok(Self { at: Instant::now(), server, own: Process::own().cpu_time()? })
    }
}

/// Runs the load and reports.
///
/// # Errors
/// If the run could not be completed. Faults that it found are in the report.
pub(crate) fn run(run: &Run<'_>) -> Result<Report> {
    let load = run.load;
    let LoadOptions { users, rooms, hz, .. } = *load;
    ensure!(
        users >= 2 * rooms,
        "{users} users in {rooms} rooms: at least two in each, so that somebody watches"
    );
    if run.protocol == Protocol::Colyseus {
        ensure!(rooms == 1, "a Colyseus server has one room for everybody");
        ensure!(load.encoding == Encoding::Json, "Colyseus has an encoding of its own");
    }
    let binary = load.encoding == Encoding::Binary;
    ensure!(binary || load.hands == 0.0, "tracked hands are sent in binary only");
    let room_prefix = format!("load-{:08x}", rand::random::<u32>());
    let judges = if run.judged { load.judges() } else { 0 };
    let crowd = Crowd { users, rooms, room_prefix, judges };
    let target = Target::new(run.url)?;
    let auth = if run.protocol == Protocol::Colyseus { Auth::None } else { load.auth };
    let tokens = log_in(&target, auth, &crowd, Some(&load.room))?;
    let resident_before = run.server.map(Process::resident_bytes).transpose()?;
    let begin = Instant::now() + LEAD_IN;
    let plan = Plan {
        target,
        tokens,
        protocol: run.protocol,
        encoding: load.encoding,
        board: Board::new(&crowd, binary),
        crowd: crowd.clone(),
        stage: Stage::Joined,
        hz,
        ramp: load.ramp.map(|length| Ramp { start: begin, length }),
        seed: load.seed,
        side_m: load.area.filter(|side| *side > 0.0).unwrap_or(SIDE_M),
        hands: load.hands,
        near_m: load.near,
    };
    let workers = Workers::launch(&plan, run.cores)?;
    let schedule = gather(&workers, load, begin)?;
    let (window_start, window_end) = schedule.window();
    sleep_until(window_start);
    let before = Sample::take(run.server)?;
    sleep_until(window_end);
    let after = Sample::take(run.server)?;
    let resident = run.server.map(Process::resident_bytes).transpose()?;
    workers.wait_for_all()?;
    let tally = workers.finish()?;

    let elapsed = after.at - before.at;
    let times =
        before.server.zip(after.server).map(|(before, after)| [0, 1].map(|at| after[at] - before[at]));
    let server = times.zip(resident_before.zip(resident)).map(|(times, (before, after))| {
        let per_client = (after as f64 - before as f64) / f64::from(users);
        Cost::new(run, &tally, times, elapsed, after, per_client)
    });
    let load_cpu = after.own - before.own;
    Ok(Report::new(run, &crowd, &schedule, &tally, server, load_cpu.as_secs_f64() / elapsed.as_secs_f64()))
}

/// Waits until everybody is in, and says what counts. Whoever arrives on a ramp moves from then on; without one
/// all begin together.
fn gather(workers: &Workers, load: &LoadOptions, begin: Instant) -> Result<Schedule> {
    let schedule = |start| Schedule::new(start, load.hz, load.users, load.phases);
    let schedule = if load.ramp.is_some() {
        let schedule = schedule(begin);
        workers.start(schedule);
        workers.wait_for_all()?;
        // Two on: some are on their way already.
        let from = schedule.moment(Instant::now()).latest() + 2;
        schedule.counting(from, load.warmup, load.duration)
    } else {
        workers.wait_for_all()?;
        schedule(Instant::now() + LEAD_IN).counting(0, load.warmup, load.duration)
    };
    workers.start(schedule);
    Ok(schedule)
}

/// Users that share a token. Each session is a member of its own all the same.
const USERS_PER_TOKEN: u32 = 100;

/// Logs in and creates rooms that are large enough, if the server is one where that is possible. Gives the tokens.
///
/// # Errors
/// If the server refuses.
pub(crate) fn log_in(
    target: &Target,
    auth: Auth,
    crowd: &Crowd,
    rooms: Option<&RoomOptions>,
) -> Result<Arc<[String]>> {
    if auth == Auth::None {
        return Ok(Arc::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut tokens = Vec::new();
        for number in 0..crowd.users.div_ceil(USERS_PER_TOKEN) {
            tokens.push(target.login(&format!("load {number}")).await?);
        }
        if let Some(options) = rooms {
            for (room, token) in (0..crowd.rooms).zip(tokens.iter().cycle()) {
                target.create_room(token, &crowd.room_name(room), crowd.room_size(room), options).await?;
            }
        }
        Ok(tokens.into())
    })
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
