//! The fan-out: one per core, it sends to the viewers whose connections live on that core.
//!
//! Everything that a member of a room gets passes through here in one queue, so that order is kept without a
//! lock: its welcome, then what happens, then each tick.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::Outgoing;
use protocol::event::Encoding;
use tokio::sync::mpsc;

use crate::broadcast::TickPoses;
use crate::delivery::Delivery;
use crate::directory::RoomShared;
use crate::engine::Inner;
use crate::limits::{SENDS_PER_YIELD, STALLED_VIEWER_TIMEOUT};
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
    Tick(Arc<RoomShared>, Arc<Tick>),
    /// An answer outside of any room.
    Reply(Arc<Session>, Outgoing),
}

/// One tick of a room.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) poses: TickPoses,
    /// When it began.
    pub(crate) at: Time,
    pub(crate) delivery: Arc<Delivery>,
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
    sends: usize,
}

impl Fanout {
    pub(crate) fn new(core: usize, feed: mpsc::Receiver<FanoutMessage>, engine: Arc<Inner>) -> Self {
        Self { core, feed, engine, rooms: HashMap::new(), sends: 0 }
    }

    /// Runs until the engine is dropped.
    pub async fn run(mut self) {
        while let Some(message) = self.feed.recv().await {
            match message {
                FanoutMessage::Flush(room, flush) => self.flush(&room, flush).await,
                FanoutMessage::Tick(room, tick) => {
                    self.tick(&room, &tick.poses, tick.at).await;
                    tick.delivery.end_part(self.engine.clock.now());
                }
                FanoutMessage::Reply(session, packet) => {
                    self.send(&session, &packet);
                    session.outbox().flush();
                }
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

    async fn tick(&mut self, room: &RoomShared, poses: &TickPoses, now: Time) {
        let Some(mut viewers) = self.rooms.remove(&room.key) else { return };
        // Half of the cores begin at the end: viewers share frames with others on other cores, and so all of them put
        // some of these together, instead of the first one all.
        let begins_at_end = self.core % 2 == 1;
        for turn in 0..viewers.len() {
            let index = if begins_at_end { viewers.len() - 1 - turn } else { turn };
            let viewer = &mut viewers[index];
            if !viewer.session.is_seated_in(room) {
                continue;
            }
            if let Some(outcome) = send_share(viewer, poses) {
                self.judge(room, viewer, outcome, now);
                self.pause().await;
            }
        }
        self.rooms.insert(room.key, viewers);
    }

    /// What a viewer's answer to a tick means for it.
    fn judge(
        &mut self,
        room: &RoomShared,
        viewer: &mut Viewer,
        outcome: Result<TickOutcome, OutboxError>,
        now: Time,
    ) {
        self.sends += 1;
        let metrics = self.engine.metrics.core(self.core);
        match outcome {
            Ok(TickOutcome::Sent) => {
                metrics.views_sent.inc();
                viewer.stalled = None;
            }
            Ok(TickOutcome::Skipped) => {
                metrics.views_skipped.inc();
                // It has missed somebody's pose; whoever stands still from now on would stay wrong for it.
                room.want_refresh();
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
