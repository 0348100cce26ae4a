//! One session: what it sends is taken apart with the contract's own readers.

use futures_util::{SinkExt, StreamExt};
use protocol::{ClientEvent, Packet, PacketKind};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Double, Member, Object, QUEUE};

/// The longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// Why a session ends.
struct End;

impl Double {
    pub(super) async fn run(&self, stream: TcpStream) {
        let number = {
            let mut state = self.state();
            state.connections += 1;
            state.connections - 1
        };
        if self.faults.refuse == Some(number) {
            return;
        }
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let upgraded = tokio_tungstenite::accept_async_with_config(stream, Some(limits)).await;
        let Ok(socket) = upgraded else { return };
        let own = format!("session-{number}");
        let (mut out, mut incoming) = socket.split();
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let greeting =
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        let _ = queue.try_send(Message::text(greeting));
        let member = Member { queue, is_in: false, joined: 0, left: 0, updated: 0 };
        self.state().members.insert(own.clone(), member);
        // Whoever does not read is stuck here, and is cut off when its queue has gone.
        let write = async {
            while let Some(message) = queued.recv().await {
                if out.send(message).await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            let (mut poses, mut attachments) = (0, 0);
            while let Some(Ok(message)) = incoming.next().await {
                if self.take(&own, &message, &mut attachments, &mut poses).await.is_err() {
                    return;
                }
                // Thrown out, for not reading.
                if !self.state().members.contains_key(&own) {
                    return;
                }
            }
        };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
        self.leave(&own).await;
        self.state().members.remove(&own);
    }

    async fn take(
        &self,
        own: &str,
        message: &Message,
        attachments: &mut usize,
        poses: &mut u64,
    ) -> Result<(), End> {
        let text = match message {
            Message::Text(text) if *attachments == 0 => text,
            Message::Binary(_) if *attachments > 0 => {
                *attachments -= 1;
                return Ok(());
            }
            Message::Text(_) | Message::Binary(_) => return self.broken(),
            _ => return Ok(()),
        };
        if text.starts_with("40") {
            self.answer(own, format!("40{}", json!({ "sid": own })));
            return Ok(());
        }
        let Some(packet) = text.strip_prefix('4') else { return Ok(()) };
        let Ok(packet) = Packet::decode(packet) else { return self.broken() };
        *attachments = packet.attachments;
        let (PacketKind::Event, Ok(event)) = (packet.kind, packet.event()) else {
            return if packet.kind == PacketKind::BinaryEvent { Ok(()) } else { self.broken() };
        };
        match ClientEvent::parse(&event.name, event.first_raw()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let payload = serde_json::from_str(event.first_raw()).unwrap_or_default();
                self.act(own, &event.name, payload, packet.id, poses).await;
                Ok(())
            }
            Err(_) if self.faults.tolerate => Ok(()),
            Err(_) if self.faults.end_always => Err(End),
            Err(error) => {
                self.refuse(own, packet.id, error.code.as_str());
                Ok(())
            }
        }
    }

    fn broken(&self) -> Result<(), End> {
        if self.faults.tolerate { Ok(()) } else { Err(End) }
    }

    fn grant(&self, own: &str, ack: Option<u64>) {
        if let Some(id) = ack {
            self.answer(own, format!("43{id}{}", json!([{ "ok": true }])));
        }
    }

    fn refuse(&self, own: &str, ack: Option<u64>, code: &str) {
        let text = match ack {
            Some(id) => {
                format!("43{id}{}", json!([{ "ok": false, "error": { "code": code, "message": "no" } }]))
            }
            None => format!("42{}", json!(["error", { "message": "no", "code": code }])),
        };
        self.answer(own, text);
    }

    async fn act(&self, own: &str, event: &str, mut payload: Value, ack: Option<u64>, poses: &mut u64) {
        match event {
            "join-room" => self.join(own).await,
            "leave-room" => self.leave(own).await,
            "update-position" => {
                *poses += 1;
                if self.faults.lose_moves_from.is_some_and(|from| *poses > from) {
                    return;
                }
                payload["id"] = own.into();
                payload["socketId"] = own.into();
                payload["padding"] = "x".repeat(self.faults.padding).into();
                self.tell(own, "user-moved", &payload).await;
            }
            "object-create" => {
                let id = payload["id"].as_str().unwrap_or_default().to_owned();
                let object = Object { version: 1, members: payload.clone(), made: payload.clone() };
                self.state().objects.insert(id, object);
                self.grant(own, ack);
                self.tell(own, "object-created", &payload).await;
            }
            "object-update" => self.update_object(own, &payload, ack).await,
            "object-delete" => self.delete_object(own, &payload, ack).await,
            _ => self.grant(own, ack),
        }
    }

    async fn update_object(&self, own: &str, payload: &Value, ack: Option<u64>) {
        let id = payload["id"].as_str().unwrap_or_default();
        let told = {
            let mut state = self.state();
            let known = state.objects.get(id).map(|object| object.version);
            let is_stale = known.is_some() && payload["version"].as_u64().is_some_and(|v| Some(v) != known);
            state.stale += u64::from(is_stale);
            let stale = state.stale;
            let pardon = is_stale && self.faults.grant_stale.is_some_and(|each| stale.is_multiple_of(each));
            match state.objects.get_mut(id) {
                None => Err("not_found"),
                Some(_) if is_stale && !pardon => Err("stale_version"),
                Some(object) => {
                    // An edit that comes too late and is granted all the same takes the place of another.
                    object.version = payload["version"].as_u64().unwrap_or(object.version) + 1;
                    object.members = payload.clone();
                    let mut told = payload.clone();
                    told["version"] = object.version.into();
                    Ok(told)
                }
            }
        };
        match told {
            Ok(told) => {
                self.grant(own, ack);
                self.tell(own, "object-updated", &told).await;
            }
            Err(code) => self.refuse(own, ack, code),
        }
    }

    async fn delete_object(&self, own: &str, payload: &Value, ack: Option<u64>) {
        let id = payload["id"].as_str().unwrap_or_default();
        let (was_there, again) = {
            let mut state = self.state();
            let was_there = state.objects.remove(id).is_some();
            let again = self.faults.delete_twice && !was_there && state.last_deleted.as_deref() == Some(id);
            if was_there {
                state.last_deleted = Some(id.to_owned());
            }
            (was_there, again)
        };
        if !was_there && !again {
            return self.refuse(own, ack, "not_found");
        }
        self.grant(own, ack);
        if was_there {
            self.tell(own, "object-deleted", &json!({ "id": id })).await;
        }
    }
}
