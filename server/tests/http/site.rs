//! A server without sockets.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::journal::{Journal, NoJournal};
use engine::{Clock, Core, Engine, EngineConfig, RoomDefaults};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use server::auth::Auth;
use server::clock::SystemClock;
use server::config::Config;
use server::http::{Api, ApiParts};
use server::journal::RoomJournal;
use server::journal::folder::HOUR_MS;
use server::journal::hours::{Hours, HoursSettings};
use server::redis::{Redis, RedisConfig};
use server::replay::Replays;
use server::replay::sqlite::SqliteRecordings;
use server::storage::SqliteStore;
use server::workers::Workers;
use tempfile::TempDir;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A server whose shards do not run: no call of the API needs them.
pub(crate) struct Site {
    api: Api,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) redis: Option<Arc<Redis>>,
    _cores: Vec<Core>,
    _data: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// It is this error, and of the form that all errors have.
    pub(crate) fn check_error(&self, status: u16, message: &str) {
        assert_eq!((self.status.as_u16(), self.json()), (status, json!({ "error": message })));
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("access-control-allow-origin"), "*");
    }
}

fn journal(data: &Path, registry: &mut Registry, clock: Arc<dyn Clock>) -> RoomJournal {
    let settings = HoursSettings { ttl_ms: HOUR_MS, bytes_max: u64::MAX };
    let hours = Hours::open(data, settings, clock.now().as_millis(), registry).unwrap();
    let condition = hours.condition();
    RoomJournal::start(10, Box::new(hours), condition, clock, registry).unwrap()
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(tempfile::tempdir().unwrap(), settings)
    }

    /// The same after its end and a new start.
    pub(crate) async fn restarted(self) -> Self {
        self.store.close().await.unwrap();
        let site = Self::on(self._data, &[]);
        site.engine.load_rooms().await.unwrap();
        site
    }

    fn on(data: TempDir, settings: &[(&str, &str)]) -> Self {
        let page = data.path().join("page");
        std::fs::create_dir_all(page.join("assets")).unwrap();
        std::fs::write(page.join("index.html"), "<p>the page").unwrap();
        std::fs::write(page.join("assets/index-1a2b.js"), "let a;").unwrap();
        std::fs::write(data.path().join("secret.txt"), "not for you").unwrap();
        let config = Config::from_sources([], |name| match name {
            "JWT_SECRET" => Some(SECRET.into()),
            "WEB_DIR" => Some(page.clone().into()),
            _ => settings.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)),
        });
        let mut config = config.unwrap();
        if settings.contains(&("WEB_DIR", "none")) {
            config.web_dir = None;
        }
        let mut registry = Registry::with_prefix("copresence");
        let directory = data.path().join("data");
        let store =
            Arc::new(SqliteStore::open_with_outbox(&directory, server::storage::OUTBOX_ROWS_MAX).unwrap());
        let redis = config.redis.clone().map(|nodes| {
            let ttl = Duration::from_secs(3_600);
            let settings = RedisConfig { nodes, directory, ttl, spool_bytes_max: u64::MAX };
            Arc::new(Redis::start(settings, store.clone(), &mut registry).unwrap().0)
        });
        let rooms = RoomDefaults {
            max_users_limit: config.max_users_per_room,
            tick_hz: config.tick_hz,
            ..RoomDefaults::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let journal = (config.replay_ttl_hours > 0)
            .then(|| Arc::new(journal(&data.path().join("data"), &mut registry, clock.clone())));
        let recorder: Arc<dyn Journal> = match journal.clone() {
            Some(journal) => journal,
            None => Arc::new(NoJournal),
        };
        let settings = EngineConfig { cores: 1, rooms, store: store.clone(), journal: recorder, clock };
        let (engine, cores) = Engine::new(settings, &mut registry);
        let recordings = Arc::new(SqliteRecordings::in_data_dir(&data.path().join("data")));
        let replays = Arc::new(Replays::start(recordings, &mut registry).unwrap());
        let workers = Workers::start(config.workers.clone(), &mut registry).unwrap();
        let api = Api::new(ApiParts {
            engine: engine.clone(),
            auth: Arc::new(Auth::new(config.jwt_secret.expose().as_bytes())),
            config: Arc::new(config),
            registry: Arc::new(registry),
            store: store.clone(),
            redis: redis.clone(),
            replays,
            journal: journal.clone(),
            workers,
            started: Instant::now(),
        });
        Self { api, engine, store, redis, _cores: cores, _data: data }
    }

    pub(crate) async fn send<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
    {
        let (head, body) = self.api.handle(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
        Answer { status: head.status, headers: head.headers, bytes }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) async fn fetch(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, body.to_string()).await
    }

    pub(crate) async fn token(&self) -> String {
        self.token_of("ada").await
    }

    /// A token for a user of that name.
    pub(crate) async fn token_of(&self, name: &str) -> String {
        let login = self.post("/api/auth/login", "", json!({"username": name})).await;
        login.json()["token"].as_str().unwrap().to_owned()
    }
}
