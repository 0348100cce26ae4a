//! The command that an operation stands for, and what the model says to it.

use engine::User;
use engine::room::Command;
use protocol::event::{ObjectUpdate, View};
use protocol::{Members, Outgoing};
use serde_json::{Value, json};

use super::operation::{Known, Operation, Password, To};
use super::run::{Run, Storing};
use super::truth::Truth;

impl Run {
    /// The command that an operation stands for.
    pub(super) fn parse(&self, operation: &Operation) -> (u64, bool, Command) {
        let value = self.counter;
        match *operation {
            Operation::Join { who, encoding, password, ack } => {
                let name = |kind: &str| format!("{kind}{who}").as_str().into();
                let user = User { id: name("u"), socket_id: name("s"), username: name("name ") };
                let password = match password {
                    Password::Right => Some("sesame".to_owned()),
                    Password::Wrong => Some("Sesame".to_owned()),
                    Password::Absent => None,
                };
                (who, ack, Command::Join { user, encoding, password, view: View::default() })
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
    pub(super) fn expect(&mut self, operation: &Operation, who: u64, ack: Option<u64>) {
        let inside = self.truth.members.contains_key(&who);
        let outcome = self.judge(operation, who, ack);
        let late =
            if inside && outcome.starts_with("ok") { self.late(operation, who, ack, &outcome) } else { None };
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
        } else if let Some(late) = late {
            self.truth.late.push_back(late);
        } else if !(outcome == "ok" && matches!(operation, Operation::Join { .. })) {
            self.truth.answer(who, ack, &outcome);
        }
    }

    fn judge(&mut self, operation: &Operation, who: u64, ack: Option<u64>) -> String {
        let ticket = self.setup.recorded.then_some(self.counter);
        let truth = &mut self.truth;
        let inside = truth.members.contains_key(&who);
        let value = self.counter;
        match *operation {
            Operation::Join { password, .. } => {
                let shut = self.setup.password && !matches!(password, Password::Right);
                match inside {
                    false if shut => return "wrong_password".into(),
                    false if truth.members.len() >= self.setup.max_users => return "room_full".into(),
                    _ => truth.join(who, ack, ticket),
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
}

fn id(object: u8) -> String {
    format!("object {object}")
}

fn members(json: &Value) -> Members {
    serde_json::from_str(&json.to_string()).unwrap()
}
