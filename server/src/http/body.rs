//! What a request brings along.

use std::time::Duration;

use ::http::StatusCode;
use bytes::Buf;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reply::ApiError;

/// Bytes of a request's body, unless its call allows more. Above: 413.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Bytes of a body that are read and thrown away beyond those that are allowed. A client that is still sending when its
/// connection is closed may never see why; past this much it is closed all the same.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// How long a body may take to come. Longer: 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The JSON object that `body` is. Its content type does not matter.
pub(super) async fn object<B>(body: B) -> Result<Map<String, Value>, ApiError>
where
    B: Body + Send,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = in_time(body, MAX_BODY_BYTES).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(no_object()),
        Err(_) => Err(not_json()),
    }
}

/// The text that `body` is, of at most `bytes_max` bytes.
pub(super) async fn text<B>(body: B, bytes_max: usize) -> Result<String, ApiError>
where
    B: Body + Send,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    String::from_utf8(in_time(body, bytes_max).await?).map_err(|_| not_json())
}

/// What a body is told that is not JSON.
pub(super) fn not_json() -> ApiError {
    ApiError::bad_request("The body is not JSON")
}

/// What a body is told that is JSON, but no object.
pub(super) fn no_object() -> ApiError {
    ApiError::bad_request("The body must be a JSON object")
}

async fn in_time<B>(body: B, bytes_max: usize) -> Result<Vec<u8>, ApiError>
where
    B: Body + Send,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(BODY_TIMEOUT, Box::pin(whole(body, bytes_max))).await {
        Ok(bytes) => bytes,
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
    }
}

async fn whole<B>(body: B, bytes_max: usize) -> Result<Vec<u8>, ApiError>
where
    B: Body,
    B::Data: Buf,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let (mut bytes, mut seen) = (Vec::new(), 0);
    // What is announced as far too large need not be waited for.
    let mut goes_on = body.size_hint().lower() <= (bytes_max + MAX_DISCARDED_BYTES) as u64;
    while goes_on {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("The body did not come whole"))?;
        if let Ok(mut data) = frame.into_data() {
            seen += data.remaining();
            if seen <= bytes_max {
                while data.has_remaining() {
                    let chunk = data.chunk();
                    bytes.extend_from_slice(chunk);
                    let length = chunk.len();
                    data.advance(length);
                }
            }
        }
        goes_on = seen <= bytes_max + MAX_DISCARDED_BYTES;
    }
    if !goes_on || seen > bytes_max {
        let message = match bytes_max {
            MAX_BODY_BYTES => "The body is larger than 64 KiB".to_owned(),
            _ => format!("The body is larger than {bytes_max} bytes"),
        };
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(bytes)
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
