//! The HTTP API and the page.
//!
//! Every row of the contract's HTTP table is a `Route`; each group of them has a file of its own. An
//! answer that is no success is always JSON `{"error": "…"}`.

mod body;
mod headers;
mod health;
mod login;
mod makers;
mod page;
mod pieces;
mod process;
mod replay;
mod reply;
mod rooms;
mod route;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Buf;
use engine::Engine;
use http_body_util::Empty;
use hyper::body::Body;
use prometheus_client::registry::Registry;

use crate::auth::{Auth, AuthError, Claims};
use crate::config::Config;
use crate::journal::RoomJournal;
use crate::net::serve;
use crate::redis::Redis;
use crate::replay::Replays;
use crate::storage::SqliteStore;
use crate::workers::Workers;

use headers::Cors;
use makers::Makers;
use page::Page;
use reply::{ApiError, Reply};
use rooms::RoomList;
use route::{Found, Route};

pub use body::{BODY_TIMEOUT, MAX_BODY_BYTES};
pub use makers::{MAKER_WINDOW, MAX_MAKERS, MAX_ROOMS_PER_USER};
pub use page::{MAX_PAGE_BYTES, MAX_PAGE_FILES};
pub use replay::{DEFAULT_REPLAY_LIMIT, MAX_REPLAY_BYTES, MAX_REPLAY_LIMIT, MAX_REPLAY_USERS, READ_TIMEOUT};
pub use rooms::{LIST_KEPT, MAX_FRESH_ROOMS, MAX_LISTED_ROOMS};
pub use workers::MAX_TASK_BODY_BYTES;

/// The API's description, as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What an [`Api`] answers from.
pub struct ApiParts {
    /// The rooms and sessions.
    pub engine: Engine,
    /// Makes and checks tokens.
    pub auth: Arc<Auth>,
    /// The settings.
    pub config: Arc<Config>,
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Where persistent rooms are kept.
    pub store: Arc<SqliteStore>,
    /// Redis, where they are as well, if there is one.
    pub redis: Option<Arc<Redis>>,
    /// What was recorded of rooms.
    pub replays: Arc<Replays>,
    /// What is written down of rooms, if anything is.
    pub journal: Option<Arc<RoomJournal>>,
    /// Who does heavy work.
    pub workers: Workers,
    /// When the server came up.
    pub started: Instant,
}

/// Answers HTTP requests. It knows no socket: whoever has one brings the requests.
pub struct Api {
    parts: ApiParts,
    makers: Makers,
    list: RoomList,
    cors: Cors,
    page: Option<Page>,
}

impl Api {
    /// The engine that it tells about.
    pub fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    /// An API over `parts`. Reads the page into memory, if there is one.
    pub fn new(parts: ApiParts) -> Self {
        let page = parts.config.web_dir.as_deref().and_then(Page::load);
        let cors = Cors::new(&parts.config.cors_origin);
        Self { makers: Makers::default(), list: RoomList::default(), cors, page, parts }
    }

    /// The answer to `request`, whatever it is.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<serve::Body>
    where
        B: Body + Send,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_head = request.method() == Method::HEAD;
        let mut response = match self.reply(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if is_head {
            // Of a body that is read while it goes out, nobody knows the length.
            if let Some(length) = Body::size_hint(response.body()).exact() {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = serve::whole(Empty::new());
        }
        self.apply_cors(response.headers_mut());
        headers::apply_security(response.headers_mut());
        response
    }

    /// Adds what lets pages of other origins read an answer. Every answer needs it, also one that does not
    /// come from here.
    pub fn apply_cors(&self, headers: &mut HeaderMap) {
        self.cors.apply(headers);
    }

    async fn reply<B>(&self, request: Request<B>) -> Reply
    where
        B: Body + Send,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() == Method::OPTIONS {
            return Ok(headers::preflight());
        }
        let (head, body) = request.into_parts();
        match route::find(&head.method, head.uri.path()) {
            Found::Route(route, room) => self.answer(route, room, &head, body).await,
            Found::OtherMethods(methods) => Err(wrong_method(&methods)),
            Found::Nothing => self.page_file(&head.method, head.uri.path()),
        }
    }

    async fn answer<B>(&self, route: Route, room: Option<&str>, head: &Parts, body: B) -> Reply
    where
        B: Body + Send,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let parts = &self.parts;
        let user =
            if route.wants_token() { self.authenticate(&head.headers)?.user_id } else { String::new() };
        match route {
            Route::Login => login::login(parts, &body::object(body).await?),
            Route::ListRooms => Ok(self.list.answer(&parts.engine)),
            Route::CreateRoom => rooms::create(parts, &self.makers, &user, body::object(body).await?).await,
            Route::Replay => {
                replay::answer(parts, &user, room.unwrap_or_default(), (&head.uri, &head.headers)).await
            }
            Route::Execute => {
                workers::execute(parts, &user, &body::text(body, MAX_TASK_BODY_BYTES).await?).await
            }
            Route::WorkerStatus => Ok(workers::status(parts)),
            Route::Health => Ok(health::health(parts)),
            Route::Live => Ok(health::live()),
            Route::Ready => health::ready(parts),
            Route::Metrics => health::metrics(parts),
            Route::OpenApi => Ok(reply::of_type("application/json", OPENAPI)),
        }
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Claims, AuthError> {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = match given.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => "",
        };
        self.parts.auth.verify(token, unix_s(&self.parts))
    }

    fn page_file(&self, method: &Method, path: &str) -> Reply {
        let response = match &self.page {
            Some(page) => page.file(path),
            None if path == "/" => Some(page::absent()),
            None => None,
        };
        let response = response.ok_or(ApiError::new(StatusCode::NOT_FOUND, "Not found"))?;
        match *method {
            Method::GET | Method::HEAD => Ok(response),
            _ => Err(wrong_method("GET, HEAD")),
        }
    }
}

/// The time by the engine's clock, which is also the one that sessions are let in by.
fn unix_s(parts: &ApiParts) -> u64 {
    parts.engine.now().as_millis() / 1000
}

fn wrong_method(methods: &str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").with_header(ALLOW, methods)
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("page", &self.page.is_some()).finish_non_exhaustive()
    }
}
