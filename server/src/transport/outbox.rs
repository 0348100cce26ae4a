//! A session's way out through engineioxide.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use engineioxide::{DisconnectReason, Socket, Str};
use protocol::Outgoing;
use tokio::sync::mpsc::error::TrySendError;

use crate::net::stream::StreamHandle;

/// Packets that wait for one session in engineioxide. Full: the session is closed as a slow reader. Everybody's
/// arrival and a full tick of the largest room fit in. What waits is shared with all who wait for the same, so
/// a place costs a reference (under 200 bytes), not a packet.
pub const QUEUE_CAPACITY: usize = 32_768;

/// Through engineioxide's queue. `D` is what engineioxide keeps with each socket for us.
pub struct EngineIoOutbox<D: Default + Send + Sync + 'static> {
    /// Weak, because the socket owns the connection, and that owns this.
    socket: Weak<Socket<D>>,
    stream: Option<StreamHandle>,
    /// Packets that engineioxide has not taken from the queue yet, of those that carry a [`Ticket`].
    queued: Arc<AtomicUsize>,
}

/// Bytes that count as queued for as long as anybody holds them.
struct Ticket {
    bytes: Bytes,
    queued: Arc<AtomicUsize>,
}

impl Ticket {
    /// `bytes`, counted in `queued` until the queue's consumer has let go of them.
    ///
    /// engineioxide does not tell how long its queue is. It drops a packet's text when it takes the packet from
    /// the queue, which it does only once the socket has taken all before it; so a text that knows when it is
    /// dropped tells what the queue does not.
    fn issue(bytes: Bytes, queued: &Arc<AtomicUsize>) -> Bytes {
        queued.fetch_add(1, Ordering::AcqRel);
        Bytes::from_owner(Ticket { bytes, queued: queued.clone() })
    }
}

impl AsRef<[u8]> for Ticket {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<D: Default + Send + Sync + 'static> EngineIoOutbox<D> {
    /// The way out through `socket`; `stream` is the TCP connection under it, where that will not change.
    pub fn new(socket: &Arc<Socket<D>>, stream: Option<StreamHandle>) -> Self {
        Self { socket: Arc::downgrade(socket), stream, queued: Arc::default() }
    }

    fn socket(&self) -> Result<Arc<Socket<D>>, OutboxError> {
        self.socket.upgrade().ok_or(OutboxError::Closed)
    }
}

impl<D: Default + Send + Sync + 'static> Outbox for EngineIoOutbox<D> {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        let socket = self.socket()?;
        let permit = socket.reserve().map_err(outbox_error)?;
        if let (false, [message]) = (packet.has_text(), packet.attachments()) {
            permit.emit_binary(Ticket::issue(message.clone(), &self.queued));
            return Ok(());
        }
        let text = packet_text(Ticket::issue(packet.text_bytes(), &self.queued));
        if packet.attachments().is_empty() {
            permit.emit(text);
        } else {
            permit.emit_many(text, packet.attachments().iter().cloned().collect::<VecDeque<_>>());
        }
        Ok(())
    }

    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        if !self.is_idle() {
            return Ok(TickOutcome::Skipped);
        }
        match *tick {
            TickView::Single(packet) => self.send(packet)?,
            TickView::Packets { buffer, spans, own } => {
                let socket = self.socket()?;
                let last = if own == Some(spans.len() - 1) { spans.len() - 2 } else { spans.len() - 1 };
                for (index, span) in spans.iter().enumerate().take(last + 1) {
                    if own == Some(index) {
                        continue;
                    }
                    let permit = socket.reserve().map_err(outbox_error)?;
                    let mut text = buffer.slice(span.text());
                    if index == last {
                        text = Ticket::issue(text, &self.queued);
                    }
                    permit.emit(packet_text(text));
                }
            }
        }
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0
    }

    fn close(&self, reason: CloseReason) {
        if let Some(socket) = self.socket.upgrade() {
            socket.close(DisconnectReason::ClosingServer);
        }
        // engineioxide waits for its writer before it lets a socket go, and the writer of a client that does not
        // read waits for the client. Only the end of the connection under it frees both.
        if let (CloseReason::SlowReader, Some(stream)) = (reason, &self.stream) {
            stream.shut_down();
        }
    }
}

fn outbox_error(error: TrySendError<()>) -> OutboxError {
    match error {
        TrySendError::Full(()) => OutboxError::Full,
        TrySendError::Closed(()) => OutboxError::Closed,
    }
}

/// The text of a packet that this server has built, as engineioxide takes it, without copying it.
#[expect(unsafe_code, reason = "engineioxide has no checked way that does not copy")]
fn packet_text(bytes: Bytes) -> Str {
    debug_assert!(std::str::from_utf8(&bytes).is_ok());
    // SAFETY: every packet's text is written by `protocol` from `&str` and serde_json alone, and the spans of a
    // tick's buffer are cut where its packets begin and end; so the bytes are UTF-8.
    unsafe { Str::from_bytes_unchecked(bytes) }
}
