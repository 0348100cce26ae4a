//! Who gets in, and who does not: while the server goes down, and when it is full.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::journal::NoJournal;
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use engine::{Engine, EngineConfig, RoomDefaults};
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use protocol::Outgoing;
use server::app::App;
use server::auth::Auth;
use server::clock::SystemClock;
use server::net::serve::{Body, Services, Site, accept, whole};
use server::storage::SqliteStore;
use server::transport::{Connection, Link, TransportConfig, Upper};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SPREAD_MS: u64 = 5_000;

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Kept {
    /// The times of all `server-restart`s, in milliseconds.
    fn restarts(&self) -> Vec<u64> {
        let time = |text: &String| {
            let event: serde_json::Value = serde_json::from_str(text.strip_prefix('2')?).ok()?;
            (event[0] == "server-restart").then(|| event[1]["reconnectInMs"].as_u64().unwrap())
        };
        self.0.lock().unwrap().iter().filter_map(time).collect()
    }

    fn is_welcome(&self) -> bool {
        self.0.lock().unwrap().iter().any(|text| text.starts_with("0{"))
    }
}

impl Outbox for Kept {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        self.0.lock().unwrap().push(packet.text().to_owned());
        Ok(())
    }

    fn send_tick(&self, _: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn close(&self, _: CloseReason) {}
}

#[tokio::test(start_paused = true)]
async fn whoever_connects_while_the_server_drains_is_told_to_come_back() {
    let data = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    let config = EngineConfig {
        cores: 1,
        rooms: RoomDefaults::default(),
        store: Arc::new(SqliteStore::open(data.path()).unwrap()),
        journal: Arc::new(NoJournal),
        clock: Arc::new(SystemClock::start()),
    };
    let (engine, _cores) = Engine::new(config, &mut registry);
    let auth = Arc::new(Auth::new(SECRET));
    let login = auth.login("ada", engine.now().as_millis() / 1000).unwrap();
    let connect = format!(r#"0{{"token":"{}"}}"#, login.token);
    let app = Arc::new(App::new(engine.clone(), auth, &mut registry));
    let open = || {
        let outbox = Arc::new(Kept::default());
        let link = Link::new(outbox.clone(), "".into(), 0);
        (Connection::open(app.clone(), link, Duration::from_secs(45)), outbox)
    };

    let (early, told) = open();
    early.handle_text(&connect);
    assert_eq!((told.is_welcome(), told.restarts().len()), (true, 0), "nobody drains yet");
    let waiting: Vec<_> = (0..40).map(|_| open()).collect();
    engine.begin_drain(SPREAD_MS);
    assert_eq!(told.restarts().len(), 1);
    let mut times = Vec::new();
    for (connection, outbox) in &waiting {
        assert_eq!(outbox.restarts().len(), 0, "there is no session to be told");
        connection.handle_text(&connect);
        assert!(outbox.is_welcome());
        assert_eq!(outbox.restarts().len(), 1, "it was let in, and must hear what the others heard");
        times.extend(outbox.restarts());
    }
    assert!(times.iter().all(|time| *time < SPREAD_MS));
    assert!(times.iter().any(|time| *time != times[0]), "they would come back together");
}

/// Listens to nothing.
struct Deaf;

impl Upper for Deaf {
    type Connection = ();

    fn open(&self, _: Link) -> Arc<()> {
        Arc::default()
    }

    fn text(&self, _: &Arc<()>, _: &str) {}

    fn binary(&self, _: &Arc<()>, _: &[u8]) {}

    fn closed(&self, _: &Arc<()>) {}
}

struct Door {
    is_open: bool,
}

impl Site for Door {
    async fn answer(&self, _: Request<Incoming>) -> Response<Body> {
        Response::new(whole(Empty::new()))
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn add_headers(&self, _: &mut HeaderMap) {}
}

/// The status codes that a server with this door and place for one connection gives to requests with these queries,
/// one after the other on one connection.
async fn answers(door: Door, queries: &[&str]) -> Vec<String> {
    const PATH: &str = "/engine.io";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let connections = Arc::new(Semaphore::new(1));
    let services =
        Services::new(PATH, Arc::new(Deaf), Arc::new(door), 1, TransportConfig::default(), connections);
    tokio::spawn(accept(listener, services));
    for (index, query) in queries.iter().enumerate() {
        let connection = if index + 1 == queries.len() { "close" } else { "keep-alive" };
        let head =
            format!("GET {PATH}/?EIO=4&{query} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
    }
    let mut text = String::new();
    let read = client.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("answers").unwrap();
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect()
}

#[tokio::test]
async fn a_server_that_drains_opens_no_session_whatever_the_query_looks_like() {
    let queries = [
        "transport=polling",
        "transport=polling&xsid=1",
        "transport=websocket&t=sid=",
        "transport=polling&sid=x",
    ];
    // The last is no session; but that is engineioxide's to say.
    assert_eq!(answers(Door { is_open: false }, &queries).await, ["503", "503", "503", "400"]);
}

#[tokio::test]
async fn there_are_as_many_sessions_by_polling_as_connections() {
    let queries = ["transport=polling"; 3];
    assert_eq!(answers(Door { is_open: true }, &queries).await, ["200", "503", "503"]);
}
