//! Engine.IO by engineioxide.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler as Handler;
use engineioxide::service::EngineIoService;
use engineioxide::{DisconnectReason, Socket, Str, TransportType};
use protocol::limits::MAX_PACKET_BYTES;

use super::outbox::{EngineIoOutbox, QUEUE_CAPACITY};
use super::polling::{EngineIo, Sessions};
use super::upper::{Link, Upper};
use crate::net::cores;
use crate::net::stream::StreamHandle;

/// What a WebSocket message may be longer than an Engine.IO packet: the type that goes before it.
const MESSAGE_OVERHEAD_BYTES: usize = 16;

/// Bytes read from a WebSocket in one go. Poses are far smaller; more would only sit in memory.
const READ_BUFFER_BYTES: usize = 4096;

/// How long an upgrade from polling to websocket may take.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The times that a client learns in its handshake.
#[derive(Debug, Clone, Copy)]
pub struct TransportConfig {
    /// How often the server asks whether the client is there.
    pub ping_interval: Duration,
    /// How long the client may take to answer.
    pub ping_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self { ping_interval: Duration::from_secs(25), ping_timeout: Duration::from_secs(20) }
    }
}

/// Takes what engineioxide hears to the protocol above.
pub struct EngineIoHandler<U: Upper> {
    upper: Arc<U>,
    sessions: Arc<Sessions<U>>,
}

/// The service that answers everything under `path`. It is one for all cores: a session's requests may come in
/// on different ones. `connections_max` is how many connections the server takes.
pub fn engine_io<U: Upper>(
    upper: Arc<U>,
    path: &'static str,
    config: TransportConfig,
    connections_max: usize,
) -> EngineIo<U> {
    let sessions = Arc::<Sessions<U>>::default();
    let handler = Arc::new(EngineIoHandler { upper, sessions: sessions.clone() });
    let config = EngineIoConfig::builder()
        .req_path(path)
        .ping_interval(config.ping_interval)
        .ping_timeout(config.ping_timeout)
        .upgrade_timeout(UPGRADE_TIMEOUT)
        .max_buffer_size(QUEUE_CAPACITY)
        .max_payload(MAX_PACKET_BYTES as u64)
        .ws_read_buffer_size(READ_BUFFER_BYTES)
        .ws_max_message_size(MAX_PACKET_BYTES + MESSAGE_OVERHEAD_BYTES)
        .ws_max_frame_size(MAX_PACKET_BYTES + MESSAGE_OVERHEAD_BYTES)
        .build();
    let silence_max = config.ping_interval + config.ping_timeout;
    EngineIo::new(path, EngineIoService::with_config(handler, config), sessions, connections_max, silence_max)
}

/// What hangs on each of engineioxide's sockets. It is empty only until `on_connect` has filled it.
pub struct SocketData<U: Upper>(OnceLock<Arc<U::Connection>>);

impl<U: Upper> Default for SocketData<U> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<U: Upper> Handler for EngineIoHandler<U> {
    type Data = SocketData<U>;

    fn on_connect(self: Arc<Self>, socket: Arc<Socket<SocketData<U>>>) {
        let outbox = Arc::new(EngineIoOutbox::new(&socket));
        match (socket.transport_type(), socket.req_parts.extensions.get::<StreamHandle>()) {
            (TransportType::Websocket, Some(stream)) => outbox.run_over(stream.clone()),
            (TransportType::Websocket, None) => {}
            // Its requests come over any connection, until one of them is an upgrade.
            (TransportType::Polling, _) => self.sessions.add(&socket, outbox.clone()),
        }
        let query = socket.req_parts.uri.query().unwrap_or_default().into();
        let link = Link::new(outbox, query, cores::current());
        socket.data.0.get_or_init(|| self.upper.open(link));
    }

    fn on_disconnect(&self, socket: Arc<Socket<SocketData<U>>>, _reason: DisconnectReason) {
        self.sessions.remove(socket.id);
        if let Some(connection) = socket.data.0.get() {
            self.upper.closed(connection);
        }
    }

    fn on_message(self: &Arc<Self>, text: Str, socket: Arc<Socket<SocketData<U>>>) {
        if let Some(connection) = socket.data.0.get() {
            self.upper.text(connection, &text);
        }
    }

    fn on_binary(self: &Arc<Self>, attachment: Bytes, socket: Arc<Socket<SocketData<U>>>) {
        if let Some(connection) = socket.data.0.get() {
            self.upper.binary(connection, &attachment);
        }
    }
}

impl<U: Upper> std::fmt::Debug for EngineIoHandler<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineIoHandler")
    }
}
