//! One core's share of the load: a current-thread runtime, its sessions, and the pacer that moves them.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::LocalSet;

use crate::http::Target;
use crate::options::{Auth, Encoding};
use crate::process::pin;
use crate::session::{Sender, Session, Stage};
use crate::stamp::{Scanner, Schedule, write_update};
use crate::tally::{Tally, count_reason};
use crate::walk::Walk;
use crate::websocket::opcode;

/// Sessions of one core that connect at the same time.
const CONNECTS_AT_ONCE: usize = 32;
/// How long one session may take to connect and join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the buffer that a core's sessions read into. It grows if a frame is longer.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Poses sent in one go before arrivals are looked at again.
const SENDS_PER_YIELD: usize = 32;
/// How long everybody moves on after the last pose that counts, so that it arrives under the same load.
const GRACE: Duration = Duration::from_secs(1);

/// Who is in which room. Users are dealt out to the rooms in turn, so that each room's phases are spread too.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    pub(crate) users: u32,
    pub(crate) rooms: u32,
    /// What the rooms' names begin with; different for each run.
    pub(crate) room_prefix: String,
}

impl Crowd {
    pub(crate) fn room_name(&self, room: u32) -> String {
        format!("{}-{room}", self.room_prefix)
    }

    pub(crate) fn room(&self, index: u32) -> u32 {
        index % self.rooms
    }

    pub(crate) fn share_a_room(&self, a: u32, b: u32) -> bool {
        self.room(a) == self.room(b)
    }

    pub(crate) fn place_in_room(&self, index: u32) -> u32 {
        index / self.rooms
    }

    /// How many are in the room of the user `index`.
    pub(crate) fn room_size(&self, index: u32) -> u32 {
        self.users / self.rooms + u32::from(self.room(index) < self.users % self.rooms)
    }

    /// How many arrivals one pose of everybody makes.
    pub(crate) fn deliveries(&self) -> u64 {
        (0..self.users).map(|index| u64::from(self.room_size(index) - 1)).sum()
    }
}

/// A core's arrivals are over when none has come for this long after its last pose…
const QUIET: Duration = Duration::from_millis(500);
/// …or after this long, whatever comes.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What every worker is told.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) auth: Auth,
    pub(crate) encoding: Encoding,
    pub(crate) crowd: Crowd,
    /// How far each session goes before it counts as ready.
    pub(crate) stage: Stage,
    pub(crate) hz: u32,
}

/// What follows once everybody is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// Not everybody is.
    Gathering,
    /// Everybody moves, on this schedule.
    Moving(Schedule),
    /// It is over.
    Over,
}

/// What the sessions of one core share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) crowd: Crowd,
    pub(crate) scanner: Scanner,
    pub(crate) schedule: OnceCell<Schedule>,
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) tally: RefCell<Tally>,
    /// When a pose last arrived.
    pub(crate) last_pose: Cell<Option<Instant>>,
}

impl Shared {
    pub(crate) fn in_window(&self, now: Instant) -> bool {
        self.schedule.get().is_some_and(|schedule| {
            let (start, end) = schedule.window();
            (start..end).contains(&now)
        })
    }
}

/// Runs the users `indices` on this thread until it is over. Says through `ready` when all of them are in, or why
/// one never will be, and once more when all that they sent has arrived.
///
/// # Errors
/// If the thread cannot be set up.
pub(crate) fn run(
    plan: Plan,
    indices: Vec<u32>,
    core: Option<usize>,
    ready: &SyncSender<Result<(), String>>,
    phase: watch::Receiver<Phase>,
) -> Result<Tally> {
    if let Some(core) = core {
        pin(core)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let shared = Rc::new(Shared {
        crowd: plan.crowd.clone(),
        scanner: Scanner::new(),
        schedule: OnceCell::new(),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
        tally: RefCell::new(Tally::new()),
        last_pose: Cell::new(None),
    });
    LocalSet::new().block_on(&runtime, drive(&shared, plan, indices, ready, phase));
    let tally = shared.tally.borrow().clone();
    Ok(tally)
}

async fn drive(
    shared: &Rc<Shared>,
    plan: Plan,
    indices: Vec<u32>,
    ready: &SyncSender<Result<(), String>>,
    mut phase: watch::Receiver<Phase>,
) {
    let plan = Rc::new(plan);
    let turns = Rc::new(Semaphore::new(CONNECTS_AT_ONCE));
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
    let mut senders = Vec::with_capacity(indices.len());
    while senders.len() < indices.len() {
        match arrivals.recv().await {
            Some(Ok(sender)) => senders.push(sender),
            // Nobody listens any more if another core has failed before.
            Some(Err(reason)) => return drop(ready.send(Err(reason))),
            None => return drop(ready.send(Err("a session broke off".to_owned()))),
        }
    }
    let _ = ready.send(Ok(()));
    senders.sort_by_key(|sender| sender.index);
    let moving = phase.wait_for(|phase| !matches!(phase, Phase::Gathering)).await.map(|phase| *phase);
    if let Ok(Phase::Moving(schedule)) = moving {
        shared.schedule.get_or_init(|| schedule);
        pace(shared, &schedule, &senders, plan.hz).await;
        drain(shared).await;
        let _ = ready.send(Ok(()));
    }
    // A closed channel ends it as well.
    let _ = phase.wait_for(|phase| matches!(phase, Phase::Over)).await;
    while users.join_next().await.is_some() {}
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
    let entered = {
        let _turn = turns.acquire().await;
        tokio::time::timeout(JOIN_TIMEOUT, enter(&shared, &plan, index)).await
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
}

/// Logs in, connects, and joins if the plan goes that far.
async fn enter(shared: &Rc<Shared>, plan: &Plan, index: u32) -> Result<Session> {
    let token = match plan.auth {
        Auth::Login => Some(plan.target.login(&format!("load {index}")).await?),
        Auth::None => None,
    };
    let started = Instant::now();
    let mut session = Session::open(shared, &plan.target, index).await?;
    session.reach(Stage::Greeted).await.map_err(anyhow::Error::msg)?;
    let connect = match token {
        Some(token) => format!("40{}", serde_json::json!({ "token": token })),
        None => "40".to_owned(),
    };
    session.sender().send(opcode::TEXT, connect.as_bytes())?;
    session.reach(Stage::Connected).await.map_err(anyhow::Error::msg)?;
    shared.tally.borrow_mut().connect.record(started.elapsed());
    if plan.stage == Stage::Joined {
        let started = Instant::now();
        let room = plan.crowd.room_name(plan.crowd.room(index));
        let join = serde_json::json!(["join-room", { "roomId": room, "encoding": plan.encoding.as_str() }]);
        session.sender().send(opcode::TEXT, format!("42{join}").as_bytes())?;
        session.reach(Stage::Joined).await.map_err(anyhow::Error::msg)?;
        shared.tally.borrow_mut().join.record(started.elapsed());
    }
    Ok(session)
}

/// Sends everybody's poses when they are due; one that is late is sent at once and never left out for it.
async fn pace(shared: &Shared, schedule: &Schedule, senders: &[Rc<Sender>], hz: u32) {
    let mut random = SmallRng::seed_from_u64(u64::from(senders.first().map_or(0, |sender| sender.index)));
    let mut walks: Vec<Walk> = senders.iter().map(|_| Walk::new(&mut random, hz)).collect();
    let mut text = Vec::new();
    let mut sends = 0;
    for number in 0..schedule.end_of_sending(GRACE) {
        for (sender, walk) in senders.iter().zip(&mut walks) {
            let due = schedule.due(sender.index, number);
            let mut now = Instant::now();
            if due > now {
                tokio::time::sleep_until(due.into()).await;
                now = Instant::now();
                sends = 0;
            } else if sends >= SENDS_PER_YIELD {
                tokio::task::yield_now().await;
                now = Instant::now();
                sends = 0;
            }
            sends += 1;
            if sender.closed.get() {
                continue;
            }
            text.clear();
            write_update(&walk.step(&mut random), sender.index, number, &mut text);
            // An error is the reader's to find and to count.
            let sent = sender.send_volatile(&text).unwrap_or(false);
            if schedule.counts(number) {
                let mut tally = shared.tally.borrow_mut();
                *(if sent { &mut tally.sent } else { &mut tally.not_sent }) += 1;
                tally.lateness.record(now.saturating_duration_since(due));
            }
        }
    }
}

/// Waits until what is on its way has arrived: a server that is behind must not lose by it.
async fn drain(shared: &Shared) {
    let sent = Instant::now();
    while sent.elapsed() < DRAIN_MAX && sent.max(shared.last_pose.get().unwrap_or(sent)).elapsed() < QUIET {
        tokio::time::sleep(QUIET / 10).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_place_in_a_room() {
        for (users, rooms) in [(100, 1), (10, 3), (3, 3)] {
            let crowd = Crowd { users, rooms, room_prefix: "test".to_owned() };
            for room in 0..rooms {
                let places: Vec<u32> =
                    (0..users).filter(|&u| crowd.room(u) == room).map(|u| crowd.place_in_room(u)).collect();
                assert_eq!(places, (0..crowd.room_size(room)).collect::<Vec<_>>(), "{users} in {rooms}");
            }
            let pairs = (0..users).flat_map(|a| (0..users).map(move |b| (a, b)));
            let deliveries = pairs.filter(|&(a, b)| a != b && crowd.share_a_room(a, b)).count();
            assert_eq!(crowd.deliveries(), deliveries as u64);
        }
    }
}
