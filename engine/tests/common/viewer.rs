//! A client as the tests see it: it reads packets, keeps its picture of the room, and panics at whatever a
//! client could not make sense of.

use std::collections::{BTreeMap, BTreeSet};

use protocol::frame::{FLAG_FULL, FrameReader};
use protocol::{Outgoing, Packet, PacketKind, Pose};
use serde_json::Value;

use super::poses::{POSE_MEMBERS, assert_near, pose_json, pose_of};

/// What goes before each frame of poses.
const FRAME_TEXT: &str = r#"51-["pose-frame",{"_placeholder":true,"num":0}]"#;

/// What one client knows.
#[derive(Debug, Default)]
pub(crate) struct Viewer {
    socket_id: String,
    /// Whether it stands in a room: between a welcome and a departure.
    pub(crate) inside: bool,
    /// It has left the room and asked to be let in again: what it hears until its welcome is of its old stay.
    pub(crate) returning: bool,
    /// Everybody in the room, itself included, by socketId.
    pub(crate) users: BTreeMap<String, Value>,
    /// The poses that frames have shown since its welcome, by slot. They are newer than those in `users`.
    framed: BTreeMap<u16, Pose>,
    /// Who was in each frame since they were last taken.
    pub(crate) frames: Vec<Frame>,
    /// The newest frame's tick since its welcome.
    newest_tick: Option<u32>,
    /// The room's objects by id. `None` as the version: it cannot be known from what was told.
    pub(crate) objects: BTreeMap<String, (Option<u64>, Value)>,
    /// The answers by ack id.
    pub(crate) acks: BTreeMap<u64, Value>,
    /// Payloads of `error`.
    pub(crate) errors: Vec<Value>,
    /// Payloads of `server-restart`.
    pub(crate) restarts: Vec<Value>,
    /// It does not see as far as there is anybody, so that a full frame need not have everybody.
    pub(crate) is_limited: bool,
    /// What `room-rate` has told: ticks per second, and why.
    pub(crate) rates: Vec<(u64, String)>,
    /// What was told reliably, in order and in short.
    pub(crate) log: Vec<String>,
    /// The number of the newest message of each sender that it has seen since both are in the room.
    newest_message: BTreeMap<String, u64>,
    poses_seen: usize,
}

/// A frame in short.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) is_full: bool,
    pub(crate) slots: BTreeSet<u16>,
}

impl Viewer {
    pub(crate) fn new(socket_id: &str) -> Self {
        Self { socket_id: socket_id.to_owned(), ..Self::default() }
    }

    /// The client has asked to leave, or to enter another room: nothing may come from the old one any more.
    pub(crate) fn step_out(&mut self) {
        self.inside = false;
        self.returning = false;
        self.users.clear();
        self.framed.clear();
        self.newest_tick = None;
        self.objects.clear();
        self.newest_message.clear();
    }

    /// The slot of somebody whom it knows.
    pub(crate) fn slot_of(&self, socket_id: &str) -> u16 {
        slot(&self.users[socket_id])
    }

    /// It sees this other member in this pose: exactly, if it takes JSON, and as nearly as a frame can say it, if
    /// a frame has said it.
    #[track_caller]
    pub(crate) fn assert_sees(&self, other: &str, truth: &Pose) {
        let what = format!("{other} as {} sees it", self.socket_id);
        match self.framed.get(&self.slot_of(other)) {
            Some(seen) => assert_near(seen, truth, &what),
            None => assert_eq!(pose_of(&self.users[other]), pose_json(truth), "{what}"),
        }
    }

    /// Whether it sees this other member about there.
    pub(crate) fn sees(&self, other: &str, truth: &Pose) -> bool {
        let seen = match self.framed.get(&self.slot_of(other)) {
            Some(seen) => seen.head.position[0],
            None => self.users[other]["position"]["x"].as_f64().unwrap() as f32,
        };
        (seen - truth.head.position[0]).abs() < 0.01
    }

    /// How many poses of others it has been shown.
    pub(crate) fn poses_seen(&self) -> usize {
        self.poses_seen
    }

    /// Reads one Socket.IO packet, with its attachments.
    pub(crate) fn outgoing(&mut self, packet: &Outgoing) {
        match packet.attachments() {
            [] => self.packet(packet.text()),
            [frame] => {
                assert_eq!(packet.text(), FRAME_TEXT);
                self.pose_frame(frame);
            }
            more => panic!("{} attachments", more.len()),
        }
    }

    fn pose_frame(&mut self, bytes: &[u8]) {
        if self.returning {
            return;
        }
        assert!(self.inside, "{} is in no room and gets a frame", self.socket_id);
        let frame = FrameReader::new(bytes).unwrap();
        let tick = frame.header().tick;
        assert!(
            self.newest_tick.is_none_or(|newest| newest < tick),
            "tick {tick} after {:?}",
            self.newest_tick
        );
        self.newest_tick = Some(tick);
        let known: BTreeSet<u16> = self.users.values().map(slot).collect();
        let mut slots = BTreeSet::new();
        for entry in frame.entries() {
            assert!(known.contains(&entry.slot), "{} is shown the empty slot {}", self.socket_id, entry.slot);
            assert!(slots.insert(entry.slot), "slot {} is twice in one frame", entry.slot);
            self.framed.insert(entry.slot, entry.pose);
        }
        let own = self.slot_of(&self.socket_id);
        assert!(slots.iter().any(|slot| *slot != own), "{} gets a frame of nobody else", self.socket_id);
        let is_full = frame.header().flags & FLAG_FULL != 0;
        let is_all = slots == known || self.is_limited;
        assert!(!is_full || is_all, "a full frame with {slots:?} of {known:?}");
        self.poses_seen += slots.len();
        self.frames.push(Frame { is_full, slots });
    }

    /// Reads one Socket.IO packet without attachments.
    pub(crate) fn packet(&mut self, text: &str) {
        let packet = Packet::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if packet.kind == PacketKind::Ack {
            let args: Vec<Value> = serde_json::from_str(packet.data.unwrap()).unwrap();
            let id = packet.id.unwrap();
            let before = self.acks.insert(id, args[0].clone());
            assert!(before.is_none(), "{} has got two answers to {id}: {text}", self.socket_id);
            return;
        }
        let event = packet.event().unwrap();
        let payload: Value = event.first_arg().unwrap().unwrap_or(Value::Null);
        match &*event.name {
            "error" => self.errors.push(payload),
            "server-restart" => self.restarts.push(payload),
            "room-users" => self.welcome(&payload),
            _ if self.returning => {}
            name => {
                assert!(self.inside, "{} is in no room and gets {text}", self.socket_id);
                self.room_event(name, &payload);
            }
        }
    }

    fn room_event(&mut self, name: &str, payload: &Value) {
        match name {
            "room-objects" => {
                let with_version = |object: &Value| (object["version"].as_u64(), object["value"].clone());
                let objects = payload.as_array().unwrap().iter();
                self.objects = objects.map(|object| (string(&object["id"]), with_version(object))).collect();
            }
            "user-joined" => self.joined(payload),
            "user-left" => self.left(payload.as_str().unwrap()),
            "user-moved" => self.moved(payload),
            "users-moved" => payload["users"].as_array().unwrap().iter().for_each(|user| self.moved(user)),
            "user-updated" => {
                self.log.push(format!("updated {}", string(&payload["socketId"])));
                let user = self.other(payload);
                user["username"] = payload["username"].clone();
            }
            "room-message" => self.message(payload),
            "room-rate" => {
                self.rates.push((payload["tickHz"].as_u64().unwrap(), string(&payload["reason"])));
            }
            name => self.object_event(name, payload),
        }
    }

    fn object_event(&mut self, name: &str, payload: &Value) {
        let id = string(&payload["id"]);
        let value = payload["value"].clone();
        self.log.push(format!("{name} {id} {value}"));
        match name {
            "object-created" => {
                let version = if self.objects.contains_key(&id) { None } else { Some(1) };
                self.objects.insert(id, (version, value));
            }
            "object-updated" => {
                self.objects.insert(id, (payload["version"].as_u64(), value));
            }
            "object-deleted" => {
                self.objects.remove(&id);
            }
            _ => panic!("an event that no client knows: {name}"),
        }
    }

    fn welcome(&mut self, users: &Value) {
        let users = users.as_array().unwrap();
        self.log.push("welcome".to_owned());
        self.inside = true;
        self.returning = false;
        self.newest_message.clear();
        self.framed.clear();
        self.newest_tick = None;
        self.users = users.iter().map(|user| (string(&user["socketId"]), user.clone())).collect();
        assert_eq!(self.users.len(), users.len(), "somebody is listed twice");
        assert!(self.users.contains_key(&self.socket_id), "the joiner is in its own list");
        let slots: BTreeSet<u64> = users.iter().map(|user| user["slot"].as_u64().unwrap()).collect();
        assert_eq!(slots.len(), users.len(), "no two members have one slot");
    }

    fn joined(&mut self, user: &Value) {
        let socket_id = string(&user["socketId"]);
        self.log.push(format!("joined {socket_id}"));
        assert_ne!(socket_id, self.socket_id, "nobody is told of its own arrival");
        self.newest_message.remove(user["id"].as_str().unwrap());
        let slot = user["slot"].clone();
        assert!(self.users.values().all(|other| other["slot"] != slot), "slot {slot} is taken");
        let before = self.users.insert(socket_id.clone(), user.clone());
        assert!(before.is_none(), "{} is told twice that {socket_id} has come", self.socket_id);
    }

    fn left(&mut self, user_id: &str) {
        self.log.push(format!("left {user_id}"));
        let found = self.users.iter().find(|(_, user)| user["id"] == user_id).map(|(id, _)| id.clone());
        let Some(socket_id) = found else {
            panic!("{} is told that {user_id} has gone, who is not there", self.socket_id)
        };
        assert_ne!(socket_id, self.socket_id, "nobody is told of its own departure");
        self.newest_message.remove(user_id);
        let user = self.users.remove(&socket_id).unwrap();
        self.framed.remove(&slot(&user));
    }

    fn moved(&mut self, payload: &Value) {
        self.poses_seen += 1;
        let user = self.other(payload);
        for name in POSE_MEMBERS {
            user[name] = payload[name].clone();
        }
        let slot = slot(user);
        self.framed.remove(&slot);
    }

    /// Messages of one sender are numbered without gaps.
    fn message(&mut self, payload: &Value) {
        let from = string(&payload["from"]);
        let number = payload["data"].as_u64().unwrap();
        self.log.push(format!("message {number}"));
        // One who has said something and gone before our welcome is not there for us any more.
        let is_there = self.users.values().any(|user| user["id"] == from);
        if payload["type"] == "numbered"
            && is_there
            && let Some(before) = self.newest_message.insert(from.clone(), number)
        {
            assert_eq!(number, before + 1, "{} missed messages of {from}, or has them twice", self.socket_id);
        }
    }

    /// Whom an event is about: somebody else, who is there.
    fn other(&mut self, payload: &Value) -> &mut Value {
        let socket_id = string(&payload["socketId"]);
        assert_ne!(socket_id, self.socket_id, "nobody gets its own events");
        let me = &self.socket_id;
        self.users
            .get_mut(&socket_id)
            .unwrap_or_else(|| panic!("{me} hears of {socket_id}, who is not there: {payload}"))
    }
}

fn slot(user: &Value) -> u16 {
    user["slot"].as_u64().and_then(|slot| u16::try_from(slot).ok()).unwrap()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
