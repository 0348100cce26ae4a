//! What a room has to do to stand as everything stood in a recording.

use std::sync::Arc;

use engine::User;
use engine::ports::StoredObject;
use engine::room::Step;
use protocol::attachments::placeholders_valid;
use protocol::event::object_id;
use protocol::limits::MAX_ATTACHMENTS;
use protocol::members::json_string;
use protocol::{Members, Outgoing};
use replay::world::{self, Member, Object};
use replay::{Action, MemberId, Moment, What, World};
use serde::de::IgnoredAny;

/// Members of a `user` that are no part of what it says of itself. Where it stands is not among its members here.
const NOT_PROFILE: [&str; 4] = ["id", "socketId", "username", "slot"];

/// Keeps a viewer that is in the recording itself from being taken for its own ghost: to a client, whatever has its own
/// socketId is itself.
#[derive(Debug, Clone)]
pub(super) struct Disguise {
    viewer: Arc<str>,
}

impl Disguise {
    /// For the viewer with this socketId.
    pub(super) fn of(viewer: &Arc<str>) -> Self {
        Self { viewer: viewer.clone() }
    }

    fn socket_id(&self, of: &Arc<str>) -> Arc<str> {
        if *of == self.viewer { format!("past-{of}").into() } else { of.clone() }
    }

    /// The message with its sender disguised. `None` if it is no message.
    fn message(&self, message: &str) -> Option<String> {
        let own = json_string(&self.viewer);
        if !message.contains(own.get()) {
            return serde_json::from_str::<IgnoredAny>(message).ok().map(|_| message.to_owned());
        }
        let mut members: Members = serde_json::from_str(message).ok()?;
        if members.value("socketId").is_some_and(|id| id.get() == own.get()) {
            members.set("socketId", json_string(&self.socket_id(&self.viewer)));
        }
        serde_json::to_string(&members).ok()
    }
}

/// What leads a room that stands like `old` to where it stands like `new`.
pub(super) fn between(old: &World, new: &World, disguise: &Disguise) -> Vec<Step> {
    let steps = world::difference(old, new).into_iter();
    steps.filter_map(|step| of_difference(step, new, disguise)).collect()
}

fn of_difference(step: world::Step, new: &World, disguise: &Disguise) -> Option<Step> {
    Some(match step {
        world::Step::Leave { member, .. } => Step::Leave(member),
        world::Step::Join { member, .. } => enter(member, new, disguise)?,
        world::Step::UserUpdate { member, update, .. } => Step::UserUpdate(member, changes(&update)?),
        world::Step::Move { member, pose, .. } => Step::Move(member, pose),
        world::Step::ObjectDelete { id } => delete(&id)?,
        world::Step::ObjectCreate { id, .. } => {
            let object = new.objects().get(&id)?;
            // With its version and its owner, as in the list that one finds on coming.
            let packet = Outgoing::event_raw("object-created", &object.to_json());
            Step::PutObject { object: stored(object)?, packet }
        }
        world::Step::ObjectUpdate { id, update } => {
            let object = stored(new.objects().get(&id)?)?;
            Step::PutObject { object, packet: Outgoing::event_raw("object-updated", &update) }
        }
    })
}

/// What a room has to do for a moment, after which everything stands like `world`. Nothing for what cannot be read, and
/// for moves, of which only the newest counts.
pub(super) fn of_moment(moment: &Moment, world: &World, disguise: &Disguise) -> Option<Step> {
    let What::Event { member, action, .. } = &moment.what else { return None };
    Some(match action {
        Action::Join { .. } => enter(*member, world, disguise)?,
        Action::Leave => Step::Leave(*member),
        Action::UserUpdate { update } => Step::UserUpdate(*member, changes(update)?),
        Action::ObjectCreate { object, .. } => put(object, "object-created", world)?,
        Action::ObjectUpdate { update } => put(update, "object-updated", world)?,
        Action::ObjectDelete { id } => delete(id)?,
        Action::Message { message, attachments } => {
            // A client drops its connection at a text that is no JSON, and at attachments that do not fit it.
            let message = disguise.message(message)?;
            if attachments.len() > MAX_ATTACHMENTS || !placeholders_valid(&message, attachments.len()) {
                return None;
            }
            Step::Tell(Outgoing::binary_event_raw("room-message", &message, attachments.clone()))
        }
    })
}

fn enter(ghost: MemberId, world: &World, disguise: &Disguise) -> Option<Step> {
    let Member { who, user, pose } = world.members().get(&ghost)?;
    let username = user.value("username").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let mut profile = user.clone();
    for name in NOT_PROFILE {
        profile.remove(name);
    }
    let user = User {
        id: who.user_id.clone(),
        socket_id: disguise.socket_id(&who.socket_id),
        username: username.unwrap_or_default().into(),
    };
    Some(Step::Enter { ghost, user, profile, pose: *pose })
}

/// What is changed by a `user-updated`.
fn changes(update: &str) -> Option<Members> {
    let mut changes: Members = serde_json::from_str(update).ok()?;
    changes.remove("id");
    changes.remove("socketId");
    Some(changes)
}

/// The object that `payload` is about, as it is now, told as it was told then.
fn put(payload: &str, event: &str, world: &World) -> Option<Step> {
    let members: Members = serde_json::from_str(payload).ok()?;
    let object = stored(world.objects().get(members.value("id")?.get())?)?;
    Some(Step::PutObject { object, packet: Outgoing::event_raw(event, payload) })
}

fn stored(object: &Object) -> Option<StoredObject> {
    let id = object_id(&object.members).ok()??;
    let json = serde_json::to_string(&object.members).ok()?;
    Some(StoredObject { id, version: object.version, owner: object.owner.to_string(), json })
}

/// An object of this id, which is JSON, is gone.
fn delete(id: &str) -> Option<Step> {
    let payload = format!("{{\"id\":{id}}}");
    let id = object_id(&serde_json::from_str(&payload).ok()?).ok()??;
    Some(Step::DeleteObject { id, packet: Outgoing::event_raw("object-deleted", &payload) })
}

#[cfg(test)]
mod tests {
    use replay::Who;
    use serde_json::Value;

    use super::*;

    fn moment(action: Action) -> Moment {
        let what = What::Event { member: MemberId(1), who: Arc::new(Who::new("u", "mine")), action };
        Moment { at_ms: 1, what }
    }

    fn play(world: &mut World, action: Action, viewer: &str) -> Option<Step> {
        let moment = moment(action);
        world.apply(&moment);
        of_moment(&moment, world, &Disguise::of(&viewer.into()))
    }

    #[test]
    fn who_was_there_itself_is_not_taken_for_its_ghost() {
        for (viewer, seen) in [("mine", "past-mine"), ("another", "mine")] {
            let mut world = World::default();
            let user = r#"{"id":"u","socketId":"mine","username":"Ada","hat":true,"slot":7,"position":{"x":1,"y":2,"z":3}}"#;
            let Some(Step::Enter { user, profile, pose, .. }) =
                play(&mut world, Action::Join { user: user.into() }, viewer)
            else {
                panic!("nobody comes")
            };
            assert_eq!((&*user.id, &*user.socket_id, &*user.username), ("u", seen, "Ada"));
            assert_eq!(serde_json::to_string(&profile).unwrap(), r#"{"hat":true}"#);
            assert_eq!(pose.head.position, [1.0, 2.0, 3.0]);
            let message = r#"{"type":"x","data":{"socketId":"mine"},"from":"u","socketId":"mine"}"#;
            let action = Action::Message { message: message.into(), attachments: Vec::new() };
            let Some(Step::Tell(packet)) = play(&mut world, action, viewer) else {
                panic!("nothing is said")
            };
            let told: Value = serde_json::from_str(&packet.text()[1..]).unwrap();
            assert_eq!((&told[1]["socketId"], &told[1]["data"]["socketId"]), (&seen.into(), &"mine".into()));
        }
    }

    #[test]
    fn what_no_client_could_read_is_left_out() {
        let mut world = World::default();
        let said = |message: &str, attachments| Action::Message { message: message.into(), attachments };
        for action in [
            Action::Join { user: "{}".into() },
            Action::ObjectCreate { object: "[".into(), version: 1 },
            Action::ObjectCreate { object: r#"{"id":{}}"#.into(), version: 1 },
            Action::ObjectUpdate { update: r#"{"id":"nowhere","version":2}"#.into() },
            Action::ObjectDelete { id: "\"".into() },
            Action::UserUpdate { update: "x".into() },
            said("{", Vec::new()),
            said(r#"{"data":{"_placeholder":true,"num":1}}"#, vec![bytes::Bytes::new()]),
            said("{}", vec![bytes::Bytes::new(); MAX_ATTACHMENTS + 1]),
        ] {
            let step = play(&mut world, action.clone(), "viewer");
            assert!(step.is_none(), "{action:?}: {step:?}");
        }
    }
}
