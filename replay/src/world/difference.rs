//! What leads from one state to another.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::members::json_string;
use protocol::{Members, Pose};
use serde_json::value::RawValue;

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
fn is_same_user(old: &Member, new: &Member) -> bool {
    old.who == new.who && has_all_names(&new.user, &old.user)
}

fn can_become(old: &Object, new: &Object) -> bool {
    old.owner == new.owner && has_all_names(&new.members, &old.members)
}

/// An update cannot take a name away.
fn has_all_names(members: &Members, names: &Members) -> bool {
    let members = by_name(members);
    names.iter().all(|(name, _)| members.contains_key(name))
}

/// A search per name would let two objects of thousands of names cost their product.
fn by_name(members: &Members) -> HashMap<&str, &RawValue> {
    members.iter().collect()
}

fn change_member(id: MemberId, old: &Member, new: &Member, steps: &mut Vec<Step>) {
    let who = &new.who;
    let changed = changed(&old.user, &new.user);
    if !changed.is_empty() {
        let names = [("id", &*who.user_json), ("socketId", &*who.socket_json)];
        steps.push(Step::UserUpdate { member: id, who: who.clone(), update: update_json(&names, &changed) });
    }
    if old.pose != new.pose {
        steps.push(Step::Move { member: id, who: who.clone(), pose: new.pose });
    }
}

fn change_object(id: &str, old: &Object, new: &Object, steps: &mut Vec<Step>) {
    let changed = changed(&old.members, &new.members);
    if !changed.is_empty() || old.version != new.version {
        let names = [("id", id), ("version", &new.version.to_string())];
        steps.push(Step::ObjectUpdate { id: id.to_owned(), update: update_json(&names, &changed) });
    }
}

/// The members of `new` that are not so in `old`.
fn changed<'a>(old: &Members, new: &'a Members) -> Vec<(&'a str, &'a RawValue)> {
    let old = by_name(old);
    let is_other =
        |(name, value): &(&str, &RawValue)| old.get(name).is_none_or(|before| before.get() != value.get());
    new.iter().filter(is_other).collect()
}

/// One object of `first`, whose values are JSON, and `changed`.
fn update_json(first: &[(&str, &str)], changed: &[(&str, &RawValue)]) -> String {
    let first = first.iter().copied();
    let all = first.chain(changed.iter().map(|(name, value)| (*name, value.get())));
    let members: Vec<String> =
        all.map(|(name, value)| format!("{}:{value}", json_string(name).get())).collect();
    format!("{{{}}}", members.join(","))
}
