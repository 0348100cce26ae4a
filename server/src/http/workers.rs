//! `/api/worker`.

use std::borrow::Cow;

use ::http::header::RETRY_AFTER;
use ::http::{Response, StatusCode};
use protocol::limits::{MAX_JSON_DEPTH, MAX_PACKET_BYTES};
use protocol::packet::check_depth;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::pieces::Pieces;
use super::reply::{ApiError, Reply};
use super::{ApiParts, body, reply};
use crate::net::serve::{self, Body};
use crate::workers::{Task, TaskError};

/// Bytes of a task and its data. As much as one that comes as an event may have; above: 413.
pub const MAX_TASK_BODY_BYTES: usize = MAX_PACKET_BYTES;

/// When to come back after a refusal that is over soon, in seconds.
const RETRY_AFTER_S: &str = "1";

/// Has a task done. The data stays as the text that it came as.
pub(super) async fn execute(parts: &ApiParts, user: &str, body: &str) -> Reply {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(default, borrow)]
        task: Option<Cow<'a, str>>,
        #[serde(default, borrow)]
        data: Option<&'a RawValue>,
    }
    check_depth(body, MAX_JSON_DEPTH).map_err(|_| ApiError::bad_request("The body is nested too deep"))?;
    let is_object = body.trim_start().starts_with('{');
    let given: Body<'_> = serde_json::from_str(body).map_err(|error| match error.classify() {
        Category::Data if is_object => ApiError::bad_request("task must be a string"),
        Category::Data => body::no_object(),
        Category::Io | Category::Syntax | Category::Eof => body::not_json(),
    })?;
    if !is_object {
        return Err(body::no_object());
    }
    let task = Task::new(user, given.task.as_deref().unwrap_or_default(), given.data)?;
    if parts.engine.is_draining() {
        return Err(TaskError::Draining.into());
    }
    // Who goes down waits until a result has left, which may be long. An error leaves at once.
    let held = parts.workers.hold();
    let result = parts.workers.run(task).await?;
    let text = String::from(Box::<str>::from(result));
    Ok(reply::with_body("application/json", serve::whole(Pieces::new(text, held))))
}

pub(super) fn status(parts: &ApiParts) -> Response<Body> {
    reply::json(&parts.workers.status())
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let answer = Self::new(error.status(), error.to_string());
        match error.status() {
            StatusCode::TOO_MANY_REQUESTS => answer.with_header(RETRY_AFTER, RETRY_AFTER_S),
            _ => answer,
        }
    }
}
