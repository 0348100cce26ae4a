//! `/api/rooms`.

use std::cmp::Reverse;

use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use engine::{CreateError, Created, RoomRequest, RoomShared};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::error;

use super::reply::{ApiError, Reply};
use super::{ApiParts, body, reply};

/// Rooms in one list. Above: the fullest ones; `x-total-count` says how many there are.
pub const MAX_LISTED_ROOMS: usize = 1_000;

/// A room as the API tells of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomView<'a> {
    id: &'a str,
    users: usize,
    max_users: usize,
    /// Unix ms.
    created: u64,
    persistent: bool,
    tick_hz: u32,
    password_required: bool,
}

impl<'a> From<&'a RoomShared> for RoomView<'a> {
    fn from(room: &'a RoomShared) -> Self {
        Self {
            id: &room.id,
            users: room.members(),
            max_users: room.options.max_users,
            created: room.created.as_millis(),
            persistent: room.options.persistent,
            tick_hz: room.options.tick_hz,
            password_required: room.options.password.is_some(),
        }
    }
}

pub(super) fn list(parts: &ApiParts) -> Response<Full<Bytes>> {
    let rooms = parts.engine.rooms();
    let mut views: Vec<RoomView<'_>> = rooms.iter().map(|room| RoomView::from(&**room)).collect();
    // The counts are in the views, because those of the rooms may change while they are being sorted.
    let order = |a: &RoomView<'_>, b: &RoomView<'_>| (Reverse(a.users), a.id).cmp(&(Reverse(b.users), b.id));
    if views.len() > MAX_LISTED_ROOMS {
        views.select_nth_unstable_by(MAX_LISTED_ROOMS, order);
        views.truncate(MAX_LISTED_ROOMS);
    }
    views.sort_unstable_by(order);
    let mut response = reply::json(&views);
    response.headers_mut().insert("x-total-count", HeaderValue::from(rooms.len()));
    response
}

pub(super) async fn create(parts: &ApiParts, members: Map<String, Value>) -> Reply {
    let id: Option<String> = body::member(&members, "roomId", "a string")?;
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(ApiError::bad_request("roomId required"));
    };
    let request = RoomRequest {
        max_users: body::member(&members, "maxUsers", "a whole number")?,
        persistent: body::member(&members, "persistent", "true or false")?,
        tick_hz: body::member(&members, "tickHz", "a whole number")?,
        password: body::member(&members, "password", "a string")?,
    };
    match parts.engine.create_room(&id, &request).await {
        Ok(Created::Room(room)) => Ok(reply::json(&RoomView::from(&*room))),
        Ok(Created::Conflict) => {
            Err(ApiError::new(StatusCode::CONFLICT, "A room of that id exists with other options"))
        }
        Err(CreateError::Refused(error)) => Err(error.into()),
        Err(CreateError::Store(error)) => {
            error!(%error, "a persistent room was not made");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The room could not be stored"))
        }
    }
}

/// `segment` is the room's id as it stands in the path.
pub(super) fn replay(parts: &ApiParts, segment: &str) -> Reply {
    let id = percent_decode_str(segment).decode_utf8_lossy();
    if parts.engine.room(&id).is_none() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "Room not found"));
    }
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "Replay is not recorded by this server yet"))
}
