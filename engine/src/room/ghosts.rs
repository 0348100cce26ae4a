//! Ghosts: members of a room that are listed, seen and heard like any other, with nobody behind them.
//!
//! A ghost has a slot and a pose in the room's table, and no session: nothing is sent to it, and nothing is encoded for
//! it. What it does comes from whoever plays a recording in the room, as [`Step`]s.

use std::collections::HashMap;

use protocol::members::json_string;
use protocol::{Members, Outgoing, Pose};
use replay::MemberId;

use super::{Audience, Command, Entry, Room, User};
use crate::ports::StoredObject;

/// Something that happens in a room without any session's having asked for it.
#[derive(Debug, Clone)]
pub enum Step {
    /// A ghost comes, and stands there from the beginning. More than the room holds are left out.
    Enter {
        /// Tells it from the room's other ghosts.
        ghost: MemberId,
        /// Who it is to others.
        user: User,
        /// What else its entry among the users says: everything but its ids, name, pose and slot.
        profile: Members,
        /// Where it stands.
        pose: Pose,
    },
    /// A ghost goes.
    Leave(MemberId),
    /// A ghost moves; the next tick shows it.
    Move(MemberId, Pose),
    /// A ghost says something of itself.
    UserUpdate(MemberId, Members),
    /// An object is now this. Left out where that would be more than a room may hold.
    PutObject {
        /// The object, whole.
        object: StoredObject,
        /// What tells of it.
        packet: Outgoing,
    },
    /// An object is gone.
    DeleteObject {
        /// The object's id.
        id: String,
        /// What tells of it.
        packet: Outgoing,
    },
    /// Everybody is told.
    Tell(Outgoing),
    /// Everybody is told what is an answer: after all of the steps before it.
    Answer(Outgoing),
}

/// The ghosts of a room. Of nearly all rooms: none.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    by_slot: HashMap<u16, Ghost>,
    slots: HashMap<MemberId, u16>,
}

#[derive(Debug)]
pub(super) struct Ghost {
    id: MemberId,
    pub(super) user: User,
    pub(super) ids_json: Box<str>,
    pub(super) profile: Members,
    generation: u32,
}

impl Ghosts {
    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(super) fn at(&self, slot: u16) -> Option<&Ghost> {
        self.by_slot.get(&slot)
    }
}

impl Command {
    /// Whether it changes what others see, or is told to them.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::ObjectCreate { .. }
            | Self::ObjectUpdate(_)
            | Self::ObjectDelete(_)
            | Self::UserUpdate(_)
            | Self::Relay { .. } => true,
            Self::Join { .. } | Self::Leave | Self::View(_) => false,
        }
    }
}

/// What stands first in everything that is told of a member.
pub(super) fn ids_json(user: &User) -> Box<str> {
    format!("\"id\":{},\"socketId\":{},", json_string(&user.id), json_string(&user.socket_id)).into()
}

/// What others are told of `changes`.
pub(super) fn user_update(user: &User, changes: &Members) -> Members {
    let mut update = Members::default();
    update.set("id", json_string(&user.id));
    update.set("socketId", json_string(&user.socket_id));
    update.merge(changes);
    update
}

impl<S: Clone> Room<S> {
    /// Carries out what is to happen here, in order. A step of a ghost that is not here is left out.
    pub fn play(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.take_step(step);
        }
    }

    /// How many are in the room, ghosts included.
    pub(super) fn present(&self) -> usize {
        self.by_session.len() + self.ghosts.len()
    }

    /// Whether a step may be told to anybody at all: whoever comes later finds what it made in its welcome.
    fn is_watched(&self) -> bool {
        !self.by_session.is_empty()
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Enter { ghost, user, profile, pose } => self.enter_ghost(ghost, user, profile, &pose),
            Step::Leave(ghost) => self.leave_ghost(ghost),
            Step::Move(ghost, pose) => {
                if let Some((slot, ghost)) = self.ghost(ghost) {
                    let stored = self.shared.table.store(slot, ghost.generation, &pose);
                    debug_assert!(stored.is_ok(), "nobody else writes a ghost's slot");
                }
            }
            Step::UserUpdate(ghost, changes) => self.update_ghost(ghost, &changes),
            Step::PutObject { object, packet } => {
                if self.objects.restore(object) {
                    self.tell(packet, true);
                }
            }
            Step::DeleteObject { id, packet } => {
                if self.objects.forget(&id) {
                    self.tell(packet, true);
                }
            }
            Step::Tell(packet) => self.tell(packet, false),
            Step::Answer(packet) => {
                let sessions = self.members.iter().flatten().map(|member| member.session.clone());
                self.out.replies.extend(sessions.map(|session| (session, packet.clone())));
                self.out.urgent = true;
            }
        }
    }

    fn ghost(&self, ghost: MemberId) -> Option<(u16, &Ghost)> {
        let slot = *self.ghosts.slots.get(&ghost)?;
        Some((slot, self.ghosts.at(slot)?))
    }

    fn enter_ghost(&mut self, id: MemberId, user: User, profile: Members, pose: &Pose) {
        self.leave_ghost(id);
        // The last place is the viewer's.
        if self.ghosts.len() + 1 >= self.shared.options.max_users {
            return;
        }
        let Some(slot) = self.take_slot() else { return };
        let generation = self.shared.table.open(slot, pose);
        let ids_json = ids_json(&user);
        self.ghosts.by_slot.insert(slot, Ghost { id, user, ids_json, profile, generation });
        self.ghosts.slots.insert(id, slot);
        self.tracks.enter(slot, self.tick);
        // A live member stands where everybody begins. This one need not, and is known to be elsewhere from its first tick on.
        self.shared.table.mark_dirty(slot);
        self.shared.set_members(self.present());
        if self.is_watched() {
            let joined = Outgoing::event_raw("user-joined", &self.user_json(slot));
            self.push_presence(slot, joined);
        }
    }

    fn leave_ghost(&mut self, id: MemberId) {
        let Some(slot) = self.ghosts.slots.remove(&id) else { return };
        let Some(ghost) = self.ghosts.by_slot.remove(&slot) else { return };
        debug_assert_eq!(ghost.id, id);
        self.tracks.leave(slot);
        self.retiring.push(slot);
        self.free_retired();
        self.shared.set_members(self.present());
        if self.is_watched() {
            self.push_presence(slot, Outgoing::event("user-left", &*ghost.user.id));
        }
    }

    fn update_ghost(&mut self, id: MemberId, changes: &Members) {
        let Some(slot) = self.ghosts.slots.get(&id) else { return };
        let Some(ghost) = self.ghosts.by_slot.get_mut(slot) else { return };
        ghost.profile.merge(changes);
        let packet = Outgoing::event("user-updated", &user_update(&ghost.user, changes));
        self.tell(packet, true);
    }

    fn tell(&mut self, packet: Outgoing, in_welcome: bool) {
        if self.is_watched() {
            self.out.entries.push(Entry { audience: Audience::All, packet, volatile: false, in_welcome });
            self.out.urgent = true;
        }
    }

    /// Who the member in `slot` is to others, and what it has said of itself. Ghosts included.
    pub(super) fn known_as(&self, slot: u16) -> (&str, &User, &Members) {
        match self.ghosts.at(slot) {
            Some(ghost) => (&ghost.ids_json, &ghost.user, &ghost.profile),
            None => {
                let member = self.member(slot);
                (&member.ids_json, &member.user, &member.profile)
            }
        }
    }

    /// Whether anybody is in `slot`, a ghost or not.
    pub(super) fn is_taken(&self, slot: u16) -> bool {
        self.members[usize::from(slot)].is_some() || self.ghosts.at(slot).is_some()
    }

    /// Whether a command would change a recording.
    pub(super) fn changes_past(&self, command: &Command) -> bool {
        self.shared.is_private() && command.is_change()
    }
}
