//! A session's way out through engineioxide.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

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

/// Bytes of all packets that wait for one session, over whichever transport. Full: it is closed as a slow reader.
/// The lists of users and objects of the largest room fit in. A packet that is longer by itself is taken when nothing
/// else waits, as it would never leave otherwise; the engine's limits bound it.
pub const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// How long a WebSocket that is being closed may take to be gone, with what is queued for it. After this its TCP
/// connection is shut down.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Through engineioxide's queue. `D` is what engineioxide keeps with each socket for us.
pub struct EngineIoOutbox<D: Default + Send + Sync + 'static> {
    /// Weak, because the socket owns the connection, and that owns this.
    socket: Weak<Socket<D>>,
    /// The TCP connection under a session on websocket. Empty while it polls, over whatever connections.
    stream: OnceLock<StreamHandle>,
    queued: Arc<Queued>,
}

/// What engineioxide has not taken from the queue yet, of that which carries a [`Ticket`].
#[derive(Debug, Default)]
struct Queued {
    packets: AtomicUsize,
    bytes: AtomicUsize,
}

/// Bytes that count as queued for as long as anybody holds them.
struct Ticket {
    bytes: Bytes,
    /// Bytes of all that leaves with these.
    weight: usize,
    queued: Arc<Queued>,
}

impl Ticket {
    /// `bytes`, counted in `queued` until the queue's consumer has let go of them. They count for `weight` bytes, as
    /// what leaves with them has no ticket of its own.
    ///
    /// engineioxide does not tell how long its queue is. It drops a packet's text when it takes the packet from
    /// the queue, which it does only once the socket has taken all before it; so a text that knows when it is
    /// dropped tells what the queue does not.
    ///
    /// # Errors
    /// [`OutboxError::Full`] if more bytes would wait than may.
    fn issue(bytes: Bytes, weight: usize, queued: &Arc<Queued>) -> Result<Bytes, OutboxError> {
        queued.packets.fetch_add(1, Ordering::AcqRel);
        let before = queued.bytes.fetch_add(weight, Ordering::AcqRel);
        // From here on it is counted; to drop it takes that back.
        let ticket = Self { bytes, weight, queued: queued.clone() };
        if before > 0 && before + weight > MAX_QUEUED_BYTES {
            return Err(OutboxError::Full);
        }
        Ok(Bytes::from_owner(ticket))
    }
}

impl AsRef<[u8]> for Ticket {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queued.bytes.fetch_sub(self.weight, Ordering::AcqRel);
        self.queued.packets.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<D: Default + Send + Sync + 'static> EngineIoOutbox<D> {
    /// The way out through `socket`.
    pub fn new(socket: &Arc<Socket<D>>) -> Self {
        Self { socket: Arc::downgrade(socket), stream: OnceLock::new(), queued: Arc::default() }
    }

    /// The session is on websocket, or about to be, over `stream`. It stays there until its end.
    pub fn run_over(&self, stream: StreamHandle) {
        // A further websocket for it is closed at once, and changes nothing.
        let _ = self.stream.set(stream);
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
            permit.emit_binary(Ticket::issue(message.clone(), packet.wire_bytes(), &self.queued)?);
            return Ok(());
        }
        let text = packet_text(Ticket::issue(packet.text_bytes(), packet.wire_bytes(), &self.queued)?);
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
                        text = Ticket::issue(text, buffer.len(), &self.queued)?;
                    }
                    permit.emit(packet_text(text));
                }
            }
        }
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        self.queued.packets.load(Ordering::Acquire) == 0
    }

    fn close(&self, reason: CloseReason) {
        let Some(socket) = self.socket.upgrade() else { return };
        socket.close(DisconnectReason::ClosingServer);
        // engineioxide waits for its writer before it lets a socket go, and the writer of a client that does not
        // read waits for the client. Only the end of the connection under it frees both.
        let Some(stream) = self.stream.get().cloned() else { return };
        match reason {
            CloseReason::SlowReader => stream.shut_down(),
            // A client that reads is to get what is queued and the goodbye.
            CloseReason::Draining | CloseReason::ProtocolError => {
                tokio::spawn(async move {
                    tokio::time::sleep(CLOSE_TIMEOUT).await;
                    stream.shut_down();
                });
            }
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

#[cfg(test)]
mod tests;
