//! One user's Socket.IO session over a WebSocket.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use protocol::{Packet, PacketKind};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::http::Target;
use crate::stamp::Stamp;
use crate::tally::{Arrival, Seen, count_reason};
use crate::websocket::{FRAME_BYTES_MAX, opcode, read_frame, write_frame};
use crate::worker::Shared;

/// Bytes that may wait to be sent: pongs and the rest of a frame that the kernel took in part. Poses are left
/// out while anything waits; a session with more than this ends.
const PENDING_BYTES_MAX: usize = 64 * 1024;

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

/// The way out of a session; the pacer and the reader share it.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The user's index among all users.
    pub(crate) index: u32,
    socket: OwnedWriteHalf,
    pending: RefCell<Vec<u8>>,
    /// Set once the session has ended.
    pub(crate) closed: Cell<bool>,
}

impl Sender {
    /// Sends a message, or queues it if the connection takes no more at the moment.
    pub(crate) fn send(&self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.borrow_mut();
        if pending.len() + payload.len() > PENDING_BYTES_MAX {
            return Err(io::Error::other("the server does not read"));
        }
        write_frame(opcode, payload, rand::random(), &mut pending);
        self.flush(&mut pending)
    }

    /// Sends a frame if nothing waits before it and the connection takes it. `false` if it was left out.
    pub(crate) fn send_volatile(&self, payload: &[u8]) -> io::Result<bool> {
        let mut pending = self.pending.borrow_mut();
        self.flush(&mut pending)?;
        if !pending.is_empty() {
            return Ok(false);
        }
        write_frame(opcode::TEXT, payload, rand::random(), &mut pending);
        let whole = pending.len();
        self.flush(&mut pending)?;
        if pending.len() == whole {
            pending.clear();
            return Ok(false);
        }
        Ok(true)
    }

    fn flush(&self, pending: &mut Vec<u8>) -> io::Result<()> {
        while !pending.is_empty() {
            match self.socket.try_write(pending) {
                Ok(written) => drop(pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A session and what it has received.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Rc<Shared>,
    sender: Rc<Sender>,
    socket: OwnedReadHalf,
    /// The start of a frame whose rest has not arrived.
    partial: Vec<u8>,
    stage: Stage,
    seen: Seen,
    /// Poses that count.
    received: u64,
}

impl Session {
    /// Opens the WebSocket of the user `index`.
    pub(crate) async fn open(shared: &Rc<Shared>, target: &Target, index: u32) -> Result<Self> {
        let (stream, first) = target.open_websocket().await?;
        let (socket, write_half) = stream.into_split();
        let sender =
            Sender { index, socket: write_half, pending: RefCell::new(Vec::new()), closed: Cell::new(false) };
        let mut session = Self {
            shared: shared.clone(),
            sender: Rc::new(sender),
            socket,
            partial: Vec::new(),
            stage: Stage::Open,
            seen: Seen::new(shared.crowd.room_size(index)),
            received: 0,
        };
        let used = session.take_frames(&first, 0).map_err(anyhow::Error::msg)?;
        session.partial.extend_from_slice(&first[used..]);
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
    pub(crate) fn settle(&self) {
        let mut tally = self.shared.tally.borrow_mut();
        tally.count_receiver(self.received);
        let Some(schedule) = self.shared.schedule.get() else { return };
        let crowd = &self.shared.crowd;
        for member in 0..crowd.room_size(self.sender.index) {
            if member != crowd.place_in_room(self.sender.index) {
                let missing = self.seen.missing_at_end(member, schedule.last_counted());
                tally.longest_gap = tally.longest_gap.max(missing.min(schedule.poses_counted()));
            }
        }
    }

    /// Reads once, into the buffer that all sessions of this core share, and takes every whole frame.
    fn poll_read(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), String>> {
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let kept = self.partial.len();
        // A frame that outgrows the buffer doubles it, up to what the codec allows.
        if kept * 2 > scratch.len() && scratch.len() < 2 * FRAME_BYTES_MAX {
            let larger = scratch.len() * 2;
            scratch.resize(larger, 0);
        }
        scratch[..kept].copy_from_slice(&self.partial);
        let mut buffer = ReadBuf::new(&mut scratch[kept..]);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))
            .map_err(|error| format!("reading failed: {error}"))?;
        let new_bytes = buffer.filled().len();
        if new_bytes == 0 {
            return Poll::Ready(Err("the server closed the connection".to_owned()));
        }
        let filled = kept + new_bytes;
        let used = self.take_frames(&scratch[..filled], new_bytes)?;
        self.partial.clear();
        self.partial.extend_from_slice(&scratch[used..filled]);
        Poll::Ready(Ok(()))
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
                opcode::PING => self.send(opcode::PONG, frame.payload)?,
                opcode::CLOSE => return Err(close_reason(frame.payload)),
                opcode::BINARY | opcode::PONG => {}
                other => return Err(format!("frame of unknown type {other}")),
            }
        }
        if self.shared.in_window(now) {
            let mut tally = self.shared.tally.borrow_mut();
            tally.frames += frames;
            tally.bytes += new_bytes as u64;
        }
        Ok(used)
    }

    fn take_text(&mut self, text: &[u8], now: Instant) -> Result<(), String> {
        if text.starts_with(b"42[\"user-moved\"") || text.starts_with(b"42[\"users-moved\"") {
            self.take_poses(text, now);
            return Ok(());
        }
        match text {
            [b'0', ..] => self.stage = self.stage.max(Stage::Greeted),
            [b'1', ..] => return Err("the server closed the Engine.IO session".to_owned()),
            b"2" => self.send(opcode::TEXT, b"3")?,
            [b'4', packet @ ..] => {
                let packet = std::str::from_utf8(packet).map_err(|_| "text that is not UTF-8".to_owned())?;
                self.take_packet(packet)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_packet(&mut self, text: &str) -> Result<(), String> {
        let packet = Packet::decode_header(text).map_err(|error| format!("a packet is wrong: {error}"))?;
        match packet.kind {
            PacketKind::Connect => self.stage = self.stage.max(Stage::Connected),
            PacketKind::ConnectError => return Err(format!("CONNECT was refused: {text}")),
            PacketKind::Disconnect => return Err("the server ended the session".to_owned()),
            PacketKind::Event => {
                let event = packet.event().map_err(|error| format!("an event is wrong: {error}"))?;
                match &*event.name {
                    "room-users" => self.stage = self.stage.max(Stage::Joined),
                    "error" => count_reason(&mut self.shared.tally.borrow_mut().errors, event.args),
                    _ => {}
                }
            }
            PacketKind::Ack | PacketKind::BinaryEvent | PacketKind::BinaryAck => {}
        }
        Ok(())
    }

    fn take_poses(&mut self, text: &[u8], now: Instant) {
        let Self { shared, seen, sender, received, .. } = self;
        let Some(schedule) = shared.schedule.get() else { return };
        shared.last_pose.set(Some(now));
        let mut tally = shared.tally.borrow_mut();
        shared.scanner.scan(text, |stamp| {
            let known = stamp.filter(|stamp| stamp.sender < shared.crowd.users);
            let numbered =
                known.and_then(|Stamp { sender, number }| Some((sender, schedule.number(number, now)?)));
            let Some((from, number)) = numbered else {
                tally.unreadable += 1;
                return;
            };
            if !shared.crowd.share_a_room(from, sender.index) {
                tally.strays += 1;
                return;
            }
            if from == sender.index {
                tally.own += 1;
                return;
            }
            let arrival = seen.arrival(shared.crowd.place_in_room(from), number);
            if !schedule.counts(number) {
                return;
            }
            match arrival {
                Arrival::New { skipped } => {
                    *received += 1;
                    tally.received += 1;
                    tally.age.record(now.saturating_duration_since(schedule.due(from, number)));
                    tally.longest_gap = tally.longest_gap.max(skipped.min(number - schedule.first_counted()));
                }
                Arrival::Repeated => tally.repeated += 1,
            }
        });
    }

    fn send(&self, opcode: u8, payload: &[u8]) -> Result<(), String> {
        self.sender.send(opcode, payload).map_err(|error| format!("writing failed: {error}"))
    }
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
