//! An echo server on Copresence's own framing, for conformance tests: two namespaces, short heartbeats, and
//! every message sent back. `echo --port 3999`

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use clap::Parser;
use engine::ports::Outbox;
use http_body_util::Full;
use hyper::body::Incoming;
use protocol::Outgoing;
use protocol::packet::Event;
use server::net::serve::{Services, Site, accept};
use server::net::listen;
use server::transport::connection::{Accepted, Application, Link, Refused};
use server::transport::{TransportConfig, engine_io};
use tokio::sync::{Semaphore, watch};

#[derive(Parser)]
struct Arguments {
    /// The port to listen on, on the loopback address.
    #[arg(long, default_value_t = 3999)]
    port: u16,
}

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
    }

    fn disconnected(&self, _: &Arc<EchoSession>) {}
}

struct NoSite;

impl Site for NoSite {
    async fn answer(&self, _: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        answer
    }

    fn add_headers(&self, _: &mut HeaderMap) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let Arguments { port } = Arguments::parse();
    let listener = listen::bind(([127, 0, 0, 1], port).into(), 1)?.remove(0);
    let config = TransportConfig {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
    };
    let services = Services {
        engine_io: engine_io(Arc::new(Echo), config),
        site: Arc::new(NoSite),
        connections: Arc::new(Semaphore::new(1024)),
    };
    let (_stop, stopped) = watch::channel(false);
    accept(tokio::net::TcpListener::from_std(listener)?, services, stopped).await;
    Ok(())
}
