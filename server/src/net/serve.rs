//! HTTP on an accepted connection: Engine.IO under its path, the rest to the API.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::stream::{Stream, StreamHandle};
use crate::transport::engineio::PATH;
use crate::transport::{Application, EngineIoHandler};

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a polling client may take to send the body of a POST.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that hyper keeps of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long accepting rests after the system had no socket to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A response's body, from either side.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What answers requests that are not Engine.IO's, and has a word on the headers of those that are.
pub trait Site: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// Adds to the headers of Engine.IO's answers.
    fn add_headers(&self, headers: &mut http::HeaderMap);
}

/// What a core serves.
pub struct Services<A: Application, S> {
    /// Engine.IO.
    pub engine_io: EngineIoService<EngineIoHandler<A>>,
    /// The rest.
    pub site: Arc<S>,
    /// One permit per connection that may be open.
    pub connections: Arc<Semaphore>,
}

impl<A: Application, S> Clone for Services<A, S> {
    fn clone(&self) -> Self {
        Self {
            engine_io: self.engine_io.clone(),
            site: self.site.clone(),
            connections: self.connections.clone(),
        }
    }
}

/// Accepts connections and serves them until `stop` turns true. Connections that are open stay open.
pub async fn accept<A: Application, S: Site>(
    listener: TcpListener,
    services: Services<A, S>,
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

async fn serve<A: Application, S: Site>(stream: Stream, services: Services<A, S>) {
    let handle = stream.handle();
    let service = hyper::service::service_fn(move |request| {
        let (handle, services) = (handle.clone(), services.clone());
        async move { Ok::<_, Infallible>(respond(request, handle, &services).await) }
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

async fn respond<A: Application, S: Site>(
    mut request: Request<Incoming>,
    handle: StreamHandle,
    services: &Services<A, S>,
) -> Response<Body> {
    let is_engine_io = request.uri().path().strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest == "/");
    if !is_engine_io || request.method() == Method::OPTIONS {
        return services.site.answer(request).await.map(BodyExt::boxed_unsync);
    }
    request.extensions_mut().insert(handle);
    let is_post = request.method() == Method::POST;
    let answer = services.engine_io.call(request);
    let answer = if is_post {
        match tokio::time::timeout(POST_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => return status(StatusCode::REQUEST_TIMEOUT),
        }
    } else {
        answer.await
    };
    let mut answer = match answer {
        Ok(answer) => answer.map(BodyExt::boxed_unsync),
        Err(never) => match never {},
    };
    services.site.add_headers(answer.headers_mut());
    answer
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = status;
    answer
}
