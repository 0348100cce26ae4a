//! The clock is paused: it moves only when nothing else can happen, so times are exact and cost none.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use engine::ports::OutboxError;
use hyper::body::Frame;
use protocol::Outgoing;

use super::paced::PACKETS_PER_WAKE;
use super::*;
use crate::transport::engineio::{TransportConfig, engine_io};
use crate::transport::outbox::MAX_QUEUED_BYTES;
use crate::transport::upper::Link;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMES: TransportConfig =
    TransportConfig { ping_interval: INTERVAL, ping_timeout: Duration::from_secs(20) };

/// Connections, and so sessions, that there may be.
const CONNECTIONS_MAX: usize = 3;

/// Writes down what it hears.
#[derive(Default)]
struct Ear {
    greeting: Option<&'static str>,
    links: Arc<Mutex<Vec<Link>>>,
    heard: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicUsize>,
}

impl Upper for Ear {
    type Connection = Link;

    fn open(&self, link: Link) -> Arc<Link> {
        if let Some(greeting) = self.greeting {
            link.outbox.send(&Outgoing::message(greeting)).unwrap();
        }
        self.links.lock().unwrap().push(link.clone());
        Arc::new(link)
    }

    fn text(&self, link: &Arc<Link>, text: &str) {
        assert_eq!(self.closed.load(Ordering::SeqCst), 0, "nothing may come after the end");
        self.heard.lock().unwrap().push(text.to_owned());
        link.outbox.send(&Outgoing::message(text)).unwrap();
    }

    fn binary(&self, _: &Arc<Link>, _: &[u8]) {}

    fn closed(&self, _: &Arc<Link>) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Client {
    engine_io: EngineIo<Ear>,
    heard: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicUsize>,
    handshake: String,
    sid: Sid,
}

impl Client {
    async fn open(ear: Ear) -> Self {
        let (heard, closed) = (ear.heard.clone(), ear.closed.clone());
        let engine_io = engine_io(Arc::new(ear), "/engine.io", TIMES, CONNECTIONS_MAX);
        let answer = engine_io.answer(request("GET", "transport=polling", "")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers().get(CONTENT_LENGTH).is_none(), "the length was that of the handshake alone");
        let handshake = text_of(answer).await;
        let open = handshake.split('\x1e').next().unwrap();
        let sid = sid_of(open.as_bytes()).expect("an open packet");
        Self { engine_io, heard, closed, handshake, sid }
    }

    fn request(&self, method: &str, transport: &str, body: &'static str) -> Request<Full<Bytes>> {
        request(method, &format!("transport={transport}&sid={}", self.sid), body)
    }

    async fn poll(&self) -> (StatusCode, String) {
        let answer = self.engine_io.answer(self.request("GET", "polling", "")).await;
        (answer.status(), text_of(answer).await)
    }

    async fn post(&self, body: &'static str) -> StatusCode {
        self.engine_io.answer(self.request("POST", "polling", body)).await.status()
    }

    async fn upgrade(&self) -> StatusCode {
        let mut request = self.request("GET", "websocket", "");
        request.headers_mut().insert("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        self.engine_io.answer(request).await.status()
    }

    async fn assert_ended(&self) {
        assert_eq!(self.poll().await.0, StatusCode::BAD_REQUEST);
        assert_eq!(self.post("4late").await, StatusCode::BAD_REQUEST);
        // Its end is told by a task of its own.
        tokio::task::yield_now().await;
        assert_eq!(self.closed.load(Ordering::SeqCst), 1);
        assert!(self.engine_io.sessions.find(self.sid).is_none(), "the session is still on the list");
    }
}

fn request(method: &str, query: &str, body: &'static str) -> Request<Full<Bytes>> {
    let uri = format!("/engine.io/?EIO=4&{query}");
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

async fn text_of(answer: Response<Body>) -> String {
    String::from_utf8(whole(answer.into_body()).await.to_vec()).unwrap()
}

/// A body that begins and does not go on.
#[derive(Debug)]
struct Endless(Option<Bytes>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// A POST of `client` whose body does not go on.
fn endless_post(client: &Client) -> Request<Endless> {
    let (head, _) = client.request("POST", "polling", "").into_parts();
    Request::from_parts(head, Endless(Some(Bytes::from_static(b"4first\x1e4sec"))))
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_comes_after_the_interval() {
    let opened = Instant::now();
    let client = Client::open(Ear::default()).await;
    assert_eq!(opened.elapsed(), Duration::ZERO, "the handshake waits for nothing");
    for round in 1..=3 {
        assert_eq!(client.poll().await, (StatusCode::OK, "2".to_owned()));
        assert_eq!(opened.elapsed(), INTERVAL * round);
        assert_eq!(client.post("3").await, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_said_nothing_may_not_poll_when_the_time_is_over() {
    let client = Client::open(Ear::default()).await;
    // engineioxide's timers are a millisecond late, as timers are.
    tokio::time::advance(TIMES.ping_interval + TIMES.ping_timeout).await;
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_at_once_comes_with_the_handshake() {
    let client = Client::open(Ear { greeting: Some("welcome"), ..Ear::default() }).await;
    assert!(client.handshake.ends_with("\x1e4welcome"), "{}", client.handshake);
    assert_eq!(client.post("4hello").await, StatusCode::OK);
    assert_eq!(client.poll().await, (StatusCode::OK, "4hello".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_request_for_no_session_is_refused_by_engineioxide() {
    let engine_io = engine_io(Arc::new(Ear::default()), "/engine.io", TIMES, CONNECTIONS_MAX);
    for (method, query) in [
        ("GET", "transport=polling&sid=AAAAAAAAAAAAAAAA"),
        ("GET", "transport=polling&sid=%"),
        ("POST", "transport=polling&sid=AAAAAAAAAAAAAAAA"),
        ("GET", "transport=websocket&sid=AAAAAAAAAAAAAAAA"),
        ("POST", "transport=polling"),
        ("GET", "transport=carrier-pigeon"),
        ("GET", ""),
    ] {
        let answer = engine_io.answer(request(method, query, "4hello")).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{method} {query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_given_up_ends_the_session() {
    let client = Client::open(Ear::default()).await;
    tokio::time::timeout(Duration::from_secs(1), client.poll())
        .await
        .expect_err("there was nothing to be polled");
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_post_given_up_ends_the_session() {
    let client = Client::open(Ear::default()).await;
    let post = client.engine_io.answer(endless_post(&client));
    tokio::time::timeout(Duration::from_secs(1), post).await.expect_err("the body had not come to its end");
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_post_that_takes_too_long_ends_the_session() {
    let client = Client::open(Ear::default()).await;
    let begun = Instant::now();
    let polls = async {
        assert_eq!(client.poll().await.1, "4first");
        // Its pong would have to go by a POST.
        assert_eq!(client.poll().await.1, "2");
        client.poll().await
    };
    let (answer, polled) = tokio::join!(client.engine_io.answer(endless_post(&client)), polls);
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begun.elapsed(), POST_TIMEOUT);
    assert_eq!(polled, (StatusCode::OK, "1".to_owned()));
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_post_is_refused_and_ends_the_session() {
    let client = Client::open(Ear::default()).await;
    let (first, second) = tokio::join!(client.engine_io.answer(endless_post(&client)), client.post("4other"));
    assert_eq!(first.status(), StatusCode::BAD_REQUEST);
    assert_eq!(second, StatusCode::BAD_REQUEST);
    assert!(!client.heard.lock().unwrap().contains(&"other".to_owned()));
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn posts_after_one_another_are_taken_and_so_is_a_poll_beside_them() {
    let client = Client::open(Ear::default()).await;
    for body in ["4one", "4two"] {
        let (polled, posted) = tokio::join!(client.poll(), client.post(body));
        assert_eq!((posted, polled), (StatusCode::OK, (StatusCode::OK, body.to_owned())));
    }
    assert_eq!(*client.heard.lock().unwrap(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_post_of_many_packets_lets_others_go_on_in_between() {
    const PACKETS: usize = 10 * PACKETS_PER_WAKE + 1;
    let client = Client::open(Ear::default()).await;
    let heard = client.heard.clone();
    // Another task of the same core, which has something to do at all times.
    let other = tokio::spawn(async move {
        let mut seen = vec![0];
        while *seen.last().unwrap() < PACKETS {
            seen.push(heard.lock().unwrap().len());
            tokio::task::yield_now().await;
        }
        seen
    });
    let body = Bytes::from(["4x"; PACKETS].join("\x1e"));
    let post = client.request("POST", "polling", "").map(|_| Full::new(body));
    assert_eq!(client.engine_io.answer(post).await.status(), StatusCode::OK);
    let seen = other.await.unwrap();
    let most = seen.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(most <= Some(PACKETS_PER_WAKE), "{most:?} packets in a row");
}

#[tokio::test(start_paused = true)]
async fn closing_by_post_is_answered() {
    let client = Client::open(Ear::default()).await;
    let (polled, posted) = tokio::join!(client.poll(), client.post("1"));
    assert_eq!((posted, polled), (StatusCode::OK, (StatusCode::OK, "6".to_owned())));
    client.assert_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_upgraded_by_one_websocket_at_a_time() {
    let client = Client::open(Ear::default()).await;
    // Without a key it is none, and the next may try.
    let keyless = client.engine_io.answer(client.request("GET", "websocket", "")).await;
    assert_eq!(keyless.status(), StatusCode::BAD_REQUEST);
    assert_eq!(client.upgrade().await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(client.upgrade().await, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_sessions_than_there_may_be() {
    let client = Client::open(Ear::default()).await;
    let open = async || {
        let answer = client.engine_io.clone().answer(request("GET", "transport=polling", "")).await;
        let status = answer.status();
        (status, sid_of(text_of(answer).await.as_bytes()))
    };
    let heard_of = || client.engine_io.sessions.0.read().unwrap().len();
    for _ in 1..CONNECTIONS_MAX {
        assert_eq!(open().await.0, StatusCode::OK);
    }
    for _ in 0..3 {
        assert_eq!(open().await, (StatusCode::SERVICE_UNAVAILABLE, None));
        assert_eq!(heard_of(), CONNECTIONS_MAX);
    }
    // To be upgraded frees no place, to end does.
    assert_eq!(client.upgrade().await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(open().await.0, StatusCode::SERVICE_UNAVAILABLE);
    client.engine_io.sessions.find(client.sid).unwrap().close();
    while heard_of() == CONNECTIONS_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(open().await.0, StatusCode::OK);
    assert_eq!(open().await.0, StatusCode::SERVICE_UNAVAILABLE);
    // Whoever says nothing loses its place; what engineioxide refuses takes none.
    while heard_of() > 0 {
        tokio::time::advance(TIMES.ping_timeout).await;
        tokio::task::yield_now().await;
    }
    for _ in 0..=CONNECTIONS_MAX {
        let refused = client.engine_io.answer(request("GET", "transport=polling&sid=%", "")).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
    for _ in 0..CONNECTIONS_MAX {
        assert_eq!(open().await.0, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_limited_in_bytes() {
    let ear = Ear::default();
    let links = ear.links.clone();
    let client = Client::open(ear).await;
    let outbox = links.lock().unwrap()[0].outbox.clone();
    let text = "x".repeat(MAX_QUEUED_BYTES / 20);
    for packet in [Outgoing::message(&text), Outgoing::binary_event_raw("a", "1", vec![text.clone().into()])]
    {
        let fit = MAX_QUEUED_BYTES / packet.wire_bytes();
        for _ in 0..fit {
            assert_eq!(outbox.send(&packet), Ok(()));
        }
        assert_eq!(outbox.send(&packet), Err(OutboxError::Full), "{fit} wait already");
        assert_eq!(outbox.send(&Outgoing::message("small")), Ok(()), "what is refused does not count");
        while !outbox.is_idle() {
            assert_eq!(client.poll().await.0, StatusCode::OK);
        }
    }
    // What is too long by itself goes alone.
    let long = Outgoing::message(&text.repeat(21));
    assert_eq!(outbox.send(&long), Ok(()));
    assert_eq!(outbox.send(&long), Err(OutboxError::Full));
    assert_eq!(outbox.send(&Outgoing::message("small")), Err(OutboxError::Full));
    assert_eq!(client.poll().await.0, StatusCode::OK);
    assert_eq!(outbox.send(&Outgoing::message("small")), Ok(()));
}

#[test]
fn a_query_names_a_session_or_does_not() {
    assert!(names_session("EIO=4&transport=polling&sid=x") && names_session("sid="));
    for query in ["", "EIO=4&transport=polling", "xsid=1&EIO=4", "token=sid=", "t=1&amp;sid=1"] {
        assert!(!names_session(query), "{query}");
    }
}

#[test]
fn a_query_is_read_as_engineioxide_reads_it() {
    let sid = Sid::new();
    let both = format!("EIO=4&transport=polling&t=x&sid={sid}&sid=other&transport=websocket");
    assert_eq!(asked_for(&both), (Some(TransportType::Polling), Some(sid)));
    assert_eq!(asked_for("transport=websocket=x"), (Some(TransportType::Websocket), None));
    assert_eq!(asked_for("transport=other&sid=short"), (None, None));
    assert_eq!(asked_for(""), (None, None));
}
