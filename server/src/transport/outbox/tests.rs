//! Real connections over loopback: a session that begins with polling and goes over to a websocket.

use std::sync::OnceLock;

use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{pause, timeout};

use super::*;
use crate::net::serve::{Body, Services, Site, accept, whole};
use crate::transport::{Link, TransportConfig, Upper};

const PATH: &str = "/engine.io";

/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Far more than the system takes from a server whose client does not read.
const LONG_BYTES: usize = 4 * MAX_QUEUED_BYTES;

/// Sends back what it hears, and keeps the way out of its only connection.
#[derive(Default)]
struct Ear(OnceLock<Link>);

impl Upper for Ear {
    type Connection = Link;

    fn open(&self, link: Link) -> Arc<Link> {
        Arc::new(self.0.get_or_init(|| link).clone())
    }

    fn text(&self, link: &Arc<Link>, text: &str) {
        link.outbox.send(&Outgoing::message(text)).unwrap();
    }

    fn binary(&self, _: &Arc<Link>, _: &[u8]) {}

    fn closed(&self, _: &Arc<Link>) {}
}

struct NoSite;

impl Site for NoSite {
    async fn answer(&self, _: Request<Incoming>) -> Response<Body> {
        Response::new(whole(Empty::new()))
    }

    fn add_headers(&self, _: &mut HeaderMap) {}
}

struct Client {
    tcp: TcpStream,
    outbox: Arc<dyn Outbox>,
    /// One permit per connection that may be open: for the upgrade, and for the polling before it.
    connections: Arc<Semaphore>,
}

impl Client {
    /// A client that has gone over to a websocket, to which more is to be written than it reads.
    async fn upgraded_and_silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ear, connections) = (Arc::new(Ear::default()), Arc::new(Semaphore::new(2)));
        let config = TransportConfig::default();
        let services = Services::new(PATH, ear.clone(), Arc::new(NoSite), 1, config, connections.clone());
        tokio::spawn(accept(listener, services));

        let mut polling = TcpStream::connect(address).await.unwrap();
        request(&mut polling, "transport=polling", "Connection: close\r\n").await;
        let mut answer = String::new();
        polling.read_to_string(&mut answer).await.unwrap();
        let sid = answer.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap();

        let mut tcp = TcpStream::connect(address).await.unwrap();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        request(&mut tcp, &format!("transport=websocket&sid={sid}"), upgrade).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        for (said, answered) in [("2probe", Some("3probe")), ("5", None), ("4hello", Some("4hello"))] {
            // Masked with zeros.
            let head = [0x81, 0x80 | said.len() as u8, 0, 0, 0, 0];
            tcp.write_all(&[&head, said.as_bytes()].concat()).await.unwrap();
            if let Some(text) = answered {
                let mut frame = vec![0; 2 + text.len()];
                tcp.read_exact(&mut frame).await.unwrap();
                assert_eq!(frame, [&[0x81, text.len() as u8], text.as_bytes()].concat());
            }
        }

        let outbox = ear.0.get().unwrap().outbox.clone();
        outbox.send(&Outgoing::message(&"x".repeat(LONG_BYTES))).unwrap();
        while !outbox.is_idle() {
            tokio::task::yield_now().await;
        }
        // From here on the writer waits for the client.
        Self { tcp, outbox, connections }
    }

    /// Waits until the server has let go of every connection.
    async fn forgotten(&self) {
        let _all = self.connections.acquire_many(2).await.unwrap();
    }
}

async fn request(tcp: &mut TcpStream, query: &str, headers: &str) {
    let head = format!("GET {PATH}/?EIO=4&{query} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_after_an_upgrade_too() {
    let mut client = Client::upgraded_and_silent().await;
    client.outbox.close(CloseReason::SlowReader);
    // It reads now, but too late: there comes no more than what the system had taken.
    let read = async {
        let (mut buffer, mut came) = (vec![0; 64 * 1024], 0);
        while let Ok(bytes @ 1..) = client.tcp.read(&mut buffer).await {
            came += bytes;
        }
        came
    };
    let came = timeout(PATIENCE, read).await.expect("an end");
    assert!(came < LONG_BYTES, "all of it was still sent");
    timeout(PATIENCE, client.forgotten()).await.expect("the server lets go");
}

#[tokio::test]
async fn whoever_is_to_go_and_reads_nothing_is_cut_off_after_a_while() {
    let client = Client::upgraded_and_silent().await;
    // From here on time moves only when nothing else can happen.
    pause();
    client.outbox.close(CloseReason::ProtocolError);
    timeout(CLOSE_TIMEOUT * 2, client.forgotten()).await.expect("the server lets go");
}
