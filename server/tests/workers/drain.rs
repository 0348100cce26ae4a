//! A server that goes down while workers have tasks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use engine::journal::NoJournal;
use engine::ports::{CloseReason, Outbox, OutboxError, TickOutcome, TickView};
use engine::{Engine, EngineConfig, RoomDefaults};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prometheus_client::registry::Registry;
use protocol::Outgoing;
use serde_json::json;
use server::app::App;
use server::auth::Auth;
use server::clock::SystemClock;
use server::config::Config;
use server::drain;
use server::http::{Api, ApiParts};
use server::net::serve::Body;
use server::replay::Replays;
use server::replay::sqlite::SqliteRecordings;
use server::storage::SqliteStore;
use server::transport::{Connection, Link};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::worker::{Mode, Worker};
use super::{PATIENCE, Site, settings, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What a session was sent, and when it was closed.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    /// What came after the welcome and the word that the server goes down.
    fn of_tasks(&self) -> Vec<String> {
        let told = self.0.lock().unwrap();
        let is_of_tasks = |text: &&String| !text.starts_with("0{") && !text.contains("server-restart");
        told.iter().filter(is_of_tasks).cloned().collect()
    }
}

impl Outbox for Told {
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

    fn close(&self, _: CloseReason) {
        self.0.lock().unwrap().push("closed".to_owned());
    }
}

/// A server without sockets, one client of it, and its bridge.
struct Server {
    bridge: Site,
    engine: Engine,
    config: Arc<Config>,
    api: Api,
    client: Arc<Connection<App>>,
    told: Arc<Told>,
    token: String,
    _data: TempDir,
}

impl Server {
    async fn new(worker: &Worker, drain_ms: &str) -> Self {
        let bridge = Site::with(settings(&[worker])).await;
        let config = Config::from_sources([], |name| match name {
            "JWT_SECRET" => Some(SECRET.into()),
            "DRAIN_MS" => Some(drain_ms.into()),
            _ => None,
        });
        let config = Arc::new(config.unwrap());
        let (data, mut registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let store = Arc::new(SqliteStore::open(data.path()).unwrap());
        let parts = EngineConfig {
            cores: 1,
            rooms: RoomDefaults::default(),
            store: store.clone(),
            journal: Arc::new(NoJournal),
            clock: Arc::new(SystemClock::start()),
        };
        let (engine, cores) = Engine::new(parts, &mut registry);
        for core in cores {
            tokio::spawn(core.shard.run());
            tokio::spawn(core.fanout.run());
        }
        let auth = Arc::new(Auth::new(SECRET.as_bytes()));
        let token = auth.login("ada", engine.now().as_millis() / 1_000).unwrap().token;
        let app = App::new(engine.clone(), auth.clone(), bridge.workers.clone(), &mut registry);
        let recordings = Arc::new(SqliteRecordings::in_data_dir(data.path()));
        let api = Api::new(ApiParts {
            engine: engine.clone(),
            auth,
            config: config.clone(),
            store,
            redis: None,
            journal: None,
            replays: Arc::new(Replays::start(recordings, &mut registry).unwrap()),
            registry: Arc::new(registry),
            workers: bridge.workers.clone(),
            started: std::time::Instant::now(),
        });
        let told = Arc::new(Told::default());
        let client =
            Connection::open(Arc::new(app), Link::new(told.clone(), "".into(), 0), Duration::from_secs(600));
        client.handle_text(&format!(r#"0{{"token":"{token}"}}"#));
        Self { bridge, engine, config, api, client, told, token, _data: data }
    }

    /// Asks for a task as an event with an ack, and waits until the worker has it.
    async fn ask(&self, worker: &Worker) {
        self.client.handle_text(r#"27["worker-task",{"taskId":"t","task":"echo","payload":5}]"#);
        self.bridge.until("the worker has it", |_| worker.count("POST /tasks") == 1).await;
    }

    /// Begins to go down.
    fn drain(&self) -> JoinHandle<()> {
        let (engine, workers) = (self.engine.clone(), self.bridge.workers.clone());
        let config = self.config.clone();
        tokio::spawn(async move {
            drain::drain(&engine, &workers, &config).await;
        })
    }

    async fn execute(&self, data: &str) -> Response<Body> {
        let request = Request::post("/api/worker/execute")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(json!({"task": "echo", "data": data}).to_string())));
        self.api.handle(request.unwrap()).await
    }
}

#[tokio::test]
async fn a_task_that_is_under_way_is_waited_for() {
    let worker = Worker::start(Mode::NeverFinish);
    let server = Server::new(&worker, "600000").await;
    server.ask(&worker).await;
    let draining = server.drain();
    server.bridge.until("it drains", |_| server.engine.is_draining()).await;
    server.client.handle_text(r#"28["worker-task",{"taskId":"u","task":"echo"}]"#);
    server.bridge.until("another task is refused", |_| server.told.of_tasks().len() == 2).await;
    worker.set(Mode::AfterPolls(1));
    within(draining).await.unwrap();
    let expected = [
        r#"2["worker-error",{"taskId":"u","error":"the server is restarting"}]"#,
        r#"38[{"ok":false,"error":{"code":"draining","message":"the server is restarting"}}]"#,
        r#"2["worker-result",{"taskId":"t","result":5}]"#,
        r#"37[{"ok":true,"taskId":"t"}]"#,
        "closed",
    ];
    assert_eq!(server.told.of_tasks(), expected);
}

#[tokio::test]
async fn a_task_for_which_there_is_no_time_is_answered_all_the_same() {
    let worker = Worker::start(Mode::NeverFinish);
    let server = Server::new(&worker, "4000").await;
    server.ask(&worker).await;
    let (answer, drained) = within(async { tokio::join!(server.execute("x"), server.drain()) }).await;
    drained.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&text[..], br#"{"error":"the server is restarting"}"#);
    let expected = [
        r#"2["worker-error",{"taskId":"t","error":"the server is restarting"}]"#,
        r#"37[{"ok":false,"error":{"code":"draining","message":"the server is restarting"}}]"#,
        "closed",
    ];
    assert_eq!(server.told.of_tasks(), expected);
    assert_eq!(server.bridge.metric(r#"worker_tasks_total{outcome="draining"}"#), 2.0);
    // Nothing more is begun.
    assert_eq!(server.bridge.run("ada", json!(1)).await.unwrap_err().to_string(), "the server is restarting");
}

#[tokio::test]
async fn an_answer_over_http_is_waited_for_until_it_has_left() {
    let worker = Worker::start(Mode::Echo);
    let server = Server::new(&worker, "600000").await;
    let data = "x".repeat(500_000);
    let answer = within(server.execute(&data)).await;
    assert_eq!(
        (answer.status(), answer.headers()["content-type"].as_bytes()),
        (StatusCode::OK, &b"application/json"[..])
    );
    server.bridge.until("the task is over", |site| site.workers.under_way() == 0).await;
    assert!(!server.bridge.workers.is_idle());
    let draining = server.drain();
    server.bridge.until("it drains", |_| server.engine.is_draining()).await;
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap() {
        assert!(!server.bridge.workers.is_idle() && server.told.of_tasks().is_empty());
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(text, json!(data).to_string().as_bytes());
    drop(body);
    within(draining).await.unwrap();
    assert_eq!(server.told.of_tasks(), ["closed"]);
}
