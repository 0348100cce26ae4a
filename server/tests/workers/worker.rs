//! A worker whose faults the test chooses. It has a thread and a runtime of its own: to kill it closes its port and
//! all of its connections at once, as the death of a process does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::{Duration, Interval};

/// What a worker does with a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mode {
    /// Echoes the payload at once.
    Echo,
    /// Accepts it, and is done when it has been asked so many times.
    AfterPolls(u32),
    /// Accepts it and says `running` for ever.
    NeverFinish,
    /// Reads it and says nothing.
    Hang,
    /// Answers this to every call but `/health`.
    Say(u16, &'static str),
    /// Answers this to a task, and nothing that makes sense after that.
    AcceptThenSay(u16, &'static str),
    /// A body of this many bytes, said beforehand or not.
    Huge(usize, bool),
    /// A byte at a time, for ever.
    Drip,
    /// Hangs up instead of an answer.
    HangUp,
    /// Hangs up in the midst of it.
    Cut,
    /// Dies as soon as it has accepted the task.
    DieAfterAccepting,
    /// Knows the older call only.
    Older,
    /// Sends the caller elsewhere.
    Redirect(String),
}

/// What a worker has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Method and path of every call, and its body if it is JSON.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) keys: Vec<String>,
    pub(crate) tokens: Vec<Option<String>>,
    polls: u32,
    last: Value,
}

pub(crate) struct Worker {
    pub(crate) url: String,
    mode: watch::Sender<Mode>,
    health: watch::Sender<u16>,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone)]
struct Inside {
    mode: watch::Receiver<Mode>,
    health: watch::Receiver<u16>,
    seen: Arc<Mutex<Seen>>,
    die: Arc<tokio::sync::Notify>,
}

impl Worker {
    pub(crate) fn start(mode: Mode) -> Self {
        Self::start_at("127.0.0.1:0", mode)
    }

    fn start_at(address: &str, mode: Mode) -> Self {
        let (mode, of_mode) = watch::channel(mode);
        let (health, of_health) = watch::channel(200);
        let seen = Arc::<Mutex<Seen>>::default();
        let inside = Inside { mode: of_mode, health: of_health, seen: seen.clone(), die: Arc::default() };
        let listener = std::net::TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("any socket can");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let die = inside.die.clone();
                tokio::select! {
                    () = serve(listener, inside) => {}
                    _ = stopped => {}
                    () = die.notified() => {}
                }
            });
        });
        Self { url, mode, health, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn set_health(&self, status: u16) {
        self.health.send_replace(status);
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no test panics with this")
    }

    /// How often a call of this method and path prefix has come.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.seen().calls.iter().filter(|(seen, _)| seen.starts_with(call)).count()
    }

    /// Ends it at once, in the midst of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }

    /// The same, started anew where it was.
    pub(crate) fn restarted(mut self, mode: Mode) -> Self {
        self.kill();
        Self::start_at(self.url.trim_start_matches("http://"), mode)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(listener: std::net::TcpListener, inside: Inside) {
    let listener = TcpListener::from_std(listener).expect("it is a socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let inside = inside.clone();
        let service = service_fn(move |request| {
            let inside = inside.clone();
            async move { inside.answer(request).await }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// A call that ends its connection.
#[derive(Debug, thiserror::Error)]
#[error("hung up")]
struct HungUp;

impl Inside {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, HungUp> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.map_err(|_| HungUp)?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let path = head.uri.path().to_owned();
        self.note(&head.method, &path, &head.headers, &body);
        if path == "/health" {
            return Ok(say(*self.health.borrow(), "{}"));
        }
        let mode = self.mode.borrow().clone();
        let is_new = head.method == Method::POST;
        if is_new {
            let mut seen = self.seen.lock().expect("no test panics with this");
            seen.polls = 0;
            seen.last = body.get("payload").or(body.get("data")).cloned().unwrap_or_default();
        }
        match mode {
            Mode::Older if path != "/execute" => Ok(say(404, "Cannot POST /tasks")),
            Mode::Older => Ok(say(200, &self.last().to_string())),
            Mode::Echo => Ok(say(200, &json!({"status": "completed", "result": self.last()}).to_string())),
            Mode::Say(status, body) => Ok(say(status, body)),
            Mode::Hang => std::future::pending().await,
            Mode::Huge(bytes, is_said) => Ok(Response::new(Answer::Huge { left: bytes, is_said })),
            Mode::Drip => Ok(Response::new(Answer::Drip(tokio::time::interval(Duration::from_millis(20))))),
            Mode::HangUp => Err(HungUp),
            Mode::Cut => {
                Ok(Response::new(Answer::Cut(tokio::time::interval(Duration::from_millis(20)), false)))
            }
            Mode::Redirect(target) => {
                let mut answer = say(302, "");
                answer.headers_mut().insert("location", target.parse().expect("a header"));
                Ok(answer)
            }
            _ if is_new => Ok(say(202, r#"{"id":"task 1/2","status":"pending"}"#)),
            Mode::AcceptThenSay(status, body) => Ok(say(status, body)),
            Mode::DieAfterAccepting => {
                // It has been asked for what it accepted: it is dead before it can say anything.
                self.die.notify_one();
                std::future::pending().await
            }
            Mode::NeverFinish => Ok(say(200, r#"{"status":"running"}"#)),
            Mode::AfterPolls(polls) => Ok(self.poll(polls)),
        }
    }

    fn note(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Value) {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        let mut seen = self.seen.lock().expect("no test panics with this");
        seen.calls.push((format!("{method} {path}"), body.clone()));
        seen.tokens.push(text("authorization"));
        seen.keys.extend(text("idempotency-key"));
    }

    fn last(&self) -> Value {
        self.seen.lock().expect("no test panics with this").last.clone()
    }

    fn poll(&self, polls: u32) -> Response<Answer> {
        let mut seen = self.seen.lock().expect("no test panics with this");
        seen.polls += 1;
        if seen.polls < polls {
            return say(200, r#"{"id":"task 1/2","status":"running"}"#);
        }
        say(200, &json!({"id": "task 1/2", "status": "completed", "result": seen.last}).to_string())
    }
}

fn say(status: u16, body: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Some(Bytes::copy_from_slice(body.as_bytes()))));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// A body, good or bad.
enum Answer {
    Text(Option<Bytes>),
    Huge { left: usize, is_said: bool },
    Drip(Interval),
    Cut(Interval, bool),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        const SPACES: &[u8] = &[b' '; 65_536];
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Huge { left: 0, .. } => Poll::Ready(None),
            Self::Huge { left, .. } => {
                let bytes = SPACES.len().min(*left);
                *left -= bytes;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&SPACES[..bytes])))))
            }
            Self::Drip(interval) => {
                interval.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b" ")))))
            }
            // The second comes a tick later, when the first has left.
            Self::Cut(interval, has_begun) => interval.poll_tick(context).map(|_| {
                let is_first = !std::mem::replace(has_begun, true);
                Some(is_first.then(|| Frame::data(Bytes::from_static(br#"{"result":"#))).ok_or(HungUp))
            }),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Text(text) => {
                hyper::body::SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Huge { left, is_said: true } => hyper::body::SizeHint::with_exact(*left as u64),
            _ => hyper::body::SizeHint::default(),
        }
    }
}

/// So that a service may say that it never fails.
impl From<Infallible> for HungUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
