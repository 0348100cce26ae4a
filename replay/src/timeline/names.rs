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
        if let Some(known) = self.known.get_mut(&(self.epoch, member)) {
            known.is_in = is_in;
            return known.who.clone();
        }
        let who = Arc::new(Who::new(user_id, socket_id));
        if is_in {
            self.insert(member, who.clone(), filter);
        }
        who
    }

    /// A keyframe says that a member is in, with its `user`. Gives it if that was not known.
    pub(super) fn enter(&mut self, member: MemberId, user: &str, filter: &Filter) -> Option<Arc<Who>> {
        if self.known.get(&(self.epoch, member)).is_some_and(|known| known.is_in) {
            return None;
        }
        let User { id, socket_id } = serde_json::from_str(user).ok()?;
        let who = Arc::new(Who::new(&id, &socket_id));
        self.insert(member, who.clone(), filter);
        Some(who)
    }

    /// Notes a keyframe. Whether it follows another, so that whoever is new in it has joined since.
    pub(super) fn keyframe(&mut self, opens: bool) -> bool {
        if opens {
            self.epoch += 1;
        }
        std::mem::replace(&mut self.is_complete, true) && !opens
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
    pub(super) fn forget(&mut self, epoch: u32, member: MemberId) {
        self.known.remove(&(epoch, member));
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
