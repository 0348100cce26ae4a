//! Socket.IO on one Engine.IO connection.
//!
//! It knows namespaces, packets and attachments, and hands events to an [`Application`]. It knows neither what
//! the events mean nor which transport brings them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use engine::allowance::Verdict;
use engine::ports::CloseReason;
use protocol::Outgoing;
use protocol::attachments::{AssembleLimits, Assembler, Begin, BinaryPacket};
use protocol::limits::ATTACHMENT_TIMEOUT_MS;
use protocol::packet::{Packet, PacketKind};
use tokio::time::Instant;

use super::upper::{Link, Upper};

mod application;

pub use application::{Accepted, Application, ConnectionError, Refused};

/// Namespaces that one connection may be connected to at once. More: the connection is closed.
const MAX_NAMESPACES: usize = 8;

/// Stands for no announced attachment.
const NOTHING: u64 = u64::MAX;

/// See the [module](self).
pub struct Connection<A: Application> {
    app: Arc<A>,
    link: Link,
    /// The session in `/`, which is nearly all of the traffic: read without a lock.
    root: ArcSwapOption<A::Session>,
    /// Attachments are awaited, so that no text may take the shortcut.
    awaiting: AtomicBool,
    /// Since when an announced attachment is awaited, in milliseconds of the connection's age; else [`NOTHING`].
    announced_ms: AtomicU64,
    /// A task watches whether attachments come in time.
    is_watched: AtomicBool,
    state: Mutex<State<A::Session>>,
    opened: Instant,
}

struct State<S> {
    assembler: Assembler,
    namespaces: Vec<(String, Arc<S>)>,
    closed: bool,
}

impl<A: Application> Connection<A> {
    /// A connection over which nothing has come yet. If no CONNECT comes within `connect_timeout`, it is closed.
    pub fn open(app: Arc<A>, link: Link, connect_timeout: Duration) -> Arc<Self> {
        let connection = Arc::new(Self {
            app,
            link,
            root: ArcSwapOption::empty(),
            awaiting: AtomicBool::new(false),
            announced_ms: AtomicU64::new(NOTHING),
            is_watched: AtomicBool::new(false),
            state: Mutex::new(State {
                assembler: Assembler::new(AssembleLimits::default()),
                namespaces: Vec::new(),
                closed: false,
            }),
            opened: Instant::now(),
        });
        let waiting = Arc::downgrade(&connection);
        tokio::spawn(async move {
            tokio::time::sleep(connect_timeout).await;
            if let Some(connection) = waiting.upgrade()
                && connection.state().namespaces.is_empty()
            {
                connection.fail(&ConnectionError::ConnectTimeout);
            }
        });
        connection
    }

    /// A Socket.IO packet's text has come.
    pub fn handle_text(self: &Arc<Self>, text: &str) {
        if !self.awaiting.load(Ordering::Acquire)
            && let Some(root) = self.root.load().as_ref()
        {
            if self.app.shortcut(root, text) {
                return;
            }
            if self.app.announces(text) {
                return self.announce();
            }
        }
        if let Err(error) = self.try_text(text) {
            self.fail(&error);
        }
    }

    /// What comes next is an attachment that needs no assembling.
    fn announce(self: &Arc<Self>) {
        self.announced_ms.store(self.age_ms(), Ordering::Release);
        self.awaiting.store(true, Ordering::Release);
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(expire_attachments(Arc::downgrade(self)));
        }
    }

    /// An attachment has come.
    pub fn handle_binary(self: &Arc<Self>, attachment: &[u8]) {
        if self.announced_ms.load(Ordering::Acquire) != NOTHING {
            self.announced_ms.store(NOTHING, Ordering::Release);
            self.awaiting.store(false, Ordering::Release);
            if let Some(root) = self.root.load().as_ref() {
                self.app.attachment(root, attachment);
            }
            return;
        }
        if let Err(error) = self.try_binary(attachment) {
            self.fail(&error);
        }
    }

    /// The transport is gone.
    pub fn handle_close(&self) {
        let mut state = self.state();
        state.closed = true;
        let sessions = std::mem::take(&mut state.namespaces);
        self.root.store(None);
        drop(state);
        for (_, session) in sessions {
            self.app.disconnected(&session);
        }
    }

    fn try_text(self: &Arc<Self>, text: &str) -> Result<(), ConnectionError> {
        let state = self.state();
        if state.closed {
            return Ok(());
        }
        if state.assembler.is_waiting() || self.announced_ms.load(Ordering::Acquire) != NOTHING {
            return Err(ConnectionError::TextAmongAttachments);
        }
        drop(state);
        let packet = Packet::decode(text)?;
        match packet.kind {
            PacketKind::Connect => {
                let may_ask = self.pay(text.len())?;
                self.connect(packet.namespace, packet.data, may_ask)
            }
            PacketKind::Disconnect => {
                // Carried out even if it is one too many: the client takes itself for gone.
                self.pay(text.len())?;
                self.leave(packet.namespace);
                Ok(())
            }
            PacketKind::Event => self.event(&packet, Vec::new()),
            PacketKind::BinaryEvent | PacketKind::BinaryAck => self.begin_binary(text),
            // The server asks for no acks, and only it sends CONNECT_ERROR.
            PacketKind::Ack | PacketKind::ConnectError => Ok(()),
        }
    }

    fn try_binary(self: &Arc<Self>, attachment: &[u8]) -> Result<(), ConnectionError> {
        let mut state = self.state();
        if state.closed {
            return Ok(());
        }
        let complete = state.assembler.push(Bytes::copy_from_slice(attachment), self.age_ms())?;
        drop(state);
        match complete {
            Some(binary) => self.complete(binary),
            None => Ok(()),
        }
    }

    fn begin_binary(self: &Arc<Self>, text: &str) -> Result<(), ConnectionError> {
        let mut state = self.state();
        match state.assembler.begin(text, self.age_ms())? {
            Begin::Waiting(_) => {
                self.awaiting.store(true, Ordering::Release);
                drop(state);
                if !self.is_watched.swap(true, Ordering::AcqRel) {
                    tokio::spawn(expire_attachments(Arc::downgrade(self)));
                }
                Ok(())
            }
            Begin::Complete(packet) => {
                drop(state);
                if packet.kind == PacketKind::BinaryEvent { self.event(&packet, Vec::new()) } else { Ok(()) }
            }
        }
    }

    fn complete(&self, binary: BinaryPacket) -> Result<(), ConnectionError> {
        self.awaiting.store(false, Ordering::Release);
        let packet = Packet::decode(&binary.text)?;
        if packet.kind == PacketKind::BinaryEvent { self.event(&packet, binary.attachments) } else { Ok(()) }
    }

    /// How long the packet that waits for attachments may still wait, if there is one. If its time is up, the
    /// connection is closed. `None` ends the watch.
    fn attachments_due(&self) -> Option<Duration> {
        // Before looking: whoever begins to wait after the look finds that nobody watches.
        self.is_watched.store(false, Ordering::Release);
        let now_ms = self.age_ms();
        let announced = Some(self.announced_ms.load(Ordering::Acquire)).filter(|since| *since != NOTHING);
        let announced = announced.map(|since_ms| since_ms + ATTACHMENT_TIMEOUT_MS);
        let mut state = self.state();
        // Never both: each begins where nothing is awaited.
        let deadline_ms = announced.or(state.assembler.deadline_ms()).filter(|_| !state.closed)?;
        let is_expired = deadline_ms <= now_ms;
        state.assembler.expire(now_ms);
        drop(state);
        if is_expired {
            self.fail(&ConnectionError::AttachmentTimeout);
            return None;
        }
        let is_watched_by_another = self.is_watched.swap(true, Ordering::AcqRel);
        (!is_watched_by_another).then(|| Duration::from_millis(deadline_ms - now_ms))
    }

    /// Pays for coming and going, which is work for the engine and for whoever checks tokens. `false`: the client is to
    /// slow down.
    fn pay(&self, bytes: usize) -> Result<bool, ConnectionError> {
        match self.app.pay(&self.link, bytes) {
            Verdict::Granted => Ok(true),
            Verdict::Refused => Ok(false),
            Verdict::Hopeless => Err(ConnectionError::TooManyRequests),
        }
    }

    /// Lets the client in, if `may_ask` and the application wants it.
    fn connect(&self, namespace: &str, auth: Option<&str>, may_ask: bool) -> Result<(), ConnectionError> {
        let mut state = self.state();
        if state.closed || state.session(namespace).is_some() {
            return Ok(());
        }
        if state.namespaces.len() >= MAX_NAMESPACES {
            return Err(ConnectionError::TooManyNamespaces);
        }
        let answer = if may_ask {
            self.app.connect(namespace, auth, &self.link)
        } else {
            Err(Refused("Too many requests".to_owned()))
        };
        match answer {
            Ok(Accepted { session, sid }) => {
                let session = Arc::new(session);
                state.namespaces.push((namespace.to_owned(), session.clone()));
                // A connection that cannot take this is closing, and everything is undone when it has.
                let _ = self.link.outbox.send(&Outgoing::connect(namespace, &sid));
                self.link.outbox.flush();
                if namespace == "/" {
                    self.root.store(Some(session.clone()));
                }
                drop(state);
                self.app.connected(&session);
            }
            Err(Refused(message)) => {
                let _ = self.link.outbox.send(&Outgoing::connect_error(namespace, &message));
                self.link.outbox.flush();
            }
        }
        Ok(())
    }

    fn leave(&self, namespace: &str) {
        let mut state = self.state();
        let Some(at) = state.namespaces.iter().position(|(name, _)| name == namespace) else { return };
        let (_, session) = state.namespaces.swap_remove(at);
        if namespace == "/" {
            self.root.store(None);
        }
        drop(state);
        self.app.disconnected(&session);
    }

    fn event(&self, packet: &Packet<'_>, attachments: Vec<Bytes>) -> Result<(), ConnectionError> {
        let session = self.state().session(packet.namespace).ok_or(ConnectionError::NotConnected)?;
        self.app.event(&session, &packet.event()?, attachments, packet.id);
        Ok(())
    }

    fn fail(&self, error: &ConnectionError) {
        self.app.broken(error);
        self.link.outbox.close(CloseReason::ProtocolError);
        self.handle_close();
    }

    fn age_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn state(&self) -> MutexGuard<'_, State<A::Session>> {
        // Nothing that holds this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a connection whose attachments do not come in time. One such task serves all of a connection's packets: it
/// looks again when the packet that it last saw would be due, and ends when none is waiting then.
async fn expire_attachments<A: Application>(connection: Weak<Connection<A>>) {
    let mut due = Some(Duration::from_millis(ATTACHMENT_TIMEOUT_MS));
    while let Some(wait) = due {
        tokio::time::sleep(wait).await;
        due = connection.upgrade().and_then(|connection| connection.attachments_due());
    }
}

/// Socket.IO above Engine.IO.
pub struct SocketIo<A> {
    app: Arc<A>,
    connect_timeout: Duration,
}

impl<A: Application> SocketIo<A> {
    /// Socket.IO whose events go to `app`. A connection over which no CONNECT comes in time is closed.
    pub fn new(app: Arc<A>, connect_timeout: Duration) -> Self {
        Self { app, connect_timeout }
    }
}

impl<A: Application> Upper for SocketIo<A> {
    type Connection = Connection<A>;

    fn open(&self, link: Link) -> Arc<Connection<A>> {
        Connection::open(self.app.clone(), link, self.connect_timeout)
    }

    fn text(&self, connection: &Arc<Connection<A>>, text: &str) {
        connection.handle_text(text);
    }

    fn binary(&self, connection: &Arc<Connection<A>>, message: &[u8]) {
        connection.handle_binary(message);
    }

    fn closed(&self, connection: &Arc<Connection<A>>) {
        connection.handle_close();
    }
}

impl<S> State<S> {
    fn session(&self, namespace: &str) -> Option<Arc<S>> {
        self.namespaces.iter().find(|(name, _)| name == namespace).map(|(_, session)| session.clone())
    }
}

impl<A: Application> std::fmt::Debug for Connection<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
