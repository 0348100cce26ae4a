//! One user's Socket.IO session over a WebSocket.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use protocol::{Packet, PacketKind};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use crate::binary::{self, Height, tick_of};
use crate::http::Target;
use crate::sender::Sender;
use crate::stamp::{self, Stamp};
use crate::tally::{Tally, count_reason};
use crate::websocket::{frame_bytes, opcode, read_frame};
use crate::witness::{Received, Witness};
use crate::worker::Shared;

/// A frame longer than this is put together in a buffer of its own, not in the one that all sessions share.
const LONG_FRAME_BYTES: usize = 128 * 1024;

/// What a pose frame's announcement begins with.
const POSE_FRAME: &[u8] = b"451-[\"pose-frame\"";
/// Events that come in great numbers while people arrive and leave, and that nobody here needs.
const PRESENCE: [&[u8]; 3] = [b"42[\"user-joined\"", b"42[\"user-left\"", b"42[\"user-updated\""];
/// The ack id of `join-room`, whose answer tells one's slot.
pub(crate) const JOIN_ACK: u64 = 0;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The WebSocket is open.
    Open,
    /// Engine.IO's handshake has arrived.
    Greeted,
    /// Socket.IO's CONNECT is answered.
    Connected,
    /// `room-users` has arrived.
    Joined,
}

/// A session and what it has received.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Rc<Shared>,
    sender: Rc<Sender>,
    socket: OwnedReadHalf,
    /// The start of a frame whose rest has not arrived. A long frame has room for all of it here.
    partial: Vec<u8>,
    /// How much of a long frame has arrived; 0 if there is none.
    long_bytes: usize,
    stage: Stage,
    /// Binary messages that belong to a packet whose text has arrived, and whether that is a pose frame.
    attachments: usize,
    is_pose_frame: bool,
    /// The tick of the latest pose frame.
    tick: u32,
    /// What arrived during the window.
    frames: u64,
    bytes: u64,
    /// `None` if this receiver is not judged pose by pose.
    witness: Option<Witness>,
}

impl Session {
    /// Opens the WebSocket of the user `index`.
    pub(crate) async fn open(shared: &Rc<Shared>, target: &Target, index: u32) -> Result<Self> {
        let (stream, first) = target.open_websocket().await?;
        let (socket, write_half) = stream.into_split();
        let crowd = &shared.crowd;
        let mut session = Self {
            shared: shared.clone(),
            sender: Rc::new(Sender::new(index, write_half)),
            socket,
            partial: Vec::new(),
            long_bytes: 0,
            stage: Stage::Open,
            attachments: 0,
            is_pose_frame: false,
            tick: 0,
            frames: 0,
            bytes: 0,
            witness: crowd.is_judged(index).then(|| Witness::new(index, crowd)),
        };
        let used = session.take_frames(&first, 0).map_err(anyhow::Error::msg)?;
        session.keep(&first[used..]);
        Ok(session)
    }

    pub(crate) fn sender(&self) -> &Rc<Sender> {
        &self.sender
    }

    /// Reads until the session has come as far as `stage`.
    ///
    /// # Errors
    /// Why it never will.
    pub(crate) async fn reach(&mut self, stage: Stage) -> Result<(), String> {
        while self.stage < stage {
            poll_fn(|context| self.poll_read(context)).await?;
        }
        Ok(())
    }

    /// Reads until the session ends, and says why it did.
    pub(crate) async fn read_to_end(&mut self) -> String {
        loop {
            if let Err(reason) = poll_fn(|context| self.poll_read(context)).await {
                self.sender.closed.set(true);
                return reason;
            }
        }
    }

    /// Adds what this session has seen to the counts. To be called when the last pose has had its time.
    pub(crate) fn settle(&mut self) {
        let shared = &*self.shared;
        let mut tally = shared.tally.borrow_mut();
        tally.count_traffic(self.frames, self.bytes, self.witness.is_some());
        let (Some(schedule), Some(witness)) = (shared.schedule.get(), &mut self.witness) else { return };
        witness.settle(&shared.scene(&schedule), &mut tally);
    }

    /// Reads once and takes every whole frame.
    fn poll_read(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), String>> {
        if self.long_bytes > 0 {
            return self.poll_read_long(context);
        }
        // All sessions of this core share the buffer.
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let kept = self.partial.len();
        scratch[..kept].copy_from_slice(&self.partial);
        let new_bytes = ready!(self.poll_socket(context, &mut scratch[kept..]))?;
        let filled = kept + new_bytes;
        let used = self.take_frames(&scratch[..filled], new_bytes)?;
        self.keep(&scratch[used..filled]);
        Poll::Ready(Ok(()))
    }

    /// Reads on in a long frame.
    fn poll_read_long(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), String>> {
        let mut frame = std::mem::take(&mut self.partial);
        let outcome = self.poll_socket(context, &mut frame[self.long_bytes..]);
        let Poll::Ready(Ok(new_bytes)) = outcome else {
            self.partial = frame;
            return outcome.map_ok(|_| ());
        };
        self.long_bytes += new_bytes;
        if self.long_bytes < frame.len() {
            self.partial = frame;
            self.count_bytes(0, new_bytes, Instant::now());
            return Poll::Ready(Ok(()));
        }
        self.long_bytes = 0;
        self.take_frames(&frame, new_bytes)?;
        Poll::Ready(Ok(()))
    }

    fn poll_socket(
        &mut self,
        context: &mut TaskContext<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, String>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))
            .map_err(|error| format!("reading failed: {error}"))?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err("the server closed the connection".to_owned())),
            read => Poll::Ready(Ok(read)),
        }
    }

    /// Keeps the start of a frame.
    fn keep(&mut self, rest: &[u8]) {
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        if let Some(bytes) = frame_bytes(rest).filter(|bytes| *bytes > LONG_FRAME_BYTES) {
            self.long_bytes = rest.len();
            self.partial.resize(bytes, 0);
        }
    }

    /// Takes the whole frames at the start of `buffer` and says how long they are together.
    fn take_frames(&mut self, buffer: &[u8], new_bytes: usize) -> Result<usize, String> {
        let now = Instant::now();
        let mut used = 0;
        let mut frames = 0;
        while let Some(frame) = read_frame(&buffer[used..])? {
            used += frame.bytes;
            frames += 1;
            match frame.opcode {
                opcode::TEXT => self.take_text(frame.payload, now)?,
                opcode::BINARY => self.take_binary(frame.payload, now)?,
                opcode::PING => self.send(opcode::PONG, frame.payload)?,
                opcode::CLOSE => return Err(close_reason(frame.payload)),
                opcode::PONG => {}
                other => return Err(format!("frame of unknown type {other}")),
            }
        }
        self.count_bytes(frames, new_bytes, now);
        Ok(used)
    }

    fn count_bytes(&mut self, frames: u64, bytes: usize, now: Instant) {
        if self.shared.in_window(now) {
            self.frames += frames;
            self.bytes += bytes as u64;
        }
    }

    fn take_text(&mut self, text: &[u8], now: Instant) -> Result<(), String> {
        if self.attachments > 0 && text.starts_with(b"4") {
            return Err("a text while binary messages were due".to_owned());
        }
        if text.starts_with(POSE_FRAME) {
            self.attachments = 1;
            self.is_pose_frame = true;
        } else if text.starts_with(b"42[\"user-moved\"") || text.starts_with(b"42[\"users-moved\"") {
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
                    self.take_packet(packet)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_packet(&mut self, text: &str) -> Result<(), String> {
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
            PacketKind::Ack | PacketKind::BinaryEvent | PacketKind::BinaryAck => {}
        }
        Ok(())
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

    fn take_binary(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
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
        let Self { shared, sender, witness, .. } = self;
        let Some(tick) = tick_of(frame) else {
            shared.tally.borrow_mut().frames_unreadable += 1;
            return;
        };
        if tick < self.tick {
            shared.tally.borrow_mut().frames_back += 1;
        }
        self.tick = tick;
        let Some(schedule) = shared.schedule.get() else { return };
        shared.last_pose.set(Some(now));
        let Some(witness) = witness else { return };
        let mut tally = shared.tally.borrow_mut();
        let scene = shared.scene(&schedule);
        let (moment, room) = (schedule.moment(now), shared.crowd.room(sender.index));
        let in_window = shared.in_window(now);
        witness.look(&scene, now);
        let outcome = binary::scan(frame, |entry| {
            let Some(from) = shared.board.user_in(room, entry.slot) else {
                // Whoever is still joining may be seen before its own ack is read.
                tally.unreadable += u64::from(in_window);
                return;
            };
            if from == sender.index {
                tally.own += 1;
                return;
            }
            let number = match entry.height() {
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

    fn send(&self, opcode: u8, payload: &[u8]) -> Result<(), String> {
        self.sender.send(opcode, payload).map_err(|error| format!("writing failed: {error}"))
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

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            format!("the server closed the WebSocket: {code} {}", String::from_utf8_lossy(reason))
        }
        _ => "the server closed the WebSocket".to_owned(),
    }
}
