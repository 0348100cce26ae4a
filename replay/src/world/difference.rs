//! What leads from one state to another.

use std::sync::Arc;

use protocol::members::json_number;
use protocol::{Members, Pose};

use super::{Member, Object, World, members_json};
use crate::{MemberId, Who};

/// One thing that whoever has seen the old state is told, so that it sees the new one.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Somebody is not in any more.
    Leave {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
    },
    /// Somebody is in.
    Join {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
        /// The `user` of the contract, its pose included.
        user: String,
        /// The pose.
        pose: Pose,
    },
    /// Somebody calls itself something else, or has said more of itself.
    UserUpdate {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
        /// `{id, socketId, …changed members}`
        update: String,
    },
    /// Somebody is elsewhere.
    Move {
        /// Who, in the room.
        member: MemberId,
        /// Who, by name.
        who: Arc<Who>,
        /// Where.
        pose: Pose,
    },
    /// Something stands there no more.
    ObjectDelete {
        /// Its id, JSON.
        id: String,
    },
    /// Something stands there.
    ObjectCreate {
        /// Its id, JSON.
        id: String,
        /// The object.
        object: String,
        /// Its version.
        version: u64,
        /// The id of the user who created it.
        owner: Arc<str>,
    },
    /// Something has changed.
    ObjectUpdate {
        /// Its id, JSON.
        id: String,
        /// `{id, version, …changed members}`
        update: String,
    },
}

/// The steps from `old` to `new`: first whoever and whatever is gone, then who has come or changed, then objects.
pub fn difference(old: &World, new: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, object) in &old.members {
        if !new.members.get(id).is_some_and(|other| is_same_user(object, other)) {
            steps.push(Step::Leave { member: *id, who: object.who.clone() });
        }
    }
    for (id, object) in &old.objects {
        if !new.objects.get(id).is_some_and(|other| can_become(object, other)) {
            steps.push(Step::ObjectDelete { id: id.clone() });
        }
    }
    for (id, member) in &new.members {
        match old.members.get(id).filter(|before| is_same_user(before, member)) {
            Some(before) => change_member(*id, before, member, &mut steps),
            None => steps.push(Step::Join {
                member: *id,
                who: member.who.clone(),
                user: member.to_json(),
                pose: member.pose,
            }),
        }
    }
    for (id, object) in &new.objects {
        match old.objects.get(id).filter(|before| can_become(before, object)) {
            Some(before) => change_object(id, before, object, &mut steps),
            None => steps.push(Step::ObjectCreate {
                id: id.clone(),
                object: members_json(&object.members),
                version: object.version,
                owner: object.owner.clone(),
            }),
        }
    }
    steps
}

/// Members are numbered anew when a process opens a room.
fn is_same_user(a: &Member, b: &Member) -> bool {
    // An update cannot take anything away.
    a.who == b.who && has_all_names(&b.user, &a.user)
}

fn can_become(old: &Object, new: &Object) -> bool {
    old.owner == new.owner && has_all_names(&new.members, &old.members)
}

fn has_all_names(members: &Members, names: &Members) -> bool {
    names.iter().all(|(name, _)| members.value(name).is_some())
}

fn change_member(id: MemberId, old: &Member, new: &Member, steps: &mut Vec<Step>) {
    let who = &new.who;
    if let Some(mut update) = changed(&old.user, &new.user) {
        for name in ["socketId", "id"] {
            put_first(name, &new.user, &mut update);
        }
        steps.push(Step::UserUpdate { member: id, who: who.clone(), update: members_json(&update) });
    }
    if old.pose != new.pose {
        steps.push(Step::Move { member: id, who: who.clone(), pose: new.pose });
    }
}

fn change_object(id: &str, old: &Object, new: &Object, steps: &mut Vec<Step>) {
    let update = changed(&old.members, &new.members);
    if update.is_none() && old.version == new.version {
        return;
    }
    let mut version = Members::default();
    version.set("version", json_number(new.version));
    let mut update = update.unwrap_or_default();
    put_first("version", &version, &mut update);
    put_first("id", &new.members, &mut update);
    steps.push(Step::ObjectUpdate { id: id.to_owned(), update: members_json(&update) });
}

/// The members of `new` that are not so in `old`; `None` if there is none.
fn changed(old: &Members, new: &Members) -> Option<Members> {
    let mut update = Members::default();
    for (name, value) in new.iter() {
        if old.value(name).is_none_or(|before| before.get() != value.get()) {
            update.set(name, value.to_owned());
        }
    }
    (!update.is_empty()).then_some(update)
}

/// Puts the member `name` of `from` in front of `members`.
fn put_first(name: &str, from: &Members, members: &mut Members) {
    let Some(value) = from.value(name) else { return };
    let mut first = Members::default();
    first.set(name, value.to_owned());
    first.merge(members);
    *members = first;
}
