//! The task of a connection: it reads, and goes on writing where the socket was full.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use protocol::limits::MAX_PACKET_BYTES;
use protocol::websocket::{Message, ReadError, Reader, Step};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::backlog::{Backlog, Progress};
use super::heartbeat::{Heartbeats, Times};
use super::wire::{INTERNAL_ERROR, NORMAL_CLOSURE, Wire};
use crate::net::cores;
use crate::net::stream::Stream;
use crate::transport::upper::{Link, Upper};
use engine::ports::Outbox;
use protocol::outgoing::{OPCODE_TEXT, frame_header};

/// Bytes that one read takes at most. The buffer belongs to the core, not to the connection.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Reads in a row before a connection lets the others of its core go on.
const READS_PER_WAKE: usize = 2;

/// Frames in a row before a connection lets the others of its core go on: they may be as small as six bytes, so that
/// a read holds ten thousand of them. What is left waits for the connection's next turn.
const FRAMES_PER_WAKE: usize = 256;

/// What a message may be longer than an Engine.IO packet: the type that goes before it.
const MESSAGE_OVERHEAD_BYTES: usize = 1;

/// Characters of an Engine.IO session's id.
const SID_CHARS: usize = 20;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER_BYTES]);
}

/// Why reading ended.
enum End {
    /// The other side is gone, or has said goodbye.
    Closed,
    /// It broke WebSocket's rules or Engine.IO's.
    Broken(u16),
}

struct Connection<U: Upper> {
    input: OwnedReadHalf,
    reader: Reader,
    backlog: Backlog,
    wire: Arc<Wire>,
    upper: Arc<U>,
    above: Arc<U::Connection>,
    times: Times,
}

/// Serves one connection until its end. `early` is what came together with the request.
pub(super) async fn drive<U: Upper>(
    stream: Stream,
    early: Bytes,
    upper: Arc<U>,
    query: Arc<str>,
    times: Times,
    heartbeats: &Arc<Heartbeats>,
) {
    let (input, output) = stream.split();
    let wire = Wire::new(output, times);
    wire.open(times);
    heartbeats.watch(&wire, times);
    let outbox: Arc<dyn Outbox> = wire.clone();
    let above = upper.open(Link::new(outbox, query, cores::current()));
    let reader = Reader::new(MAX_PACKET_BYTES + MESSAGE_OVERHEAD_BYTES);
    let backlog = Backlog::new(early.to_vec());
    let mut connection = Connection { input, reader, backlog, wire, upper, above, times };
    connection.serve().await;
}

impl Wire {
    /// Sends Engine.IO's handshake.
    fn open(&self, times: Times) {
        use rand::distr::{Alphanumeric, SampleString};
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Open {
            sid: String,
            upgrades: [&'static str; 0],
            ping_interval: u64,
            ping_timeout: u64,
            max_payload: usize,
        }
        let open = Open {
            sid: Alphanumeric.sample_string(&mut rand::rng(), SID_CHARS),
            upgrades: [],
            ping_interval: times.ping_interval_ms,
            ping_timeout: times.ping_timeout_ms,
            max_payload: MAX_PACKET_BYTES,
        };
        let json = serde_json::to_vec(&open).expect("plain data");
        let (header, used) = frame_header(OPCODE_TEXT, json.len() + 1);
        self.send_frame([&header[..used], b"0", &json].concat().into());
    }
}

impl<U: Upper> Connection<U> {
    async fn serve(&mut self) {
        // Above is much that is none of ours. Should it ever panic, it must hear of the connection's end all the
        // same, or the client would stay where it is for ever. Nothing of ours is half-way through a change there.
        let end = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| self.poll_end(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                tracing::error!("the handler of a message panicked; its connection is closed");
                Poll::Ready(End::Broken(INTERNAL_ERROR))
            }
        });
        if let End::Broken(code) = end.await {
            self.wire.close_with(code);
        }
        // Whoever is above hears of the end now; what is queued may still be on its way.
        self.upper.closed(&self.above);
        if self.wire.is_closing() {
            poll_fn(|cx| self.poll_goodbye(cx)).await;
        }
    }

    /// Ready when there is no more to read.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.wire.poll_over(cx).is_ready() || self.wire.is_closing() {
            return Poll::Ready(End::Closed);
        }
        let mut frames_left = FRAMES_PER_WAKE;
        for _ in 0..READS_PER_WAKE {
            match ready!(self.poll_input(cx, &mut frames_left)) {
                Ok(()) => {}
                Err(end) => return Poll::Ready(end),
            }
            if frames_left == 0 {
                break;
            }
        }
        // Unlike waking oneself, this also lets those go on for whom something has come in the meantime.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Takes frames from what is waiting, or else reads once into the core's buffer and takes them from where they
    /// lie.
    fn poll_input(&mut self, cx: &mut Context<'_>, frames_left: &mut usize) -> Poll<Result<(), End>> {
        if self.backlog.is_ready() {
            return Poll::Ready(self.take_backlog(frames_left));
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let done = ready!(Pin::new(&mut self.input).poll_read(cx, &mut read));
            let came = read.filled_mut();
            if done.is_err() || came.is_empty() {
                return Poll::Ready(Err(End::Closed));
            }
            if !self.backlog.is_empty() {
                self.backlog.extend(came);
                let is_ready = self.backlog.is_ready();
                return Poll::Ready(if is_ready { self.take_backlog(frames_left) } else { Ok(()) });
            }
            let progress = self.take_frames(came, frames_left)?;
            self.backlog.keep(came, progress);
            Poll::Ready(Ok(()))
        })
    }

    fn take_backlog(&mut self, frames_left: &mut usize) -> Result<(), End> {
        let mut backlog = std::mem::take(&mut self.backlog);
        let taken = backlog.take(|input| self.take_frames(input, frames_left));
        self.backlog = backlog;
        taken
    }

    /// Takes whole frames, as many as there are or may be taken. All that is said in answer leaves together.
    fn take_frames(&mut self, input: &mut [u8], frames_left: &mut usize) -> Result<Progress, End> {
        let came = input.len();
        let mut progress = Progress { taken: 0, needed: 0 };
        let mut cork = None;
        let mut newest_ping = None;
        while progress.taken < came && *frames_left > 0 {
            match self.reader.step(&mut input[progress.taken..]).map_err(broken)? {
                Step::Incomplete(needed) => {
                    progress.needed = needed;
                    break;
                }
                Step::Frame(taken, message) => {
                    progress.taken += taken;
                    *frames_left -= 1;
                    if cork.is_none() && progress.taken < came {
                        cork = Some(self.wire.cork());
                    }
                    match message {
                        // Its payload is the end of its frame.
                        Some(Message::Ping(payload)) => {
                            newest_ping = Some(progress.taken - payload.len()..progress.taken);
                        }
                        Some(message) => hear(&*self.upper, &self.above, &self.wire, self.times, message)?,
                        None => {}
                    }
                    if self.wire.is_closing() {
                        return Err(End::Closed);
                    }
                }
            }
        }
        // Of several pings that came together only the newest needs an answer (RFC 6455, 5.5.3).
        if let Some(payload) = newest_ping {
            self.wire.pong(&input[payload]);
        }
        Ok(progress)
    }

    /// After the end has been decided: what is queued is written, what still comes is read and thrown away, until
    /// the client has closed too or its time is up.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wire.poll_over(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let came = READ_BUFFER.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(buffer);
                let done = ready!(Pin::new(&mut self.input).poll_read(cx, &mut read));
                Poll::Ready(done.map(|()| read.filled().len()))
            });
            match ready!(came) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

/// What one message means to Engine.IO.
fn hear<U: Upper>(
    upper: &U,
    above: &Arc<U::Connection>,
    wire: &Wire,
    times: Times,
    message: Message<'_>,
) -> Result<(), End> {
    match message {
        Message::Text(text) => match text.as_bytes().first() {
            Some(b'4') => upper.text(above, &text[1..]),
            Some(b'3') => wire.pulse().answered(times),
            Some(b'1') => {
                wire.close_with(NORMAL_CLOSURE);
                return Err(End::Closed);
            }
            // A noop, and nothing else that a client could have to say here.
            Some(b'6') => {}
            _ => return Err(End::Broken(NORMAL_CLOSURE)),
        },
        Message::Binary(message) => upper.binary(above, message),
        // A ping is answered by the caller.
        Message::Ping(_) | Message::Pong(_) => {}
        Message::Close(code) => {
            wire.close_with(code.unwrap_or(NORMAL_CLOSURE));
            return Err(End::Closed);
        }
    }
    Ok(())
}

fn broken(error: ReadError) -> End {
    tracing::debug!(%error, "a client broke the WebSocket protocol");
    End::Broken(error.close_code())
}

#[cfg(test)]
mod tests;
