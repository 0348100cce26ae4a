//! The way out of a direct WebSocket connection.
//!
//! Packets are queued as references to shared frames and leave in as few writes as they fit into; a tick is written
//! straight away. What the socket does not take stays queued, and the connection's task goes on when it can.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use futures_util::task::AtomicWaker;
use protocol::Outgoing;
use protocol::outgoing::frame_header;
use protocol::websocket::{OPCODE_PONG, close_frame};

use super::heartbeat::{Pulse, Times};
use crate::net::stream::StreamWriter;

/// Frames that wait for one connection. Full: it is closed as a slow reader. Everybody's arrival in the largest
/// room fits in. They are references to frames that all who wait for them share.
const MAX_QUEUED_FRAMES: usize = 32_768;

/// Bytes of all frames that wait for one connection. Full: it is closed as a slow reader. The lists of users and
/// objects of the largest room fit in.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// Frames per write. The system takes more, but by then their copying costs more than another call.
const FRAMES_PER_WRITE: usize = 64;

/// A queue that has been longer than this gives its memory back when it is empty.
const KEPT_QUEUE_FRAMES: usize = 16;

/// An Engine.IO ping as a WebSocket text frame.
const PING_FRAME: &[u8] = &[0x81, 1, b'2'];

/// The code to close with when nothing is wrong.
pub(super) const NORMAL_CLOSURE: u16 = 1000;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    stream: Arc<StreamWriter>,
    queue: Mutex<Queue>,
    /// The connection's task, which is woken when something is left to write or the end has come.
    task: AtomicWaker,
    /// The socket took less than there was.
    is_blocked: AtomicBool,
    /// As the queue's, to be read without its lock.
    is_closing: AtomicBool,
    /// Nothing more is to be read or written.
    is_over: AtomicBool,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that have left.
    sent: usize,
    bytes: usize,
    /// A close frame is the last one; nothing may follow.
    is_closing: bool,
}

impl Wire {
    pub(super) fn new(stream: Arc<StreamWriter>, times: Times) -> Arc<Self> {
        Arc::new(Self {
            stream,
            queue: Mutex::default(),
            task: AtomicWaker::new(),
            is_blocked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            pulse: Pulse::new(times),
        })
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Ready when the connection is over. Goes on writing what is queued in the meantime.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        while self.is_blocked.load(Ordering::Acquire) && !self.is_over.load(Ordering::Acquire) {
            match self.stream.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.is_blocked.store(false, Ordering::Release);
                    self.flush();
                }
                Poll::Ready(Err(_)) => self.end(),
                Poll::Pending => break,
            }
        }
        if self.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Sends an Engine.IO ping.
    pub(super) fn ping(&self) {
        self.send_frame(Bytes::from_static(PING_FRAME));
    }

    /// Answers a WebSocket ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        let (header, used) = frame_header(OPCODE_PONG, payload.len());
        self.send_frame([&header[..used], payload].concat().into());
    }

    /// Sends one small frame of the protocol's own. A full queue needs none: its client is being closed.
    pub(super) fn send_frame(&self, frame: Bytes) {
        let _ = self.queue().push(frame);
        self.flush();
    }

    /// Closes with this code: what is queued is written, then a close frame, and the client's own is waited for.
    pub(super) fn close_with(&self, code: u16) {
        let mut queue = self.queue();
        if !queue.is_closing {
            let _ = queue.push(Bytes::copy_from_slice(&close_frame(code)));
            queue.is_closing = true;
            self.is_closing.store(true, Ordering::Release);
            drop(queue);
            self.pulse.closing();
            self.flush();
            // The task stops hearing the client.
            self.task.wake();
        }
    }

    /// Whether a close frame is on its way, after which nothing counts that the client says.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Ends the connection at once, whatever is queued.
    pub(super) fn cut(&self) {
        self.stream.shut_down();
        self.end();
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds this lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as much of the queue as the socket takes.
    fn write(&self, queue: &mut Queue) {
        if self.is_blocked.load(Ordering::Acquire) {
            return;
        }
        while !queue.frames.is_empty() {
            let mut parts = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let count = queue.fill(&mut parts);
            match self.stream.try_write(&parts[..count]) {
                Ok(written) => queue.advance(written),
                Err(error) => return self.stop_writing(&error),
            }
        }
        queue.shrink();
        if queue.is_closing {
            self.stream.finish();
        }
    }

    fn stop_writing(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.is_blocked.store(true, Ordering::Release);
            self.task.wake();
        } else {
            self.end();
        }
    }

    /// Writes these parts before anything else can be queued, and queues what the socket does not take.
    fn write_now(&self, queue: &mut Queue, parts: [Bytes; 2]) {
        let slices = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
        let mut written = match self.stream.try_write(&slices) {
            Ok(written) => written,
            Err(error) => {
                self.stop_writing(&error);
                0
            }
        };
        for part in parts {
            let skipped = written.min(part.len());
            written -= skipped;
            if skipped < part.len() {
                // A tick that has begun must be finished; it is within the limits, as the queue was empty.
                let _ = queue.push(part.slice(skipped..));
            }
        }
        self.write(queue);
    }
}

impl Queue {
    fn push(&mut self, frame: Bytes) -> Result<(), OutboxError> {
        if self.is_closing {
            return Err(OutboxError::Closed);
        }
        if self.frames.len() >= MAX_QUEUED_FRAMES || self.bytes + frame.len() > MAX_QUEUED_BYTES {
            return Err(OutboxError::Full);
        }
        if !frame.is_empty() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
        Ok(())
    }

    fn push_packet(&mut self, packet: &Outgoing) -> Result<(), OutboxError> {
        if let Some(frames) = packet.contiguous() {
            return self.push(frames.clone());
        }
        self.push(packet.frame())?;
        for attachment in packet.attachment_frames() {
            self.push(Bytes::copy_from_slice(attachment.header()))?;
            self.push(attachment.payload.clone())?;
        }
        Ok(())
    }

    fn fill<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        let mut sent = self.sent;
        let mut count = 0;
        for (part, frame) in parts.iter_mut().zip(&self.frames) {
            *part = IoSlice::new(&frame[sent..]);
            sent = 0;
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.frames.pop_front();
        }
    }

    fn shrink(&mut self) {
        if self.frames.is_empty() && self.frames.capacity() > KEPT_QUEUE_FRAMES {
            self.frames = VecDeque::new();
        }
    }
}

impl Outbox for Wire {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        if self.is_over.load(Ordering::Acquire) {
            return Err(OutboxError::Closed);
        }
        self.queue().push_packet(packet)
    }

    fn flush(&self) {
        self.write(&mut self.queue());
    }

    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        if self.is_over.load(Ordering::Acquire) {
            return Err(OutboxError::Closed);
        }
        let mut queue = self.queue();
        if queue.is_closing {
            return Err(OutboxError::Closed);
        }
        self.write(&mut queue);
        if !queue.frames.is_empty() {
            return Ok(TickOutcome::Skipped);
        }
        let parts = match *tick {
            TickView::Single(packet) => match packet.contiguous() {
                Some(frames) => [frames.clone(), Bytes::new()],
                None => {
                    queue.push_packet(packet)?;
                    self.write(&mut queue);
                    return Ok(TickOutcome::Sent);
                }
            },
            TickView::Packets { buffer, own: None, .. } => [buffer.clone(), Bytes::new()],
            TickView::Packets { buffer, spans, own: Some(own) } => {
                let own = spans[own].frame();
                [buffer.slice(..own.start), buffer.slice(own.end..)]
            }
        };
        self.write_now(&mut queue, parts);
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        self.queue().frames.is_empty()
    }

    fn close(&self, reason: CloseReason) {
        match reason {
            // It would not read the goodbye either.
            CloseReason::SlowReader => self.cut(),
            CloseReason::Draining | CloseReason::ProtocolError => self.close_with(NORMAL_CLOSURE),
        }
    }
}
