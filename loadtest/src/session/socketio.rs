//! Socket.IO: how one gets in, and what its messages mean.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use protocol::{Packet, PacketKind};

use super::{Session, Stage};
use crate::binary::{self, Height, tick_of};
use crate::options::{Encoding, Transport};
use crate::stamp::{self, Stamp};
use crate::tally::{Tally, count_reason};
use crate::websocket::opcode;
use crate::witness::Received;
use crate::worker::{Plan, Shared};

/// Where the WebSocket is opened.
pub(crate) const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
/// What a pose frame's announcement begins with.
const POSE_FRAME: &[u8] = b"451-[\"pose-frame\"";
/// Events that come in great numbers while people arrive and leave, and that nobody here needs.
const PRESENCE: [&[u8]; 3] = [b"42[\"user-joined\"", b"42[\"user-left\"", b"42[\"user-updated\""];
/// The ack id of `join-room`, whose answer tells one's slot. That of a `time-sync` is one more than the number of the
/// pose that it goes with.
const JOIN_ACK: u64 = 0;

/// Connects, and joins if the plan goes that far.
pub(super) async fn enter(shared: &Rc<Shared>, plan: &Plan, index: u32) -> Result<Session> {
    let token = plan.tokens.get(index as usize % plan.tokens.len().max(1));
    let started = plan.arrival(index).unwrap_or_else(Instant::now);
    let mut session = match plan.transport {
        Transport::Websocket => Session::open(shared, &plan.target, PATH, index).await?,
        Transport::Polling => Session::open_polling(shared, &plan.target, index).await?,
    };
    session.reach(Stage::Greeted).await?;
    let connect = match token {
        Some(token) => format!("40{}", serde_json::json!({ "token": token })),
        None => "40".to_owned(),
    };
    session.sender().send(opcode::TEXT, connect.as_bytes())?;
    session.reach(Stage::Connected).await?;
    shared.tally.borrow_mut().connect.record(started.elapsed());
    if plan.stage == Stage::Joined {
        let started = Instant::now();
        let room = plan.crowd.room_name(plan.crowd.room(index));
        let join = serde_json::json!(["join-room", { "roomId": room, "encoding": plan.encoding.as_str() }]);
        // Only binary frames need the answer; a server of another kind may know no acks.
        let ack = if plan.encoding == Encoding::Binary { JOIN_ACK.to_string() } else { String::new() };
        session.sender().send(opcode::TEXT, format!("42{ack}{join}").as_bytes())?;
        session.reach(Stage::Joined).await?;
        shared.tally.borrow_mut().join.record(started.elapsed());
    }
    Ok(session)
}

impl Session {
    pub(super) fn take_socketio_text(&mut self, text: &[u8], now: Instant) -> Result<(), String> {
        if self.attachments > 0 && text.starts_with(b"4") {
            return Err("a text while binary messages were due".to_owned());
        }
        if text.starts_with(POSE_FRAME) {
            self.attachments = 1;
            self.is_pose_frame = true;
        } else if text.starts_with(b"42[\"user-moved\"") {
            self.take_poses(text, now);
        } else if text.starts_with(b"42[\"users-moved\"") {
            self.count_tick(now);
            self.take_poses(text, now);
        } else if text.starts_with(b"42[\"room-users\"") {
            // It may be longer than any packet that the protocol's reader takes from a client.
            self.stage = self.stage.max(Stage::Joined);
        } else if !PRESENCE.iter().any(|event| text.starts_with(event)) {
            match text {
                [b'0', ..] => self.stage = self.stage.max(Stage::Greeted),
                [b'1', ..] => return Err("the server closed the Engine.IO session".to_owned()),
                b"2" => self.send(opcode::TEXT, b"3")?,
                [b'4', packet @ ..] => {
                    let packet =
                        std::str::from_utf8(packet).map_err(|_| "text that is not UTF-8".to_owned())?;
                    self.take_packet(packet, now)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_packet(&mut self, text: &str, now: Instant) -> Result<(), String> {
        let packet = Packet::decode_header(text).map_err(|error| format!("a packet is wrong: {error}"))?;
        (self.attachments, self.is_pose_frame) = (packet.attachments, false);
        match packet.kind {
            PacketKind::Connect => self.stage = self.stage.max(Stage::Connected),
            PacketKind::ConnectError => return Err(format!("CONNECT was refused: {text}")),
            PacketKind::Disconnect => return Err("the server ended the session".to_owned()),
            PacketKind::Event => {
                let event = packet.event().map_err(|error| format!("an event is wrong: {error}"))?;
                let mut tally = self.shared.tally.borrow_mut();
                match &*event.name {
                    "error" => count_reason(&mut tally.errors, event.args),
                    "room-rate" => match rate_hz(event.first_raw()) {
                        Some(hz) => tally.count_rate(hz),
                        None => count_reason(&mut tally.errors, "room-rate without a rate"),
                    },
                    _ => {}
                }
            }
            PacketKind::Ack if packet.id == Some(JOIN_ACK) => self.take_join_ack(&packet)?,
            PacketKind::Ack => self.take_answer(packet.id, now),
            PacketKind::BinaryEvent | PacketKind::BinaryAck => {}
        }
        Ok(())
    }

    /// The answer to a `time-sync`. Its age counts from when the question was due, like that of a pose.
    fn take_answer(&self, id: Option<u64>, now: Instant) {
        let number = id.and_then(|id| u32::try_from(id.checked_sub(1)?).ok());
        let Some((schedule, number)) = self.shared.schedule.get().zip(number) else { return };
        let mut tally = self.shared.tally.borrow_mut();
        if !self.sender.answered(number) {
            tally.acks_unasked += 1;
        } else if schedule.counts(number) {
            tally.acks.record(schedule.age(self.sender.index, number, schedule.moment(now)));
            tally.acks_answered += 1;
        }
    }

    /// Notes on the board which slot is this user's.
    fn take_join_ack(&self, packet: &Packet<'_>) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct JoinAck {
            slot: u16,
        }
        let args = packet.ack_args().map_err(|error| format!("an ack is wrong: {error}"))?;
        let ack: JoinAck =
            serde_json::from_str(args).map_err(|_| format!("join-room was not granted: {args}"))?;
        let index = self.sender.index;
        self.shared.board.take_slot(self.shared.crowd.room(index), ack.slot, index);
        Ok(())
    }

    pub(super) fn take_attachment(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        if self.attachments == 0 {
            return Err("a binary message that nothing announced".to_owned());
        }
        self.attachments -= 1;
        if self.is_pose_frame {
            self.take_pose_frame(bytes, now);
        }
        Ok(())
    }

    /// Takes a pose frame: its header always, its entries if this receiver is judged.
    fn take_pose_frame(&mut self, frame: &[u8], now: Instant) {
        let Some(tick) = tick_of(frame) else {
            self.shared.tally.borrow_mut().frames_unreadable += 1;
            return;
        };
        if tick < self.tick {
            self.shared.tally.borrow_mut().frames_back += 1;
        }
        self.tick = tick;
        self.count_tick(now);
        let Self { shared, sender, witness, .. } = self;
        let Some(schedule) = shared.schedule.get() else { return };
        let Some(witness) = witness else { return };
        let mut tally = shared.tally.borrow_mut();
        let scene = shared.scene(&schedule);
        let (moment, room) = (schedule.moment(now), shared.crowd.room(sender.index));
        let in_window = shared.in_window(now);
        witness.look(&scene, now);
        let before = tally.received;
        let outcome = binary::scan(frame, |entry| {
            let height = entry.height();
            let Some(from) = shared.board.user_in(room, entry.slot) else {
                // Whoever is still joining may be seen before its own ack is read, and whoever else is there stands still.
                tally.unreadable += u64::from(in_window && height != Height::Unmoved);
                return;
            };
            if from == sender.index {
                tally.own += 1;
                return;
            }
            let number = match height {
                Height::Number(wire) => moment.number(wire, binary::NUMBER_WRAP),
                Height::Unmoved => return,
                Height::Unreadable => None,
            };
            match number {
                Some(number) => {
                    let pose = Received { from, number, place: Some(entry.place()) };
                    witness.take(&scene, moment, pose, &mut tally);
                }
                None => tally.unreadable += 1,
            }
        });
        tally.frames_unreadable += u64::from(outcome.is_err());
        Self::note_news(shared, &tally, before, now);
    }

    /// Takes the poses in the text of an event.
    fn take_poses(&mut self, text: &[u8], now: Instant) {
        let Self { shared, sender, witness, .. } = self;
        let Some(schedule) = shared.schedule.get() else { return };
        shared.last_pose.set(Some(now));
        let Some(witness) = witness else { return };
        let mut tally = shared.tally.borrow_mut();
        let tally: &mut Tally = &mut tally;
        let scene = shared.scene(&schedule);
        let moment = schedule.moment(now);
        witness.look(&scene, now);
        shared.scanner.scan(text, |stamp| {
            let known = stamp.filter(|stamp| stamp.sender < shared.crowd.users);
            let numbered = known.and_then(|Stamp { sender, number }| {
                Some((sender, moment.number(number, stamp::NUMBER_WRAP)?))
            });
            let Some((from, number)) = numbered else {
                tally.unreadable += 1;
                return;
            };
            if !shared.crowd.share_a_room(from, sender.index) {
                tally.strays += 1;
            } else if from == sender.index {
                tally.own += 1;
            } else {
                witness.take(&scene, moment, Received { from, number, place: None }, tally);
            }
        });
    }
}

/// The rate in a `room-rate` event's argument.
fn rate_hz(args: &str) -> Option<f64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RoomRate {
        tick_hz: f64,
    }
    serde_json::from_str(args).ok().map(|RoomRate { tick_hz }| tick_hz)
}
