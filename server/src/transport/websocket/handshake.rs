//! The HTTP request that becomes a WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::drive::drive;
use super::heartbeat::{Heartbeats, Times};
use crate::net::cores;
use crate::net::stream::Stream;
use crate::transport::engineio::TransportConfig;
use crate::transport::upper::Upper;

/// Base64 of sixteen bytes.
const KEY_CHARS: usize = 24;

/// Takes in the direct WebSocket connections of all cores.
pub struct WebSockets<U: Upper> {
    upper: Arc<U>,
    times: Times,
    /// One per core, so that a timer only ever touches its own core's connections.
    heartbeats: Vec<Arc<Heartbeats>>,
}

/// Whether this request opens an Engine.IO v4 session by WebSocket, without polling before it. What is no such
/// request, also a broken one, is left to engineioxide, which knows how to say what is wrong.
pub fn wants_websocket<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    request.method() == Method::GET
        && has("EIO=4")
        && has("transport=websocket")
        && !query.split('&').any(|pair| pair.starts_with("sid="))
        && accept_key(request.headers()).is_some()
}

/// The answer to the client's key, if its headers ask for a WebSocket as RFC 6455 wants it.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let asked = lists(UPGRADE, "websocket")
        && lists(CONNECTION, "upgrade")
        && headers.get(SEC_WEBSOCKET_VERSION)? == "13"
        && key.len() == KEY_CHARS;
    asked.then(|| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()).flatten()
}

impl<U: Upper> WebSockets<U> {
    /// Hands what comes in on `cores` cores to `upper`.
    pub fn new(upper: Arc<U>, cores: usize, config: TransportConfig) -> Self {
        let times = Times::new(config);
        Self { upper, times, heartbeats: (0..cores.max(1)).map(|_| Arc::default()).collect() }
    }

    /// Answers a request that [`wants_websocket`]; the connection lives on in a task of its own.
    pub fn accept(&self, mut request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let mut answer = Response::new(Empty::new());
        let Some(key) = accept_key(request.headers()) else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let query: Arc<str> = request.uri().query().unwrap_or_default().into();
        let (upper, times) = (self.upper.clone(), self.times);
        let heartbeats = self.heartbeats[cores::current() % self.heartbeats.len()].clone();
        tokio::spawn(async move {
            // Fails if the client hangs up before it has the answer; then there is nobody left to serve.
            if let Ok(upgraded) = upgrade.await
                && let Some((stream, early)) = take_stream(upgraded)
            {
                drive(stream, early, upper, query, times, &heartbeats).await;
            }
        });
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
        answer
    }
}

/// The connection itself, from under hyper, and what it has read too much.
fn take_stream(upgraded: Upgraded) -> Option<(Stream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

impl<U: Upper> std::fmt::Debug for WebSockets<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSockets").field("times", &self.times).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get(format!("/socket.io/?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_key_is_answered_as_in_the_standard() {
        let request = request("EIO=4&transport=websocket", &GOOD);
        assert_eq!(accept_key(request.headers()).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_direct_and_whole_request_is_taken() {
        assert!(wants_websocket(&request("transport=websocket&EIO=4&t=x", &GOOD)));
        for query in
            ["EIO=4&transport=websocket&sid=x", "EIO=3&transport=websocket", "EIO=4&transport=polling"]
        {
            assert!(!wants_websocket(&request(query, &GOOD)), "{query}");
        }
        for (missing, _) in GOOD {
            let headers: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != missing).collect();
            assert!(!wants_websocket(&request("EIO=4&transport=websocket", &headers)), "without {missing}");
        }
    }
}
