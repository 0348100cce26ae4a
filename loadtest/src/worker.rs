//! One core's share of the load: a current-thread runtime, its sessions, and the pacer that moves them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::LocalSet;

use crate::crowd::{Board, Crowd};
use crate::http::Target;
use crate::options::{Encoding, Protocol, Transport};
use crate::pacer::{Pacer, drain};
use crate::process::pin;
use crate::schedule::Schedule;
use crate::sender::Sender;
use crate::session::{Session, Stage};
use crate::stamp::Scanner;
use crate::tally::{Durations, Tally, count_reason};
use crate::witness::Scene;
use crate::workers::{Channels, Snapshot};

/// Sessions of one core that connect at the same time if all come as fast as they can.
const CONNECTS_AT_ONCE: usize = 32;
/// The same if they come at times of their own: only a server that is far behind makes anybody wait.
const CONNECTS_AT_ONCE_IN_RAMP: usize = 2_048;
/// How long one session may take to connect and join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the buffer that a core's sessions read into. It grows if a frame is longer.
const SCRATCH_BYTES: usize = 256 * 1024;

/// When people arrive: evenly spread from a moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp {
    pub(crate) start: Instant,
    pub(crate) length: Duration,
}

/// What every worker is told.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// Each is shared by some users; empty if the server wants none.
    pub(crate) tokens: Arc<[String]>,
    pub(crate) protocol: Protocol,
    pub(crate) transport: Transport,
    pub(crate) encoding: Encoding,
    /// With each how many-th of its poses somebody asks for an answer; `None` if never.
    pub(crate) asks_each: Option<u32>,
    pub(crate) crowd: Crowd,
    pub(crate) board: Board,
    /// How far each session goes before it counts as ready.
    pub(crate) stage: Stage,
    pub(crate) hz: u32,
    /// `None` if all come as fast as they can.
    pub(crate) ramp: Option<Ramp>,
    /// What all random walks follow from.
    pub(crate) seed: u64,
    /// Side of the square that people walk in, in metres.
    pub(crate) side_m: f32,
    /// The share of people with tracked hands, from 0 to 1.
    pub(crate) hands: f64,
    /// Up to how many metres away somebody is near.
    pub(crate) near_m: f32,
}

impl Plan {
    /// When the user `index` is to arrive, if that is fixed beforehand. Whoever had to wait for its turn has waited since.
    pub(crate) fn arrival(&self, index: u32) -> Option<Instant> {
        self.ramp.map(|Ramp { start, length }| start + length * index / self.crowd.users)
    }
}

/// What is going on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// People come in and stand still.
    Gathering,
    /// Everybody who is in moves, on this schedule.
    Moving(Schedule),
    /// It is over.
    Over,
}

/// What the sessions of one core share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) protocol: Protocol,
    pub(crate) crowd: Crowd,
    pub(crate) board: Board,
    pub(crate) near_m: f32,
    pub(crate) scanner: Scanner,
    pub(crate) schedule: Cell<Option<Schedule>>,
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) tally: RefCell<Tally>,
    /// When a pose last arrived.
    pub(crate) last_pose: Cell<Option<Instant>>,
    /// Bytes that have arrived during the window so far.
    pub(crate) live_bytes: Cell<u64>,
}

impl Shared {
    pub(crate) fn in_window(&self, now: Instant) -> bool {
        self.schedule.get().is_some_and(|schedule| {
            let (start, end) = schedule.window();
            (start..end).contains(&now)
        })
    }

    pub(crate) fn scene<'a>(&'a self, schedule: &'a Schedule) -> Scene<'a> {
        Scene { crowd: &self.crowd, board: &self.board, schedule, near_m: self.near_m }
    }
}

/// Runs the users `indices` on this thread until it is over. Says through `ready` when all of them are in, or why
/// one never will be, and once more when all that they sent has arrived.
///
/// # Errors
/// If the thread cannot be set up.
pub(crate) fn run(plan: Plan, indices: Vec<u32>, core: Option<usize>, channels: &Channels) -> Result<Tally> {
    if let Some(core) = core {
        pin(core)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let shared = Rc::new(Shared {
        protocol: plan.protocol,
        crowd: plan.crowd.clone(),
        board: plan.board.clone(),
        near_m: plan.near_m,
        scanner: Scanner::new(),
        schedule: Cell::new(None),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
        tally: RefCell::new(Tally::new()),
        last_pose: Cell::new(None),
        live_bytes: Cell::new(0),
    });
    LocalSet::new().block_on(&runtime, drive(&shared, plan, indices, channels));
    let tally = shared.tally.borrow().clone();
    Ok(tally)
}

async fn drive(shared: &Rc<Shared>, plan: Plan, indices: Vec<u32>, channels: &Channels) {
    let Channels { ready, snapshots, .. } = channels;
    let mut phase = channels.phase.clone();
    let mut pacer = Pacer::new(shared, &plan, &indices);
    let plan = Rc::new(plan);
    let at_once = if plan.ramp.is_some() { CONNECTS_AT_ONCE_IN_RAMP } else { CONNECTS_AT_ONCE };
    let turns = Rc::new(Semaphore::new(at_once));
    let (arrived, mut arrivals) = mpsc::channel(indices.len().max(1));
    let mut users = tokio::task::JoinSet::new();
    for &index in &indices {
        users.spawn_local(live(
            shared.clone(),
            plan.clone(),
            index,
            turns.clone(),
            arrived.clone(),
            phase.clone(),
        ));
    }
    let senders = pacer.senders.clone();
    let gather = async {
        for _ in &indices {
            match arrivals.recv().await {
                Some(Ok(sender)) => {
                    let at = indices.binary_search(&sender.index).expect("it is one of them");
                    senders.borrow_mut()[at] = Some(sender);
                    shared.board.enter();
                }
                // Nobody listens any more if another core has failed before.
                Some(Err(reason)) => return drop(ready.send(Err(reason))),
                None => return drop(ready.send(Err("a session broke off".to_owned()))),
            }
        }
        let _ = ready.send(Ok(()));
    };
    let mut phases = phase.clone();
    let pace = async {
        let begun = phases.wait_for(|phase| !matches!(phase, Phase::Gathering)).await.is_ok();
        if begun && matches!(*phase.borrow(), Phase::Moving(_)) {
            pacer.run(shared, &mut phases).await;
            drain(shared, &pacer.senders).await;
            let _ = ready.send(Ok(()));
        }
    };
    let tell = tell_seconds(shared, snapshots, phase.clone());
    tokio::select! {
        _ = async { tokio::join!(gather, pace) } => {}
        () = tell => unreachable!("it goes on until it is dropped"),
    }
    // A closed channel ends it as well.
    let _ = phase.wait_for(|phase| matches!(phase, Phase::Over)).await;
    while users.join_next().await.is_some() {}
}

/// Tells what has been counted, once a second from the window's start on.
async fn tell_seconds(shared: &Shared, snapshots: &SyncSender<Snapshot>, mut phase: watch::Receiver<Phase>) {
    let counts = |phase: &Phase| matches!(phase, Phase::Moving(schedule) if schedule.has_window());
    let start = match phase.wait_for(counts).await.as_deref() {
        Ok(Phase::Moving(schedule)) => schedule.window().0,
        _ => return std::future::pending().await,
    };
    let (mut ages, mut bytes) = (Durations::new(), 0);
    for second in 1.. {
        tokio::time::sleep_until((start + Duration::from_secs(second.into())).into()).await;
        let (ages_now, bytes_now) = (shared.tally.borrow().age(), shared.live_bytes.get());
        let snapshot = Snapshot { second, ages: ages_now.since(&ages), bytes: bytes_now - bytes };
        // A chart can do without it.
        let _ = snapshots.try_send(snapshot);
        (ages, bytes) = (ages_now, bytes_now);
    }
}

/// One user's life.
async fn live(
    shared: Rc<Shared>,
    plan: Rc<Plan>,
    index: u32,
    turns: Rc<Semaphore>,
    arrived: mpsc::Sender<Result<Rc<Sender>, String>>,
    mut phase: watch::Receiver<Phase>,
) {
    if let Some(arrival) = plan.arrival(index) {
        tokio::time::sleep_until(arrival.into()).await;
    }
    let entered = {
        let _turn = turns.acquire().await;
        tokio::time::timeout(JOIN_TIMEOUT, Session::enter(&shared, &plan, index)).await
    };
    let mut session = match entered {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return drop(arrived.send(Err(format!("user {index}: {error:#}"))).await),
        Err(_) => {
            let errors: Vec<String> = shared.tally.borrow().errors.keys().cloned().collect();
            let reason = format!("user {index} did not get in within {JOIN_TIMEOUT:?} {}", errors.join(", "));
            return drop(arrived.send(Err(reason)).await);
        }
    };
    let _ = arrived.send(Ok(session.sender().clone())).await;
    drop(arrived);
    tokio::select! {
        reason = session.read_to_end() => count_reason(&mut shared.tally.borrow_mut().disconnects, &reason),
        _ = phase.wait_for(|phase| matches!(phase, Phase::Over)) => {}
    }
    session.settle();
    session.leave().await;
}
