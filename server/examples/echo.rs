//! An echo server on Copresence's own framing, for conformance tests: Socket.IO with two namespaces under
//! `/socket.io/`, bare Engine.IO under `/engine.io/`, short heartbeats, and every message sent back.
//! `echo --port 3999`

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use clap::Parser;
use engine::ports::Outbox;
use http_body_util::Empty;
use hyper::body::Incoming;
use protocol::Outgoing;
use protocol::packet::Event;
use server::net::listen;
use server::net::serve::{Body, Services, Site, accept, whole};
use server::transport::connection::{Accepted, Application};
use server::transport::{Link, Refused, SocketIo, TransportConfig, Upper};
use tokio::sync::Semaphore;

/// Connections that may be open at once.
const CONNECTIONS_MAX: usize = 1024;

#[derive(Parser)]
struct Arguments {
    /// The port to listen on, on the loopback address.
    #[arg(long, default_value_t = 3999)]
    port: u16,
    /// How often a client is pinged, in milliseconds.
    #[arg(long, env = "COPRESENCE_ECHO_PING_INTERVAL_MS", default_value_t = 300)]
    ping_interval_ms: u64,
    /// How long a client may take to answer a ping, in milliseconds.
    #[arg(long, env = "COPRESENCE_ECHO_PING_TIMEOUT_MS", default_value_t = 200)]
    ping_timeout_ms: u64,
    /// How long a Socket.IO connection may be open without a CONNECT, in milliseconds.
    #[arg(long, env = "COPRESENCE_ECHO_CONNECT_TIMEOUT_MS", default_value_t = 1000)]
    connect_timeout_ms: u64,
}

/// Socket.IO's.
struct Echo;

struct EchoSession {
    namespace: String,
    auth: String,
    outbox: Arc<dyn Outbox>,
}

impl Application for Echo {
    type Session = EchoSession;

    fn connect(
        &self,
        namespace: &str,
        auth: Option<&str>,
        link: &Link,
    ) -> Result<Accepted<EchoSession>, Refused> {
        if !["/", "/custom"].contains(&namespace) {
            return Err(Refused("Invalid namespace".to_owned()));
        }
        let session = EchoSession {
            namespace: namespace.to_owned(),
            auth: auth.unwrap_or("{}").to_owned(),
            outbox: link.outbox.clone(),
        };
        Ok(Accepted { session, sid: format!("{:016x}", rand::random::<u64>()) })
    }

    fn connected(&self, session: &Arc<EchoSession>) {
        let packet = Outgoing::event_raw_in(&session.namespace, "auth", &session.auth, Vec::new());
        session.outbox.send(&packet).ok();
        session.outbox.flush();
    }

    fn event(
        &self,
        session: &Arc<EchoSession>,
        event: &Event<'_>,
        attachments: Vec<Bytes>,
        ack: Option<u64>,
    ) {
        let packet = match (&*event.name, ack) {
            ("message", _) => {
                Outgoing::event_raw_in(&session.namespace, "message-back", event.args, attachments)
            }
            ("message-with-ack", Some(id)) => {
                Outgoing::ack_raw(&session.namespace, id, event.args, attachments)
            }
            _ => return,
        };
        session.outbox.send(&packet).ok();
        session.outbox.flush();
    }

    fn disconnected(&self, _: &Arc<EchoSession>) {}
}

/// Engine.IO's.
struct RawEcho;

impl Upper for RawEcho {
    type Connection = Link;

    fn open(&self, link: Link) -> Arc<Link> {
        Arc::new(link)
    }

    fn text(&self, link: &Arc<Link>, text: &str) {
        link.outbox.send(&Outgoing::message(text)).ok();
        link.outbox.flush();
    }

    fn binary(&self, link: &Arc<Link>, message: &[u8]) {
        link.outbox.send(&Outgoing::binary_message(Bytes::copy_from_slice(message))).ok();
        link.outbox.flush();
    }

    fn closed(&self, _: &Arc<Link>) {}
}

struct NoSite;

impl Site for NoSite {
    async fn answer(&self, _: Request<Incoming>) -> Response<Body> {
        let mut answer = Response::new(whole(Empty::new()));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        answer
    }

    fn add_headers(&self, _: &mut HeaderMap) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let listener = listen::bind(([127, 0, 0, 1], arguments.port).into(), 1)?.remove(0);
    let config = TransportConfig {
        ping_interval: Duration::from_millis(arguments.ping_interval_ms),
        ping_timeout: Duration::from_millis(arguments.ping_timeout_ms),
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let raw =
        Services::new("/engine.io", Arc::new(RawEcho), Arc::new(NoSite), 1, config, connections.clone());
    let socket_io = SocketIo::new(Arc::new(Echo), Duration::from_millis(arguments.connect_timeout_ms));
    let services = Services::new("/socket.io", Arc::new(socket_io), Arc::new(raw), 1, config, connections);
    accept(tokio::net::TcpListener::from_std(listener)?, services).await;
    Ok(())
}
