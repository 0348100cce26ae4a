//! How everything stands at a moment of a recording, and what a room has to do to stand so.

use std::collections::BTreeMap;

use engine::User;
use engine::ports::StoredObject;
use engine::room::Step;
use protocol::attachments::placeholders_valid;
use protocol::event::object_id;
use protocol::limits::MAX_ATTACHMENTS;
use protocol::members::{json_number, json_string};
use protocol::{Members, Outgoing, Pose};
use replay::{Action, Keyframe, MemberId, Moment, What, Who};
use serde::de::IgnoredAny;

/// Members of a `user` that are no part of what it says of itself.
const NOT_PROFILE: [&str; 8] =
    ["id", "socketId", "username", "slot", "position", "rotation", "leftHand", "rightHand"];

/// Who is in, and what stands there.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    people: BTreeMap<MemberId, Person>,
    things: BTreeMap<String, Thing>,
}

#[derive(Debug, Clone)]
struct Person {
    user: User,
    profile: Members,
    pose: Pose,
}

#[derive(Debug, Clone)]
struct Thing {
    version: u64,
    owner: String,
    members: Members,
}

/// What a moment means for a room that stands as everything stood before it.
#[derive(Debug)]
pub(super) enum Shown {
    Move(MemberId, Pose),
    Steps(Vec<Step>),
}

/// Keeps a viewer that is in the recording itself from being taken for its own ghost: to a client, whatever has its own
/// socketId is itself.
#[derive(Debug, Clone)]
pub(super) struct Disguise {
    viewer: std::sync::Arc<str>,
}

impl Disguise {
    /// For the viewer with this socketId.
    pub(super) fn of(viewer: &std::sync::Arc<str>) -> Self {
        Self { viewer: viewer.clone() }
    }

    fn socket_id(&self) -> String {
        format!("past-{}", self.viewer)
    }

    fn user(&self, user: &User) -> User {
        if user.socket_id != self.viewer {
            return user.clone();
        }
        User { socket_id: self.socket_id().into(), ..user.clone() }
    }

    fn message(&self, message: &str) -> Option<String> {
        let mut members: Members = serde_json::from_str(message).ok()?;
        let own = json_string(&self.viewer);
        if members.value("socketId").is_some_and(|id| id.get() == own.get()) {
            members.set("socketId", json_string(&self.socket_id()));
        }
        serde_json::to_string(&members).ok()
    }
}

impl Scene {
    /// As a keyframe says, with these objects, a JSON array. What cannot be read is left out.
    pub(super) fn from_keyframe(keyframe: &Keyframe, objects: &str) -> Self {
        let person = |(member, user): &(MemberId, String)| Some((*member, Person::read(user)?));
        let things: Vec<Members> = serde_json::from_str(objects).unwrap_or_default();
        Self {
            people: keyframe.members.iter().filter_map(person).collect(),
            things: things.into_iter().filter_map(Thing::listed).collect(),
        }
    }

    /// Lets a moment happen.
    pub(super) fn apply(&mut self, moment: &Moment) {
        match &moment.what {
            What::Move { member, pose, .. } => self.move_to(*member, pose),
            What::Event { member, who, action } => self.act(*member, who, action),
            What::Gap => {}
        }
    }

    /// Lets a moment happen, and says what a room has to do for it.
    pub(super) fn play(&mut self, moment: &Moment, disguise: &Disguise) -> Shown {
        self.apply(moment);
        match &moment.what {
            What::Move { member, pose, .. } => Shown::Move(*member, *pose),
            What::Event { member, action, .. } => {
                Shown::Steps(self.step(*member, action, disguise).into_iter().collect())
            }
            What::Gap => Shown::Steps(Vec::new()),
        }
    }

    fn move_to(&mut self, member: MemberId, pose: &Pose) {
        if let Some(person) = self.people.get_mut(&member) {
            person.pose = *pose;
        }
    }

    fn act(&mut self, member: MemberId, who: &Who, action: &Action) {
        match action {
            Action::Join { user } => {
                if let Some(person) = Person::read(user) {
                    self.people.insert(member, person);
                }
            }
            Action::Leave => {
                self.people.remove(&member);
            }
            Action::UserUpdate { update } => {
                if let (Some(person), Some(changes)) = (self.people.get_mut(&member), changes(update)) {
                    person.update(&changes);
                }
            }
            Action::ObjectCreate { object, version } => {
                if let Some((id, members)) = read_object(object) {
                    let owner = who.user_id.to_string();
                    self.things.insert(id, Thing { version: *version, owner, members });
                }
            }
            Action::ObjectUpdate { update } => {
                let Some((id, mut changes)) = read_object(update) else { return };
                let Some(thing) = self.things.get_mut(&id) else { return };
                changes.remove("id");
                if let Some(version) = changes.remove("version") {
                    thing.version = serde_json::from_str(version.get()).unwrap_or(thing.version);
                }
                thing.members.merge(&changes);
            }
            Action::ObjectDelete { id } => {
                if let Some((id, _)) = read_object(&deleted(id)) {
                    self.things.remove(&id);
                }
            }
            Action::Message { .. } => {}
        }
    }

    /// What a room has to do for an action that has happened here.
    fn step(&self, member: MemberId, action: &Action, disguise: &Disguise) -> Option<Step> {
        Some(match action {
            Action::Join { .. } => self.people.get(&member)?.enter(member, disguise),
            Action::Leave => Step::Leave(member),
            Action::UserUpdate { update } => Step::UserUpdate(member, changes(update)?),
            Action::ObjectCreate { object, .. } => self.put(object, "object-created")?,
            Action::ObjectUpdate { update } => self.put(update, "object-updated")?,
            Action::ObjectDelete { id } => {
                let payload = deleted(id);
                let (id, _) = read_object(&payload)?;
                Step::DeleteObject { id, packet: Outgoing::event_raw("object-deleted", &payload) }
            }
            Action::Message { message, attachments } => {
                // A client drops its connection at a text that is no JSON, and at attachments that do not fit it.
                let is_good = serde_json::from_str::<IgnoredAny>(message).is_ok()
                    && attachments.len() <= MAX_ATTACHMENTS
                    && placeholders_valid(message, attachments.len());
                let message = is_good.then(|| disguise.message(message))??;
                Step::Tell(Outgoing::binary_event_raw("room-message", &message, attachments.clone()))
            }
        })
    }

    /// The object that `payload` is about, as it is now, told as it was told.
    fn put(&self, payload: &str, event: &str) -> Option<Step> {
        let (id, _) = read_object(payload)?;
        let object = self.things.get(&id)?.stored(&id);
        Some(Step::PutObject { object, packet: Outgoing::event_raw(event, payload) })
    }

    /// What leads a room that stands like this to where it stands like `other`.
    pub(super) fn steps_to(&self, other: &Self, disguise: &Disguise) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut staying = Vec::new();
        for (member, person) in &self.people {
            match other.people.get(member).filter(|other| person.becomes(other)) {
                Some(other) => staying.push((*member, person, other)),
                None => steps.push(Step::Leave(*member)),
            }
        }
        for (member, person) in &other.people {
            if !self.people.get(member).is_some_and(|old| old.becomes(person)) {
                steps.push(person.enter(*member, disguise));
            }
        }
        for (member, person, other) in staying {
            let changes = other.said_beyond(person);
            if !changes.is_empty() {
                steps.push(Step::UserUpdate(member, changes));
            }
            if person.pose != other.pose {
                steps.push(Step::Move(member, other.pose));
            }
        }
        self.things_to(other, &mut steps);
        steps
    }

    fn things_to(&self, other: &Self, steps: &mut Vec<Step>) {
        for (id, thing) in &self.things {
            if !other.things.get(id).is_some_and(|other| thing.becomes(other)) {
                let payload = deleted(thing.shown_id(id).get());
                let packet = Outgoing::event_raw("object-deleted", &payload);
                steps.push(Step::DeleteObject { id: id.clone(), packet });
            }
        }
        for (id, thing) in &other.things {
            let packet = match self.things.get(id).filter(|old| old.becomes(thing)) {
                Some(old) if old.is(thing) => continue,
                Some(old) => Outgoing::event("object-updated", &thing.beyond(old, id)),
                // With its version and its owner, as in the list that one finds when one comes.
                None => Outgoing::event("object-created", &thing.whole()),
            };
            steps.push(Step::PutObject { object: thing.stored(id), packet });
        }
    }
}

impl Person {
    /// Reads one `user` of the contract.
    fn read(user: &str) -> Option<Self> {
        let mut profile: Members = serde_json::from_str(user).ok()?;
        let text = |name: &str| {
            profile.value(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok())
        };
        let user_id = text("id")?;
        let socket_id = text("socketId")?;
        let username = text("username").unwrap_or_default();
        for name in NOT_PROFILE {
            profile.remove(name);
        }
        Some(Self {
            user: User { id: user_id.into(), socket_id: socket_id.into(), username: username.into() },
            profile,
            pose: Pose::from_json(user).unwrap_or(Pose::INITIAL),
        })
    }

    fn update(&mut self, changes: &Members) {
        self.profile.merge(changes);
        let name = self.profile.remove("username");
        if let Some(name) = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok()) {
            self.user.username = name.into();
        }
    }

    fn enter(&self, ghost: MemberId, disguise: &Disguise) -> Step {
        let Self { user, profile, pose } = self;
        Step::Enter { ghost, user: disguise.user(user), profile: profile.clone(), pose: *pose }
    }

    /// Whether this can become `other` without going and coming again: what has been said of oneself can be changed and
    /// not taken back.
    fn becomes(&self, other: &Self) -> bool {
        (&self.user.id, &self.user.socket_id) == (&other.user.id, &other.user.socket_id)
            && self.profile.iter().all(|(name, _)| other.profile.value(name).is_some())
    }

    /// What this says of itself and `other` does not.
    fn said_beyond(&self, other: &Self) -> Members {
        let mut changes = beyond(&self.profile, &other.profile);
        if self.user.username != other.user.username {
            changes.set("username", json_string(&self.user.username));
        }
        changes
    }
}

impl Thing {
    /// Reads one of `room-objects`.
    fn listed(mut members: Members) -> Option<(String, Self)> {
        let id = object_id(&members).ok()??;
        let version = members.remove("version")?;
        let owner = members.remove("owner")?;
        let version = serde_json::from_str(version.get()).ok()?;
        let owner = serde_json::from_str(owner.get()).ok()?;
        Some((id, Self { version, owner, members }))
    }

    fn stored(&self, id: &str) -> StoredObject {
        let json = serde_json::to_string(&self.members).expect("members are JSON texts under string keys");
        StoredObject { id: id.to_owned(), version: self.version, owner: self.owner.clone(), json }
    }

    /// The id as it is told: a string or a number.
    fn shown_id(&self, id: &str) -> Box<serde_json::value::RawValue> {
        self.members.value("id").map_or_else(|| json_string(id), ToOwned::to_owned)
    }

    /// Whether this can become `other` by an update: members can be changed and not taken away.
    fn becomes(&self, other: &Self) -> bool {
        self.owner == other.owner
            && self.members.iter().all(|(name, _)| other.members.value(name).is_some())
    }

    /// Whether this, which can become `other`, is `other` already.
    fn is(&self, other: &Self) -> bool {
        self.version == other.version && beyond(&other.members, &self.members).is_empty()
    }

    /// The update that makes this of `old`.
    fn beyond(&self, old: &Self, id: &str) -> Members {
        let mut update = Members::default();
        update.set("id", self.shown_id(id));
        update.set("version", json_number(self.version));
        update.merge(&beyond(&self.members, &old.members));
        update
    }

    /// As in `room-objects`.
    fn whole(&self) -> Members {
        let mut members = self.members.clone();
        members.set("version", json_number(self.version));
        members.set("owner", json_string(&self.owner));
        members
    }
}

/// The members of `new` that are not the same in `old`.
fn beyond(new: &Members, old: &Members) -> Members {
    let mut changes = Members::default();
    for (name, value) in new.iter() {
        if old.value(name).is_none_or(|before| before.get() != value.get()) {
            changes.set(name, value.to_owned());
        }
    }
    changes
}

/// What is changed by a `user-updated`.
fn changes(update: &str) -> Option<Members> {
    let mut changes: Members = serde_json::from_str(update).ok()?;
    changes.remove("id");
    changes.remove("socketId");
    Some(changes)
}

/// An object, or an update of one: which, and its members.
fn read_object(json: &str) -> Option<(String, Members)> {
    let members: Members = serde_json::from_str(json).ok()?;
    Some((object_id(&members).ok()??, members))
}

/// The payload of `object-deleted`; `id` is JSON.
fn deleted(id: &str) -> String {
    format!("{{\"id\":{id}}}")
}
