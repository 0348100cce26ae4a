//! A room that is driven without a model, to be compared with one that is driven in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::broadcast::TickPoses;
use engine::ports::TickView;
use engine::room::{Command, Effect, RecordEffect, Room};
use engine::{RoomDefaults, RoomOptions, RoomShared, SessionId, Time, User};
use protocol::event::{ObjectUpdate, View};
use protocol::{Members, Outgoing};
use serde_json::{Value, json};

use super::operation::{Operation, SESSIONS, Setup, To};
use crate::common::poses::pose_numbered;

pub(crate) struct Twin {
    room: Room<u64>,
    shared: Arc<RoomShared>,
    now: Time,
    admitted: BTreeMap<u64, (u16, u32)>,
}

impl Twin {
    pub(crate) fn new(setup: Setup, is_recorded: bool) -> Self {
        let options = RoomOptions {
            max_users: setup.max_users,
            record_messages: true,
            ..RoomDefaults::default().options()
        };
        let now = Time::from_micros(1_000_000_000);
        let shared = RoomShared::detached("twin", options, now);
        let mut room = Room::new(shared.clone(), setup.max_objects, Vec::new());
        if is_recorded {
            room.begin_recording(now, 0, &mut Vec::new());
            room.sample_poses_at(10);
        }
        Self { room, shared, now, admitted: BTreeMap::new() }
    }

    /// What goes out.
    pub(crate) fn step(&mut self, operation: &Operation, number: u32) -> Vec<String> {
        let mut effects = Vec::new();
        match *operation {
            Operation::Move { who } => {
                if let Some(&(slot, generation)) = self.admitted.get(&who) {
                    // It may have left.
                    let _ = self.shared.table.store(slot, generation, &pose_numbered(number));
                }
            }
            Operation::Tick => return self.tick(),
            Operation::Flush => self.room.flush(self.now, &mut effects),
            Operation::Pass { millis } => self.now = self.now + Duration::from_millis(millis),
            _ => {
                let Some((who, ack, command)) = command(operation, number) else { return Vec::new() };
                let ack = ack.then_some(number.into());
                self.room.handle_command(self.now, SessionId(who), &who, command, ack, &mut effects);
            }
        }
        self.out(effects)
    }

    pub(crate) fn tick(&mut self) -> Vec<String> {
        self.now = self.now + Duration::from_millis(50);
        let mut effects = Vec::new();
        self.room.handle_tick(self.now, &mut effects);
        self.out(effects)
    }

    fn out(&mut self, effects: Vec<Effect<u64>>) -> Vec<String> {
        let mut out = Vec::new();
        for effect in effects {
            match effect {
                // A journal that is done at once.
                Effect::Record(RecordEffect { awaits, .. }) => {
                    awaits.into_iter().for_each(|awaits| self.room.recorded(awaits, true));
                }
                Effect::Tick(poses) => out.push(views(&poses)),
                Effect::Admit { session, slot, generation } => {
                    self.admitted.insert(session, (slot, generation));
                    out.push(format!("{session} in {slot}"));
                }
                other => out.push(format!("{other:?}")),
            }
        }
        out.push(format!("{:?} {}", self.room.flush_due(), self.room.is_done()));
        out
    }
}

/// What everybody sees of a tick.
fn views(poses: &TickPoses) -> String {
    let mut out = String::new();
    for slot in 0..SESSIONS as u16 {
        let text = match poses.json(slot) {
            Some(TickView::Packets { buffer, own, .. }) => format!("{buffer:?} {own:?}"),
            Some(TickView::Single(packet)) => packet.text().to_owned(),
            None => String::new(),
        };
        let batch = poses.batch(slot).map(|packet| packet.text().to_owned());
        let binary = poses.binary(slot).map(|packet| packet.attachments().to_vec());
        out += &format!("{slot} {text} {batch:?} {binary:?}\n");
    }
    out
}

fn command(operation: &Operation, number: u32) -> Option<(u64, bool, Command)> {
    let id = |object: u8| format!("object {object}");
    let name = |kind: &str, who: u64| -> Arc<str> { format!("{kind}{who}").into() };
    Some(match *operation {
        Operation::Join { who, encoding, ack, .. } => {
            let user = User { id: name("u", who), socket_id: name("s", who), username: name("n", who) };
            (who, ack, Command::Join { user, encoding, password: None, view: View::default() })
        }
        Operation::Leave { who, ack } => (who, ack, Command::Leave),
        Operation::Create { who, object, ack, .. } => {
            let members = members(&json!({ "id": id(object), "value": number }));
            (who, ack, Command::ObjectCreate { members, fresh_id: "fresh".into() })
        }
        Operation::Update { who, object, ack, .. } => {
            let changes = members(&json!({ "value": number }));
            (who, ack, Command::ObjectUpdate(ObjectUpdate { id: id(object), version: None, changes }))
        }
        Operation::Delete { who, object, ack } => (who, ack, Command::ObjectDelete(id(object))),
        Operation::UserUpdate { who, ack, .. } => {
            (who, ack, Command::UserUpdate(members(&json!({ "mood": number }))))
        }
        Operation::Relay { who, ref to, volatile, ack } => {
            let to = match to {
                To::Everybody => None,
                To::SocketId(other) => Some(format!("s{other}")),
                To::UserId(other) => Some(format!("u{other}")),
                To::Nobody => Some("nobody".to_owned()),
            };
            let packet = Outgoing::event("room-message", &json!({ "data": number }));
            (who, ack, Command::Relay { to, packet, volatile })
        }
        _ => return None,
    })
}

fn members(json: &Value) -> Members {
    serde_json::from_str(&json.to_string()).unwrap()
}
