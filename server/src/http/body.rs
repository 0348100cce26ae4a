//! What a request brings along.

use std::time::Duration;

use ::http::StatusCode;
use bytes::Buf;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reply::ApiError;

/// Bytes of a request's body. Above: 413.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Bytes of a body that are read and thrown away beyond [`MAX_BODY_BYTES`]. A client that is still sending when its
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
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, Box::pin(whole(body))).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(ApiError::bad_request("The body must be a JSON object")),
        Err(_) => Err(ApiError::bad_request("The body is not JSON")),
    }
}

async fn whole<B>(body: B) -> Result<Vec<u8>, ApiError>
where
    B: Body,
    B::Data: Buf,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let (mut bytes, mut seen) = (Vec::new(), 0);
    // What is announced as far too large need not be waited for.
    let mut goes_on = body.size_hint().lower() <= (MAX_BODY_BYTES + MAX_DISCARDED_BYTES) as u64;
    while goes_on {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("The body did not come whole"))?;
        if let Ok(mut data) = frame.into_data() {
            seen += data.remaining();
            if seen <= MAX_BODY_BYTES {
                while data.has_remaining() {
                    let chunk = data.chunk();
                    bytes.extend_from_slice(chunk);
                    let length = chunk.len();
                    data.advance(length);
                }
            }
        }
        goes_on = seen <= MAX_BODY_BYTES + MAX_DISCARDED_BYTES;
    }
    if !goes_on || seen > MAX_BODY_BYTES {
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB"));
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
