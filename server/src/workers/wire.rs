//! What a worker's words mean. None of them is trusted.

use std::net::{Ipv4Addr, Ipv6Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::packet::check_depth;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::limits::{MAX_REASON_CHARS, MAX_REMOTE_ID_BYTES, MAX_RESULT_BYTES, MAX_RESULT_DEPTH};
use super::task::{Task, TaskError};

/// What stays as it is in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// What is told when a worker gives no reason that could be passed on.
const NO_REASON: &str = "The worker could not do the task";

/// The body of `POST /tasks`.
pub(super) fn task_body(task: &Task) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        payload: &'a RawValue,
    }
    to_json(&Body { r#type: &task.name, payload: &task.payload })
}

/// The body of the older `POST /execute`.
pub(super) fn execute_body(task: &Task) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        task: &'a str,
        data: &'a RawValue,
    }
    to_json(&Body { task: &task.name, data: &task.payload })
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a text and raw JSON always make JSON")
}

/// How a task stands, by its worker's account.
#[derive(Debug)]
pub(super) enum Progress {
    /// This is its result.
    Done(Box<RawValue>),
    /// It cannot be done.
    Failed(TaskError),
    /// It goes on. Its path after `/tasks/`, if the worker has just named it.
    Under(Option<String>),
}

/// An answer that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nonsense;

/// What the contract names in an answer; all else is ignored.
#[derive(Debug, Default, Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    status: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells a member that is `null` from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Completed,
    Failed,
    Other,
}

impl Answer<'_> {
    fn status(&self) -> Option<Status> {
        let text: String = serde_json::from_str(self.status?.get()).ok()?;
        Some(match text.as_str() {
            "completed" => Status::Completed,
            "failed" | "error" => Status::Failed,
            _ => Status::Other,
        })
    }

    fn has_error(&self) -> bool {
        self.error.is_some_and(|error| error.get() != "null")
    }

    fn failure(&self, host: &str) -> Progress {
        Progress::Failed(TaskError::Failed(reason(self.error, host)))
    }
}

/// What `POST /tasks` was answered with: a name to ask for, or the outcome at once.
pub(super) fn read_accepted(body: &[u8], host: &str) -> Result<Progress, Nonsense> {
    let (text, answer) = read(body)?;
    match (answer.status(), answer.result) {
        (Some(Status::Completed), result) => done(result.unwrap_or(RawValue::NULL)),
        (Some(Status::Failed), _) => Ok(answer.failure(host)),
        (_, Some(result)) => done(result),
        _ if answer.has_error() => Ok(answer.failure(host)),
        _ => match answer.id {
            Some(id) => Ok(Progress::Under(Some(remote_id(id)?))),
            None => done(whole(text)?),
        },
    }
}

/// What `GET /tasks/:id` was answered with.
pub(super) fn read_state(body: &[u8], host: &str) -> Result<Progress, Nonsense> {
    let (_, answer) = read(body)?;
    match (answer.status(), answer.result) {
        (Some(Status::Completed), result) => done(result.unwrap_or(RawValue::NULL)),
        (Some(Status::Failed), _) => Ok(answer.failure(host)),
        (Some(Status::Other), _) => Ok(Progress::Under(None)),
        (None, Some(result)) => done(result),
        (None, None) if answer.has_error() => Ok(answer.failure(host)),
        (None, None) => Err(Nonsense),
    }
}

/// What the older `POST /execute` was answered with: the result, bare or as the member `result`.
pub(super) fn read_executed(body: &[u8], host: &str) -> Result<Progress, Nonsense> {
    let (text, answer) = read(body)?;
    match (answer.status(), answer.result) {
        (Some(Status::Failed), _) => Ok(answer.failure(host)),
        (_, Some(result)) => done(result),
        (_, None) if answer.has_error() => Ok(answer.failure(host)),
        (_, None) => done(whole(text)?),
    }
}

/// Why a worker refused a task, from the body of an answer that is no success. `None` if it gives no reason.
pub(super) fn read_refusal(body: &[u8], host: &str) -> Option<TaskError> {
    let (_, answer) = read(body).ok()?;
    answer.has_error().then(|| TaskError::Failed(reason(answer.error, host)))
}

/// A refusal without a reason.
pub(super) fn refused() -> TaskError {
    TaskError::Failed(NO_REASON.to_owned())
}

/// The text of an answer, and what it says if it is an object. A megabyte is gone through once, so what is no object is
/// not looked at here.
fn read(body: &[u8]) -> Result<(&str, Answer<'_>), Nonsense> {
    let text = std::str::from_utf8(body).map_err(|_| Nonsense)?;
    // Before anything reads it that goes down with it.
    check_depth(text, MAX_RESULT_DEPTH + 1).map_err(|_| Nonsense)?;
    let answer = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|_| Nonsense)?,
        false => Answer::default(),
    };
    Ok((text, answer))
}

fn whole(text: &str) -> Result<&RawValue, Nonsense> {
    serde_json::from_str(text).map_err(|_| Nonsense)
}

fn done(result: &RawValue) -> Result<Progress, Nonsense> {
    if result.get().len() > MAX_RESULT_BYTES {
        return Ok(Progress::Failed(TaskError::TooLarge));
    }
    Ok(Progress::Done(result.to_owned()))
}

/// A worker's name for a task as one segment of a path, which leads nowhere else.
fn remote_id(id: &RawValue) -> Result<String, Nonsense> {
    let text = match serde_json::from_str(id.get()) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Number(number)) => number.to_string(),
        _ => return Err(Nonsense),
    };
    // A path's dots mean the folder above, encoded or not.
    if text.is_empty() || text.len() > MAX_REMOTE_ID_BYTES || text == "." || text == ".." {
        return Err(Nonsense);
    }
    Ok(utf8_percent_encode(&text, SEGMENT).to_string())
}

/// A worker's reason, fit to be shown to a client: one line without control characters, and without what tells where
/// the worker runs or how it is built (addresses, paths, URLs).
fn reason(error: Option<&RawValue>, host: &str) -> String {
    let text = match error.map(|error| serde_json::from_str(error.get())) {
        Some(Ok(serde_json::Value::String(text))) => text,
        Some(Ok(serde_json::Value::Object(members))) => match members.get("message") {
            Some(serde_json::Value::String(text)) => text.clone(),
            _ => return NO_REASON.to_owned(),
        },
        _ => return NO_REASON.to_owned(),
    };
    let line = text.trim().lines().next().unwrap_or_default();
    let mut words = Vec::new();
    for word in line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        words.push(if is_internal(word, host) { "…" } else { word });
    }
    let line = words.join(" ");
    if line.is_empty() {
        return NO_REASON.to_owned();
    }
    match line.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn is_internal(word: &str, host: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != ':');
    let is_path = bare.contains("://")
        || word.contains('\\')
        || (bare.starts_with('/') && bare.len() > 1)
        || bare.matches('/').count() > 1;
    is_path || has_address(word) || (!host.is_empty() && bare.contains(host))
}

/// Whether there is an address in it, whatever it is joined to: `host=10.0.0.3:5432`.
fn has_address(word: &str) -> bool {
    let is_v4 = |part: &str| part.trim_matches('.').parse::<Ipv4Addr>().is_ok();
    let is_v6 = |part: &str| part.trim_end_matches(':').parse::<Ipv6Addr>().is_ok();
    word.split(|c: char| !c.is_ascii_digit() && c != '.').any(is_v4)
        || word.split(|c: char| !c.is_ascii_hexdigit() && c != ':').any(is_v6)
}

#[cfg(test)]
mod tests;
