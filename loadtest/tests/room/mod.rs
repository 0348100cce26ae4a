//! A room that speaks as Colyseus does, and does exactly what it is told: whenever its first member sends a pose, all
//! get a patch.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Patches that wait for one client. Full: the test is broken.
const QUEUE: usize = 4_096;
/// What a patch consists of: somebody who comes, and the six numbers of somebody who moves. With its WebSocket
/// frame's header.
pub(crate) const PATCH_FRAME_BYTES: f64 = 2.0 + 11.0 + 32.0;
/// Somebody comes into the map: their place in it, their key, and the number of their player.
const ENTRY: &[u8] = b"\x0f\xff\x01\x80\x07\xa4wxyz\x70";
/// What a pose begins with: up to its first number.
const POSE_HEAD_BYTES: usize = 25;
/// A number of a pose: its kind, and a float64.
const NUMBER_BYTES: usize = 9;
const SEAT: &str = r#"{"name":"crowd","sessionId":"s","roomId":"r","processId":"p"}"#;
const REFUSAL: &str = r#"{"code":520,"error":"no such room"}"#;

/// What patches say.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Patched {
    /// A pose that has come.
    Rightly,
    /// The same with another stamp.
    Wrongly,
    /// Something that is no patch.
    Brokenly,
}

/// What the room does.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// Whether there are seats.
    pub(crate) open: bool,
    /// Whether patches are sent.
    pub(crate) patches: bool,
    /// How the patches are.
    pub(crate) patched: Patched,
    /// After how many poses of a client it is told to leave.
    pub(crate) expel_after: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { open: true, patches: true, patched: Patched::Rightly, expel_after: None }
    }
}

/// The room.
#[derive(Clone)]
pub(crate) struct Room {
    behaviour: Behaviour,
    patches: broadcast::Sender<Bytes>,
    members: Arc<AtomicUsize>,
    /// What clients have said that the official client would not.
    faults: Arc<Mutex<Vec<String>>>,
}

impl Room {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let (patches, _) = broadcast::channel(QUEUE);
        Self { behaviour, patches, members: Arc::default(), faults: Arc::default() }
    }

    /// What clients have said that the official client would not.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().expect("no test panics with it").clone()
    }

    fn blame(&self, fault: impl Into<String>) {
        self.faults.lock().expect("no test panics with it").push(fault.into());
    }

    pub(crate) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let room = self.clone();
            let answer = service_fn(move |request| {
                let response = room.respond(request);
                async { Ok::<_, Infallible>(response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), answer).with_upgrades());
        }
    }

    fn respond(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        match (request.method(), target) {
            (&Method::POST, "/matchmake/joinOrCreate/crowd") if self.behaviour.open => {
                *response.body_mut() = SEAT.into();
            }
            (&Method::POST, _) => {
                *response.status_mut() = StatusCode::from_u16(520).expect("it is one");
                *response.body_mut() = REFUSAL.into();
            }
            (_, "/p/r?sessionId=s") => {
                let key = request.headers().get(SEC_WEBSOCKET_KEY).expect("a WebSocket is opened there");
                let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("it is text");
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
                let upgrade = hyper::upgrade::on(&mut request);
                let room = self.clone();
                tokio::spawn(async move {
                    let Ok(upgraded) = upgrade.await else { return };
                    let socket = TokioIo::new(upgraded);
                    room.session(WebSocketStream::from_raw_socket(socket, Role::Server, None).await).await;
                });
            }
            _ => self.blame(format!("asked for {target}")),
        }
        response
    }

    async fn session(self, mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
        let own = self.members.fetch_add(1, Ordering::Relaxed);
        let mut patches = self.patches.subscribe();
        // The reserved bits of a join say what the state consists of, which is not of interest here.
        let _ = socket.send(Message::binary(vec![10, 9])).await;
        let acknowledged = socket.next().await;
        if !matches!(&acknowledged, Some(Ok(Message::Binary(bytes))) if **bytes == [10]) {
            return self.blame(format!("instead of the acknowledgement: {acknowledged:?}"));
        }
        let _ = socket.send(Message::Ping(Bytes::from_static(b"there?"))).await;
        let pong = socket.next().await;
        if !matches!(&pong, Some(Ok(Message::Pong(bytes))) if &**bytes == b"there?") {
            return self.blame(format!("instead of a pong: {pong:?}"));
        }
        let _ = socket.send(Message::binary(vec![14; 100_000])).await;
        let mut last: Option<Bytes> = None;
        let mut poses = 0;
        loop {
            tokio::select! {
                Ok(patch) = patches.recv() => {
                    let _ = socket.send(Message::Binary(patch)).await;
                }
                message = socket.next() => {
                    let Some(Ok(Message::Binary(pose))) = message else { return };
                    self.look_at(&pose, last.as_ref());
                    poses += 1;
                    let patch = self.patch(own, &pose);
                    last = Some(pose);
                    if self.behaviour.expel_after == Some(poses) {
                        let _ = socket.send(Message::binary(vec![12])).await;
                    } else if own == 0 && self.behaviour.patches {
                        // There is a receiver: this one.
                        let _ = self.patches.send(patch);
                    }
                }
            }
        }
    }

    /// Somebody comes, and the player `of` has sent `pose`.
    fn patch(&self, of: usize, pose: &[u8]) -> Bytes {
        let mut patch = [ENTRY, &[0xFF, 2 + of as u8]].concat();
        for (field, number) in (0..).zip(pose[POSE_HEAD_BYTES..].chunks_exact(NUMBER_BYTES)) {
            let number = f64::from_be_bytes(number[1..].try_into().expect("eight follow their kind")) as f32;
            let is_stamp = field == 3;
            patch.push(0x80 | field);
            patch.extend(match self.behaviour.patched {
                Patched::Wrongly if is_stamp => (number + 0.3).to_le_bytes(),
                _ => number.to_le_bytes(),
            });
        }
        if self.behaviour.patched == Patched::Brokenly {
            patch.pop();
        }
        patch.into()
    }

    /// Blames a pose that is none, or whose numbers are those of the one before.
    fn look_at(&self, pose: &[u8], last: Option<&Bytes>) {
        if pose.len() != POSE_HEAD_BYTES + 6 * NUMBER_BYTES || !pose.starts_with(b"\x0d\xa4pose") {
            return self.blame(format!("no pose: {pose:?}"));
        }
        let numbers =
            |pose: &[u8]| pose[POSE_HEAD_BYTES..].chunks(NUMBER_BYTES).map(<[u8]>::to_vec).collect();
        let [now, before]: [Vec<Vec<u8>>; 2] = [pose, last.map_or(&[0; 79][..], |last| last)].map(numbers);
        // Whoever turns round stays where they are, but x and z are not all.
        let still = now.iter().zip(&before).enumerate().filter(|(at, (a, b))| !matches!(at, 0 | 2) && a == b);
        if still.count() > 0 {
            self.blame(format!("numbers stay the same: {now:?} {before:?}"));
        }
    }
}
