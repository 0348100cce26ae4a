//! Answers, good and bad.

use std::borrow::Cow;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use protocol::error::{ClientError, ErrorCode};
use serde::Serialize;
use serde_json::json;

use crate::auth::AuthError;
use crate::net::serve::{self, Body};
use crate::passwords::TooManyTries;

/// What a call comes to.
pub(super) type Reply = Result<Response<Body>, ApiError>;

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    /// The status and what is said.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (StatusCode, &str) {
        (self.status, &self.message)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = json(&json!({ "error": self.message }));
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error.to_string()).with_header(WWW_AUTHENTICATE, "Bearer")
    }
}

impl From<TooManyTries> for ApiError {
    fn from(error: TooManyTries) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
            .with_header(RETRY_AFTER, &error.wait_s().to_string())
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let status = match error.code {
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Exists | ErrorCode::StaleVersion => StatusCode::CONFLICT,
            ErrorCode::WrongPassword => StatusCode::FORBIDDEN,
            ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Limit
            | ErrorCode::Overloaded
            | ErrorCode::Storage
            | ErrorCode::Unavailable
            | ErrorCode::Draining => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::WorkerFailed => StatusCode::BAD_GATEWAY,
            ErrorCode::BadRequest | ErrorCode::NotInRoom | ErrorCode::RoomFull => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.message)
    }
}

/// 200 with `value` as JSON. Nothing that the API says is to be kept by a cache.
pub(super) fn json<T: Serialize>(value: &T) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("answers are plain data");
    of_type("application/json", text)
}

/// 200 with a body of this type.
pub(super) fn of_type(content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    with_body(content_type, serve::whole(Full::new(body.into())))
}

/// The same with a body that is not all there yet, or leaves little by little.
pub(super) fn with_body(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
