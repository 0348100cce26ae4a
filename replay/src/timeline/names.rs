//! Who the members of a recording are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use crate::{Action, Filter, MemberId, Who};

/// Everybody who is in, or of whom moves may still wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Counts how often members were numbered anew.
    epoch: u32,
    /// There was a keyframe, so everybody is known who is in.
    is_complete: bool,
    known: HashMap<(u32, MemberId), Known>,
}

#[derive(Debug)]
struct Known {
    who: Arc<Who>,
    /// Whether it is still in, as far as records have been read.
    is_in: bool,
    is_wanted: bool,
    /// The part of time of the last move that was told.
    part_of_time: Option<u64>,
}

/// Somebody who moves.
pub(super) enum Mover {
    Wanted(Arc<Who>),
    Unwanted,
    Unknown,
}

/// What of a user is wanted here.
#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "socketId")]
    socket_id: Cow<'a, str>,
}

/// The names in a `user` of the contract.
pub(super) fn read_user(user: &str) -> Option<Who> {
    let User { id, socket_id } = serde_json::from_str(user).ok()?;
    Some(Who::new(&id, &socket_id))
}

impl Names {
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whoever does something else than leave is in.
    pub(super) fn actor(
        &mut self,
        member: MemberId,
        user_id: &str,
        socket_id: &str,
        action: &Action,
        filter: &Filter,
    ) -> Arc<Who> {
        let is_in = *action != Action::Leave;
        // Whoever has left and comes again is another entry, so that the leave, once told, takes away its own.
        let known = self.known.get_mut(&(self.epoch, member));
        if let Some(known) = known.filter(|known| known.is_in || !is_in) {
            known.is_in = is_in;
            return known.who.clone();
        }
        let who = Arc::new(Who::new(user_id, socket_id));
        if is_in {
            self.insert(member, who.clone(), filter);
        }
        who
    }

    /// Whether the member of that number is not who it was.
    pub(super) fn is_somebody_else(&self, member: MemberId, socket_id: &str) -> bool {
        let known = self.known.get(&(self.epoch, member));
        known.is_some_and(|known| *known.who.socket_id != *socket_id)
    }

    /// Whether it is in already.
    pub(super) fn is_in(&self, member: MemberId, who: &Who) -> bool {
        let known = self.known.get(&(self.epoch, member));
        known.is_some_and(|known| known.is_in && *known.who == *who)
    }

    /// Somebody is in.
    pub(super) fn enter(&mut self, member: MemberId, who: Who, filter: &Filter) -> Arc<Who> {
        let who = Arc::new(who);
        self.insert(member, who.clone(), filter);
        who
    }

    /// From now on numbers mean other members.
    pub(super) fn begin_anew(&mut self) {
        self.epoch += 1;
        self.is_complete = false;
    }

    /// Everybody is known who is in. Gives whether that was so before.
    pub(super) fn complete(&mut self) -> bool {
        std::mem::replace(&mut self.is_complete, true)
    }

    /// Everybody who is in leaves, except `stay`.
    pub(super) fn leave_all_but(&mut self, stay: &HashSet<MemberId>) -> Vec<(MemberId, Arc<Who>)> {
        let mut gone: Vec<_> = self
            .known
            .iter_mut()
            .filter(|((_, member), known)| known.is_in && !stay.contains(member))
            .map(|((_, member), known)| {
                known.is_in = false;
                (*member, known.who.clone())
            })
            .collect();
        gone.sort_by_key(|(member, _)| *member);
        gone
    }

    /// Its leave has been told.
    pub(super) fn forget(&mut self, epoch: u32, member: MemberId, who: &Arc<Who>) {
        if self.known.get(&(epoch, member)).is_some_and(|known| Arc::ptr_eq(&known.who, who)) {
            self.known.remove(&(epoch, member));
        }
    }

    /// Somebody moves, and is noted as moved if that is wanted.
    pub(super) fn mover(&mut self, epoch: u32, member: MemberId, filter: &Filter, at_ms: u64) -> Mover {
        let Some(known) = self.known.get_mut(&(epoch, member)) else { return Mover::Unknown };
        if !known.is_wanted {
            return Mover::Unwanted;
        }
        let part = filter.part_of_time(at_ms);
        if part.is_some() && part == known.part_of_time {
            return Mover::Unwanted;
        }
        known.part_of_time = part;
        Mover::Wanted(known.who.clone())
    }

    fn insert(&mut self, member: MemberId, who: Arc<Who>, filter: &Filter) {
        let is_wanted = filter.wants_user(&who.user_id);
        let known = Known { who, is_in: true, is_wanted, part_of_time: None };
        self.known.insert((self.epoch, member), known);
    }
}
