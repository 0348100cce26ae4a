//! A room and its model, side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine::limits::PRESENCE_INTERVAL;
use engine::options::Password as Digest;
use engine::ports::{RoomWrite, StoredObject};
use engine::room::{Awaits, Effect, RecordEffect, Room, StoreEffect};
use engine::{RoomOptions, RoomShared, SessionId, TickRate, Time, ViewOptions};
use serde_json::{Value, json};

use super::fan::Fan;
use super::late::POSE_HZ;
use super::operation::{Operation, SESSIONS, Setup};
use super::truth::Truth;
use crate::common::poses::pose_numbered;
use crate::common::replayed::Replayed;

/// Ticks within which everybody is repeated to who takes frames.
pub(super) const TICK_HZ: u32 = 20;

/// A change that is with the store, as the model knows it.
pub(super) struct Storing {
    pub(super) id: String,
    pub(super) answer: Option<(u64, u64, String)>,
}

pub(crate) struct Run {
    pub(super) setup: Setup,
    shared: Arc<RoomShared>,
    pub(super) room: Room<u64>,
    pub(super) truth: Truth,
    pub(super) fan: Fan,
    pub(super) now: Time,
    last_flush: Time,
    /// Where each session was let in last.
    admitted: BTreeMap<u64, (u16, u32)>,
    pub(super) storing: VecDeque<(Storing, StoreEffect<u64>)>,
    /// What the model wants stored, until the room's effects are looked at.
    pub(super) to_store: VecDeque<Storing>,
    store: BTreeMap<String, StoredObject>,
    pub(super) counter: u64,
    /// What waits for the journal, in the order of the model's.
    pub(super) awaits: VecDeque<Awaits<u64>>,
    /// What the journal has been given.
    pub(super) replayed: Replayed,
    /// When somebody left: a sample of the millisecond before may be of nobody else.
    pub(super) departures: BTreeSet<u64>,
    /// Everybody's pose at each tick, by its time in ms.
    pub(super) snapshots: BTreeMap<u64, BTreeMap<u64, Option<u32>>>,
}

impl Run {
    pub(crate) fn new(setup: Setup) -> Self {
        let options = RoomOptions {
            max_users: setup.max_users,
            persistent: setup.persistent,
            tick_hz: TickRate::Fixed(TICK_HZ),
            view: ViewOptions::default(),
            password: setup.password.then(|| Digest::new("sesame", [3; 16])),
            record: true,
            record_messages: true,
        };
        let now = Time::from_micros(1_000_000_000);
        let shared = RoomShared::detached("model", options, now);
        let mut room = Room::new(shared.clone(), setup.max_objects, Vec::new());
        let mut effects = Vec::new();
        if setup.recorded {
            room.begin_recording(now, 0, &mut effects);
            room.sample_poses_at(POSE_HZ);
        }
        let mut run = Self {
            setup,
            room,
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
            awaits: VecDeque::new(),
            replayed: Replayed::default(),
            departures: BTreeSet::new(),
            snapshots: BTreeMap::new(),
        };
        run.apply(effects);
        run
    }

    pub(crate) fn step(&mut self, operation: &Operation) {
        self.counter += 1;
        if let Operation::Leave { .. } = operation {
            self.departures.insert(self.now.as_millis());
        }
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
            Operation::StoredUnrecorded => self.stored_unrecorded(),
            Operation::Recorded { ok, last } => self.recorded(ok, last),
            _ => self.command(operation),
        }
        self.check_always();
    }

    /// Everybody goes, everything is stored, nothing is left.
    pub(crate) fn finish(mut self) {
        // A second without moves; the fan sees to it that everybody is shown.
        (0..=TICK_HZ).for_each(|_| self.tick());
        self.settle_poses();
        for who in 0..SESSIONS {
            self.step(&Operation::Leave { who, ack: true });
        }
        while !self.storing.is_empty() || !self.truth.unsaved.is_empty() {
            self.step(&Operation::Stored { ok: true });
            self.step(&Operation::StoreAgain);
        }
        self.settle_records();
        self.flush();
        assert!(self.room.is_done());
        let objects = self.truth.objects.iter().filter(|_| self.setup.persistent);
        let expected: Vec<_> = objects
            .map(|(id, (version, owner, value))| (id.clone(), *version, format!("u{owner}"), Some(*value)))
            .collect();
        let stored: Vec<_> = self
            .store
            .values()
            .map(|object| {
                let json: Value = serde_json::from_str(&object.json).unwrap();
                (object.id.clone(), object.version, object.owner.clone(), json["value"].as_u64())
            })
            .collect();
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

    pub(super) fn tick(&mut self) {
        let mut effects = Vec::new();
        self.room.handle_tick(self.now, &mut effects);
        let (records, effects): (Vec<_>, _) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Record(_)));
        let is_silent = !effects.iter().any(|effect| matches!(effect, Effect::Tick(_)));
        self.spoken(effects);
        if is_silent {
            self.fan.still_tick();
        }
        self.check_poses();
        self.ticked(records);
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
        self.truth.flush(self.now);
        self.apply(effects);
        self.check_pictures();
    }

    pub(super) fn apply(&mut self, effects: Vec<Effect<u64>>) {
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
                    effect.record.iter().for_each(|record| self.record(record));
                    self.storing.push_back((expected, effect));
                }
                Effect::Record(RecordEffect { record, awaits }) => {
                    self.record(&record);
                    awaits.into_iter().for_each(|awaits| self.awaits(awaits));
                }
                Effect::Flush(flush) => self.fan.flush(&flush),
                Effect::Tick(poses) => self.fan.tick(&poses),
            }
        }
        assert!(self.to_store.is_empty(), "the model wants more stored");
    }

    fn stored(&mut self, ok: bool) {
        let Some((storing, effect)) = self.storing.pop_front() else { return };
        if ok {
            self.keep_in_store(&effect);
        } else {
            self.truth.unsaved.insert(storing.id);
        }
        if let Some((who, ack, outcome)) = storing.answer {
            self.truth.answer(who, Some(ack), if ok { &outcome } else { "storage" });
        }
        self.room.stored(effect, ok);
    }

    pub(super) fn keep_in_store(&mut self, effect: &StoreEffect<u64>) {
        match effect.write.clone() {
            RoomWrite::PutObject { object, .. } => {
                self.store.insert(object.id.clone(), object);
            }
            RoomWrite::DeleteObject { id, .. } => {
                self.store.remove(&id);
            }
            RoomWrite::CreateRoom(_) => panic!("a room does not make rooms"),
        }
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

    fn check_always(&self) {
        let truth = &self.truth;
        assert_eq!(self.shared.members(), truth.members.len());
        assert!((0..SESSIONS).all(|who| self.room.has(SessionId(who)) == truth.members.contains_key(&who)));
        let done = truth.members.is_empty()
            && !truth.waiting
            && self.storing.is_empty()
            && truth.unsaved.is_empty()
            && truth.late.is_empty();
        self.check_late();
        self.check_replayed();
        assert_eq!(self.room.is_done(), done, "nothing is left to be done");
        let due = self.room.flush_due();
        assert_eq!(due.is_some(), truth.waiting, "something waits to be told");
        assert!(due.is_none_or(|due| due <= self.last_flush + PRESENCE_INTERVAL));
    }

    fn check_pictures(&self) {
        let truth = &self.truth;
        for (who, member) in truth.members.iter().filter(|(_, member)| member.welcomed) {
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
                let ((seen_version, seen_value), (version, _, value)) =
                    (&picture.objects[id], truth.objects[id]);
                assert!(seen_version.is_none_or(|seen| seen == version), "{id} {seen_version:?} {version}");
                assert_eq!(*seen_value, json!(value), "{id} as s{who} sees it");
            }
        }
    }

    /// To be called after a tick.
    fn check_poses(&self) {
        for (who, _) in self.truth.members.iter().filter(|(_, member)| member.welcomed) {
            let picture = &self.fan.pictures[*who as usize];
            for (other, about) in self.truth.members.iter().filter(|(other, _)| *other != who) {
                let pose = about.pose.map_or(protocol::Pose::INITIAL, pose_numbered);
                picture.assert_sees(&format!("s{other}"), &pose);
            }
        }
    }
}

/// An answer as the model says it.
fn outcome(answer: &Value) -> String {
    match (answer["ok"].as_bool(), answer["version"].as_u64()) {
        (Some(true), Some(version)) => format!("ok {version}"),
        (Some(true), None) => "ok".to_owned(),
        _ => answer["error"]["code"].as_str().unwrap().to_owned(),
    }
}
