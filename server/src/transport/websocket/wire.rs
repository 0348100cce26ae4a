//! The way out of a direct WebSocket connection.
//!
//! Packets are queued as references to shared frames and leave in as few writes as they fit into; a tick is written
//! straight away. What the socket does not take stays queued, and the connection's task goes on when it can.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use futures_util::task::AtomicWaker;
use protocol::Outgoing;
use protocol::outgoing::frame_header;
use protocol::websocket::{OPCODE_PONG, close_frame};

use super::heartbeat::{Pulse, Times};
use super::queue::Queue;
use crate::net::stream::StreamWriter;

/// Frames per write. The system takes more, but by then their copying costs more than another call.
const FRAMES_PER_WRITE: usize = 64;

/// An Engine.IO ping as a WebSocket text frame.
const PING_FRAME: &[u8] = &[0x81, 1, b'2'];

/// The code to close with when nothing is wrong.
pub(super) const NORMAL_CLOSURE: u16 = 1000;

/// The code to close with when the server itself has failed.
pub(super) const INTERNAL_ERROR: u16 = 1011;

/// States of [`Wire::cork`]: what is flushed is written at once.
const UNCORKED: u8 = 0;
/// What is flushed waits for the cork to be pulled.
const CORKED: u8 = 1;
/// As before, and something has been flushed.
const CORKED_AND_FLUSHED: u8 = 2;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    stream: Arc<StreamWriter>,
    queue: Mutex<Queue>,
    /// The connection's task, which is woken when something is left to write or the end has come.
    task: AtomicWaker,
    /// One of the states above. Set by the connection's task alone, while it reads.
    cork: AtomicU8,
    /// The socket took less than there was.
    is_blocked: AtomicBool,
    /// As the queue's, to be read without its lock.
    is_closing: AtomicBool,
    /// Nothing more is to be read or written.
    is_over: AtomicBool,
    pulse: Pulse,
}

impl Wire {
    pub(super) fn new(stream: Arc<StreamWriter>, times: Times) -> Arc<Self> {
        Arc::new(Self {
            stream,
            queue: Mutex::default(),
            task: AtomicWaker::new(),
            cork: AtomicU8::new(UNCORKED),
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

    /// Holds back what is flushed until the returned cork is dropped, so that it leaves in one write. Ticks are not
    /// held back. Only the connection's task may do this, and only while it hears what has come.
    pub(super) fn cork(&self) -> Cork<'_> {
        self.cork.store(CORKED, Ordering::Release);
        Cork(self)
    }

    /// Whether a flush is to wait for the cork, which from now on knows of it.
    fn is_held_back(&self) -> bool {
        if self.cork.load(Ordering::Acquire) == UNCORKED {
            return false;
        }
        // Whoever finds the cork in its place has queued before that, so that pulling it finds what was queued.
        let noted =
            self.cork.compare_exchange(CORKED, CORKED_AND_FLUSHED, Ordering::AcqRel, Ordering::Acquire);
        noted != Err(UNCORKED)
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
            // It comes once, so it needs no limit.
            queue.append(Bytes::copy_from_slice(&close_frame(code)));
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

    /// Writes these parts of `frames` before anything else can be queued, and queues what the socket does not take.
    fn write_now(&self, queue: &mut Queue, frames: &Bytes, parts: [Range<usize>; 2]) {
        let slices = parts.clone().map(|part| IoSlice::new(&frames[part]));
        let slices = match &parts {
            [_, after] if after.is_empty() => &slices[..1],
            [before, _] if before.is_empty() => &slices[1..],
            _ => &slices[..],
        };
        let mut written = match self.stream.try_write(slices) {
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
                // A tick that has begun must be finished, whatever the limits: without its rest, what follows
                // would be taken for it.
                queue.append(frames.slice(part.start + skipped..part.end));
            }
        }
        self.write(queue);
    }
}

/// See [`Wire::cork`].
pub(super) struct Cork<'a>(&'a Wire);

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        if self.0.cork.swap(UNCORKED, Ordering::AcqRel) == CORKED_AND_FLUSHED {
            self.0.flush();
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
        if !self.is_held_back() {
            self.write(&mut self.queue());
        }
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
        let (frames, parts) = match *tick {
            TickView::Single(packet) => match packet.contiguous() {
                Some(frames) => (frames, [0..frames.len(), 0..0]),
                None => {
                    queue.push_packet(packet)?;
                    self.write(&mut queue);
                    return Ok(TickOutcome::Sent);
                }
            },
            TickView::Packets { buffer, own: None, .. } => (buffer, [0..buffer.len(), 0..0]),
            TickView::Packets { buffer, spans, own: Some(own) } => {
                let own = spans[own].frame();
                (buffer, [0..own.start, own.end..buffer.len()])
            }
        };
        self.write_now(&mut queue, frames, parts);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::net::stream::Stream;
    use crate::transport::outbox::MAX_QUEUED_BYTES;

    const TIMES: Times = Times { ping_interval_ms: 60_000, ping_timeout_ms: 60_000 };

    #[tokio::test]
    async fn a_tick_that_has_begun_is_finished_however_large_it_is() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (_input, output) = Stream::new(accepted.unwrap().0, permit).unwrap().split();
        let wire = Wire::new(output, TIMES);
        // The viewer's own share lies between two parts, each of which is beyond the limit.
        let part = MAX_QUEUED_BYTES + 1;
        let mut frames = protocol::outgoing::TextFrames::with_capacity(2 * part + 100);
        let spans = [part, 1, part].map(|bytes| {
            let text = frames.begin(bytes);
            text.resize(text.len() + bytes, b'x');
            frames.end()
        });
        let (own, buffer) = (spans[1].frame(), frames.finish());
        let bytes = buffer.len() - own.len();
        let tick = TickView::Packets { buffer: &buffer, spans: &spans, own: Some(1) };
        assert_eq!(wire.send_tick(&tick), Ok(TickOutcome::Sent));
        assert!(wire.is_blocked.load(Ordering::Acquire), "no socket takes that much at once");
        wire.close_with(NORMAL_CLOSURE);
        let writing = wire.clone();
        tokio::spawn(async move { poll_fn(|cx| writing.poll_over(cx)).await });
        let mut came = Vec::new();
        let mut client = client.unwrap();
        client.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), bytes + close_frame(NORMAL_CLOSURE).len());
    }
}
