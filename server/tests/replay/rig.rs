//! The API over recordings, without a socket.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::journal::NoJournal;
use engine::{Core, Engine, EngineConfig, RoomDefaults};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use server::auth::Auth;
use server::clock::SystemClock;
use server::config::Config;
use server::http::{Api, ApiParts};
use server::net::serve::Body;
use server::replay::Replays;
use server::replay::recordings::Recordings;
use server::replay::sqlite::SqliteRecordings;
use server::storage::SqliteStore;
use server::workers::Workers;
use tempfile::TempDir;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How long anything at all is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    api: Api,
    pub(crate) engine: Engine,
    pub(crate) replays: Arc<Replays>,
    token: String,
    _cores: Vec<Core>,
    _store: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn items(&self) -> Vec<Value> {
        assert_eq!((self.status, self.header("content-type")), (StatusCode::OK, Some("application/json")));
        serde_json::from_str(&self.text).unwrap()
    }

    /// The lines of NDJSON, which end with a line break each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kind = self.header("content-type");
        assert_eq!((self.status, kind), (StatusCode::OK, Some("application/x-ndjson")), "{}", self.text);
        assert!(self.text.is_empty() || self.text.ends_with('\n'));
        self.text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn check_error(&self, status: u16, message: &str) {
        let error: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!((self.status.as_u16(), error), (status, json!({ "error": message })));
    }
}

impl Rig {
    /// Over the files in `data_dir`.
    pub(crate) fn over_files(data_dir: &Path) -> Self {
        Self::over(Arc::new(SqliteRecordings::in_data_dir(data_dir)))
    }

    pub(crate) fn over(recordings: Arc<dyn Recordings>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::from_sources([], |name| (name == "JWT_SECRET").then(|| SECRET.into())).unwrap();
        let auth = Auth::new(SECRET.as_bytes());
        let mut registry = Registry::default();
        let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
        let clock = Arc::new(SystemClock::start());
        let settings = EngineConfig {
            cores: 1,
            rooms: RoomDefaults::default(),
            store: store.clone(),
            journal: Arc::new(NoJournal),
            clock,
        };
        let (engine, cores) = Engine::new(settings, &mut registry);
        let replays = Arc::new(Replays::start(recordings, &mut registry).unwrap());
        let token = auth.login("ada", engine.now().as_millis() / 1_000).unwrap().token;
        let workers = Workers::start(config.workers.clone(), &mut registry).unwrap();
        let api = Api::new(ApiParts {
            engine: engine.clone(),
            auth: Arc::new(auth),
            config: Arc::new(config),
            registry: Arc::new(registry),
            store,
            redis: None,
            journal: None,
            replays: replays.clone(),
            workers,
            started: Instant::now(),
        });
        Self { api, engine, replays, token, _cores: cores, _store: directory }
    }

    /// Asks for `/api/rooms/{path}` and leaves the body unread.
    pub(crate) async fn open(&self, method: Method, path: &str, accept: &str) -> Response<Body> {
        self.api.handle(self.request(method, path, accept)).await
    }

    /// The same with the room's password, as it stands in the header.
    pub(crate) async fn open_with(&self, password: &[u8], path: &str, accept: &str) -> Answer {
        let mut request = self.request(Method::GET, path, accept);
        request.headers_mut().insert("x-room-password", HeaderValue::from_bytes(password).unwrap());
        read(self.api.handle(request).await).await
    }

    fn request(&self, method: Method, path: &str, accept: &str) -> Request<Full<Bytes>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/rooms/{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", accept);
        request.body(Full::default()).unwrap()
    }

    pub(crate) async fn ask(&self, path: &str, accept: &str) -> Answer {
        read(self.open(Method::GET, path, accept).await).await
    }

    pub(crate) async fn array(&self, path: &str) -> Answer {
        self.ask(path, "*/*").await
    }

    pub(crate) async fn stream(&self, path: &str) -> Answer {
        self.ask(path, "application/x-ndjson").await
    }

    /// Waits until `is_so`.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "waited for {what}");
            tokio::task::yield_now().await;
        }
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, text }
}
