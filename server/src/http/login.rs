//! `/api/auth`.

use serde_json::{Map, Value};

use super::reply::{ApiError, Reply};
use super::{ApiParts, body, reply, unix_s};

pub(super) fn login(parts: &ApiParts, members: &Map<String, Value>) -> Reply {
    let username: String = body::member(members, "username", "a string")?
        .ok_or_else(|| ApiError::bad_request("Username required"))?;
    Ok(reply::json(&parts.auth.login(&username, unix_s(parts))?))
}
