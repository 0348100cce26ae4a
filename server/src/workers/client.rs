//! HTTP calls to one worker. Whatever comes back is bounded in size and time, and nothing of it is believed.

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response};
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::{IDLE_CONNECTION, MAX_ENVELOPE_BYTES, MAX_RESULT_BYTES, Times};
use super::settings::{BridgeSettings, WorkerSettings};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What is wrong with a worker. These words, none of the worker's own, go to the log and to the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No connection: refused, not found, not trusted.
    #[error("cannot be reached")]
    Unreachable,
    /// The connection ended before an answer had begun.
    #[error("hung up without an answer")]
    NoAnswer,
    /// No answer in time.
    #[error("did not answer in time")]
    Silent,
    /// The answer has begun but did not come whole in time.
    #[error("did not finish its answer in time")]
    Slow,
    /// The answer has begun but did not come whole.
    #[error("hung up in the midst of its answer")]
    Cut,
    /// More bytes than any answer may have.
    #[error("answered with too much")]
    TooLarge,
    /// Nothing that the protocol knows.
    #[error("answered nonsense")]
    Nonsense,
    /// A status that says no.
    #[error("answered {0}")]
    Status(u16),
    /// Its task was not done in time.
    #[error("did not finish a task in time")]
    Late,
}

impl Fault {
    /// For metrics: few enough to be told apart.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::TooLarge => "too_large",
            Self::Nonsense => "nonsense",
            Self::Status(_) => "status",
            Self::Late => "late",
        }
    }
}

/// An answer that came whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Calls one worker.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    origin: String,
    authorization: Option<HeaderValue>,
    times: Times,
}

/// What all workers are called with, so that they share its pool of connections.
///
/// # Errors
/// If the certificates cannot be read and a worker is called over https.
pub(super) fn http_client(settings: &BridgeSettings) -> Result<reqwest::Client, reqwest::Error> {
    // Fails if it has been done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(settings.times.connect)
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(concat!("copresence/", env!("CARGO_PKG_VERSION")));
    let is_https = settings.workers.iter().any(|worker| worker.origin.is_https());
    match &settings.authorities {
        // Without https nobody's certificate is needed, and a container that has none is fine.
        _ if !is_https => builder.tls_certs_only([]).build(),
        Some(authorities) => builder.tls_certs_only(authorities.iter().cloned()).build(),
        None => builder.build(),
    }
}

impl Client {
    pub(super) fn new(http: reqwest::Client, worker: &WorkerSettings, times: Times) -> Self {
        let authorization = worker.secret.as_ref().and_then(|secret| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { http, origin: worker.origin.as_str().to_owned(), authorization, times }
    }

    /// Whether the worker says that it is well.
    pub(super) async fn health(&self) -> Result<(), Fault> {
        let request = self.request(Method::GET, "/health");
        match timeout(self.times.health, request.send()).await {
            Err(_) => Err(Fault::Silent),
            Ok(Err(error)) => Err(fault(&error)),
            // The body, whatever it is, is not read.
            Ok(Ok(response)) if response.status() == StatusCode::OK => Ok(()),
            Ok(Ok(response)) => Err(Fault::Status(response.status().as_u16())),
        }
    }

    /// Gives a task to the worker, which may answer until then.
    pub(super) async fn post(
        &self,
        path: &str,
        body: Bytes,
        key: &str,
        until: Instant,
    ) -> Result<Whole, Fault> {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(IDEMPOTENCY_KEY, key)
            .body(body);
        send(request, until).await
    }

    /// Asks how a task stands. `segment` is its name as the path holds it.
    pub(super) async fn state(&self, segment: &str) -> Result<Whole, Fault> {
        let until = Instant::now() + self.times.poll;
        send(self.request(Method::GET, &format!("/tasks/{segment}")), until).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.origin));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }
}

async fn send(request: RequestBuilder, until: Instant) -> Result<Whole, Fault> {
    let mut begun = false;
    let whole = async {
        let response = request.send().await.map_err(|error| fault(&error))?;
        begun = true;
        read(response).await
    };
    match timeout_at(until, Box::pin(whole)).await {
        Ok(whole) => whole,
        Err(_) if begun => Err(Fault::Slow),
        Err(_) => Err(Fault::Silent),
    }
}

/// Reads an answer to its end, as long as it is no longer than any may be.
async fn read(mut response: Response) -> Result<Whole, Fault> {
    const LIMIT: usize = MAX_RESULT_BYTES + MAX_ENVELOPE_BYTES;
    let status = response.status();
    // What is announced as too much is not begun.
    let announced = response.content_length().unwrap_or_default();
    if announced > LIMIT as u64 {
        return Err(Fault::TooLarge);
    }
    let mut body = Vec::with_capacity(announced as usize);
    while let Some(chunk) = response.chunk().await.map_err(|_| Fault::Cut)? {
        if body.len() + chunk.len() > LIMIT {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Whole { status, body })
}

fn fault(error: &reqwest::Error) -> Fault {
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => Fault::Unreachable,
        (false, true) => Fault::Silent,
        (false, false) => Fault::NoAnswer,
    }
}
