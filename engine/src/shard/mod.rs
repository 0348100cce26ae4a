//! A shard: the owner of some of the rooms, bound to one core.
//!
//! It takes commands from its mailbox, hands them to the room that they are for, and carries out what the room
//! wants done. It keeps its rooms' ticks. It never waits for a disk: what is to be stored goes to the store as a
//! job, and the answer comes back when the job is done. What is to be written down goes to the journal at once.

mod hosting;
mod recording;
mod storing;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use protocol::Outgoing;
use protocol::error::ClientError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::delivery::Delivery;
use crate::directory::{Lease, RoomShared};
use crate::engine::Inner;
use crate::fanout::{CoreFlush, FanoutMessage, Tick};
use crate::limits::{COMMANDS_PER_WAKE, SWEEP_INTERVAL};
use crate::metrics::CoreMetrics;
use crate::pace::Pace;
use crate::ports::{StoreError, StoredObject};
use crate::room::{AckId, Command, Effect, Flush, Room, SessionId, Step, StoreEffect, error_packet};
use crate::session::{Membership, Session};
use crate::time::Time;
use recording::{Awaited, JournalWord, Promise};

/// What comes into a shard's mailbox.
pub(crate) enum ShardMessage {
    /// Something for a room.
    Command {
        room: Arc<RoomShared>,
        session: Arc<Session>,
        command: Command,
        ack: AckId,
        /// Of a join: the lease that keeps the room alive for it, and the session's turn.
        joining: Option<(Lease, u64)>,
    },
    /// Something that happens in a private room. Dropped, with its sender, if the room is no more.
    Play { room: Arc<RoomShared>, steps: Vec<Step>, done: oneshot::Sender<()> },
    /// Answer when everything that came before is done and stored.
    Settle(oneshot::Sender<()>),
}

/// Something that is to happen at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Tick(u64),
    Flush(u64),
    StoreAgain(u64),
    Sweep,
}

/// A job's end.
enum JobDone {
    Loaded(u64, Result<Vec<StoredObject>, StoreError>),
    Stored(Vec<Pending>, Result<(), StoreError>),
    /// Whether a record of the room is durable.
    Recorded(u64, Awaited, bool),
}

/// A change to be stored, the key of its room, and what the journal promises about its record.
type Pending = (u64, StoreEffect<Arc<Session>>, Option<Promise>);

type Deferred = (Arc<Session>, Command, AckId, Option<(Lease, u64)>);

/// A room and what the shard keeps for it.
enum Hosted {
    /// Its objects are being read; what comes for it waits.
    Loading(Arc<RoomShared>, Vec<Deferred>),
    Open(Box<OpenRoom>),
}

struct OpenRoom {
    room: Room<Arc<Session>>,
    /// One per member: they keep the room in the directory.
    leases: HashMap<SessionId, Lease>,
    members_per_core: Vec<usize>,
    pace: Pace,
    next_tick: Time,
    /// The last tick's.
    delivery: Arc<Delivery>,
    flush_wake: Option<Time>,
}

/// See the [module](self).
pub struct Shard {
    index: usize,
    inbox: mpsc::Receiver<ShardMessage>,
    engine: Arc<Inner>,
    metrics: CoreMetrics,
    rooms: HashMap<u64, Hosted>,
    wakes: BinaryHeap<Reverse<(Time, Wake)>>,
    jobs: JoinSet<JobDone>,
    writes: Vec<Pending>,
    /// Changes that are with the store.
    unstored: usize,
    touched: Vec<u64>,
    settling: Vec<oneshot::Sender<()>>,
    effects: Vec<Effect<Arc<Session>>>,
    /// Acks and welcomes that wait for the journal.
    awaited: usize,
    journal_word: JournalWord,
}

impl Shard {
    pub(crate) fn new(index: usize, inbox: mpsc::Receiver<ShardMessage>, engine: Arc<Inner>) -> Self {
        Self {
            index,
            inbox,
            metrics: engine.metrics.core(index).clone(),
            engine,
            rooms: HashMap::new(),
            wakes: BinaryHeap::new(),
            jobs: JoinSet::new(),
            writes: Vec::new(),
            unstored: 0,
            touched: Vec::new(),
            settling: Vec::new(),
            effects: Vec::new(),
            awaited: 0,
            journal_word: JournalWord::default(),
        }
    }

    /// Runs until the engine is dropped.
    pub async fn run(mut self) {
        let mut messages = Vec::with_capacity(COMMANDS_PER_WAKE);
        self.wake_at(self.engine.clock.now() + SWEEP_INTERVAL, Wake::Sweep);
        loop {
            let next = self.wakes.peek().map_or(Time::default(), |Reverse((at, _))| *at);
            let wait = next.since(self.engine.clock.now());
            // In this order, so that a simulation is the same each time. Nobody starves: what is due is looked
            // after on every wake, and jobs come from commands only.
            tokio::select! {
                biased;
                Some(job) = self.jobs.join_next() => self.jobs_done(job.ok()).await,
                count = self.inbox.recv_many(&mut messages, COMMANDS_PER_WAKE) => {
                    if count == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.engine.clock.now();
            for message in messages.drain(..) {
                self.handle(now, message).await;
            }
            self.run_wakes(now).await;
            self.after_work(now).await;
        }
    }

    async fn handle(&mut self, now: Time, message: ShardMessage) {
        match message {
            ShardMessage::Command { room, session, command, ack, joining } => {
                self.command(now, &room, (session, command, ack, joining)).await;
            }
            ShardMessage::Play { room, steps, done } => self.play(now, room.key, steps, done),
            ShardMessage::Settle(done) => self.settling.push(done),
        }
    }

    /// Carries out what a room wants done.
    async fn apply(&mut self, now: Time, key: u64, turn: Option<u64>) {
        for effect in std::mem::take(&mut self.effects) {
            let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
            let shared = open.room.shared().clone();
            match effect {
                Effect::Admit { session, slot, generation } => {
                    let membership = Membership { room: shared, slot, generation };
                    session.admit(turn.expect("only a join admits"), membership);
                }
                Effect::Store(mut store) => {
                    let is_awaited = store.reply.is_some();
                    let promise = store.record.take().and_then(|record| self.give(key, record, is_awaited));
                    self.unstored += 1;
                    self.writes.push((key, store, promise));
                }
                Effect::Record(record) => self.record(key, record),
                Effect::Flush(flush) => {
                    let parts = split(flush, &open.members_per_core);
                    for (core, part) in parts {
                        self.feed(core, FanoutMessage::Flush(shared.clone(), part)).await;
                    }
                }
                Effect::Tick(poses) => {
                    let cores: Vec<usize> = (0..self.engine.fanouts.len())
                        .filter(|&core| open.members_per_core[core] > 0)
                        .collect();
                    self.metrics.poses_encoded.inc_by(poses.len() as u64);
                    let (poses, delivery) = (Arc::from(poses), open.delivery.clone());
                    for core in cores {
                        let tick = Tick { poses: Arc::clone(&poses), at: now, part: delivery.part() };
                        self.feed(core, FanoutMessage::Tick(shared.clone(), tick)).await;
                    }
                }
            }
        }
    }

    async fn run_wakes(&mut self, now: Time) {
        while let Some(&Reverse((at, wake))) = self.wakes.peek() {
            if at > now {
                break;
            }
            self.wakes.pop();
            match wake {
                Wake::Tick(key) => self.tick(now, key).await,
                Wake::Flush(key) => {
                    if let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) {
                        open.flush_wake = None;
                        self.touched.push(key);
                    }
                }
                Wake::StoreAgain(key) => {
                    if let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) {
                        open.room.store_again(&mut self.effects);
                        self.apply(now, key, None).await;
                    }
                }
                Wake::Sweep => self.sweep(now),
            }
        }
    }

    /// After commands: what waits in the rooms goes out, what is to be stored goes to the store, and rooms that
    /// are done are let go.
    async fn after_work(&mut self, now: Time) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for key in touched {
            let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { continue };
            if open.room.flush_due().is_some_and(|due| due <= now) {
                open.room.flush(now, &mut self.effects);
                self.apply(now, key, None).await;
            }
            self.wake_for_flush(key);
            self.let_go(key);
        }
        self.submit_writes();
        if !self.settling.is_empty() && self.is_settled() {
            for settled in self.settling.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = settled.send(());
            }
        }
    }

    /// Sees to it that what still waits in the room goes out when it is due.
    fn wake_for_flush(&mut self, key: u64) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        if let Some(due) = open.room.flush_due()
            && open.flush_wake.is_none_or(|wake| due < wake)
        {
            open.flush_wake = Some(due);
            self.wake_at(due, Wake::Flush(key));
        }
    }

    /// Whether nothing is with the store, nobody waits for the journal, and nothing waits to be tried again.
    fn is_settled(&self) -> bool {
        let saved = |hosted: &Hosted| matches!(hosted, Hosted::Open(open) if open.room.is_saved());
        self.jobs.is_empty() && self.rooms.values().all(saved)
    }

    fn sweep(&mut self, now: Time) {
        if self.index == 0 {
            self.engine.sweep(now);
        }
        self.touched.extend(self.rooms.keys());
        self.wake_at(now + SWEEP_INTERVAL, Wake::Sweep);
    }

    async fn reply(&mut self, session: &Arc<Session>, ack: AckId, error: &ClientError) {
        self.answer(session, error_packet(ack, error)).await;
    }

    async fn answer(&mut self, session: &Arc<Session>, packet: Option<Outgoing>) {
        if let Some(packet) = packet {
            self.feed(session.core(), FanoutMessage::Reply(session.clone(), packet)).await;
        }
    }

    async fn feed(&self, core: usize, message: FanoutMessage) {
        // A fan-out ends only with the engine, and then nobody is left to be told.
        let _ = self.engine.fanouts[core].send(message).await;
    }

    fn wake_at(&mut self, at: Time, wake: Wake) {
        self.wakes.push(Reverse((at, wake)));
    }
}

/// Each core's share of a flush, for the cores that have one.
fn split(flush: Flush<Arc<Session>>, members: &[usize]) -> Vec<(usize, CoreFlush)> {
    let (missed, entries): (Arc<[_]>, Arc<[_]>) = (flush.missed.into(), flush.entries.into());
    let mut parts: Vec<CoreFlush> = members
        .iter()
        .map(|_| CoreFlush {
            missed: missed.clone(),
            entries: entries.clone(),
            users: flush.users.clone(),
            objects: flush.objects.clone(),
            ..CoreFlush::default()
        })
        .collect();
    let mut concerned: Vec<bool> = members.iter().map(|&count| count > 0 && !entries.is_empty()).collect();
    for (session, slot) in flush.left {
        let core = session.core();
        parts[core].left.push(slot);
        concerned[core] = true;
    }
    for joined in flush.joined {
        let core = joined.session.core();
        parts[core].joined.push(joined);
        concerned[core] = true;
    }
    for (session, packet) in flush.replies {
        let core = session.core();
        parts[core].replies.push((session, packet));
        concerned[core] = true;
    }
    parts.into_iter().enumerate().filter(|(core, _)| concerned[*core]).collect()
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("index", &self.index).finish_non_exhaustive()
    }
}
