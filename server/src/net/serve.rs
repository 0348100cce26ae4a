//! HTTP on an accepted connection: Engine.IO under its path, the rest to the API.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::stream::Stream;
use crate::transport::websocket::wants_websocket;
use crate::transport::{EngineIo, TransportConfig, Upper, WebSockets, engine_io};

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that hyper keeps of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long accepting rests after the system had no socket to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A response's body, from either side.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What answers requests (with a [`StreamHandle`](super::stream::StreamHandle) among their extensions) that are not
/// Engine.IO's, and has a word on the headers of those that are.
pub trait Site: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

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
    /// Engine.IO under `path` for `upper`, on `cores` cores; what is elsewhere goes to `site`.
    pub fn new(
        path: &'static str,
        upper: Arc<U>,
        site: Arc<S>,
        cores: usize,
        config: TransportConfig,
        connections: Arc<Semaphore>,
    ) -> Self {
        let websockets = Arc::new(WebSockets::new(upper.clone(), cores, config));
        Self { path, engine_io: engine_io(upper, path, config), websockets, site, connections }
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

/// Accepts connections and serves them until `stop` turns true. Connections that are open stay open.
pub async fn accept<U: Upper, S: Site>(
    listener: TcpListener,
    services: Services<U, S>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Full: the connection is closed at once, which tells a client to try again later.
        let Ok(permit) = services.connections.clone().try_acquire_owned() else {
            tracing::warn!("as many connections are open as may be");
            continue;
        };
        if let Ok(stream) = Stream::new(tcp, permit) {
            tokio::spawn(serve(stream, services.clone()));
        }
    }
}

async fn serve<U: Upper, S: Site>(stream: Stream, services: Services<U, S>) {
    let handle = stream.handle();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        let services = services.clone();
        async move { Ok::<_, Infallible>(services.answer(request).await) }
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

/// Services may stand in the place of a site, so that one port can have Engine.IO under several paths.
impl<U: Upper, S: Site> Site for Services<U, S> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let rest = request.uri().path().strip_prefix(self.path);
        if !rest.is_some_and(|rest| rest.is_empty() || rest == "/") || request.method() == Method::OPTIONS {
            return self.site.answer(request).await;
        }
        if wants_websocket(&request) {
            return self.websockets.accept(request).map(BodyExt::boxed_unsync);
        }
        let mut answer = self.engine_io.answer(request).await;
        self.site.add_headers(answer.headers_mut());
        answer
    }

    fn add_headers(&self, headers: &mut http::HeaderMap) {
        self.site.add_headers(headers);
    }
}
