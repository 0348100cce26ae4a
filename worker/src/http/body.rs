//! What a request brings along.

use ::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::reply::ApiError;
use crate::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, MAX_BODY_MEMORY_BYTES};

/// Memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// A permit for each byte.
    memory: Semaphore,
}

/// A body that has come whole.
pub(super) struct ReadBody<'a> {
    bytes: Bytes,
    _memory: SemaphorePermit<'a>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Semaphore::new(MAX_BODY_MEMORY_BYTES) }
    }
}

impl Bodies {
    /// Reads a body. How long it will be is taken at its word, or else as the longest there may be.
    pub(super) async fn read<B>(&self, body: B) -> Result<ReadBody<'_>, ApiError>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let length = body.size_hint().exact().unwrap_or(MAX_BODY_BYTES as u64);
        if length > MAX_BODY_BYTES as u64 {
            return Err(too_large());
        }
        // Cannot be more than the bound just checked.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let memory = self.memory.try_acquire_many(length);
        let _memory = memory.map_err(|_| ApiError::busy("Too many tasks come in at once"))?;
        let whole = Box::pin(Limited::new(body, MAX_BODY_BYTES).collect());
        match timeout(BODY_TIMEOUT, whole).await {
            Ok(Ok(body)) => Ok(ReadBody { bytes: body.to_bytes(), _memory }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(ApiError::bad_request("The body did not come whole")),
            Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
        }
    }
}

impl ReadBody<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn too_large() -> ApiError {
    let megabytes = MAX_BODY_BYTES / (1024 * 1024);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is larger than {megabytes} MiB"))
}
