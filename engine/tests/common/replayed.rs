//! A recording as a reader takes it in: from its keyframes, its events and its samples, how everything stood.

use std::collections::BTreeMap;

use protocol::Pose;
use replay::{Action, Content, Event, Keyframe, MemberId, Objects, PoseSamples, Record};
use serde_json::Value;

use super::poses::{POSE_MEMBERS, pose_json, pose_of};

/// A member as the recording has it.
#[derive(Debug, Clone)]
pub(crate) struct Stay {
    /// Its `user`, with its newest pose.
    pub(crate) user: Value,
    /// Since when it has been there, Unix ms.
    pub(crate) since_ms: u64,
}

/// How everything stands as far as has been read.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) members: BTreeMap<MemberId, Stay>,
    /// As `room-objects` has them, by id.
    pub(crate) objects: BTreeMap<String, Value>,
    /// The last keyframe that has all objects, and what they were.
    all: Option<(u64, BTreeMap<String, Value>)>,
    pub(crate) keyframes: usize,
    pub(crate) messages: Vec<Value>,
    last_instant_ms: u64,
}

impl Replayed {
    pub(crate) fn read(&mut self, record: &Record) {
        match &record.content {
            Content::Event(event) => self.event(record.at_ms, event),
            Content::Keyframe(keyframe) => self.keyframe(record.at_ms, keyframe),
            Content::Poses(samples) => self.poses(record.at_ms, samples, |_, _| {}),
        }
    }

    /// Reads samples, and lets `look` see how everything stands after each instant.
    pub(crate) fn poses(&mut self, at_ms: u64, samples: &PoseSamples, mut look: impl FnMut(u64, &Self)) {
        assert!(!samples.samples.is_empty(), "a chunk of nothing");
        assert!(samples.samples.is_sorted_by_key(|sample| sample.instant));
        let (first, last) = (samples.instants_ms[0], *samples.instants_ms.last().unwrap());
        assert!(last <= at_ms && last - first <= 1_000, "{samples:?} at {at_ms}");
        for (index, &instant_ms) in samples.instants_ms.iter().enumerate() {
            assert!(instant_ms > self.last_instant_ms, "{instant_ms} after {}", self.last_instant_ms);
            self.last_instant_ms = instant_ms;
            let of_instant = samples.samples.iter().filter(|sample| usize::from(sample.instant) == index);
            assert!(of_instant.clone().count() > 0, "an instant of nothing");
            for sample in of_instant {
                // Of who has left since, or left and come back, the sample tells what was before.
                if let Some(stay) = self.members.get_mut(&sample.member)
                    && stay.since_ms <= instant_ms
                {
                    stay.show(&sample.pose);
                }
            }
            look(instant_ms, self);
        }
    }

    fn keyframe(&mut self, at_ms: u64, keyframe: &Keyframe) {
        let is_first = self.keyframes == 0;
        assert!(keyframe.opens || !is_first, "the first opens");
        assert!(!keyframe.opens || self.members.is_empty(), "another that opens finds nobody there");
        self.keyframes += 1;
        let members: Vec<(MemberId, Value)> = keyframe
            .members
            .iter()
            .map(|(member, user)| (*member, serde_json::from_str(user).unwrap()))
            .collect();
        match &keyframe.objects {
            Objects::All(all) => {
                let all: Vec<Value> = serde_json::from_str(all).unwrap();
                let all: BTreeMap<_, _> =
                    all.into_iter().map(|object| (text(&object["id"]), object)).collect();
                assert!(is_first || all == self.objects, "{all:?} where {:?} was", self.objects);
                self.objects = all.clone();
                self.all = Some((at_ms, all));
            }
            Objects::UnchangedSince(since_ms) => {
                let (all_ms, all) = self.all.as_ref().unwrap();
                assert_eq!((all_ms, all), (since_ms, &self.objects), "the same as then");
            }
        }
        if !keyframe.opens {
            let still = |user: &Value| {
                let mut user = user.clone();
                POSE_MEMBERS.iter().for_each(|name| drop(user.as_object_mut().unwrap().remove(*name)));
                user
            };
            let told: BTreeMap<_, _> = members.iter().map(|(member, user)| (*member, still(user))).collect();
            let known: BTreeMap<_, _> =
                self.members.iter().map(|(member, stay)| (*member, still(&stay.user))).collect();
            assert_eq!(told, known, "who is in");
        }
        for (member, user) in members {
            let since_ms = self.members.get(&member).map_or(at_ms, |stay| stay.since_ms);
            self.members.insert(member, Stay { user, since_ms });
        }
    }

    fn event(&mut self, at_ms: u64, event: &Event) {
        assert!(self.keyframes > 0, "nothing before the keyframe that opens");
        let parse = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        match &event.action {
            Action::Join { user } => {
                let user = parse(user);
                assert_eq!(
                    (&user["id"], &user["socketId"]),
                    (&(&*event.user_id).into(), &(&*event.socket_id).into())
                );
                let before = self.members.insert(event.member, Stay { user, since_ms: at_ms });
                assert!(before.is_none(), "{event:?} of one who is in");
            }
            Action::Leave => {
                self.members.remove(&event.member).expect("who leaves was in");
            }
            Action::ObjectCreate { object, version } => {
                let mut object = parse(object);
                object["version"] = (*version).into();
                object["owner"] = (&*event.user_id).into();
                self.objects.insert(text(&object["id"]), object);
            }
            Action::ObjectUpdate { update } => {
                let update = parse(update);
                let object = self.objects.get_mut(&text(&update["id"])).expect("what changes is there");
                let owner = object["owner"].clone();
                merge(object, &update);
                object["owner"] = owner;
            }
            Action::ObjectDelete { id } => {
                self.objects.remove(&text(&parse(id))).expect("what goes was there");
            }
            Action::UserUpdate { update } => {
                merge(&mut self.members.get_mut(&event.member).expect("is in").user, &parse(update));
            }
            Action::Message { message, .. } => self.messages.push(parse(message)),
        }
    }
}

impl Stay {
    pub(crate) fn pose(&self) -> Value {
        pose_of(&self.user)
    }

    fn show(&mut self, pose: &Pose) {
        let user = self.user.as_object_mut().unwrap();
        POSE_MEMBERS.iter().for_each(|name| drop(user.remove(*name)));
        merge(&mut self.user, &pose_json(pose));
    }
}

fn merge(object: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        object[name] = value.clone();
    }
}

fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), ToOwned::to_owned)
}
