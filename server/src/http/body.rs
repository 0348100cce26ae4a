//! What a request brings along.

use std::time::Duration;

use ::http::StatusCode;
use bytes::Buf;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reply::ApiError;

/// Bytes of a request's body. Above: 413.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to come. Longer: 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The JSON object that `body` is. Its content type does not matter.
pub(super) async fn object<B>(body: B) -> Result<Map<String, Value>, ApiError>
where
    B: Body + Send,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB");
    // What is announced as too large need not be waited for.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let whole = Box::pin(Limited::new(body, MAX_BODY_BYTES).collect());
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(ApiError::bad_request("The body did not come whole")),
        Err(_) => return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(ApiError::bad_request("The body must be a JSON object")),
        Err(_) => Err(ApiError::bad_request("The body is not JSON")),
    }
}

/// The member of that name, `None` if it is absent or null. `kind` says in an error what it should be.
pub(super) fn member<T: DeserializeOwned>(
    members: &Map<String, Value>,
    name: &str,
    kind: &str,
) -> Result<Option<T>, ApiError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("{name} must be {kind}"))),
    }
}
