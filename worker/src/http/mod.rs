//! The HTTP interface: both protocols that servers speak to their workers. An answer that is no success is always
//! JSON `{"error": "…"}`.

mod body;
mod reply;
mod secret;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::header::{ALLOW, CONNECTION, WWW_AUTHENTICATE};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::limits::{EXECUTE_WAIT, INLINE_WAIT, MAX_KEY_BYTES};
use crate::task::Task;
use crate::tasks::{Handle, Key, Outcome, Tasks};

use body::Bodies;
use reply::{ApiError, Reply};
use secret::Bearer;

/// Answers HTTP requests. It knows no socket: whoever has one brings the requests.
#[derive(Debug)]
pub struct Api {
    tasks: Arc<Tasks>,
    bearer: Bearer,
    bodies: Bodies,
    is_draining: AtomicBool,
}

/// What is asked for, in the words of either protocol.
#[derive(Debug, Deserialize)]
struct Order<'a> {
    #[serde(rename = "type", alias = "task", borrow)]
    name: Cow<'a, str>,
    #[serde(alias = "data", borrow)]
    payload: &'a RawValue,
}

impl Api {
    /// An interface to `tasks`, for those who send `secret` as a bearer token; for everybody if it is empty.
    pub fn new(tasks: Arc<Tasks>, secret: &str) -> Self {
        Self {
            tasks,
            bearer: Bearer::new(secret),
            bodies: Bodies::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// From now on no task is accepted. Results can still be fetched.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// The answer to `request`, whatever it is.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut response = self.reply(request).await.unwrap_or_else(ApiError::into_response);
        if self.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn reply<B>(&self, request: Request<B>) -> Reply
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if path != "/health" && !self.bearer.admits(&head.headers) {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "A bearer token is needed")
                .with_header(WWW_AUTHENTICATE, "Bearer"));
        }
        let is_get = matches!(head.method, Method::GET | Method::HEAD);
        let task = path.strip_prefix("/tasks/").filter(|id| !id.is_empty() && !id.contains('/'));
        match (path, task) {
            ("/health", _) if is_get => self.health(),
            ("/metrics", _) if is_get => self.metrics(),
            (_, Some(id)) if is_get => self.fetch(id),
            ("/tasks", _) if head.method == Method::POST => self.post(&head.headers, body).await,
            ("/execute", _) if head.method == Method::POST => self.execute(&head.headers, body).await,
            ("/health" | "/metrics", _) | (_, Some(_)) => Err(wrong_method("GET, HEAD")),
            ("/tasks" | "/execute", _) => Err(wrong_method("POST")),
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "Not found")),
        }
    }

    fn health(&self) -> Reply {
        if self.is_draining() {
            return Err(ApiError::busy("The worker is going down"));
        }
        Ok(reply::json(StatusCode::OK, &json!({ "status": "ok", "tasks": Task::NAMES })))
    }

    fn metrics(&self) -> Reply {
        let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "No metrics");
        self.tasks.metrics().text().map(reply::metrics).map_err(failed)
    }

    fn fetch(&self, id: &str) -> Reply {
        let handle = self.tasks.find(id).ok_or(ApiError::new(StatusCode::NOT_FOUND, "No such task"))?;
        Ok(self.tell(StatusCode::OK, &handle))
    }

    /// A task of the protocol of today: answered at once if it is done at once.
    async fn post<B>(&self, headers: &HeaderMap, body: B) -> Reply
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut handle = self.accept(headers, body).await?;
        let is_done =
            timeout(INLINE_WAIT, handle.state.wait_for(|state| state.outcome().is_some())).await.is_ok();
        Ok(self.tell(if is_done { StatusCode::OK } else { StatusCode::ACCEPTED }, &handle))
    }

    /// A task of the older protocol: the answer is the result.
    async fn execute<B>(&self, headers: &HeaderMap, body: B) -> Reply
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut handle = self.accept(headers, body).await?;
        let ended = timeout(EXECUTE_WAIT, handle.state.wait_for(|state| state.outcome().is_some())).await;
        let outcome: Option<Outcome> =
            ended.ok().and_then(Result::ok).and_then(|state| state.outcome().cloned());
        self.tasks.note_fetched(&handle.id);
        match outcome {
            Some(Ok(result)) => Ok(reply::json(StatusCode::OK, &*result)),
            Some(Err(error)) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
            None => Err(ApiError::busy("The task is not done yet, ask again with the same Idempotency-Key")),
        }
    }

    async fn accept<B>(&self, headers: &HeaderMap, body: B) -> Result<Handle, ApiError>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.is_draining() {
            return Err(ApiError::busy("The worker is going down"));
        }
        let key_text = key(headers)?;
        let body = self.bodies.read(body).await?;
        let order: Order<'_> = serde_json::from_slice(body.bytes())
            .map_err(|error| ApiError::bad_request(format!("The body is not a task: {error}")))?;
        let key = key_text.map(|text| Key { text, fingerprint: fingerprint(&order) });
        // Whoever repeats itself need not wait until its task has been read once more.
        if let Some(key) = &key
            && let Some(handle) = self.tasks.of_key(key)?
        {
            return Ok(handle);
        }
        let task = Task::parse(&order.name, order.payload.get())?;
        Ok(self.tasks.submit(task.name(), key, Box::new(move || task.run()))?)
    }

    /// How far a task is, in the words of the protocol of today.
    fn tell(&self, status: StatusCode, handle: &Handle) -> Response<Full<Bytes>> {
        let state = handle.state.borrow().clone();
        if state.outcome().is_some() {
            self.tasks.note_fetched(&handle.id);
        }
        reply::json(status, &reply::Told::new(&handle.id, &state))
    }
}

fn fingerprint(order: &Order<'_>) -> [u8; 32] {
    let digest = Sha256::new().chain_update(order.name.as_bytes()).chain_update([0]);
    digest.chain_update(order.payload.get()).finalize().into()
}

/// The key that a request brings, if it brings one.
fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=MAX_KEY_BYTES).contains(&text.len()) => Ok(Some(text.into())),
        _ => Err(ApiError::bad_request(format!(
            "Idempotency-Key must be 1 to {MAX_KEY_BYTES} visible ASCII characters"
        ))),
    }
}

fn wrong_method(methods: &str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").with_header(ALLOW, methods)
}
