//! Headers that do not depend on the call.

use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use ::http::{Response, StatusCode};
use http_body_util::Empty;

use crate::net::serve::{self, Body};

/// How long a browser may remember what a preflight said, in seconds.
const PREFLIGHT_MAX_AGE_S: &str = "600";

/// The headers that pages of other origins may send beside the usual ones.
const ALLOWED: &str = "content-type, authorization, x-room-password";

/// The headers of answers that pages of other origins may read beside the usual ones.
const EXPOSED: &str = "x-total-count, x-next-cursor, x-replay-gaps, retry-after";

/// Whose pages may read answers.
#[derive(Debug)]
pub(super) struct Cors {
    origin: HeaderValue,
}

impl Cors {
    /// `origin` is one origin, or `*`.
    pub(super) fn new(origin: &str) -> Self {
        // The configuration is checked. Were it not, no page of another origin would read anything.
        Self { origin: HeaderValue::from_str(origin).unwrap_or(HeaderValue::from_static("null")) }
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        if self.origin != "*" {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// Adds what keeps a browser from taking an answer for something else.
pub(super) fn apply_security(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The answer to a browser that asks what it may ask.
pub(super) fn preflight() -> Response<Body> {
    let mut response = Response::new(serve::whole(Empty::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE_S));
    response
}
