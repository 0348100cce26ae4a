//! engineioxide, with what it does otherwise than the protocol's document or its reference server put right
//! around it, as far as that can be done from outside:
//!
//! - It sends the first ping at once. Here the ping is taken out and answered before the client learns its
//!   session's id, so that the client's first ping comes after the interval that its handshake tells.
//! - Its timers for a ping and for the answer to it follow one another, and each comes a little late. Here nobody
//!   may poll who has said nothing for as long as both together.
//! - It takes no notice of a request that the client gives up. What was in it, or in its answer, is lost; here
//!   the session ends, as the client would otherwise miss packets without knowing.
//! - It takes all packets of a POST in one go, however many they are. Here it is given a few at a time.
//! - It takes two POSTs at once, whose packets then mix. Here the second is refused and the session ends.
//! - It lets a second websocket compete for a session that is being upgraded. Here that one is refused.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use engineioxide::socket::Sid;
use engineioxide::{DisconnectReason, Socket, TransportType};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::Service;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::engineio::{EngineIoHandler, SocketData};
use super::outbox::EngineIoOutbox;
use super::upper::Upper;
use crate::net::serve::{self, Body};
use crate::net::stream::StreamHandle;

mod paced;
#[cfg(test)]
mod tests;

use paced::Paced;

/// What engineioxide takes as the body of a request.
pub trait RequestBody: hyper::body::Body<Data: Send, Error: Debug> + Debug + Send + Unpin + 'static {}

impl<B: hyper::body::Body<Data: Send, Error: Debug> + Debug + Send + Unpin + 'static> RequestBody for B {}

/// Sessions that began with polling, per connection that may be open. Above: 503. A client that polls has a connection
/// nearly always, so that one is enough; but a session outlives its connections until its client's silence is noticed,
/// so that the limit on connections is none on sessions.
const SESSIONS_PER_CONNECTION: usize = 1;

/// How long a polling client may take to send the body of a POST. It gets 408 then, and its session ends.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handshake may wait for the ping to be taken out. It takes no time at all unless the core is
/// stalled; after this the client gets its early ping, which is no worse than odd.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between the packets of a payload.
const SEPARATOR: u8 = 0x1e;

const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";

/// Engine.IO under one path, for all cores: a session's requests may come in on different ones.
pub struct EngineIo<U: Upper> {
    path: &'static str,
    service: EngineIoService<EngineIoHandler<U>>,
    sessions: Arc<Sessions<U>>,
    /// One permit per session that may be there, of those that begin with polling.
    places: Arc<Semaphore>,
    /// How long a client that answers every ping can be silent.
    silence_max: Duration,
}

/// A session's place, which rides on the request that opened it: engineioxide keeps that as long as its socket, and so
/// the place is free again when there is nothing left of the session.
#[derive(Clone)]
struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl<U: Upper> EngineIo<U> {
    /// What `service` answers under `path`; its handler keeps `sessions` up to date. `connections_max` is how many
    /// connections there may be, from which follows how many sessions.
    pub(super) fn new(
        path: &'static str,
        service: EngineIoService<EngineIoHandler<U>>,
        sessions: Arc<Sessions<U>>,
        connections_max: usize,
        silence_max: Duration,
    ) -> Self {
        let places = Arc::new(Semaphore::new(connections_max * SESSIONS_PER_CONNECTION));
        Self { path, service, sessions, places, silence_max }
    }

    /// Answers a request under the path. To drop the future is to say that the client has given the request up.
    pub async fn answer<B: RequestBody>(&self, request: Request<B>) -> Response<Body> {
        let (transport, sid) = asked_for(request.uri().query().unwrap_or_default());
        match (request.method(), transport, sid) {
            (&Method::GET, Some(TransportType::Polling), None) => self.open(request).await,
            (&Method::GET, Some(TransportType::Polling), Some(sid)) => self.poll(sid, request).await,
            (&Method::POST, Some(TransportType::Polling), Some(sid)) => self.post(sid, request).await,
            (&Method::GET, Some(TransportType::Websocket), Some(sid)) => self.upgrade(sid, request).await,
            // engineioxide knows best how to refuse it.
            _ => self.call(request).await,
        }
    }

    async fn open<B: RequestBody>(&self, mut request: Request<B>) -> Response<Body> {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE);
        };
        request.extensions_mut().insert(Place { _permit: Arc::new(permit) });
        let (mut head, body) = self.call(request).await.into_parts();
        let handshake = whole(body).await;
        let Some((sid, session)) = sid_of(&handshake).and_then(|sid| Some((sid, self.sessions.find(sid)?)))
        else {
            return Response::from_parts(head, serve::whole(Full::new(handshake)));
        };
        let mut payload = handshake.to_vec();
        let abandoned = CloseOnDrop(Some(&session));
        if tokio::time::timeout(SETTLE_TIMEOUT, self.settle(sid, &mut payload)).await.is_err() {
            tracing::debug!("a handshake went out with its ping still to come");
        }
        abandoned.disarm();
        // hyper counts anew.
        head.headers.remove(CONTENT_LENGTH);
        Response::from_parts(head, serve::whole(Full::new(payload.into())))
    }

    /// Takes the ping that engineioxide sends at once out of a session that nobody else knows yet, and answers
    /// it. Should there be other packets before it, they are appended to `payload`, the handshake's.
    async fn settle(&self, sid: Sid, payload: &mut Vec<u8>) {
        loop {
            let (head, body) = self.call(self.own_request(Method::GET, sid, &[])).await.into_parts();
            let packets = whole(body).await;
            if head.status != StatusCode::OK || packets.is_empty() {
                return;
            }
            let mut pinged = false;
            for packet in packets.split(|byte| *byte == SEPARATOR) {
                if packet == PING {
                    pinged = true;
                } else {
                    payload.push(SEPARATOR);
                    payload.extend_from_slice(packet);
                }
            }
            if pinged {
                self.call(self.own_request(Method::POST, sid, PONG)).await;
                return;
            }
        }
    }

    fn own_request(&self, method: Method, sid: Sid, body: &'static [u8]) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(body)));
        *request.method_mut() = method;
        let uri = format!("{}/?EIO=4&transport=polling&sid={sid}", self.path);
        *request.uri_mut() = uri.parse().expect("paths are constants, and session ids are URL-safe base64");
        request
    }

    async fn poll<B: RequestBody>(&self, sid: Sid, request: Request<B>) -> Response<Body> {
        let session = self.sessions.find(sid);
        if let Some(session) = &session
            && session.silence() >= self.silence_max
        {
            session.close();
        }
        let abandoned = CloseOnDrop(session.as_deref());
        let answer = self.call(request).await;
        abandoned.disarm();
        answer
    }

    async fn post<B: RequestBody>(&self, sid: Sid, request: Request<B>) -> Response<Body> {
        let Some(session) = self.sessions.find(sid) else { return self.call(request).await };
        if session.posting.swap(true, Ordering::AcqRel) {
            session.close();
            return refusal(StatusCode::BAD_REQUEST);
        }
        let abandoned = CloseOnDrop(Some(&session));
        let answer = tokio::select! {
            biased;
            answer = self.call(request.map(Paced::new)) => answer,
            // engineioxide would go on handing packets over after it has reported the end of the session.
            () = session.closed() => refusal(StatusCode::BAD_REQUEST),
            // Leaves the guard as it is.
            () = tokio::time::sleep(POST_TIMEOUT) => return refusal(StatusCode::REQUEST_TIMEOUT),
        };
        abandoned.disarm();
        session.heard();
        session.posting.store(false, Ordering::Release);
        answer
    }

    async fn upgrade<B: RequestBody>(&self, sid: Sid, request: Request<B>) -> Response<Body> {
        // engineioxide would accept a websocket for a session that is not there, and only then close it.
        let Some(session) = self.sessions.find(sid) else { return refusal(StatusCode::BAD_REQUEST) };
        if session.is_polling() && session.upgrading.swap(true, Ordering::AcqRel) {
            return refusal(StatusCode::BAD_REQUEST);
        }
        let stream = request.extensions().get::<StreamHandle>().cloned();
        let answer = self.call(request).await;
        // Otherwise it stays so: an upgrade ends in a session on websocket or in none. A further websocket for one
        // that has been upgraded is accepted and closed at once, as the reference server does it.
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            session.upgrading.store(false, Ordering::Release);
        } else if let Some(stream) = stream {
            session.outbox.run_over(stream);
        }
        answer
    }

    async fn call<B: RequestBody>(&self, request: Request<B>) -> Response<Body> {
        match self.service.call(request).await {
            Ok(answer) => answer.map(serve::whole),
            Err(never) => match never {},
        }
    }
}

impl<U: Upper> Clone for EngineIo<U> {
    fn clone(&self) -> Self {
        Self {
            path: self.path,
            service: self.service.clone(),
            sessions: self.sessions.clone(),
            places: self.places.clone(),
            silence_max: self.silence_max,
        }
    }
}

impl<U: Upper> Debug for EngineIo<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineIo").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The sessions that began with polling. There are never more than there are [`Place`]s, and each lives only as long as
/// its client answers pings.
pub(super) struct Sessions<U: Upper>(RwLock<HashMap<Sid, Arc<Session<U>>>>);

impl<U: Upper> Sessions<U> {
    /// A session has been opened.
    pub(super) fn add(
        &self,
        socket: &Arc<Socket<SocketData<U>>>,
        outbox: Arc<EngineIoOutbox<SocketData<U>>>,
    ) {
        let session = Session {
            socket: Arc::downgrade(socket),
            outbox,
            opened: Instant::now(),
            heard_at_ms: AtomicU64::new(0),
            posting: AtomicBool::new(false),
            upgrading: AtomicBool::new(false),
        };
        // Nothing that holds this lock can panic half-way through a change.
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(socket.id, Arc::new(session));
    }

    /// A session has ended.
    pub(super) fn remove(&self, sid: Sid) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&sid);
    }

    fn find(&self, sid: Sid) -> Option<Arc<Session<U>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&sid).cloned()
    }
}

impl<U: Upper> Default for Sessions<U> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

struct Session<U: Upper> {
    socket: Weak<Socket<SocketData<U>>>,
    outbox: Arc<EngineIoOutbox<SocketData<U>>>,
    opened: Instant,
    /// When its last POST came, in milliseconds after it was opened.
    heard_at_ms: AtomicU64,
    /// A POST is being read.
    posting: AtomicBool,
    /// A websocket has been accepted for it.
    upgrading: AtomicBool,
}

impl<U: Upper> Session<U> {
    /// Ends it, unless it has gone over to a websocket, which is no longer the concern of HTTP requests.
    fn close(&self) {
        if let Some(socket) = self.socket.upgrade()
            && socket.transport_type() == TransportType::Polling
        {
            socket.close(DisconnectReason::TransportError);
        }
    }

    fn heard(&self) {
        self.heard_at_ms.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long its client has said nothing. Pings cease during an upgrade, so that silence means nothing then.
    fn silence(&self) -> Duration {
        if self.upgrading.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let heard_at = Duration::from_millis(self.heard_at_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard_at)
    }

    fn is_polling(&self) -> bool {
        self.socket.upgrade().is_some_and(|socket| socket.transport_type() == TransportType::Polling)
    }

    async fn closed(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.closed().await;
        }
    }
}

/// Ends a session if the request that holds this is given up.
struct CloseOnDrop<'a, U: Upper>(Option<&'a Session<U>>);

impl<U: Upper> CloseOnDrop<'_, U> {
    /// The request has been answered.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<U: Upper> Drop for CloseOnDrop<'_, U> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.close();
        }
    }
}

/// Whether a query names a session, be it one or not. engineioxide opens no session then.
pub(crate) fn names_session(query: &str) -> bool {
    query.split('&').any(|pair| pair.starts_with("sid="))
}

/// What a query asks for, read as engineioxide reads it: the first of equal names counts.
fn asked_for(query: &str) -> (Option<TransportType>, Option<Sid>) {
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let transport = parameter("transport=").and_then(|value| value.split('=').next()?.parse().ok());
    (transport, parameter("sid=").and_then(|sid| sid.parse().ok()))
}

/// The session id in an open packet.
fn sid_of(handshake: &[u8]) -> Option<Sid> {
    #[derive(serde::Deserialize)]
    struct Open<'a> {
        sid: &'a str,
    }
    let open: Open<'_> = serde_json::from_slice(handshake.strip_prefix(b"0")?).ok()?;
    open.sid.parse().ok()
}

async fn whole(body: Body) -> Bytes {
    match body.collect().await {
        Ok(body) => body.to_bytes(),
        // engineioxide's bodies do not break off.
        Err(serve::BrokenOff) => Bytes::new(),
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(serve::whole(Empty::new()));
    *answer.status_mut() = status;
    answer
}
