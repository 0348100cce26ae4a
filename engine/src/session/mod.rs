//! A session: one authenticated connection, and the room that it is in.

mod events;
mod past;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use protocol::error::{ClientError, ErrorCode};
use protocol::{Outgoing, Pose};
use tokio::sync::mpsc::error::TrySendError;

use crate::allowance::{Allowance, Verdict};
use crate::directory::{Lease, RoomShared};
use crate::engine::Inner;
use crate::metrics::{CommandRefused, PoseDropped};
use crate::ports::{CloseReason, Outbox};
use crate::room::{AckId, Command, SessionId, User, error_packet};
use crate::shard::ShardMessage;

pub use past::Standing;

/// A member's way to its pose slot.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) room: Arc<RoomShared>,
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

/// See the [module](self).
pub struct Session {
    id: SessionId,
    user: User,
    core: usize,
    outbox: Arc<dyn Outbox>,
    /// Its connection's.
    allowance: Arc<Allowance>,
    engine: Arc<Inner>,
    /// Where poses go. Read for every pose, without a lock; written when a room is entered or left.
    membership: ArcSwapOption<Membership>,
    /// A join is on its way to a shard.
    joining: AtomicBool,
    /// The key of the seat's room, for those who want to know it without the lock.
    seat_key: AtomicU64,
    /// Departures that wait for a place in a mailbox.
    departures: AtomicUsize,
    seat: Mutex<Seat>,
}

/// Stands for no room in `seat_key`.
const NO_ROOM: u64 = u64::MAX;

/// The room that the session has asked for, whether or not it has been let in yet.
struct Seat {
    room: Option<Arc<RoomShared>>,
    /// Counts joins and departures, so that the answer to an old join is told from that to the newest.
    turn: u64,
    /// The newest pose that came while a join is on its way.
    early_pose: Option<Pose>,
    closed: bool,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        user: User,
        outbox: Arc<dyn Outbox>,
        core: usize,
        allowance: Arc<Allowance>,
        engine: Arc<Inner>,
    ) -> Self {
        Self {
            id,
            user,
            core,
            outbox,
            allowance,
            engine,
            membership: ArcSwapOption::empty(),
            joining: AtomicBool::new(false),
            seat_key: AtomicU64::new(NO_ROOM),
            departures: AtomicUsize::new(0),
            seat: Mutex::new(Seat { room: None, turn: 0, early_pose: None, closed: false }),
        }
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whose session this is.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The core on which its connection lives.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Its way out.
    pub fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.outbox
    }

    /// The hot path: stores the session's newest pose for the next tick. Takes no lock, sends nothing and
    /// allocates nothing. `false`: the session is in no room, nor on its way into one, so the pose is counted and
    /// forgotten.
    #[inline]
    pub fn update_pose(self: &Arc<Self>, pose: &Pose) -> bool {
        let membership = self.membership.load();
        match membership.as_deref() {
            Some(member) => {
                self.store_pose(member, pose);
                true
            }
            None => self.pose_before_membership(pose),
        }
    }

    #[inline]
    fn store_pose(&self, member: &Membership, pose: &Pose) {
        match member.room.table.store(member.slot, member.generation, pose) {
            Ok(()) => {
                self.engine.metrics.core(self.core).poses.inc();
            }
            Err(_) => self.engine.metrics.pose_dropped(PoseDropped::Refused),
        }
    }

    /// A pose that overtook its own join waits for it, so that a client which joins and moves once in one breath
    /// is seen where it stands.
    #[cold]
    fn pose_before_membership(&self, pose: &Pose) -> bool {
        if self.joining.load(Ordering::Acquire) {
            let mut seat = self.seat();
            // Asked again under the lock: the session may have been let in, or refused, a moment ago.
            if let Some(member) = self.membership.load().as_deref() {
                self.store_pose(member, pose);
                return true;
            }
            if self.joining.load(Ordering::Acquire) {
                seat.early_pose = Some(*pose);
                return true;
            }
        }
        self.engine.metrics.pose_dropped(PoseDropped::NotInRoom);
        false
    }

    /// Tells the client that something failed.
    pub fn refuse(self: &Arc<Self>, ack: AckId, error: &ClientError) {
        if let Some(packet) = error_packet(ack, error) {
            self.send(&packet);
        }
    }

    /// Sends one packet outside of any room.
    pub fn send(self: &Arc<Self>, packet: &Outgoing) {
        self.queue(packet);
        self.outbox.flush();
    }

    /// Queues one packet, which leaves with the next flush.
    pub(crate) fn queue(self: &Arc<Self>, packet: &Outgoing) {
        if self.outbox.send(packet) == Err(crate::ports::OutboxError::Full) {
            self.end(CloseReason::SlowReader);
        }
    }

    fn command(self: &Arc<Self>, command: Command, ack: AckId) -> Result<(), ClientError> {
        let room = self.seat().room.clone();
        let room = room.ok_or_else(ClientError::not_in_room)?;
        self.submit(room, command, ack)
    }

    /// Sends a join on its way, and leaves the room before it. One that finds no place in the mailbox changes nothing.
    fn take_seat(
        self: &Arc<Self>,
        seat: &mut Seat,
        lease: Lease,
        command: Command,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let room = lease.room().clone();
        // Under the seat's lock, so that commands reach the mailbox in the order of their turns.
        let Ok(place) = self.engine.shards[room.shard].mailbox.try_reserve() else {
            if self.engine.directory.give_back(lease) {
                self.engine.unplace(room.shard);
            }
            return Err(self.overloaded());
        };
        if seat.room.as_ref().is_some_and(|old| old.key != room.key) {
            self.give_up_seat(seat);
        }
        seat.turn += 1;
        let joining = Some((lease, seat.turn));
        place.send(ShardMessage::Command {
            room: room.clone(),
            session: self.clone(),
            command,
            ack,
            joining,
        });
        self.joining.store(true, Ordering::Release);
        self.seat_key.store(room.key, Ordering::Release);
        seat.room = Some(room);
        Ok(())
    }

    fn submit(
        self: &Arc<Self>,
        room: Arc<RoomShared>,
        command: Command,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let mailbox = &self.engine.shards[room.shard].mailbox;
        let message = ShardMessage::Command { room, session: self.clone(), command, ack, joining: None };
        mailbox.try_send(message).map_err(|_| self.overloaded())
    }

    fn overloaded(&self) -> ClientError {
        self.engine.metrics.command_refused(CommandRefused::Overloaded);
        ClientError::new(ErrorCode::Overloaded, "the server is too busy, try again")
    }

    /// Submits a departure, which is never refused: if the mailbox is full, it waits for a place.
    fn submit_always(self: &Arc<Self>, room: Arc<RoomShared>, ack: AckId) {
        let mailbox = self.engine.shards[room.shard].mailbox.clone();
        let message = ShardMessage::Command {
            room,
            session: self.clone(),
            command: Command::Leave,
            ack,
            joining: None,
        };
        if let Err(TrySendError::Full(message)) = mailbox.try_send(message) {
            // Until it has its place the session joins nothing, so that no join overtakes it and no more than a
            // few of these wait. It fails only if the shard is gone, and then there is nobody to tell.
            let session = self.clone();
            session.departures.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(async move {
                let _ = mailbox.send(message).await;
                session.departures.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }

    /// Pays for an event that carries `bytes` bytes, before it is looked at. `false`: it is not to be carried out,
    /// and the client has been told.
    pub fn pay(self: &Arc<Self>, bytes: usize, ack: AckId) -> bool {
        match self.allowance.spend(bytes, self.engine.clock.now()) {
            Verdict::Granted => return true,
            Verdict::Refused => {
                let error = ClientError::new(ErrorCode::RateLimited, "too many events, slow down");
                self.refuse(ack, &error);
            }
            Verdict::Hopeless => self.end(CloseReason::ProtocolError),
        }
        self.engine.metrics.command_refused(CommandRefused::RateLimited);
        false
    }

    fn give_up_seat(self: &Arc<Self>, seat: &mut Seat) {
        if let Some(room) = self.vacate(seat) {
            self.submit_always(room, None);
        }
    }

    /// From here on no pose reaches the room, and no answer to an earlier join changes that.
    fn vacate(&self, seat: &mut Seat) -> Option<Arc<RoomShared>> {
        seat.turn += 1;
        seat.early_pose = None;
        self.membership.store(None);
        self.joining.store(false, Ordering::Release);
        self.seat_key.store(NO_ROOM, Ordering::Release);
        seat.room.take()
    }

    /// A shard has let the session in, on its join of this turn.
    pub(crate) fn admit(&self, turn: u64, membership: Membership) {
        let mut seat = self.seat();
        if seat.turn == turn {
            if let Some(pose) = seat.early_pose.take() {
                self.store_pose(&membership, &pose);
            }
            self.membership.store(Some(Arc::new(membership)));
            self.joining.store(false, Ordering::Release);
        }
    }

    /// A shard has refused the session's join of this turn.
    pub(crate) fn refused(&self, turn: u64) {
        let mut seat = self.seat();
        if seat.turn == turn {
            self.vacate(&mut seat);
        }
    }

    /// Whether this is the room in which the session is, or that it waits to be let into.
    pub(crate) fn is_seated_in(&self, room: &RoomShared) -> bool {
        self.seat_key.load(Ordering::Acquire) == room.key
    }

    /// Ends the session from the server's side, unless it has ended already.
    pub fn end(self: &Arc<Self>, reason: CloseReason) {
        if self.finish() {
            self.engine.metrics.session_closed(reason.as_str());
            self.outbox.close(reason);
        }
    }

    /// The connection is gone: the room's others are told, once, however often this is called.
    pub fn closed(self: &Arc<Self>) {
        self.finish();
    }

    /// Leaves everything. `false` if that has been done before.
    fn finish(self: &Arc<Self>) -> bool {
        let mut seat = self.seat();
        if std::mem::replace(&mut seat.closed, true) {
            return false;
        }
        self.give_up_seat(&mut seat);
        drop(seat);
        if self.engine.sessions.remove(&self.id).is_some() {
            self.engine.metrics.sessions.dec();
        }
        true
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        // Nothing that holds this lock can panic half-way through a change.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user", &self.user.id).finish_non_exhaustive()
    }
}
