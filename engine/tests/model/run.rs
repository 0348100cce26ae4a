//! A room and its model, side by side.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine::options::Password as Digest;
use engine::ports::{RoomWrite, StoredObject};
use engine::room::{Command, Effect, Room, StoreEffect};
use engine::limits::PRESENCE_INTERVAL;
use engine::{RoomOptions, RoomShared, SessionId, Time, User};
use protocol::event::{Encoding, ObjectUpdate};
use protocol::{Members, Outgoing};
use serde_json::{Value, json};

use super::fan::Fan;
use super::operation::{Known, Operation, Password, SESSIONS, Setup, To};
use super::truth::Truth;
use crate::common::viewer::{pose_json, pose_numbered, pose_of};

/// A change that is with the store, as the model knows it.
struct Storing {
    id: String,
    answer: Option<(u64, u64, String)>,
}

pub(crate) struct Run {
    setup: Setup,
    shared: Arc<RoomShared>,
    room: Room<u64>,
    pub(crate) truth: Truth,
    fan: Fan,
    now: Time,
    last_flush: Time,
    /// Where each session was let in last.
    admitted: BTreeMap<u64, (u16, u32)>,
    storing: VecDeque<(Storing, StoreEffect<u64>)>,
    /// What the model wants stored, until the room's effects are looked at.
    to_store: VecDeque<Storing>,
    store: BTreeMap<String, StoredObject>,
    counter: u64,
}

impl Run {
    pub(crate) fn new(setup: Setup) -> Self {
        let options = RoomOptions {
            max_users: setup.max_users,
            persistent: setup.persistent,
            tick_hz: 20,
            password: setup.password.then(|| Digest::new("sesame", [3; 16])),
        };
        let now = Time::from_micros(1_000_000_000);
        let shared = RoomShared::detached("model", options, now);
        Self {
            setup,
            room: Room::new(shared.clone(), setup.max_objects, Vec::new()),
            shared,
            truth: Truth::new(),
            fan: Fan::new(),
            now,
            last_flush: Time::default(),
            admitted: BTreeMap::new(),
            storing: VecDeque::new(),
            to_store: VecDeque::new(),
            store: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(crate) fn step(&mut self, operation: &Operation) {
        self.counter += 1;
        match *operation {
            Operation::Move { who } => self.move_slot(who),
            Operation::Tick => self.tick(),
            Operation::Flush => self.flush(),
            Operation::Pass { millis } => {
                self.now = self.now + Duration::from_millis(millis);
                if self.room.flush_due().is_some_and(|due| due <= self.now) {
                    self.flush();
                }
            }
            Operation::Stored { ok } => self.stored(ok),
            Operation::StoreAgain => self.store_again(),
            _ => self.command(operation),
        }
        self.check_always();
    }

    /// Everybody goes, everything is stored, nothing is left.
    pub(crate) fn finish(mut self) {
        self.tick();
        self.check_poses();
        for who in 0..SESSIONS {
            self.step(&Operation::Leave { who, ack: true });
        }
        while !self.storing.is_empty() || !self.truth.unsaved.is_empty() {
            self.step(&Operation::Stored { ok: true });
            self.step(&Operation::StoreAgain);
        }
        self.flush();
        assert!(self.room.is_done());
        let objects = self.truth.objects.iter().filter(|_| self.setup.persistent);
        let expected: Vec<_> = objects.map(|(id, (version, owner, value))| {
            (id.clone(), *version, format!("u{owner}"), Some(*value))
        }).collect();
        let stored: Vec<_> = self.store.values().map(|object| {
            let json: Value = serde_json::from_str(&object.json).unwrap();
            (object.id.clone(), object.version, object.owner.clone(), json["value"].as_u64())
        }).collect();
        assert_eq!(stored, expected, "what is stored is what stood in the room");
        for who in 0..SESSIONS as usize {
            let picture = &self.fan.pictures[who];
            assert_eq!(picture.log, self.truth.logs[who], "what s{who} was told");
            let answers = picture.acks.iter().map(|(ack, answer)| (*ack, outcome(answer)));
            assert_eq!(answers.collect::<BTreeMap<_, _>>(), self.truth.answers[who], "answers to s{who}");
            let codes: Vec<_> = picture.errors.iter().map(|error| error["code"].as_str().unwrap()).collect();
            assert_eq!(codes, self.truth.errors[who], "errors of s{who}");
        }
    }

    fn move_slot(&mut self, who: u64) {
        let Some(&(slot, generation)) = self.admitted.get(&who) else { return };
        let number = self.counter as u32;
        let stored = self.shared.table.store(slot, generation, &pose_numbered(number));
        let member = self.truth.members.get_mut(&who);
        assert_eq!(stored.is_ok(), member.is_some(), "who may write its slot");
        if let Some(member) = member {
            member.pose = Some(number);
        }
    }

    fn tick(&mut self) {
        let mut effects = Vec::new();
        self.room.handle_tick(self.now, &mut effects);
        self.spoken(effects);
        self.check_poses();
    }

    fn flush(&mut self) {
        let mut effects = Vec::new();
        self.room.flush(self.now, &mut effects);
        self.spoken(effects);
    }

    fn spoken(&mut self, effects: Vec<Effect<u64>>) {
        if self.truth.waiting {
            self.last_flush = self.now;
        }
        self.truth.flush();
        self.apply(effects);
        self.check_pictures();
    }

    fn apply(&mut self, effects: Vec<Effect<u64>>) {
        for effect in effects {
            match effect {
                Effect::Admit { session, slot, generation } => {
                    assert!(usize::from(slot) < self.setup.max_users, "slot {slot}");
                    let taken = |(other, place): (&u64, &(u16, u32))| {
                        *other != session && place.0 == slot && self.truth.members.contains_key(other)
                    };
                    assert!(!self.admitted.iter().any(taken), "slot {slot} is given twice");
                    self.admitted.insert(session, (slot, generation));
                }
                Effect::Store(effect) => {
                    let expected = self.to_store.pop_front().expect("the model stores this too");
                    assert_eq!(effect.object_id, expected.id);
                    let ack = effect.reply.as_ref().map(|(session, _, ack)| (*session, *ack));
                    assert_eq!(ack, expected.answer.as_ref().map(|(who, ack, _)| (*who, *ack)));
                    self.storing.push_back((expected, effect));
                }
                Effect::Flush(flush) => self.fan.flush(&flush),
                Effect::Tick(poses) => self.fan.tick(&poses),
            }
        }
        assert!(self.to_store.is_empty(), "the model wants more stored");
    }

    fn stored(&mut self, ok: bool) {
        let Some((storing, effect)) = self.storing.pop_front() else { return };
        match effect.write.clone() {
            _ if !ok => {
                self.truth.unsaved.insert(storing.id);
            }
            RoomWrite::PutObject { object, .. } => {
                self.store.insert(object.id.clone(), object);
            }
            RoomWrite::DeleteObject { id, .. } => {
                self.store.remove(&id);
            }
            RoomWrite::CreateRoom(_) => panic!("a room does not make rooms"),
        }
        if let Some((who, ack, outcome)) = storing.answer {
            self.truth.answer(who, Some(ack), if ok { &outcome } else { "storage" });
        }
        self.room.stored(effect, ok);
    }

    fn store_again(&mut self) {
        let unsaved = std::mem::take(&mut self.truth.unsaved);
        self.to_store.extend(unsaved.into_iter().map(|id| Storing { id, answer: None }));
        let mut effects = Vec::new();
        self.room.store_again(&mut effects);
        self.apply(effects);
    }

    fn command(&mut self, operation: &Operation) {
        let (who, ack, command) = self.parse(operation);
        let ack = ack.then_some(self.counter);
        self.expect(operation, who, ack);
        let mut effects = Vec::new();
        self.room.handle_command(self.now, SessionId(who), &who, command, ack, &mut effects);
        self.apply(effects);
    }

    /// The command that an operation stands for.
    fn parse(&self, operation: &Operation) -> (u64, bool, Command) {
        let value = self.counter;
        match *operation {
            Operation::Join { who, batch, password, ack } => {
                let name = |kind: &str| format!("{kind}{who}").as_str().into();
                let user = User { id: name("u"), socket_id: name("s"), username: name("name ") };
                let encoding = if batch { Encoding::Batch } else { Encoding::Json };
                let password = match password {
                    Password::Right => Some("sesame".to_owned()),
                    Password::Wrong => Some("Sesame".to_owned()),
                    Password::Absent => None,
                };
                (who, ack, Command::Join { user, encoding, password })
            }
            Operation::Leave { who, ack } => (who, ack, Command::Leave),
            Operation::Create { who, object, big, ack } => {
                let padding = "x".repeat(if big { engine::limits::MAX_OBJECT_BYTES } else { 0 });
                let members = members(&json!({ "id": id(object), "value": value, "padding": padding }));
                (who, ack, Command::ObjectCreate { members, fresh_id: "fresh".into() })
            }
            Operation::Update { who, object, known, ack } => {
                let current = self.truth.objects.get(&id(object)).map_or(7, |(version, ..)| *version);
                let version = match known {
                    Known::Nothing => None,
                    Known::Current => Some(current),
                    Known::Stale => Some(current + 1),
                };
                let changes = members(&json!({ "value": value }));
                (who, ack, Command::ObjectUpdate(ObjectUpdate { id: id(object), version, changes }))
            }
            Operation::Delete { who, object, ack } => (who, ack, Command::ObjectDelete(id(object))),
            Operation::UserUpdate { who, big, ack } => {
                let padding = "x".repeat(if big { engine::limits::MAX_PROFILE_BYTES } else { 0 });
                let changes = members(&json!({ "username": format!("name {value}"), "padding": padding }));
                (who, ack, Command::UserUpdate(changes))
            }
            Operation::Relay { who, to, volatile, ack } => {
                let to = match to {
                    To::Everybody => None,
                    To::SocketId(other) => Some(format!("s{other}")),
                    To::UserId(other) => Some(format!("u{other}")),
                    To::Nobody => Some("nobody".to_owned()),
                };
                let message = json!({ "type": "direct", "data": value, "from": format!("u{who}") });
                let packet = Outgoing::event("room-message", &message);
                (who, ack, Command::Relay { to, packet, volatile })
            }
            _ => unreachable!("no command: {operation:?}"),
        }
    }

    /// What the model says to a command.
    fn expect(&mut self, operation: &Operation, who: u64, ack: Option<u64>) {
        let outcome = self.judge(operation, who);
        let changes_objects = matches!(
            operation,
            Operation::Create { .. } | Operation::Update { .. } | Operation::Delete { .. }
        );
        if changes_objects && self.setup.persistent && outcome.starts_with("ok") {
            let (Operation::Create { object, .. }
            | Operation::Update { object, .. }
            | Operation::Delete { object, .. }) = *operation
            else {
                unreachable!()
            };
            self.truth.unsaved.remove(&id(object));
            self.to_store.push_back(Storing { id: id(object), answer: ack.map(|ack| (who, ack, outcome)) });
        } else {
            self.truth.answer(who, ack, &outcome);
        }
    }

    fn judge(&mut self, operation: &Operation, who: u64) -> String {
        let truth = &mut self.truth;
        let inside = truth.members.contains_key(&who);
        let value = self.counter;
        match *operation {
            Operation::Join { password, .. } => {
                let shut = self.setup.password && !matches!(password, Password::Right);
                match inside {
                    false if shut => return "wrong_password".into(),
                    false if truth.members.len() >= self.setup.max_users => return "room_full".into(),
                    _ => truth.join(who),
                }
            }
            Operation::Leave { .. } if inside => truth.leave(who),
            Operation::Leave { .. } => {}
            _ if !inside => return "not_in_room".into(),
            Operation::UserUpdate { big: true, .. } => return "limit".into(),
            Operation::UserUpdate { .. } => {
                truth.members.get_mut(&who).unwrap().username = Some(value);
                truth.tell_others(who, &format!("updated s{who}"));
            }
            Operation::Relay { to, .. } => match to {
                To::Everybody => truth.message(|other| other != who, value),
                To::SocketId(one) | To::UserId(one) if truth.members.contains_key(&one) => {
                    truth.message(|other| other == one, value);
                }
                _ => return "not_found".into(),
            },
            _ => return self.judge_object(operation, who),
        }
        "ok".into()
    }

    fn judge_object(&mut self, operation: &Operation, who: u64) -> String {
        let value = self.counter;
        let count = self.truth.objects.len();
        let found = |truth: &Truth, object| truth.objects.get(&id(object)).copied();
        let (object, line, after) = match *operation {
            Operation::Create { object, big, .. } => {
                let before = found(&self.truth, object);
                if before.is_some_and(|(_, owner, _)| owner != who) {
                    return "exists".into();
                }
                if big || (before.is_none() && count >= self.setup.max_objects) {
                    return "limit".into();
                }
                let version = before.map_or(0, |(version, ..)| version) + 1;
                (object, "object-created", Some((version, who, value)))
            }
            Operation::Update { object, known, .. } => {
                let Some((version, owner, _)) = found(&self.truth, object) else { return "not_found".into() };
                if matches!(known, Known::Stale) {
                    return "stale_version".into();
                }
                (object, "object-updated", Some((version + 1, owner, value)))
            }
            Operation::Delete { object, .. } => {
                if found(&self.truth, object).is_none() {
                    return "not_found".into();
                }
                (object, "object-deleted", None)
            }
            _ => unreachable!("not about an object: {operation:?}"),
        };
        let id = id(object);
        let told = after.map_or_else(|| Value::Null, |(_, _, value)| json!(value));
        self.truth.tell_others(who, &format!("{line} {id} {told}"));
        self.truth.members.get_mut(&who).unwrap().touched.insert(id.clone());
        match after {
            Some(after) => self.truth.objects.insert(id, after),
            None => self.truth.objects.remove(&id),
        };
        after.map_or_else(|| "ok".into(), |(version, ..)| format!("ok {version}"))
    }

    fn check_always(&self) {
        let truth = &self.truth;
        assert_eq!(self.shared.members(), truth.members.len());
        assert!((0..SESSIONS).all(|who| self.room.has(SessionId(who)) == truth.members.contains_key(&who)));
        let done = truth.members.is_empty()
            && !truth.waiting
            && self.storing.is_empty()
            && truth.unsaved.is_empty();
        assert_eq!(self.room.is_done(), done, "nothing is left to be done");
        let due = self.room.flush_due();
        assert_eq!(due.is_some(), truth.waiting, "something waits to be told");
        assert!(due.is_none_or(|due| due <= self.last_flush + PRESENCE_INTERVAL));
    }

    fn check_pictures(&self) {
        let truth = &self.truth;
        for (who, member) in &truth.members {
            let picture = &self.fan.pictures[*who as usize];
            let seen: Vec<_> = picture.users.keys().cloned().collect();
            let there: Vec<_> = truth.members.keys().map(|other| format!("s{other}")).collect();
            assert_eq!(seen, there, "who is there, as s{who} sees it");
            for (other, about) in truth.members.iter().filter(|(other, _)| *other != who) {
                let name = format!("name {}", about.username.unwrap_or(*other));
                assert_eq!(picture.users[&format!("s{other}")]["username"], name);
            }
            let untouched = |id: &String| !member.touched.contains(id);
            let seen: Vec<_> = picture.objects.keys().filter(|id| untouched(id)).collect();
            let there: Vec<_> = truth.objects.keys().filter(|id| untouched(id)).collect();
            assert_eq!(seen, there, "objects, as s{who} sees them");
            for id in there {
                let ((seen_version, seen_value), (version, _, value)) = (&picture.objects[id], truth.objects[id]);
                assert!(seen_version.is_none_or(|seen| seen == version), "{id} {seen_version:?} {version}");
                assert_eq!(*seen_value, json!(value), "{id} as s{who} sees it");
            }
        }
    }

    /// To be called after a tick.
    fn check_poses(&self) {
        for who in self.truth.members.keys() {
            let users = &self.fan.pictures[*who as usize].users;
            for (other, about) in self.truth.members.iter().filter(|(other, _)| *other != who) {
                let pose = about.pose.map_or(protocol::Pose::INITIAL, pose_numbered);
                assert_eq!(pose_of(&users[&format!("s{other}")]), pose_json(&pose), "s{other} as s{who} sees it");
            }
        }
    }
}

fn id(object: u8) -> String {
    format!("object {object}")
}

fn members(json: &Value) -> Members {
    serde_json::from_str(&json.to_string()).unwrap()
}

/// An answer as the model says it.
fn outcome(answer: &Value) -> String {
    match (answer["ok"].as_bool(), answer["version"].as_u64()) {
        (Some(true), Some(version)) => format!("ok {version}"),
        (Some(true), None) => "ok".to_owned(),
        _ => answer["error"]["code"].as_str().unwrap().to_owned(),
    }
}
