//! A stock client: it says what a script has it say, and keeps its picture of what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use protocol::frame::FrameReader;
use protocol::{Outgoing, Packet, PacketKind, Pose};
use serde_json::{Value, json};
use server::app::App;
use server::transport::{Connection, Link};
use tokio::time::{Instant, timeout};

use crate::script::{Truth, socket_id, user_id, without};

/// What it may take until something has been told, however busy the machine is. On a paused clock it takes no time.
const PATIENCE: Duration = Duration::from_secs(300);
/// How near a pose comes: what a chunk and a frame together may be off.
const POSITION_ERROR_M: f32 = 0.003;
const ROTATION_ERROR: f32 = 0.02;

/// Everything that came.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Its socketId.
    pub(crate) sid: String,
    pub(crate) told: Vec<(String, Value)>,
    /// When each of these came.
    pub(crate) told_at: Vec<Instant>,
    pub(crate) states: Vec<Value>,
    pub(crate) acks: BTreeMap<u64, Value>,
    pub(crate) errors: Vec<Value>,
    /// By socketId; poses apart.
    pub(crate) users: BTreeMap<String, Value>,
    pub(crate) poses: BTreeMap<String, Pose>,
    pub(crate) objects: BTreeMap<String, Value>,
    /// Every pose that was shown of each, in order, without repetitions.
    pub(crate) shown: BTreeMap<String, Vec<Pose>>,
    /// `user-moved`s, `users-moved`s and `pose-frame`s.
    pub(crate) ticks: [usize; 3],
}

struct ClientOutbox(Mutex<Inbox>);

pub(crate) struct Client {
    connection: Arc<Connection<App>>,
    outbox: Arc<ClientOutbox>,
    next_ack: u64,
}

impl Client {
    pub(crate) fn connect(app: &Arc<App>, token: &str, core: usize) -> Self {
        let outbox = Arc::new(ClientOutbox(Mutex::default()));
        let link = Link::new(outbox.clone(), "".into(), core);
        let connection = Connection::open(app.clone(), link, Duration::from_secs(45));
        connection.handle_text(&format!(r#"0{{"token":"{token}"}}"#));
        Self { connection, outbox, next_ack: 0 }
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.outbox.0.lock().unwrap()
    }

    /// Sends an event that wants an answer; gives the answer's id.
    pub(crate) fn send(&mut self, event: &str, payload: &Value) -> u64 {
        self.next_ack += 1;
        self.connection.handle_text(&format!("2{}{}", self.next_ack, json!([event, payload])));
        self.next_ack
    }

    /// Sends an event that wants no answer.
    pub(crate) fn tell(&self, event: &str, payload: &Value) {
        self.connection.handle_text(&format!("2{}", json!([event, payload])));
    }

    /// Sends an event and waits for the answer.
    pub(crate) async fn call(&mut self, event: &str, payload: &Value) -> Value {
        let ack = self.send(event, payload);
        self.until(|inbox| inbox.acks.contains_key(&ack)).await;
        let mut inbox = self.inbox();
        let answer = inbox.acks[&ack].clone();
        if event == "object-create" && answer["ok"] == true {
            // Of what it has made itself it is told nothing else.
            inbox.objects.insert(payload["id"].to_string(), payload.clone());
        }
        answer
    }

    /// Waits until what it was told is as `is_so` wants it.
    pub(crate) async fn until(&self, is_so: impl Fn(&Inbox) -> bool) {
        let since = Instant::now();
        while !is_so(&self.inbox()) {
            assert!(
                since.elapsed() < PATIENCE,
                "waited in vain, last state {:?}",
                self.inbox().states.last()
            );
            pass(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn disconnect(&self) {
        self.connection.handle_close();
    }

    /// Its picture is the truth.
    #[track_caller]
    pub(crate) fn assert_sees(&self, truth: &Truth) {
        let inbox = self.inbox();
        let own = &inbox.sid;
        let mut users: BTreeMap<String, Value> =
            truth.users.iter().map(|(member, user)| (socket_id(*member), user.clone())).collect();
        let seen = |(socket, user): (&String, &Value)| (socket.clone(), without(user.clone(), &["slot"]));
        let seen: BTreeMap<String, Value> = inbox.users.iter().map(seen).collect();
        users.insert(own.clone(), seen[own].clone());
        assert_eq!(seen, users);
        let unowned = |objects: &BTreeMap<String, Value>| -> BTreeMap<String, Value> {
            objects
                .iter()
                .map(|(id, object)| (id.clone(), without(object.clone(), &["owner", "version"])))
                .collect()
        };
        assert_eq!(unowned(&inbox.objects), unowned(&truth.objects));
        for (id, object) in inbox.objects.iter().filter(|(_, object)| !object["version"].is_null()) {
            assert_eq!(object["version"], truth.objects[id]["version"], "{id}");
        }
        for (member, pose) in &truth.poses {
            assert_near(&inbox.poses[&socket_id(*member)], pose, &user_id(*member));
        }
    }
}

/// Lets `duration` of the paused clock go by.
pub(crate) async fn pass(duration: Duration) {
    timeout(duration, std::future::pending::<()>()).await.unwrap_err();
}

#[track_caller]
pub(crate) fn assert_near(seen: &Pose, truth: &Pose, what: &str) {
    assert!(is_near(seen, truth), "{what}: {seen:?} for {truth:?}");
}

pub(crate) fn is_near(seen: &Pose, truth: &Pose) -> bool {
    let parts = |pose: &Pose| [Some(pose.head), pose.left_hand, pose.right_hand];
    parts(seen).into_iter().zip(parts(truth)).all(|parts| match parts {
        (Some(seen), Some(truth)) => {
            let [a, b] = [seen, truth].map(|part| part.rotation.to_quaternion());
            let dot = a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().abs();
            let far = |(a, b): (f32, f32)| (a - b).abs() > POSITION_ERROR_M;
            !seen.position.into_iter().zip(truth.position).any(far)
                && 1.0 - dot < ROTATION_ERROR * ROTATION_ERROR
        }
        (None, None) => true,
        _ => false,
    })
}

impl Inbox {
    fn packet(&mut self, text: &str, attachments: &[bytes::Bytes]) {
        let packet = Packet::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if packet.kind == PacketKind::Ack {
            let args: Vec<Value> = serde_json::from_str(packet.data.unwrap()).unwrap();
            assert!(self.acks.insert(packet.id.unwrap(), args[0].clone()).is_none(), "two answers: {text}");
            return;
        }
        if packet.kind == PacketKind::Connect {
            let data: Value = serde_json::from_str(packet.data.unwrap()).unwrap();
            self.sid = data["sid"].as_str().unwrap().to_owned();
            return;
        }
        let event = packet.event().unwrap();
        let payload: Value = event.first_arg().unwrap().unwrap_or(Value::Null);
        match &*event.name {
            "error" => self.errors.push(payload),
            "replay-state" => self.states.push(payload),
            "pose-frame" => self.frame(&attachments[0]),
            "user-moved" => {
                self.ticks[0] += 1;
                self.moved(&payload);
            }
            "users-moved" => {
                self.ticks[1] += 1;
                payload["users"].as_array().unwrap().iter().for_each(|user| self.moved(user));
            }
            "room-users" => {
                self.users.clear();
                self.poses.clear();
                payload.as_array().unwrap().iter().for_each(|user| self.enter(user));
            }
            "room-objects" => {
                let objects = payload.as_array().unwrap().iter();
                self.objects = objects.map(|object| (object["id"].to_string(), object.clone())).collect();
            }
            name => self.happen(name, payload),
        }
    }

    fn happen(&mut self, name: &str, payload: Value) {
        match name {
            "user-joined" => self.enter(&payload),
            "user-left" => {
                let socket = self.users.iter().find(|(_, user)| user["id"] == payload);
                let socket = socket.unwrap_or_else(|| panic!("{payload} is not there")).0.clone();
                self.users.remove(&socket);
                self.poses.remove(&socket);
            }
            "user-updated" => {
                extend(self.users.get_mut(payload["socketId"].as_str().unwrap()).unwrap(), &payload);
            }
            "object-created" => drop(self.objects.insert(payload["id"].to_string(), payload.clone())),
            "object-updated" => extend(self.objects.get_mut(&payload["id"].to_string()).unwrap(), &payload),
            "object-deleted" => drop(self.objects.remove(&payload["id"].to_string()).unwrap()),
            "room-message" | "room-rate" => {}
            name => panic!("no client knows {name}"),
        }
        let payload = if name == "user-joined" { without(payload, &["slot"]) } else { payload };
        self.told.push((name.to_owned(), payload));
        self.told_at.push(Instant::now());
    }

    fn enter(&mut self, user: &Value) {
        let socket = user["socketId"].as_str().unwrap().to_owned();
        self.poses.insert(socket.clone(), Pose::from_json(&user.to_string()).unwrap());
        let slim = without(user.clone(), &["position", "rotation", "leftHand", "rightHand"]);
        assert!(self.users.insert(socket.clone(), slim).is_none(), "{socket} is there already");
    }

    fn moved(&mut self, user: &Value) {
        self.place(
            user["socketId"].as_str().unwrap().to_owned(),
            Pose::from_json(&user.to_string()).unwrap(),
        );
    }

    fn place(&mut self, socket: String, pose: Pose) {
        assert!(self.users.contains_key(&socket), "{socket} moves and is not there");
        let shown = self.shown.entry(socket.clone()).or_default();
        if shown.last() != Some(&pose) {
            shown.push(pose);
        }
        self.poses.insert(socket, pose);
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.ticks[2] += 1;
        let frame = FrameReader::new(bytes).unwrap();
        for entry in frame.entries() {
            let user = self.users.values().find(|user| user["slot"] == entry.slot);
            let socket =
                user.unwrap_or_else(|| panic!("nobody is in slot {}", entry.slot))["socketId"].clone();
            self.place(socket.as_str().unwrap().to_owned(), entry.pose);
        }
    }
}

fn extend(value: &mut Value, changes: &Value) {
    value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
}

impl Outbox for ClientOutbox {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        self.0.lock().unwrap().packet(packet.text(), packet.attachments());
        Ok(())
    }

    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        let mut inbox = self.0.lock().unwrap();
        match tick {
            TickView::Single(packet) => inbox.packet(packet.text(), packet.attachments()),
            TickView::Packets { buffer, spans, own } => {
                for (_, span) in spans.iter().enumerate().filter(|(index, _)| Some(*index) != *own) {
                    inbox.packet(std::str::from_utf8(&buffer[span.text()]).unwrap(), &[]);
                }
            }
        }
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn close(&self, _: CloseReason) {}
}
