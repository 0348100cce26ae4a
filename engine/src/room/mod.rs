//! A room: who is in it, what stands in it, what is said in it.
//!
//! A room is pure. Commands and ticks come in with the time, effects come out; it reads no clock, sends nothing
//! and waits for nothing. The only thing outside itself that it reads are the pose slots, which its members
//! write whenever they like. `S` is whatever its driver knows a session by; the room only hands it back.

mod answer;
mod ghosts;
mod objects;
mod outbound;
mod presence;
mod recording;
mod relay;
mod sampling;
mod tick;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use protocol::error::{ClientError, ErrorCode};
use protocol::event::{Encoding, ObjectUpdate};
use protocol::view::View;
use protocol::{Members, Outgoing};
use replay::Record;
use serde::Serialize;

use crate::broadcast::TickPoses;
use crate::directory::RoomShared;
use crate::interest::{Cell, Tracks};
use crate::ports::{RoomWrite, StoredObject};
use crate::time::Time;
use ghosts::Ghosts;
use objects::Objects;
use outbound::Outbound;
use presence::Arrival;
use recording::Recording;

pub use answer::{Nothing, error_packet, ok_packet};
pub use ghosts::Step;
pub(crate) use recording::Suspended;
pub use recording::{Awaits, RecordEffect};

/// Tells one session from every other for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Who a session is to the others in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id, from its token. Two sessions of one token share it.
    pub id: Arc<str>,
    /// The session's public name in Socket.IO. No two sessions share it.
    pub socket_id: Arc<str>,
    /// What people call it.
    pub username: Arc<str>,
}

/// The ack that a command wants, if any.
pub type AckId = Option<u64>;

/// What a session asks of a room.
#[derive(Debug, Clone)]
pub enum Command {
    /// Enter.
    Join {
        /// Who enters.
        user: User,
        /// How it wants poses.
        encoding: Encoding,
        /// What it gives as the password.
        password: Option<String>,
        /// Where it looks from.
        view: View,
    },
    /// Go.
    Leave,
    /// `view`
    View(View),
    /// `object-create`; `fresh_id` is its id if the members bring none.
    ObjectCreate {
        /// The object.
        members: Members,
        /// A random id.
        fresh_id: String,
    },
    /// `object-update`
    ObjectUpdate(ObjectUpdate),
    /// `object-delete`
    ObjectDelete(String),
    /// `user-update`
    UserUpdate(Members),
    /// `room-message` or `signal`: a packet that is ready to go out.
    Relay {
        /// A user's id or a socketId; everybody else if absent.
        to: Option<String>,
        /// What they get.
        packet: Outgoing,
        /// Whether one who is behind may miss it.
        volatile: bool,
    },
}

/// What a room wants done.
#[derive(Debug)]
pub enum Effect<S> {
    /// The session is a member now and may write its poses into `slot`.
    Admit {
        /// The new member.
        session: S,
        /// Its slot.
        slot: u16,
        /// The generation to write under.
        generation: u32,
    },
    /// A change of a persistent room to be stored. When it is, [`Room::stored`] is to be called.
    Store(StoreEffect<S>),
    /// Something to be written down. Whoever awaits it is to be handed to [`Room::recorded`].
    Record(RecordEffect<S>),
    /// Reliable packets to be delivered.
    Flush(Flush<S>),
    /// Poses to be delivered.
    Tick(Box<TickPoses>),
}

/// A change to be stored, and who is told when it is.
#[derive(Debug)]
pub struct StoreEffect<S> {
    /// The change.
    pub write: RoomWrite,
    /// The object that it is about.
    pub object_id: String,
    /// Who asked for it, the answer if all goes well, and the ack to answer by.
    pub reply: Option<(S, Outgoing, u64)>,
    /// The store could not take the object the last time.
    pub again: bool,
    /// What is to be written down of the change; the answer waits for that as well.
    pub record: Option<Record>,
}

/// What a room has to say since it last spoke, in order.
#[derive(Debug)]
pub struct Flush<S> {
    /// Who is a viewer no longer.
    pub left: Vec<(S, u16)>,
    /// What went out while some of `joined` waited for their welcome, as far as they must hear it after that.
    pub missed: Vec<Entry>,
    /// What the members who were there before get, in order.
    pub entries: Vec<Entry>,
    /// Who is a viewer from now on.
    pub joined: Vec<Joined<S>>,
    /// What each of `joined` gets first: its answer, then these two.
    pub users: Option<Outgoing>,
    /// The room's objects.
    pub objects: Option<Outgoing>,
    /// Answers to single sessions, after all of the above.
    pub replies: Vec<(S, Outgoing)>,
}

/// One packet and who gets it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub audience: Audience,
    /// What.
    pub packet: Outgoing,
    /// Whether a viewer that is behind may miss it.
    pub volatile: bool,
    /// Whether who joins with this flush learns it from the lists that it is welcomed with.
    pub in_welcome: bool,
}

/// Who gets a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody but this one.
    Others(u16),
    /// Everybody.
    All,
    /// Only this one.
    One(u16),
}

/// A new viewer.
#[derive(Debug)]
pub struct Joined<S> {
    /// Whose.
    pub session: S,
    /// The slot whose poses are its own.
    pub slot: u16,
    /// How it wants poses.
    pub encoding: Encoding,
    /// The answer to its `join-room`.
    pub reply: Option<Outgoing>,
    /// How many of the flush's `missed` and then `entries` are older than its arrival.
    pub since: usize,
}

struct Member<S> {
    session: S,
    id: SessionId,
    user: User,
    /// `"id":"…","socketId":"…",` — the part of each of its `user-moved` that never changes.
    ids_json: Box<str>,
    /// What it has said of itself since it came.
    profile: Members,
    generation: u32,
    encoding: Encoding,
    /// The cell that it looks from, if that is not where it stands.
    looks_from: Option<Cell>,
    /// How far it wants to see, if not as far as it may.
    radius_m: Option<f32>,
}

/// How many members want poses in each encoding.
#[derive(Debug, Default)]
struct EncodingCounts([usize; 3]);

impl EncodingCounts {
    fn of(&mut self, encoding: Encoding) -> &mut usize {
        &mut self.0[encoding as usize]
    }
}

/// See the [module](self).
pub struct Room<S> {
    shared: Arc<RoomShared>,
    members: Vec<Option<Member<S>>>,
    by_session: HashMap<SessionId, u16>,
    /// They have slots of their own, where `members` has nobody.
    ghosts: Ghosts,
    /// Slots below `members.len()` that nobody has.
    free: BTreeSet<u16>,
    /// Slots whose last owner was writing when it left.
    retiring: Vec<u16>,
    encodings: EncodingCounts,
    tracks: Tracks,
    objects: Objects,
    /// Changes on their way to the store.
    storing: usize,
    /// Objects whose last write failed.
    unsaved: BTreeSet<String>,
    out: Outbound<S>,
    /// What is written down of it, if anything is.
    recording: Option<Box<Recording<S>>>,
    last_presence: Time,
    last_welcome: Time,
    last_refresh: Time,
    tick: u32,
}

impl<S: Clone> Room<S> {
    /// An empty room with these objects, of which there may be at most `max_objects`.
    pub fn new(shared: Arc<RoomShared>, max_objects: usize, stored: Vec<StoredObject>) -> Self {
        Self {
            shared,
            members: Vec::new(),
            by_session: HashMap::new(),
            ghosts: Ghosts::default(),
            free: BTreeSet::new(),
            retiring: Vec::new(),
            encodings: EncodingCounts::default(),
            tracks: Tracks::default(),
            objects: Objects::new(max_objects, stored),
            storing: 0,
            unsaved: BTreeSet::new(),
            out: Outbound::new(),
            recording: None,
            last_presence: Time::default(),
            last_welcome: Time::default(),
            last_refresh: Time::default(),
            tick: 0,
        }
    }

    /// Carries out one command of one session and answers `ack` if it is wanted.
    pub fn handle_command(
        &mut self,
        now: Time,
        id: SessionId,
        session: &S,
        command: Command,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) {
        let slot = self.by_session.get(&id).copied();
        self.record_at(now);
        let done = match (command, slot) {
            (Command::Join { user, encoding, password, view }, _) => {
                let arrival = Arrival { id, session, user, encoding, view };
                self.join(arrival, password.as_deref(), ack, effects)
            }
            (Command::Leave, Some(slot)) => self.leave(slot, ack),
            // Its join was refused while this was on its way.
            (Command::Leave, None) => {
                self.reply(session, ok_packet(ack, Nothing {}));
                Ok(())
            }
            (_, None) => Err(ClientError::not_in_room()),
            (command, Some(_)) if self.changes_past(&command) => {
                Err(ClientError::new(ErrorCode::Unavailable, "a recording cannot be changed"))
            }
            (Command::ObjectCreate { members, fresh_id }, Some(slot)) => {
                self.object_create(slot, members, fresh_id, ack, effects)
            }
            (Command::ObjectUpdate(update), Some(slot)) => self.object_update(slot, update, ack, effects),
            (Command::ObjectDelete(object), Some(slot)) => self.object_delete(slot, &object, ack, effects),
            (Command::View(view), Some(slot)) => {
                self.look(slot, &view);
                self.reply_ok(slot, ack, Nothing {});
                Ok(())
            }
            (Command::UserUpdate(changes), Some(slot)) => self.user_update(slot, &changes, ack),
            (Command::Relay { to, packet, volatile }, Some(slot)) => {
                self.relay(slot, to.as_deref(), packet, volatile, ack)
            }
        };
        if let Err(error) = done {
            self.reply(session, error_packet(ack, &error));
        }
        self.hand_over(effects);
        debug_assert!(now >= self.last_presence, "time goes on");
    }

    /// One tick: what waits goes out, then the poses that have changed.
    pub fn handle_tick(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        self.free_retired();
        self.flush(now, effects);
        self.tick_poses(now, effects);
        self.record_tick(now, effects);
    }

    /// The room.
    pub fn shared(&self) -> &Arc<RoomShared> {
        &self.shared
    }

    /// Whether the room can be taken out of memory: nobody is in it and nothing of it is still to be done.
    pub fn is_done(&self) -> bool {
        self.by_session.is_empty()
            && self.retiring.is_empty()
            && self.storing == 0
            && self.unsaved.is_empty()
            && self.out.is_empty()
            && !self.is_awaited()
    }

    /// Whether everything that has changed is stored, or on its way to the store.
    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty()
    }

    /// Whether the session is a member.
    pub fn has(&self, id: SessionId) -> bool {
        self.by_session.contains_key(&id)
    }

    fn member(&self, slot: u16) -> &Member<S> {
        self.members[usize::from(slot)].as_ref().expect("a slot in by_session has a member")
    }

    fn reply(&mut self, session: &S, packet: Option<Outgoing>) {
        if let Some(packet) = packet {
            self.out.replies.push((session.clone(), packet));
            self.out.urgent = true;
        }
    }

    fn reply_ok<T: Serialize>(&mut self, slot: u16, ack: AckId, members: T) {
        let session = self.member(slot).session.clone();
        self.reply(&session, ok_packet(ack, members));
    }

    fn announce(&mut self, audience: Audience, packet: Outgoing) {
        self.out.entries.push(Entry { audience, packet, volatile: false, in_welcome: true });
        self.out.urgent = true;
    }
}
