//! Who gets in, and who does not: while the server goes down, when it is full, and whoever asks too often.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::journal::NoJournal;
use engine::limits::{EVENT_BURST, MAX_REFUSALS};
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use engine::{Clock, Engine, EngineConfig, RoomDefaults, Time};
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
use server::workers::{BridgeSettings, Workers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SPREAD_MS: u64 = 5_000;

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>, Mutex<Option<CloseReason>>);

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
        self.count("0{") > 0
    }

    /// How many packets begin like this.
    fn count(&self, beginning: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|text| text.starts_with(beginning)).count()
    }

    fn is_closed(&self) -> bool {
        self.1.lock().unwrap().is_some()
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

    fn close(&self, reason: CloseReason) {
        *self.1.lock().unwrap() = Some(reason);
    }
}

/// A server's application.
struct Rig {
    engine: Engine,
    app: Arc<App>,
    /// A CONNECT that is let in.
    connect: String,
    _data: tempfile::TempDir,
}

impl Rig {
    fn new(clock: impl Clock) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut registry = Registry::default();
        let config = EngineConfig {
            cores: 1,
            rooms: RoomDefaults::default(),
            store: Arc::new(SqliteStore::open(data.path()).unwrap()),
            journal: Arc::new(NoJournal),
            clock: Arc::new(clock),
        };
        let (engine, _cores) = Engine::new(config, &mut registry);
        let auth = Arc::new(Auth::new(SECRET));
        let login = auth.login("ada", engine.now().as_millis() / 1000).unwrap();
        let connect = format!(r#"0{{"token":"{}"}}"#, login.token);
        let no_workers = Workers::start(BridgeSettings::default(), &mut registry).expect("nothing to start");
        let app = Arc::new(App::new(engine.clone(), auth, no_workers, &mut registry));
        Self { engine, app, connect, _data: data }
    }

    fn open(&self) -> (Arc<Connection<App>>, Arc<Kept>) {
        let outbox = Arc::new(Kept::default());
        let link = Link::new(outbox.clone(), "".into(), 0);
        (Connection::open(self.app.clone(), link, Duration::from_secs(45)), outbox)
    }
}

/// A clock that stands still.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Time {
        Time::from_micros(1_000_000_000)
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_all_the_time_pays_for_it_and_is_thrown_out() {
    let rig = Rig::new(Stopped);
    let (connection, outbox) = rig.open();
    let pairs = (EVENT_BURST + MAX_REFUSALS) as usize;
    for _ in 0..pairs {
        connection.handle_text(&rig.connect);
        connection.handle_text("1");
    }
    assert_eq!(outbox.count("0{"), EVENT_BURST as usize / 2, "each CONNECT is followed by a DISCONNECT");
    assert!(outbox.is_closed());
    let refused = r#"4{"message":"Too many requests"}"#;
    assert_eq!(outbox.count(refused), MAX_REFUSALS as usize / 2);
    assert_eq!(
        outbox.count(""),
        outbox.count("0{") + outbox.count(refused),
        "and nothing is said after the end"
    );

    // Those who are not let in pay as well.
    let (connection, outbox) = rig.open();
    for _ in 0..=pairs {
        connection.handle_text(r#"0{"token":"x"}"#);
    }
    assert_eq!(outbox.count(r#"4{"message":"Invalid token"}"#), EVENT_BURST as usize);
    assert!(outbox.is_closed());

    // A long one costs more, as it takes longer to be checked.
    let (connection, outbox) = rig.open();
    let long = format!(r#"0{{"token":"{}"}}"#, "x".repeat(64 * 1024));
    for _ in 0..EVENT_BURST {
        connection.handle_text(&long);
    }
    assert_eq!(outbox.count(r#"4{"message":"Invalid token"}"#), EVENT_BURST as usize / 65);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_is_carried_out_whatever_it_costs() {
    let rig = Rig::new(Stopped);
    let (connection, outbox) = rig.open();
    connection.handle_text(&rig.connect);
    for _ in 0..=EVENT_BURST {
        connection.handle_text(r#"25["time-sync"]"#);
    }
    assert_eq!(outbox.count(r#"35[{"ok":false"#), 2, "nothing is left");
    connection.handle_text("1");
    // It is in no session any more, and so may not speak.
    connection.handle_text(r#"25["time-sync"]"#);
    assert!(outbox.is_closed());
}

#[tokio::test(start_paused = true)]
async fn whoever_connects_while_the_server_drains_is_told_to_come_back() {
    let rig = Rig::new(SystemClock::start());
    let (early, told) = rig.open();
    early.handle_text(&rig.connect);
    assert_eq!((told.is_welcome(), told.restarts().len()), (true, 0), "nobody drains yet");
    let waiting: Vec<_> = (0..40).map(|_| rig.open()).collect();
    rig.engine.begin_drain(SPREAD_MS);
    assert_eq!(told.restarts().len(), 1);
    let mut times = Vec::new();
    for (connection, outbox) in &waiting {
        assert_eq!(outbox.restarts().len(), 0, "there is no session to be told");
        connection.handle_text(&rig.connect);
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
