//! One user's session over a WebSocket: what all protocols have in common. What messages mean is next door, a module
//! for each protocol.

mod colyseus;
mod socketio;

pub(crate) use socketio::PATH as SOCKETIO_PATH;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use crate::http::Target;
use crate::options::Protocol;
use crate::polling::{self, Body, Polling};
use crate::sender::{Sender, Way};
use crate::tally::{Tally, Traffic};
use crate::websocket::{frame_bytes, opcode, read_frame};
use crate::witness::Witness;
use crate::worker::{Plan, Shared};

/// A frame longer than this is put together in a buffer of its own, not in the one that all sessions share.
const LONG_FRAME_BYTES: usize = 128 * 1024;

/// How long a session that polls may take to end.
const GOING: Duration = Duration::from_secs(1);

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The WebSocket is open.
    Open,
    /// Engine.IO's handshake has arrived. Colyseus has none.
    Greeted,
    /// Socket.IO's CONNECT is answered; Colyseus says that the seat is taken.
    Connected,
    /// `room-users`, or Colyseus' whole state, has arrived.
    Joined,
}

/// The way in.
#[derive(Debug)]
enum Link {
    Socket(OwnedReadHalf),
    Polling(Polling),
}

/// A session and what it has received.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Rc<Shared>,
    sender: Rc<Sender>,
    link: Link,
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
    traffic: Traffic,
    /// `None` if this receiver is not judged pose by pose.
    witness: Option<Witness>,
}

impl Session {
    /// Connects the user `index`, and joins if the plan goes that far.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(crate) async fn enter(shared: &Rc<Shared>, plan: &Plan, index: u32) -> Result<Self> {
        match shared.protocol {
            Protocol::Socketio => socketio::enter(shared, plan, index).await,
            Protocol::Colyseus => colyseus::enter(shared, plan, index).await,
        }
    }

    /// Opens the WebSocket of the user `index` at `path`.
    async fn open(shared: &Rc<Shared>, target: &Target, path: &str, index: u32) -> Result<Self> {
        let (stream, first) = target.open_websocket(path).await?;
        let (socket, write_half) = stream.into_split();
        let mut session = Self::new(shared, Way::Socket(write_half), Link::Socket(socket), index);
        let used = session.take_frames(&first, 0).map_err(anyhow::Error::msg)?;
        session.keep(&first[used..]);
        Ok(session)
    }

    /// Opens the session of the user `index` over HTTP long polling.
    async fn open_polling(shared: &Rc<Shared>, target: &Target, index: u32) -> Result<Self> {
        let (outbox, polling) = polling::open(target).await?;
        Ok(Self::new(shared, Way::Polling(outbox), Link::Polling(polling), index))
    }

    fn new(shared: &Rc<Shared>, way: Way, link: Link, index: u32) -> Self {
        let crowd = &shared.crowd;
        Self {
            shared: shared.clone(),
            sender: Rc::new(Sender::new(index, way)),
            link,
            partial: Vec::new(),
            long_bytes: 0,
            stage: Stage::Open,
            attachments: 0,
            is_pose_frame: false,
            tick: 0,
            traffic: Traffic::default(),
            witness: crowd.is_judged(index).then(|| Witness::new(index, crowd)),
        }
    }

    pub(crate) fn sender(&self) -> &Rc<Sender> {
        &self.sender
    }

    /// Reads until the session has come as far as `stage`.
    ///
    /// # Errors
    /// Why it never will.
    async fn reach(&mut self, stage: Stage) -> Result<()> {
        while self.stage < stage {
            poll_fn(|context| self.poll_read(context)).await.map_err(anyhow::Error::msg)?;
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

    /// Says goodbye where the end of a connection does not say it: a session that polls has none.
    pub(crate) async fn leave(&mut self) {
        if let Link::Polling(polling) = &mut self.link
            && self.sender.send(opcode::TEXT, b"1").is_ok()
        {
            let ended = async { while let Some(Ok(_)) = polling.bodies.recv().await {} };
            // A server that does not end it will find out by itself.
            let _ = tokio::time::timeout(GOING, ended).await;
        }
    }

    /// Adds what this session has seen to the counts. To be called when the last pose has had its time.
    pub(crate) fn settle(&mut self) {
        let shared = &*self.shared;
        let mut tally = shared.tally.borrow_mut();
        tally.count_traffic(&self.traffic, self.witness.is_some());
        let Some(schedule) = shared.schedule.get() else { return };
        let now = schedule.moment(Instant::now());
        for number in self.sender.unanswered().into_iter().filter(|number| schedule.counts(*number)) {
            // It has taken at least so long, and counts: leaving it out would make the others look better.
            tally.acks.record(schedule.age(self.sender.index, number, now));
            tally.acks_missing += 1;
        }
        let Some(witness) = &mut self.witness else { return };
        witness.settle(&shared.scene(&schedule), &mut tally);
    }

    /// Reads once and takes every whole frame.
    fn poll_read(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), String>> {
        if let Link::Polling(polling) = &mut self.link {
            let body = ready!(polling.bodies.poll_recv(context));
            let body = body.unwrap_or_else(|| Err("polling has ended".to_owned()))?;
            return Poll::Ready(self.take_body(&body));
        }
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
        let Link::Socket(socket) = &mut self.link else {
            return Poll::Ready(Err("no socket to read from".to_owned()));
        };
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(socket).poll_read(context, &mut buffer))
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

    /// Takes what a poll has brought.
    fn take_body(&mut self, body: &Body) -> Result<(), String> {
        let now = Instant::now();
        let packets = polling::split::<String>(&body.packets, |kind, payload| match kind {
            opcode::BINARY => self.take_binary(payload, now),
            _ => self.take_text(payload, now),
        })?;
        self.count_bytes(packets, body.wire_bytes, now);
        Ok(())
    }

    fn count_bytes(&mut self, frames: u64, bytes: usize, now: Instant) {
        if self.shared.in_window(now) {
            self.traffic.frames += frames;
            self.traffic.bytes += bytes as u64;
            self.shared.live_bytes.set(self.shared.live_bytes.get() + bytes as u64);
        }
    }

    /// Counts that a tick of the server has arrived here.
    fn count_tick(&mut self, now: Instant) {
        self.traffic.ticks += u64::from(self.shared.in_window(now));
    }

    /// Notes when the last pose that counts has come, if `tally` has more of them than `before`. What a server repeats on
    /// and on, whether anybody moves or not, is not waited for in the end.
    fn note_news(shared: &Shared, tally: &Tally, before: u64, now: Instant) {
        if tally.received > before {
            shared.last_pose.set(Some(now));
        }
    }

    fn take_text(&mut self, text: &[u8], now: Instant) -> Result<(), String> {
        match self.shared.protocol {
            Protocol::Socketio => self.take_socketio_text(text, now),
            Protocol::Colyseus => Err("a text from Colyseus".to_owned()),
        }
    }

    fn take_binary(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        match self.shared.protocol {
            Protocol::Socketio => self.take_attachment(bytes, now),
            Protocol::Colyseus => self.take_room_message(bytes, now),
        }
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
