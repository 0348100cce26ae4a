//! HTTP on an accepted connection: Engine.IO under its path, the rest to the API.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::stream::Stream;
use crate::transport::polling::names_session;
use crate::transport::websocket::wants_websocket;
use crate::transport::{EngineIo, TransportConfig, Upper, WebSockets, engine_io};

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that hyper keeps of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long accepting rests after the system had no socket to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often a core may say in the log that it takes no connection. What comes in between is counted and told with the
/// next: a flood of connections must not become one of lines.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// A response's body, from either side.
pub type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// A body ends before it is whole. The connection is closed without the end of a body, so that the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer breaks off")]
pub struct BrokenOff;

/// A body that is whole in any case.
pub fn whole<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    boxed(body.map_err(|never| match never {}))
}

/// A body that may break off.
pub fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = BrokenOff> + Send + 'static,
{
    body.boxed_unsync()
}

/// What answers requests (with a [`StreamHandle`](super::stream::StreamHandle) among their extensions) that are not
/// Engine.IO's, and has a word on the headers of those that are.
pub trait Site: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

    /// Whether new sessions may begin.
    fn is_open(&self) -> bool {
        true
    }

    /// Adds to the headers of Engine.IO's answers.
    fn add_headers(&self, headers: &mut http::HeaderMap);
}

/// What a core serves.
pub struct Services<U: Upper, S> {
    /// The path of Engine.IO, without a slash at its end.
    pub path: &'static str,
    /// Engine.IO over polling, and what comes from there to a WebSocket.
    pub engine_io: EngineIo<U>,
    /// Engine.IO over a WebSocket from the beginning.
    pub websockets: Arc<WebSockets<U>>,
    /// The rest.
    pub site: Arc<S>,
    /// One permit per connection that may be open.
    pub connections: Arc<Semaphore>,
}

impl<U: Upper, S> Services<U, S> {
    /// Engine.IO under `path` for `upper`, on `cores` cores; what is elsewhere goes to `site`. To be called before the
    /// first connection is accepted: the permits of `connections` say how many there may be.
    pub fn new(
        path: &'static str,
        upper: Arc<U>,
        site: Arc<S>,
        cores: usize,
        config: TransportConfig,
        connections: Arc<Semaphore>,
    ) -> Self {
        let websockets = Arc::new(WebSockets::new(upper.clone(), cores, config));
        // Nobody is connected yet: what is free is all there is.
        let engine_io = engine_io(upper, path, config, connections.available_permits());
        Self { path, engine_io, websockets, site, connections }
    }
}

impl<U: Upper, S> Clone for Services<U, S> {
    fn clone(&self) -> Self {
        Self {
            path: self.path,
            engine_io: self.engine_io.clone(),
            websockets: self.websockets.clone(),
            site: self.site.clone(),
            connections: self.connections.clone(),
        }
    }
}

/// Accepts connections and serves them, as long as its runtime runs. A server that drains goes on with it: a session
/// that polls needs new connections to hear its last packets, and new sessions are refused by [`Services`].
pub async fn accept<U: Upper, S: Site>(listener: TcpListener, services: Services<U, S>) {
    let (mut failed, mut refused) = (Complaints::default(), Complaints::default());
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                if let Some(count) = failed.count() {
                    tracing::warn!(%error, count, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Full: the connection is closed at once, which tells a client to try again later.
        let Ok(permit) = services.connections.clone().try_acquire_owned() else {
            if let Some(count) = refused.count() {
                tracing::warn!(count, "connections refused: as many are open as may be");
            }
            continue;
        };
        if let Ok(stream) = Stream::new(tcp, permit) {
            tokio::spawn(serve(stream, services.clone()));
        }
    }
}

/// Counts what is to be complained about, and says when.
#[derive(Debug, Default)]
struct Complaints {
    untold: u64,
    told_at: Option<Instant>,
}

impl Complaints {
    /// One more. Answers how many there have been since the last complaint if it is time for another.
    fn count(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|told_at| told_at.elapsed() < COMPLAINT_INTERVAL) {
            return None;
        }
        self.told_at = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}

async fn serve<U: Upper, S: Site>(stream: Stream, services: Services<U, S>) {
    let handle = stream.handle();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        let services = services.clone();
        begin(async move { Ok::<_, Infallible>(services.answer(request).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        // Whoever hangs up or sends nonsense is no matter for the operator.
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Polls an answer once before hyper does. hyper looks whether the client has hung up before it polls an answer for
/// the first time, and would drop it as if nothing had been asked; but that somebody gave up a request is of meaning
/// (see [`polling`](crate::transport::polling)).
fn begin<T>(answer: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut answer = Box::pin(answer);
    let first = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    async move {
        match first {
            Poll::Ready(answer) => answer,
            // Polled again at once, so that nothing can have been missed.
            Poll::Pending => answer.await,
        }
    }
}

/// Services may stand in the place of a site, so that one port can have Engine.IO under several paths.
impl<U: Upper, S: Site> Site for Services<U, S> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let rest = request.uri().path().strip_prefix(self.path);
        if !rest.is_some_and(|rest| rest.is_empty() || rest == "/") || request.method() == Method::OPTIONS {
            return self.site.answer(request).await;
        }
        if !self.site.is_open() && !request.uri().query().is_some_and(names_session) {
            let mut answer = Response::new(whole(Empty::new()));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            self.site.add_headers(answer.headers_mut());
            return answer;
        }
        if wants_websocket(&request) {
            return self.websockets.accept(request).map(whole);
        }
        let mut answer = self.engine_io.answer(request).await;
        self.site.add_headers(answer.headers_mut());
        answer
    }

    fn is_open(&self) -> bool {
        self.site.is_open()
    }

    fn add_headers(&self, headers: &mut http::HeaderMap) {
        self.site.add_headers(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn complaints_are_counted_and_told_once_in_a_while() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.count(), Some(1), "the first is told at once");
        for _ in 0..1000 {
            assert_eq!(complaints.count(), None);
        }
        tokio::time::advance(COMPLAINT_INTERVAL).await;
        assert_eq!(complaints.count(), Some(1001));
        assert_eq!(complaints.count(), None);
        tokio::time::advance(COMPLAINT_INTERVAL * 5).await;
        assert_eq!(complaints.count(), Some(2));
    }
}
