//! What a session does with each event of its client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use protocol::error::{ClientError, ErrorCode};
use protocol::event::{JoinRoom, RoomMessage, Signal};
use protocol::limits::MAX_MESSAGE_BYTES;
use protocol::{ClientEvent, Outgoing};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Session;
use crate::room::{AckId, Command};

/// What a relayed message may be longer than the message that came in: its sender's names.
const ENVELOPE_BYTES: usize = 1024;

impl Session {
    /// Carries out an event that has been [paid](Session::pay) for, or tells the client why not. `attachments` are those of the
    /// packet that brought it.
    pub fn handle(self: &Arc<Self>, event: ClientEvent<'_>, attachments: Vec<Bytes>, ack: AckId) {
        if let Err(error) = self.try_handle(event, attachments, ack) {
            self.refuse(ack, &error);
        }
    }

    fn try_handle(
        self: &Arc<Self>,
        event: ClientEvent<'_>,
        attachments: Vec<Bytes>,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let takes_attachments = matches!(event, ClientEvent::RoomMessage(_) | ClientEvent::Signal(_));
        if !attachments.is_empty() && !takes_attachments {
            return Err(ClientError::bad_request("this event takes no attachments"));
        }
        match event {
            ClientEvent::JoinRoom(JoinRoom { replay: Some(_), .. }) => {
                Err(unavailable("this server plays no recordings"))
            }
            ClientEvent::JoinRoom(join) => self.join(join, ack),
            ClientEvent::LeaveRoom => self.leave(ack),
            ClientEvent::UpdatePosition(pose) => {
                let is_kept = self.update_pose(&pose);
                // Who wants no answer is not told of each of them.
                if is_kept || ack.is_none() { Ok(()) } else { Err(ClientError::not_in_room()) }
            }
            ClientEvent::ObjectCreate(members) => {
                self.command(Command::ObjectCreate { members, fresh_id: fresh_id() }, ack)
            }
            ClientEvent::ObjectUpdate(update) => self.command(Command::ObjectUpdate(update), ack),
            ClientEvent::ObjectDelete(id) => self.command(Command::ObjectDelete(id), ack),
            ClientEvent::UserUpdate(changes) => self.command(Command::UserUpdate(changes), ack),
            ClientEvent::RoomMessage(message) => self.message(&message, attachments, ack),
            ClientEvent::Signal(signal) => self.signal(&signal, attachments, ack),
            ClientEvent::View(view) => self.command(Command::View(view), ack),
            ClientEvent::TimeSync | ClientEvent::WorkerTask(_) | ClientEvent::Playback(_) => {
                Err(unavailable("this server does not take this event"))
            }
        }
    }

    fn join(self: &Arc<Self>, join: JoinRoom<'_>, ack: AckId) -> Result<(), ClientError> {
        let encoding = join.encoding.unwrap_or_default();
        let mut seat = self.seat();
        if seat.closed {
            return Ok(());
        }
        if self.departures.load(Ordering::Acquire) > 0 {
            return Err(self.overloaded());
        }
        let lease = self.engine.resolve(&join.room_id)?;
        let command = Command::Join {
            user: self.user.clone(),
            encoding,
            password: join.password.map(|password| password.into_owned()),
            view: join.view.unwrap_or_default(),
        };
        self.take_seat(&mut seat, lease, command, ack)
    }

    fn leave(self: &Arc<Self>, ack: AckId) -> Result<(), ClientError> {
        let mut seat = self.seat();
        let room = self.vacate(&mut seat).ok_or_else(ClientError::not_in_room)?;
        self.submit_always(room, ack);
        Ok(())
    }

    fn message(
        self: &Arc<Self>,
        message: &RoomMessage<'_>,
        attachments: Vec<Bytes>,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let packet = self.relayed("room-message", Some(&message.kind), message.data, attachments)?;
        let to = message.to.as_deref().map(str::to_owned);
        self.command(Command::Relay { to, packet, volatile: message.volatile }, ack)
    }

    fn signal(
        self: &Arc<Self>,
        signal: &Signal<'_>,
        attachments: Vec<Bytes>,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let packet = self.relayed("signal", None, signal.data, attachments)?;
        self.command(Command::Relay { to: Some(signal.to.to_string()), packet, volatile: false }, ack)
    }

    /// What others get of something that this session says to them.
    fn relayed(
        &self,
        name: &str,
        kind: Option<&str>,
        data: Option<&RawValue>,
        attachments: Vec<Bytes>,
    ) -> Result<Outgoing, ClientError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Relayed<'a> {
            #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
            kind: Option<&'a str>,
            data: Option<&'a RawValue>,
            from: &'a str,
            socket_id: &'a str,
        }
        let relayed = Relayed { kind, data, from: &self.user.id, socket_id: &self.user.socket_id };
        let json = serde_json::to_string(&relayed).expect("strings and JSON texts");
        let attached = attachments.iter().map(Bytes::len).sum::<usize>();
        if json.len() + attached > MAX_MESSAGE_BYTES + ENVELOPE_BYTES {
            return Err(ClientError::new(
                ErrorCode::Limit,
                "a message is at most 64 KiB, attachments included",
            ));
        }
        Ok(Outgoing::binary_event_raw(name, &json, attachments))
    }
}

fn unavailable(message: &'static str) -> ClientError {
    ClientError::new(ErrorCode::Unavailable, message)
}

/// An id that nobody guesses and that no two objects share.
fn fresh_id() -> String {
    format!("obj_{:016x}", rand::random::<u64>())
}
