//! Answers, good and bad.

use std::borrow::Cow;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::limits::MAX_ERROR_BYTES;
use crate::task::Invalid;
use crate::tasks::{Refusal, State};

/// Seconds after which somebody who was refused may try again.
const RETRY_AFTER_S: &str = "1";

/// What a call comes to.
pub(super) type Reply = Result<Response<Full<Bytes>>, ApiError>;

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 503, and when to come back.
    pub(super) fn busy(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_header(RETRY_AFTER, RETRY_AFTER_S)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let end = self.message.floor_char_boundary(MAX_ERROR_BYTES);
        let mut response = json(self.status, &Error { error: &self.message[..end] });
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> Self {
        Self::bad_request(error.0)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::busy(refusal.to_string()),
            Refusal::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.to_string()),
        }
    }
}

/// How far a task is, for its asker.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Told<'a> {
    pub(super) fn new(id: &'a str, state: &'a State) -> Self {
        let (status, result, error) = match state {
            State::Pending => ("pending", None, None),
            State::Running => ("running", None, None),
            State::Ended(Ok(result)) => ("completed", Some(&**result), None),
            State::Ended(Err(error)) => ("failed", None, Some(&**error)),
        };
        Self { id, status, result, error }
    }
}

/// `value` as JSON. Nothing that is said here is to be kept by a cache.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    of_type(status, "application/json", serde_json::to_vec(value).expect("answers are plain data"))
}

/// What a Prometheus server reads.
pub(super) fn metrics(text: String) -> Response<Full<Bytes>> {
    of_type(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
}

fn of_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
