//! Ghosts in a room against a naive model: whatever is played, its viewer hears and sees just that, in each encoding,
//! and can change nothing of it.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::poses::pose_numbered;
use common::viewer::Viewer;
use engine::ports::{StoredObject, TickView};
use engine::room::{Audience, Command, Effect, Entry, Room, Step};
use engine::{Recorded, RoomDefaults, RoomOptions, RoomShared, SessionId, Time, User};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::event::{Encoding, ObjectUpdate, View};
use protocol::{Members, Outgoing, Pose};
use replay::MemberId;
use serde_json::{Value, json};

const VIEWER: u64 = 7;
const GHOSTS: u64 = 5;
const OBJECTS: u8 = 3;
/// One of the ghosts is always left out.
const MAX_USERS: usize = GHOSTS as usize;
const BEGINNING: Time = Time::from_micros(1_000_000_000);

#[derive(Debug, Clone, Copy)]
enum Operation {
    Enter(u64),
    Leave(u64),
    Move(u64),
    Update(u64),
    Put(u8),
    Delete(u8),
    Tell,
    Watch(Encoding),
    /// The viewer tries to change something.
    Meddle(u8),
    Tick,
}

fn operation() -> impl Strategy<Value = Operation> {
    let ghost = || 0..GHOSTS;
    let encoding = prop_oneof![Just(Encoding::Json), Just(Encoding::Batch), Just(Encoding::Binary)];
    prop_oneof![
        4 => ghost().prop_map(Operation::Enter),
        2 => ghost().prop_map(Operation::Leave),
        6 => ghost().prop_map(Operation::Move),
        2 => ghost().prop_map(Operation::Update),
        2 => (0..OBJECTS).prop_map(Operation::Put),
        1 => (0..OBJECTS).prop_map(Operation::Delete),
        1 => Just(Operation::Tell),
        1 => encoding.prop_map(Operation::Watch),
        1 => (0..5_u8).prop_map(Operation::Meddle),
        6 => Just(Operation::Tick),
    ]
}

/// A room, its only viewer, and what should be there.
struct Run {
    room: Room<u64>,
    shared: Arc<RoomShared>,
    now: Time,
    counter: u32,
    /// Slot and encoding, once it is in.
    seat: Option<(u16, Encoding)>,
    picture: Viewer,
    ghosts: BTreeMap<u64, Ghost>,
    objects: BTreeMap<u8, (u64, u32)>,
    /// What the viewer should have been told, in order.
    log: Vec<String>,
    /// It has been let in, and is welcomed with the next flush.
    is_awaited: bool,
}

#[derive(Clone, Copy)]
struct Ghost {
    pose: u32,
    name: Option<u32>,
}

impl Run {
    fn new() -> Self {
        let options = RoomOptions { max_users: MAX_USERS, ..RoomDefaults::default().options() };
        let recorded = Recorded { from: 1, to: 2 };
        let shared = RoomShared::private("past", 0, 0, options, BEGINNING, recorded);
        Self {
            room: Room::new(shared.clone(), usize::from(OBJECTS) - 1, Vec::new()),
            shared,
            now: BEGINNING,
            counter: 0,
            seat: None,
            picture: Viewer::new("s7"),
            ghosts: BTreeMap::new(),
            objects: BTreeMap::new(),
            log: Vec::new(),
            is_awaited: false,
        }
    }

    fn step(&mut self, operation: Operation) {
        self.counter += 1;
        let number = self.counter;
        match operation {
            Operation::Enter(ghost) => self.enter(ghost),
            Operation::Leave(ghost) => {
                self.room.play(vec![Step::Leave(MemberId(ghost))]);
                if self.ghosts.remove(&ghost).is_some() {
                    self.tell(format!("left g{ghost}"));
                }
            }
            Operation::Move(ghost) => {
                self.room.play(vec![Step::Move(MemberId(ghost), pose_numbered(number))]);
                if let Some(ghost) = self.ghosts.get_mut(&ghost) {
                    ghost.pose = number;
                }
            }
            Operation::Update(ghost) => {
                let changes = members(&json!({ "username": format!("name {number}") }));
                self.room.play(vec![Step::UserUpdate(MemberId(ghost), changes)]);
                if let Some(found) = self.ghosts.get_mut(&ghost) {
                    found.name = Some(number);
                    self.tell(format!("updated sg{ghost}"));
                }
            }
            Operation::Put(object) => self.put(object),
            Operation::Delete(object) => {
                let id = id(object);
                let packet = Outgoing::event("object-deleted", &json!({ "id": id }));
                self.room.play(vec![Step::DeleteObject { id: id.clone(), packet }]);
                if self.objects.remove(&object).is_some() {
                    self.tell(format!("object-deleted {id} null"));
                }
            }
            Operation::Tell => {
                let message = json!({ "type": "said", "data": number, "from": "somebody" });
                self.room.play(vec![Step::Tell(Outgoing::event("room-message", &message))]);
                self.tell(format!("message {number}"));
            }
            Operation::Watch(encoding) => self.watch(encoding),
            Operation::Meddle(how) => self.meddle(how),
            Operation::Tick => self.tick(),
        }
        assert_eq!(self.shared.members(), self.ghosts.len() + usize::from(self.seat.is_some()));
    }

    fn enter(&mut self, ghost: u64) {
        let number = self.counter;
        let name = |kind: &str| format!("{kind}g{ghost}").as_str().into();
        let user =
            User { id: format!("g{ghost}").as_str().into(), socket_id: name("s"), username: name("name ") };
        let profile = members(&json!({ "colour": "red" }));
        let pose = pose_numbered(number);
        self.room.play(vec![Step::Enter { ghost: MemberId(ghost), user, profile, pose }]);
        if self.ghosts.remove(&ghost).is_some() {
            self.tell(format!("left g{ghost}"));
        }
        if self.ghosts.len() + 1 < MAX_USERS {
            self.ghosts.insert(ghost, Ghost { pose: number, name: None });
            self.tell(format!("joined sg{ghost}"));
        }
    }

    fn put(&mut self, object: u8) {
        let (number, id) = (self.counter, id(object));
        let version = 10 + u64::from(number);
        let json = json!({ "id": id, "version": version, "value": number });
        let packet = Outgoing::event("object-updated", &json);
        let stored = StoredObject { id: id.clone(), version, owner: "u".into(), json: json.to_string() };
        self.room.play(vec![Step::PutObject { object: stored, packet }]);
        if self.objects.contains_key(&object) || self.objects.len() + 1 < usize::from(OBJECTS) {
            self.objects.insert(object, (version, number));
            self.tell(format!("object-updated {id} {number}"));
        }
    }

    fn tell(&mut self, line: String) {
        // Who waits for its welcome finds it there, but for messages.
        if self.seat.is_some() && (!self.is_awaited || line.starts_with("message")) {
            self.log.push(line);
        }
    }

    fn command(&mut self, command: Command) {
        let mut effects = Vec::new();
        let ack = Some(u64::from(self.counter));
        self.room.handle_command(self.now, SessionId(VIEWER), &VIEWER, command, ack, &mut effects);
        for effect in effects {
            let Effect::Admit { slot, .. } = effect else { panic!("{effect:?}") };
            self.seat = Some((slot, self.seat.map_or(Encoding::Json, |(_, encoding)| encoding)));
        }
    }

    fn watch(&mut self, encoding: Encoding) {
        let name = |kind: &str| format!("{kind}{VIEWER}").as_str().into();
        let user = User { id: name("u"), socket_id: name("s"), username: name("viewer ") };
        let is_new = self.seat.is_none();
        self.command(Command::Join { user, encoding, password: None, view: View::default() });
        if is_new {
            self.is_awaited = true;
            self.log.push("welcome".into());
        } else if !self.is_awaited {
            // Told again at once: there is nothing between this and its welcome.
            self.flush();
            self.log.push("welcome".into());
        }
        self.flush();
    }

    fn meddle(&mut self, how: u8) {
        let command = match how {
            0 => Command::ObjectCreate { members: members(&json!({ "id": "x" })), fresh_id: "y".into() },
            1 => {
                Command::ObjectUpdate(ObjectUpdate { id: id(0), version: None, changes: Members::default() })
            }
            2 => Command::ObjectDelete(id(0)),
            3 => Command::UserUpdate(members(&json!({ "username": "x" }))),
            _ => {
                let packet = Outgoing::event("room-message", &json!({}));
                Command::Relay { to: None, packet, volatile: false }
            }
        };
        let is_in = self.seat.is_some();
        self.command(command);
        self.flush();
        let answer = &self.picture.acks[&u64::from(self.counter)];
        let code = if is_in { "unavailable" } else { "not_in_room" };
        assert_eq!(answer["error"]["code"], code);
        assert!(!is_in || answer["error"]["message"] == "a recording cannot be changed");
    }

    fn flush(&mut self) {
        // Far enough on that no welcome is held back.
        self.now = self.now + Duration::from_millis(100);
        let mut effects = Vec::new();
        self.room.flush(self.now, &mut effects);
        self.apply(effects);
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(100);
        let mut effects = Vec::new();
        self.room.handle_tick(self.now, &mut effects);
        self.apply(effects);
        self.check();
    }

    fn apply(&mut self, effects: Vec<Effect<u64>>) {
        for effect in effects {
            match effect {
                Effect::Flush(flush) => {
                    let own = self.seat.map(|(slot, _)| Audience::Others(slot));
                    let is_for_viewer = |entry: &&Entry| Some(entry.audience) != own;
                    let was_in = self.seat.is_some() && !self.is_awaited;
                    for entry in flush.entries.iter().filter(is_for_viewer).filter(|_| was_in) {
                        self.picture.packet(entry.packet.text());
                    }
                    for joined in &flush.joined {
                        let reply = joined.reply.as_ref();
                        let welcome = [reply, flush.users.as_ref(), flush.objects.as_ref()];
                        welcome.into_iter().flatten().for_each(|packet| self.picture.packet(packet.text()));
                        self.seat = Some((joined.slot, joined.encoding));
                        let heard = flush.entries.iter().skip(joined.since).filter(|entry| !entry.in_welcome);
                        for entry in heard.filter(|_| self.is_awaited) {
                            self.picture.packet(entry.packet.text());
                        }
                        self.is_awaited = false;
                    }
                    for (session, packet) in &flush.replies {
                        assert_eq!(*session, VIEWER);
                        self.picture.packet(packet.text());
                    }
                }
                Effect::Tick(poses) => {
                    let (slot, encoding) = self.seat.expect("without a viewer nothing is encoded");
                    // In its own encoding only: no ghost costs what a viewer costs.
                    let [json, batch, binary] =
                        [Encoding::Json, Encoding::Batch, Encoding::Binary].map(|one| one == encoding);
                    assert!(json || poses.json(slot).is_none());
                    assert!(batch || poses.batch(slot).is_none());
                    assert!(binary || poses.binary(slot).is_none());
                    match poses.json(slot) {
                        Some(TickView::Packets { buffer, spans, own }) => {
                            for (_, span) in spans.iter().enumerate().filter(|(at, _)| Some(*at) != own) {
                                self.picture.packet(std::str::from_utf8(&buffer[span.text()]).unwrap());
                            }
                        }
                        Some(TickView::Single(_)) => panic!("json is many packets"),
                        None => {}
                    }
                    poses.batch(slot).iter().for_each(|packet| self.picture.outgoing(packet));
                    poses.binary(slot).into_iter().for_each(|packet| self.picture.outgoing(packet));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn check(&self) {
        if self.seat.is_none() {
            return;
        }
        let picture = &self.picture;
        let answers = picture.acks.values().filter_map(|answer| answer.get("replay"));
        answers.for_each(|replay| assert_eq!(*replay, json!({ "from": 1, "to": 2 })));
        let mut there: Vec<String> = self.ghosts.keys().map(|ghost| format!("sg{ghost}")).collect();
        there.push("s7".into());
        there.sort();
        assert_eq!(picture.users.keys().cloned().collect::<Vec<_>>(), there);
        for (ghost, truth) in &self.ghosts {
            let seen = &picture.users[&format!("sg{ghost}")];
            let name = truth.name.map_or(format!("name g{ghost}"), |number| format!("name {number}"));
            assert_eq!((&seen["username"], &seen["colour"]), (&json!(name), &json!("red")));
            picture.assert_sees(&format!("sg{ghost}"), &pose_numbered(truth.pose));
        }
        let objects: Vec<_> = self
            .objects
            .iter()
            .map(|(object, (version, value))| (id(*object), (Some(*version), json!(value))))
            .collect();
        assert_eq!(picture.objects.clone().into_iter().collect::<Vec<_>>(), objects);
        assert_eq!(picture.log, self.log);
    }

    /// The viewer goes, and with it everything.
    fn finish(mut self) {
        self.tick();
        self.tick();
        if self.seat.is_some() {
            assert!(!self.room.is_done());
            self.counter += 1;
            self.command(Command::Leave);
            self.flush();
        }
        assert!(self.room.is_done(), "ghosts keep no room alive");
        let mut effects = Vec::new();
        self.room.play(vec![Step::Move(MemberId(0), Pose::INITIAL)]);
        self.room.handle_tick(self.now, &mut effects);
        assert!(effects.is_empty(), "nobody is there to see anybody");
    }
}

fn id(object: u8) -> String {
    format!("object {object}")
}

fn members(json: &Value) -> Members {
    serde_json::from_str(&json.to_string()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_played_is_what_the_viewer_sees(operations in vec(operation(), 0..80)) {
        let mut run = Run::new();
        for operation in operations {
            run.step(operation);
        }
        run.finish();
    }
}
