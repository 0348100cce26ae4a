//! The fan-out: one per core, it sends to the viewers whose connections live on that core.
//!
//! Everything that a member of a room gets passes through here in one queue, so that order is kept without a
//! lock: its welcome, then what happens, then each tick.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use protocol::Outgoing;
use protocol::event::Encoding;
use tokio::sync::mpsc;

use crate::broadcast::TickPoses;
use crate::delivery::DeliveryPart;
use crate::directory::RoomShared;
use crate::engine::Inner;
use crate::limits::{MESSAGES_PER_SLICE, SENDS_PER_YIELD, STALLED_VIEWER_TIMEOUT};
use crate::ports::{CloseReason, OutboxError, TickOutcome, TickView};
use crate::room::{Audience, Entry, Joined};
use crate::session::Session;
use crate::time::Time;

/// What a shard hands to a core.
#[derive(Debug)]
pub(crate) enum FanoutMessage {
    /// Reliable packets of one room.
    Flush(Arc<RoomShared>, CoreFlush),
    /// Poses of one room.
    Tick(Arc<RoomShared>, Tick),
    /// An answer outside of any room.
    Reply(Arc<Session>, Outgoing),
}

/// One tick of a room, as one core gets it.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) poses: Arc<TickPoses>,
    /// When it began.
    pub(crate) at: Time,
    /// This core's part in its delivery.
    pub(crate) part: DeliveryPart,
}

/// A tick that is being sent.
#[derive(Debug)]
struct Job {
    room: Arc<RoomShared>,
    tick: Tick,
    /// How many of the room's viewers have had their turn.
    done: usize,
}

/// One core's share of a room's [`Flush`](crate::room::Flush).
#[derive(Debug, Default)]
pub(crate) struct CoreFlush {
    pub(crate) left: Vec<u16>,
    pub(crate) missed: Arc<[Entry]>,
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) joined: Vec<Joined<Arc<Session>>>,
    pub(crate) users: Option<Outgoing>,
    pub(crate) objects: Option<Outgoing>,
    pub(crate) replies: Vec<(Arc<Session>, Outgoing)>,
}

#[derive(Debug)]
struct Viewer {
    slot: u16,
    encoding: Encoding,
    session: Arc<Session>,
    /// If it took nothing the last time: since when, and when that last time was.
    stalled: Option<(Time, Time)>,
}

/// See the [module](self).
pub struct Fanout {
    core: usize,
    feed: mpsc::Receiver<FanoutMessage>,
    engine: Arc<Inner>,
    /// The viewers of each room by its key, in ascending order of slots.
    rooms: HashMap<u64, Vec<Viewer>>,
    /// Ticks that are being sent, at most one of each room. They take turns, so that a crowd does not hold up small rooms.
    jobs: VecDeque<Job>,
    sends: usize,
}

impl Fanout {
    pub(crate) fn new(core: usize, feed: mpsc::Receiver<FanoutMessage>, engine: Arc<Inner>) -> Self {
        Self { core, feed, engine, rooms: HashMap::new(), jobs: VecDeque::new(), sends: 0 }
    }

    /// Runs until the engine is dropped.
    pub async fn run(mut self) {
        loop {
            let Some(job) = self.jobs.pop_front() else {
                let Some(message) = self.feed.recv().await else { return };
                self.take(message).await;
                continue;
            };
            self.go_on(job).await;
            for _ in 0..MESSAGES_PER_SLICE {
                let Ok(message) = self.feed.try_recv() else { break };
                self.take(message).await;
            }
        }
    }

    async fn take(&mut self, message: FanoutMessage) {
        match message {
            FanoutMessage::Flush(room, flush) => {
                self.finish(&room).await;
                self.flush(&room, flush).await;
            }
            FanoutMessage::Tick(room, tick) => {
                self.finish(&room).await;
                self.jobs.push_back(Job { room, tick, done: 0 });
            }
            FanoutMessage::Reply(session, packet) => {
                self.send(&session, &packet);
                session.outbox().flush();
            }
        }
    }

    /// What a room says next must not overtake its tick.
    async fn finish(&mut self, room: &RoomShared) {
        while let Some(index) = self.jobs.iter().position(|job| job.room.key == room.key) {
            if let Some(job) = self.jobs.remove(index) {
                self.go_on(job).await;
            }
        }
    }

    async fn flush(&mut self, room: &RoomShared, flush: CoreFlush) {
        let mut viewers = self.rooms.remove(&room.key).unwrap_or_default();
        viewers.retain(|viewer| !flush.left.contains(&viewer.slot));
        for viewer in viewers.iter().filter(|viewer| viewer.session.is_seated_in(room)) {
            for entry in flush.entries.iter().filter(|entry| concerns(entry, viewer.slot)) {
                self.send_entry(&viewer.session, entry);
            }
            viewer.session.outbox().flush();
            self.pause().await;
        }
        for Joined { session, slot, encoding, since, reply } in flush.joined {
            if let Some(reply) = &reply {
                self.send(&session, reply);
            }
            // Who has gone on to another room hears nothing more of this one; its departure is on its way.
            if !session.is_seated_in(room) {
                session.outbox().flush();
                continue;
            }
            for packet in [flush.users.as_ref(), flush.objects.as_ref()].into_iter().flatten() {
                self.send(&session, packet);
            }
            let viewer = Viewer { slot, encoding, session: session.clone(), stalled: None };
            match viewers.binary_search_by_key(&slot, |viewer| viewer.slot) {
                Ok(at) => viewers[at] = viewer,
                Err(at) => {
                    viewers.insert(at, viewer);
                    let heard = flush.missed.iter().chain(flush.entries.iter()).skip(since);
                    for entry in heard.filter(|entry| !entry.in_welcome && concerns(entry, slot)) {
                        self.send_entry(&session, entry);
                    }
                }
            }
            session.outbox().flush();
            self.pause().await;
        }
        for (session, packet) in flush.replies {
            self.send(&session, &packet);
            session.outbox().flush();
        }
        if !viewers.is_empty() {
            self.rooms.insert(room.key, viewers);
        }
    }

    /// Sends a slice of a tick, and puts the rest of it behind the others.
    async fn go_on(&mut self, mut job: Job) {
        let Some(mut viewers) = self.rooms.remove(&job.room.key) else { return };
        // Half of the cores begin at the end: viewers share frames with others on other cores, and so all of them put
        // some of these together, instead of the first one all.
        let begins_at_end = self.core % 2 == 1;
        while job.done < viewers.len() && self.sends < SENDS_PER_YIELD {
            let index = if begins_at_end { viewers.len() - 1 - job.done } else { job.done };
            let viewer = &mut viewers[index];
            if viewer.session.is_seated_in(&job.room)
                && let Some(outcome) = send_share(viewer, &job.tick.poses)
            {
                self.judge(&job.room, viewer, outcome, &job.tick);
            }
            job.done += 1;
        }
        let is_done = job.done >= viewers.len();
        self.rooms.insert(job.room.key, viewers);
        if is_done {
            job.tick.part.end(self.engine.clock.now());
        } else {
            self.jobs.push_back(job);
        }
        self.pause().await;
    }

    /// What a viewer's answer to a tick means for it.
    fn judge(
        &mut self,
        room: &RoomShared,
        viewer: &mut Viewer,
        outcome: Result<TickOutcome, OutboxError>,
        tick: &Tick,
    ) {
        let now = tick.at;
        self.sends += 1;
        let metrics = self.engine.metrics.core(self.core);
        match outcome {
            Ok(TickOutcome::Sent) => {
                metrics.views_sent.inc();
                viewer.stalled = None;
            }
            Ok(TickOutcome::Skipped) => {
                metrics.views_skipped.inc();
                // It has missed somebody's pose; whoever stands still from now on would stay wrong for it. Frames repeat
                // everybody anyway, and in a large room nobody else shall get less because of it.
                if viewer.encoding != Encoding::Binary || tick.poses.is_for_all() {
                    room.want_refresh();
                }
                // As long as there is anybody to show, the refresh comes again and again. After a longer silence
                // it is not known what the viewer did meanwhile, and that is not counted against it.
                let since = match viewer.stalled {
                    Some((since, last)) if now.since(last) < STALLED_VIEWER_TIMEOUT / 2 => since,
                    _ => now,
                };
                viewer.stalled = Some((since, now));
                if now.since(since) >= STALLED_VIEWER_TIMEOUT {
                    viewer.session.end(CloseReason::SlowReader);
                }
            }
            Err(OutboxError::Full) => viewer.session.end(CloseReason::SlowReader),
            // Its departure is on its way.
            Err(OutboxError::Closed) => {}
        }
    }

    fn send_entry(&mut self, session: &Arc<Session>, entry: &Entry) {
        if entry.volatile && !session.outbox().is_idle() {
            self.engine.metrics.core(self.core).messages_skipped.inc();
        } else {
            self.send(session, &entry.packet);
        }
    }

    fn send(&mut self, session: &Arc<Session>, packet: &Outgoing) {
        self.sends += 1;
        self.engine.metrics.core(self.core).packets_sent.inc();
        session.queue(packet);
    }

    /// Lets the core's I/O go on now and then.
    async fn pause(&mut self) {
        if self.sends >= SENDS_PER_YIELD {
            self.sends = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Sends a viewer its share of a tick in its encoding. `None` if there is nothing in it for this viewer.
fn send_share(viewer: &Viewer, poses: &TickPoses) -> Option<Result<TickOutcome, OutboxError>> {
    let (outbox, slot) = (viewer.session.outbox(), viewer.slot);
    match viewer.encoding {
        Encoding::Json => poses.json(slot).map(|view| outbox.send_tick(&view)),
        Encoding::Batch => poses.batch(slot).map(|packet| outbox.send_tick(&TickView::Single(&packet))),
        Encoding::Binary => poses.binary(slot).map(|packet| outbox.send_tick(&TickView::Single(packet))),
    }
}

fn concerns(entry: &Entry, slot: u16) -> bool {
    match entry.audience {
        Audience::All => true,
        Audience::Others(sender) => sender != slot,
        Audience::One(receiver) => receiver == slot,
    }
}

impl std::fmt::Debug for Fanout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fanout").field("core", &self.core).finish_non_exhaustive()
    }
}
