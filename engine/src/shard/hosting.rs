//! Rooms in a shard: how they come in, what reaches them, how they go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::error::{ClientError, ErrorCode};
use tokio::sync::oneshot;

use super::{Deferred, Hosted, JobDone, OpenRoom, Shard, Wake};
use crate::delivery::Delivery;
use crate::directory::RoomShared;
use crate::limits::{MAX_DEFERRED, MAX_UNSTORED};
use crate::pace::{Pace, RateChange};
use crate::ports::StoredObject;
use crate::room::{Command, Nothing, Room, Step, error_packet, ok_packet};
use crate::time::Time;

impl Shard {
    pub(super) async fn command(&mut self, now: Time, shared: &Arc<RoomShared>, mut deferred: Deferred) {
        if !self.rooms.contains_key(&shared.key) {
            let (session, _, ack, joining) = &deferred;
            if joining.is_none() {
                // The room is gone, and with it whatever this was about.
                let answer = match deferred.1 {
                    Command::Leave => ok_packet(*ack, Nothing {}),
                    _ => error_packet(*ack, &ClientError::not_in_room()),
                };
                return self.answer(session, answer).await;
            }
            self.host(now, shared).await;
            if let (Some((lease, _)), Some(Hosted::Open(open))) =
                (&mut deferred.3, self.rooms.get_mut(&shared.key))
            {
                open.room.play(lease.take_opening());
            }
        }
        match self.rooms.get_mut(&shared.key) {
            Some(Hosted::Open(_)) => self.command_open(now, shared.key, deferred).await,
            // A departure is never refused. There is at most one for each join.
            Some(Hosted::Loading(_, waiting))
                if waiting.len() < MAX_DEFERRED || matches!(deferred.1, Command::Leave) =>
            {
                waiting.push(deferred);
            }
            Some(Hosted::Loading(_, waiting)) => {
                let (session, _, ack, joining) = deferred;
                let error = ClientError::new(ErrorCode::Overloaded, "the server is too busy, try again");
                if let Some((_, turn)) = joining {
                    session.refused(turn);
                    // An earlier join of the same session may wait here; it is out now, so that must not let it in.
                    if waiting.iter().any(|(waiter, ..)| waiter.id() == session.id()) {
                        waiting.push((session.clone(), Command::Leave, None, None));
                    }
                }
                self.reply(&session, ack, &error).await;
            }
            None => {}
        }
    }

    /// Takes a room into this shard: at once, or after its objects have been read.
    async fn host(&mut self, now: Time, shared: &Arc<RoomShared>) {
        if !shared.options.persistent {
            return self.open(now, shared.clone(), Vec::new()).await;
        }
        let (key, objects) = (shared.key, self.engine.store.objects(&shared.id));
        self.rooms.insert(key, Hosted::Loading(shared.clone(), Vec::new()));
        self.jobs.spawn(async move { JobDone::Loaded(key, objects.await) });
    }

    pub(super) async fn open(&mut self, now: Time, shared: Arc<RoomShared>, objects: Vec<StoredObject>) {
        let key = shared.key;
        let pace = Pace::new(shared.options.tick_hz, now);
        let period = pace.period();
        // Rooms tick out of step with each other, so that their work is spread over the period.
        let phase =
            period.mul_f64((key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64);
        let next_tick = now + phase;
        let room = Room::new(shared, self.engine.defaults.max_objects, objects);
        let members_per_core = vec![0; self.engine.fanouts.len()];
        let open = OpenRoom {
            room,
            leases: HashMap::new(),
            members_per_core,
            pace,
            next_tick,
            delivery: Delivery::new(now),
            flush_wake: None,
        };
        self.rooms.insert(key, Hosted::Open(Box::new(open)));
        self.begin_recording(now, key).await;
        self.wake_at(next_tick, Wake::Tick(key));
    }

    pub(super) async fn command_open(
        &mut self,
        now: Time,
        key: u64,
        (session, command, ack, joining): Deferred,
    ) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        let changes_objects = matches!(
            command,
            Command::ObjectCreate { .. } | Command::ObjectUpdate(_) | Command::ObjectDelete(_)
        );
        if changes_objects && open.room.shared().options.persistent && self.unstored >= MAX_UNSTORED {
            let error = ClientError::new(ErrorCode::Overloaded, "the store is behind, try again");
            return self.reply(&session, ack, &error).await;
        }
        let was_in = open.room.has(session.id());
        open.room.handle_command(now, session.id(), &session, command, ack, &mut self.effects);
        self.metrics.commands.inc();
        let is_in = open.room.has(session.id());
        let turn = joining.as_ref().map(|(_, turn)| *turn);
        match joining {
            Some((lease, _)) if is_in => {
                open.leases.insert(session.id(), lease);
            }
            Some((_, turn)) => session.refused(turn),
            None => {}
        }
        let load = &self.engine.shards[self.index].load;
        if is_in && !was_in {
            open.members_per_core[session.core()] += 1;
            load.fetch_add(1, Ordering::Relaxed);
        } else if was_in && !is_in {
            open.leases.remove(&session.id());
            open.members_per_core[session.core()] -= 1;
            load.fetch_sub(1, Ordering::Relaxed);
        }
        // Who comes may slow the room down at once; what those who go allow is for its ticks to find out.
        let members = open.room.shared().members();
        let change = (is_in && !was_in).then(|| open.pace.members_changed(now, members)).flatten();
        self.touched.push(key);
        self.apply(now, key, turn).await;
        if let Some(change) = change {
            self.change_rate(key, change);
        }
    }

    /// What a private room's driver wants to happen in it.
    pub(super) fn play(&mut self, now: Time, key: u64, steps: Vec<Step>, done: oneshot::Sender<()>) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        open.room.play(steps);
        let change = open.pace.members_changed(now, open.room.shared().members());
        self.touched.push(key);
        if let Some(change) = change {
            self.change_rate(key, change);
        }
        // Whoever drives it may have stopped waiting.
        let _ = done.send(());
    }

    pub(super) async fn tick(&mut self, now: Time, key: u64) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        if now < open.next_tick {
            // Left over from when this shard had the room before.
            return;
        }
        let due = open.next_tick;
        self.engine.metrics.tick_lateness.observe(now.since(due).as_secs_f64());
        let took = open.delivery.took();
        let members = open.room.shared().members();
        let change = match took {
            Some(took) => open.pace.tick_done(now, took, members),
            None => open.pace.overrun(now, members),
        };
        if let Some(change) = change {
            self.change_rate(key, change);
        }
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        open.next_tick = due + open.pace.period();
        if took.is_none() {
            // The one before is still going out. Nothing is lost: whatever has moved is shown by the next.
            self.metrics.ticks_missed.inc();
        } else if open.next_tick < now {
            let period = open.pace.period();
            let missed = now.since(open.next_tick).as_micros() / period.as_micros() + 1;
            self.metrics.ticks_missed.inc_by(missed as u64);
            open.next_tick = now + period;
        }
        let next_tick = open.next_tick;
        self.wake_at(next_tick, Wake::Tick(key));
        if took.is_some() {
            self.deliver(now, due, key).await;
        }
    }

    /// One tick of a room goes out.
    async fn deliver(&mut self, now: Time, due: Time, key: u64) {
        let word = self.journal_word(now);
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        let delivery = Delivery::new(due);
        let own_part = delivery.part();
        open.delivery = delivery;
        self.metrics.ticks.inc();
        open.room.sample_poses_at(word.pose_hz);
        open.room.note_losses(word.losses);
        open.room.handle_tick(now, &mut self.effects);
        self.apply(now, key, None).await;
        let end = self.engine.clock.now();
        own_part.end(end);
        self.engine.metrics.tick_duration.observe(end.since(now).as_secs_f64());
    }

    /// The room has another rate from now on, and everybody is told.
    fn change_rate(&mut self, key: u64, change: RateChange) {
        let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { return };
        let shared = open.room.shared();
        shared.set_tick_hz(change.hz);
        open.room.announce_rate(change);
        self.engine.metrics.rate_changed(change.reason);
        self.touched.push(key);
    }

    /// Takes a room that is done out of memory, and one that is not persistent out of the world, unless it still
    /// waits for the first who may enter it.
    pub(super) fn let_go(&mut self, key: u64) {
        let Some(Hosted::Open(open)) = self.rooms.get(&key) else { return };
        let shared = open.room.shared().clone();
        if !open.room.is_done() {
            return;
        }
        if shared.is_private() {
            // In no directory; its place is given back with its lease.
            self.rooms.remove(&key);
        } else if shared.options.persistent || !shared.was_entered() {
            // Whatever slowed it down is over with it.
            shared.set_tick_hz(shared.options.tick_hz.initial_hz());
            open.room.suspend_recording();
            self.rooms.remove(&key);
        } else if self.engine.directory.close(&shared) {
            self.rooms.remove(&key);
            self.engine.unplace(self.index);
        }
    }
}
