//! A recording as a script, the records that it makes, and how everything stands at any moment of it.

use std::collections::BTreeMap;

use protocol::{Part, Pose, Rotation};
use replay::{
    Action, Content, Event, Keyframe, MemberId, Objects, PoseSample, PoseSamples, Record, RecordId,
    StoredRecord, encode,
};
use serde_json::{Value, json};

/// When the recording begins, Unix ms: in the middle of an hour.
pub(crate) const BEGIN_MS: u64 = 1_699_999_200_000 + 1_800_000;
/// Between two samples of a pose.
const SAMPLE_MS: u64 = 100;
const CHUNK_MS: u64 = 1_000;
/// How much later than it happens something is written down.
const DELAY_MS: u64 = 7;

/// What happens, in the order of time.
pub(crate) struct Script {
    pub(crate) events: Vec<(u64, u64, Action)>,
    /// When it ends, in ms from its beginning.
    pub(crate) length_ms: u64,
    /// From when on everybody stands still.
    pub(crate) still_ms: u64,
    /// Between two keyframes.
    keyframe_ms: u64,
}

/// How everything stands at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Truth {
    /// By member's number: the `user` without slot and pose.
    pub(crate) users: BTreeMap<u64, Value>,
    /// By id: as in `room-objects`.
    pub(crate) objects: BTreeMap<String, Value>,
    /// By member's number.
    pub(crate) poses: BTreeMap<u64, Pose>,
}

pub(crate) fn socket_id(member: u64) -> String {
    format!("s{member}")
}

pub(crate) fn user_id(member: u64) -> String {
    format!("u{member}")
}

/// Where a member is at a sample: walking on a circle of its own, with a hand for every second one.
pub(crate) fn pose(member: u64, sample: u64) -> Pose {
    let angle = sample as f32 * 0.05 + member as f32;
    let radius = 2.0 + member as f32 * 0.7;
    let head = [radius * angle.cos(), 1.6 + 0.01 * angle.sin(), radius * angle.sin()];
    let turn = Rotation::Quaternion([0.0, (angle / 2.0).sin(), 0.0, (angle / 2.0).cos()]);
    let hand = Part { position: [head[0] + 0.3, 1.1, head[2]], rotation: turn };
    Pose {
        head: Part { position: head, rotation: turn },
        left_hand: member.is_multiple_of(2).then_some(hand),
        right_hand: None,
    }
}

fn join(member: u64) -> Action {
    let user = json!({
        "id": user_id(member), "socketId": socket_id(member), "username": format!("person {member}"),
        "position": { "x": 0, "y": 1.6, "z": 0 }, "rotation": { "x": 0, "y": 0, "z": 0 }, "slot": member,
    });
    Action::Join { user: user.to_string() }
}

fn create(id: &Value, version: u64, colour: &str) -> Action {
    let object = json!({ "id": id, "type": "lamp", "colour": colour });
    Action::ObjectCreate { object: object.to_string(), version }
}

fn update(id: &Value, version: u64, changes: &Value) -> Action {
    let mut update = json!({ "id": id, "version": version });
    update.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Action::ObjectUpdate { update: update.to_string() }
}

fn rename(member: u64, changes: &Value) -> Action {
    let mut update = json!({ "id": user_id(member), "socketId": socket_id(member) });
    update.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Action::UserUpdate { update: update.to_string() }
}

fn message(member: u64, data: &Value) -> Action {
    let message =
        json!({ "type": "chat", "data": data, "from": user_id(member), "socketId": socket_id(member) });
    Action::Message { message: message.to_string(), attachments: Vec::new() }
}

impl Script {
    /// 40 seconds in which everything happens that can.
    pub(crate) fn eventful() -> Self {
        let [lamp, five, plant] = [json!("lamp"), json!(5), json!("plant")];
        let with_attachment = Action::Message {
            message: format!(
                r#"{{"type":"file","data":{{"_placeholder":true,"num":0}},"from":"{}","socketId":"{}"}}"#,
                user_id(2),
                socket_id(2)
            ),
            attachments: vec![bytes::Bytes::from_static(b"\x01\x02\x03")],
        };
        let events = vec![
            (500, 1, join(1)),
            (1_240, 2, join(2)),
            (2_000, 1, create(&lamp, 1, "red")),
            (2_700, 2, message(2, &json!("hello"))),
            (3_000, 2, update(&lamp, 2, &json!({ "colour": "blue", "size": 2 }))),
            (4_110, 2, rename(2, &json!({ "username": "Grace", "hat": true }))),
            (5_000, 1, create(&five, 1, "green")),
            (5_000, 1, message(1, &json!({ "at": "once" }))),
            (6_500, 3, join(3)),
            (7_000, 2, with_attachment),
            (8_000, 3, Action::Leave),
            (9_000, 4, join(4)),
            (9_500, 1, Action::ObjectDelete { id: lamp.to_string() }),
            (12_000, 4, create(&plant, 1, "green")),
            (15_000, 4, update(&plant, 2, &json!({ "colour": "brown" }))),
            (20_000, 1, create(&lamp, 1, "yellow")),
            (25_000, 1, Action::Leave),
            (31_000, 5, join(5)),
            (33_000, 5, update(&plant, 3, &json!({ "pot": "clay" }))),
            (36_000, 2, rename(2, &json!({ "hat": false }))),
            (38_000, 2, message(2, &json!("bye"))),
            (39_000, 2, Action::Leave),
        ];
        Self { events, length_ms: 40_000, still_ms: 40_000, keyframe_ms: 5_000 }
    }

    /// So many people who are in for so long, an event every ten seconds.
    pub(crate) fn long(people: u64, length_ms: u64) -> Self {
        let mut events: Vec<(u64, u64, Action)> =
            (0..people).map(|member| (1_000 + member, member, join(member))).collect();
        for at_ms in (10_000..length_ms).step_by(10_000) {
            let (member, version) = (at_ms / 10_000 % people, at_ms / 40_000);
            events.push(match at_ms {
                10_000 => (at_ms, member, create(&json!("lamp"), 1, "red")),
                _ if at_ms.is_multiple_of(40_000) => {
                    (at_ms, member, update(&json!("lamp"), 1 + version, &json!({ "colour": at_ms })))
                }
                _ => (at_ms, member, message(member, &json!(at_ms))),
            });
        }
        Self { events, length_ms, still_ms: length_ms, keyframe_ms: 30_000 }
    }

    /// Somebody comes after a second, makes so many things at once a second later, and leaves after nine.
    pub(crate) fn of_things(count: u64) -> Self {
        let things = (0..count).map(|id| (2_000, 1, create(&json!(id), 1, "red")));
        let events = [(1_000, 1, join(1))].into_iter().chain(things);
        let events = events.chain([(9_000, 1, Action::Leave)]).collect();
        Self { events, length_ms: 20_000, still_ms: 2_000, keyframe_ms: 5_000 }
    }

    /// How everything stands when all that happened by `at_ms` has happened.
    pub(crate) fn truth(&self, at_ms: u64) -> Truth {
        let mut walk = Walk::new(self);
        walk.go_to(at_ms);
        walk.stand(at_ms)
    }

    /// The records as a store has them.
    pub(crate) fn records(&self) -> Vec<StoredRecord> {
        let mut records = Records::default();
        let mut walk = Walk::new(self);
        let mut all_since = None;
        let mut chunk = PoseSamples::default();
        for at_ms in (0..=self.length_ms).step_by(SAMPLE_MS as usize) {
            // What happens at that very moment is told after a keyframe of it; who comes is sampled from the next on, and
            // who goes is not sampled any more.
            for (at, member, action) in walk.go_to(at_ms.saturating_sub(1)) {
                records.event(*at, *member, action);
            }
            if at_ms.is_multiple_of(self.keyframe_ms) {
                let stand = walk.stand(at_ms.saturating_sub(1));
                records.put(at_ms, at_ms, Content::Keyframe(keyframe(at_ms, &stand, &mut all_since)));
            }
            let there: Vec<u64> = walk.truth.users.keys().copied().collect();
            for (at, member, action) in walk.go_to(at_ms) {
                records.event(*at, *member, action);
            }
            let is_there = |member: &u64| walk.truth.users.contains_key(member);
            let moves = |member: &u64| at_ms <= self.still_ms && is_there(member);
            let moved: Vec<u64> = there.into_iter().filter(moves).collect();
            if !moved.is_empty() {
                let instant = chunk.instants_ms.len() as u16;
                chunk.instants_ms.push(BEGIN_MS + at_ms);
                chunk.samples.extend(moved.into_iter().map(|member| PoseSample {
                    instant,
                    member: MemberId(member),
                    pose: pose(member, at_ms / SAMPLE_MS),
                }));
            }
            if chunk.instants_ms.first().is_some_and(|first| BEGIN_MS + at_ms + SAMPLE_MS >= first + CHUNK_MS)
            {
                records.put(at_ms, at_ms, Content::Poses(std::mem::take(&mut chunk)));
            }
        }
        if !chunk.samples.is_empty() {
            records.put(self.length_ms, self.length_ms, Content::Poses(chunk));
        }
        records.stored
    }

    /// What a stock client is told between two moments, the later one included, in order: event and payload.
    pub(crate) fn told(&self, after_ms: u64, until_ms: u64) -> Vec<(String, Value)> {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let within = self.events.iter().filter(|(at, ..)| *at > after_ms && *at <= until_ms);
        within
            .map(|(_, member, action)| match action {
                Action::Join { user } => ("user-joined", without(parse(user), &["slot"])),
                Action::Leave => ("user-left", json!(user_id(*member))),
                Action::ObjectCreate { object, .. } => ("object-created", parse(object)),
                Action::ObjectUpdate { update } => ("object-updated", parse(update)),
                Action::ObjectDelete { id } => ("object-deleted", json!({ "id": parse(id) })),
                Action::UserUpdate { update } => ("user-updated", parse(update)),
                Action::Message { message, .. } => ("room-message", parse(message)),
            })
            .map(|(event, payload)| (event.to_owned(), payload))
            .collect()
    }
}

/// The records of a room that is opened anew at that time, with this one object. Somebody comes two seconds later.
pub(crate) fn opened_anew(at_ms: u64, object: &Value) -> Vec<StoredRecord> {
    let mut records = Records::default();
    let objects = Objects::All(json!([object]).to_string());
    let keyframe = Keyframe { opens: true, max_users: 50, members: Vec::new(), objects };
    records.put(at_ms, at_ms, Content::Keyframe(keyframe));
    records.event(at_ms + 2_000, 2, &join(2));
    records.stored
}

/// Records in the making.
#[derive(Default)]
struct Records {
    stored: Vec<StoredRecord>,
    last: RecordId,
}

impl Records {
    fn event(&mut self, at_ms: u64, member: u64, action: &Action) {
        let event = Event {
            member: MemberId(member),
            user_id: user_id(member).into(),
            socket_id: socket_id(member).into(),
            action: action.clone(),
        };
        self.put(at_ms, at_ms, Content::Event(event));
    }

    fn put(&mut self, at_ms: u64, written_ms: u64, content: Content) {
        let at = RecordId::at(BEGIN_MS + written_ms + DELAY_MS);
        self.last = if at > self.last { at } else { self.last.next() };
        let record = Record { at_ms: BEGIN_MS + at_ms, content };
        let (kind, payload) = (record.content.kind(), encode(&record).unwrap());
        self.stored.push(StoredRecord { id: self.last, kind, payload });
    }
}

/// A way through a script.
struct Walk<'a> {
    left: &'a [(u64, u64, Action)],
    still_ms: u64,
    truth: Truth,
    /// When each member came.
    since: BTreeMap<u64, u64>,
}

impl<'a> Walk<'a> {
    fn new(script: &'a Script) -> Self {
        Self {
            left: &script.events,
            still_ms: script.still_ms,
            truth: Truth::default(),
            since: BTreeMap::new(),
        }
    }

    /// What happens from here until then.
    fn go_to(&mut self, at_ms: u64) -> &'a [(u64, u64, Action)] {
        let (now, left) = self.left.split_at(self.left.partition_point(|(at, ..)| *at <= at_ms));
        self.left = left;
        for (at, member, action) in now {
            self.truth.act(*member, action);
            self.since.entry(*member).or_insert(*at);
        }
        now
    }

    /// Who is where.
    fn stand(&self, at_ms: u64) -> Truth {
        let mut truth = self.truth.clone();
        for member in truth.users.keys() {
            let sample = at_ms.min(self.still_ms) / SAMPLE_MS;
            let is_sampled = sample * SAMPLE_MS > self.since[member];
            truth.poses.insert(*member, if is_sampled { pose(*member, sample) } else { Pose::INITIAL });
        }
        truth
    }
}

/// All objects only where they have changed since they were all told.
fn keyframe(at_ms: u64, truth: &Truth, all_since: &mut Option<(u64, BTreeMap<String, Value>)>) -> Keyframe {
    let user = |(member, user): (&u64, &Value)| {
        let mut text = user.to_string().into_bytes();
        text.pop();
        text.push(b',');
        truth.poses[member].write_json_members(&mut text);
        text.extend_from_slice(format!(",\"slot\":{member}}}").as_bytes());
        (MemberId(*member), String::from_utf8(text).unwrap())
    };
    let objects = match all_since {
        Some((since, objects)) if *objects == truth.objects => Objects::UnchangedSince(BEGIN_MS + *since),
        _ => {
            *all_since = Some((at_ms, truth.objects.clone()));
            Objects::All(serde_json::to_string(&truth.objects.values().collect::<Vec<_>>()).unwrap())
        }
    };
    let members = truth.users.iter().map(user).collect();
    Keyframe { opens: at_ms == 0, max_users: 50, members, objects }
}

impl Truth {
    fn act(&mut self, member: u64, action: &Action) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        match action {
            Action::Join { user } => {
                let user = without(parse(user), &["slot", "position", "rotation"]);
                self.users.insert(member, user);
            }
            Action::Leave => drop(self.users.remove(&member)),
            Action::ObjectCreate { object, version } => {
                let mut object = parse(object);
                object["version"] = json!(version);
                object["owner"] = json!(user_id(member));
                self.objects.insert(object["id"].to_string(), object);
            }
            Action::ObjectUpdate { update } => {
                let update = parse(update);
                let object = self.objects.get_mut(&update["id"].to_string()).unwrap();
                object.as_object_mut().unwrap().extend(update.as_object().unwrap().clone());
            }
            Action::ObjectDelete { id } => drop(self.objects.remove(id)),
            Action::UserUpdate { update } => {
                let user = self.users.get_mut(&member).unwrap();
                user.as_object_mut().unwrap().extend(parse(update).as_object().unwrap().clone());
            }
            Action::Message { .. } => {}
        }
    }
}

/// `value` without these members.
pub(crate) fn without(mut value: Value, names: &[&str]) -> Value {
    let members = value.as_object_mut().unwrap();
    for name in names {
        members.remove(*name);
    }
    value
}
