//! How everything stands at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::members::json_number;
use protocol::{Members, Pose};
use serde::Deserialize;

use crate::codec::Damaged;
use crate::json::write_pose;
use crate::{Action, Keyframe, MemberId, Moment, What, Who};

mod difference;

pub use difference::{Step, difference};

/// Who is in and what stands there.
#[derive(Debug, Clone, Default)]
pub struct World {
    members: BTreeMap<MemberId, Member>,
    objects: BTreeMap<String, Object>,
}

/// Somebody who is in.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its names.
    pub who: Arc<Who>,
    /// Its `user` of the contract without the pose.
    pub user: Members,
    /// Where it is.
    pub pose: Pose,
}

/// Something that stands there.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its members, without `version` and `owner`.
    pub members: Members,
    /// Its version.
    pub version: u64,
    /// The id of the user who created it.
    pub owner: Arc<str>,
}

impl World {
    /// The world of a keyframe. `objects` is the array that it has, or that the keyframe has in which they are
    /// [unchanged since](crate::Objects::UnchangedSince).
    ///
    /// # Errors
    /// When it is not JSON of the contract's form.
    pub fn from_keyframe(keyframe: &Keyframe, objects: &str) -> Result<Self, Damaged> {
        let mut world = Self::default();
        for (member, user) in &keyframe.members {
            world.members.insert(*member, Member::from_json(user).ok_or(Damaged)?);
        }
        world.objects = read_objects(objects).ok_or(Damaged)?;
        Ok(world)
    }

    /// Who is in, in the order of their numbers.
    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// What stands there, by id (JSON, a string or a number).
    pub fn objects(&self) -> &BTreeMap<String, Object> {
        &self.objects
    }

    /// What happens is so from now on. What does not fit, because something before it was lost, changes nothing.
    pub fn apply(&mut self, moment: &Moment) {
        match &moment.what {
            What::Move { member, pose, .. } => {
                if let Some(member) = self.members.get_mut(member) {
                    member.pose = *pose;
                }
            }
            What::Event { member, who, action } => self.act(*member, who, action),
            What::Objects(objects) => {
                if let Some(objects) = read_objects(objects) {
                    self.objects = objects;
                }
            }
            What::Gap => {}
        }
    }

    fn act(&mut self, member: MemberId, who: &Arc<Who>, action: &Action) {
        match action {
            Action::Join { user } => {
                if let Some(user) = Member::from_json(user) {
                    self.members.insert(member, Member { who: who.clone(), ..user });
                }
            }
            Action::Leave => {
                self.members.remove(&member);
            }
            Action::ObjectCreate { object, version } => {
                let Ok(members) = serde_json::from_str::<Members>(object) else { return };
                let owner = who.user_id.clone();
                if let Some(id) = members.value("id").map(|id| id.get().to_owned()) {
                    self.objects.insert(id, Object { members, version: *version, owner });
                }
            }
            Action::ObjectUpdate { update } => self.update_object(update),
            Action::ObjectDelete { id } => {
                self.objects.remove(id);
            }
            Action::UserUpdate { update } => {
                let Ok(changes) = serde_json::from_str::<Members>(update) else { return };
                if let Some(member) = self.members.get_mut(&member) {
                    member.user.merge(&changes);
                }
            }
            Action::Message { .. } => {}
        }
    }

    fn update_object(&mut self, update: &str) {
        let Ok(mut changes) = serde_json::from_str::<Members>(update) else { return };
        let Some(object) = changes.value("id").and_then(|id| self.objects.get_mut(id.get())) else { return };
        let version = changes.remove("version").and_then(|version| version.get().parse().ok());
        object.version = version.unwrap_or(object.version + 1);
        object.members.merge(&changes);
    }
}

impl Member {
    /// Reads a `user` of the contract.
    fn from_json(user: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Names {
            id: String,
            #[serde(rename = "socketId")]
            socket_id: String,
        }
        let Names { id, socket_id } = serde_json::from_str(user).ok()?;
        let pose = Pose::from_json(user).unwrap_or(Pose::INITIAL);
        let mut user: Members = serde_json::from_str(user).ok()?;
        for name in ["position", "rotation", "leftHand", "rightHand"] {
            user.remove(name);
        }
        Some(Self { who: Arc::new(Who::new(&id, &socket_id)), user, pose })
    }

    /// The `user` of the contract, pose included, as JSON.
    pub fn to_json(&self) -> String {
        let mut out = members_json(&self.user).into_bytes();
        out.pop();
        if !self.user.is_empty() {
            out.push(b',');
        }
        write_pose(&self.pose, &mut out);
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Object {
    /// Reads an object of `room-objects`.
    fn from_listed(mut members: Members) -> Option<(String, Self)> {
        let version = members.remove("version")?.get().parse().ok()?;
        let owner: String = serde_json::from_str(members.remove("owner")?.get()).ok()?;
        let id = members.value("id")?.get().to_owned();
        Some((id, Self { members, version, owner: owner.into() }))
    }

    /// The object as `room-objects` shows it.
    pub fn to_json(&self) -> String {
        let mut members = self.members.clone();
        members.set("version", json_number(self.version));
        members.set("owner", protocol::members::json_string(&self.owner));
        members_json(&members)
    }
}

/// Reads the array of `room-objects`.
fn read_objects(objects: &str) -> Option<BTreeMap<String, Object>> {
    let objects: Vec<Members> = serde_json::from_str(objects).ok()?;
    objects.into_iter().map(Object::from_listed).collect()
}

fn members_json(members: &Members) -> String {
    // It is made of JSON texts and names, which always can be written.
    serde_json::to_string(members).unwrap_or_default()
}
