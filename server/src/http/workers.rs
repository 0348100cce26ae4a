//! `/api/worker`. There are no workers yet: calls are checked and then refused.

use ::http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::reply::{ApiError, Reply};
use super::{body, reply};
use crate::net::serve::Body;

pub(super) fn execute(members: &Map<String, Value>) -> Reply {
    let task: Option<String> = body::member(members, "task", "a string")?;
    if task.is_none_or(|task| task.is_empty()) {
        return Err(ApiError::bad_request("task required"));
    }
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "No healthy workers available"))
}

pub(super) fn status() -> Response<Body> {
    reply::json(&json!([]))
}
