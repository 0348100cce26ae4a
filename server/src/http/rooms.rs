//! `/api/rooms`.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::RETRY_AFTER;
use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use engine::options::{TICK_RATE_RULE, VIEW_PERIODS_RULE};
use engine::{CreateError, Created, Engine, RoomRequest, RoomShared, TickRate, Time, ViewPeriods};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::error;

use super::makers::Makers;
use super::reply::{ApiError, Reply};
use super::{ApiParts, body, reply};
use crate::net::serve::Body;

/// Rooms in one list. Above: the fullest ones; `x-total-count` says how many there are.
pub const MAX_LISTED_ROOMS: usize = 1_000;

/// Up to this many rooms the list is always as of now: it costs less than the request for it. Of more rooms it may be
/// [`LIST_KEPT`] old.
pub const MAX_FRESH_ROOMS: usize = 100;

/// How long a list of many rooms is kept. All who ask for it meanwhile get the same one.
pub const LIST_KEPT: Duration = Duration::from_secs(1);

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
    /// As it was chosen.
    tick_hz: TickRate,
    current_tick_hz: u32,
    view_radius: Option<f32>,
    view_periods: ViewPeriods,
    view_budget: u32,
    password_required: bool,
    record: bool,
    record_messages: bool,
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
            current_tick_hz: room.tick_hz(),
            view_radius: room.options.view.radius_m,
            view_periods: room.options.view.periods,
            view_budget: room.options.view.budget,
            password_required: room.options.password.is_some(),
            record: room.options.record,
            record_messages: room.options.record_messages,
        }
    }
}

/// The last list of many rooms.
#[derive(Debug, Default)]
pub(super) struct RoomList(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// When it was begun.
    since: Time,
    list: Option<List>,
}

/// The list as JSON, and how many rooms there are.
#[derive(Debug, Clone)]
struct List(Bytes, usize);

impl RoomList {
    pub(super) fn answer(&self, engine: &Engine) -> Response<Body> {
        let List(json, count) = if engine.room_count() <= MAX_FRESH_ROOMS {
            list(&engine.rooms())
        } else {
            self.kept(engine.now(), || list(&engine.rooms()))
        };
        let mut response = reply::of_type("application/json", json);
        response.headers_mut().insert("x-total-count", HeaderValue::from(count));
        response
    }

    /// The list that is kept, or what `make` makes if that is too old. While one caller makes it, the others get the
    /// old one: they are on cores that have better things to do than to wait.
    fn kept(&self, now: Time, make: impl FnOnce() -> List) -> List {
        let mut kept = self.lock();
        if let Some(list) = &kept.list
            && now.since(kept.since) < LIST_KEPT
        {
            return list.clone();
        }
        kept.since = now;
        drop(kept);
        let list = make();
        self.lock().list = Some(list.clone());
        list
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(rooms: &[Arc<RoomShared>]) -> List {
    let mut views: Vec<RoomView<'_>> = rooms.iter().map(|room| RoomView::from(&**room)).collect();
    // The counts are in the views, because those of the rooms may change while they are being sorted.
    let order = |a: &RoomView<'_>, b: &RoomView<'_>| (Reverse(a.users), a.id).cmp(&(Reverse(b.users), b.id));
    if views.len() > MAX_LISTED_ROOMS {
        views.select_nth_unstable_by(MAX_LISTED_ROOMS, order);
        views.truncate(MAX_LISTED_ROOMS);
    }
    views.sort_unstable_by(order);
    List(serde_json::to_vec(&views).expect("views are plain data").into(), rooms.len())
}

/// Makes the room that `user` asks for.
pub(super) async fn create(
    parts: &ApiParts,
    makers: &Makers,
    user: &str,
    members: Map<String, Value>,
) -> Reply {
    let id: Option<String> = body::member(&members, "roomId", "a string")?;
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(ApiError::bad_request("roomId required"));
    };
    let request = request(&members)?;
    let there = parts.engine.room(&id);
    if let Some(room) = &there {
        // To ask for it tells whether its password is right, so this counts as a try.
        let now = parts.engine.now();
        if !parts.auth.passwords().check(room, user, request.password.as_deref(), now)? {
            return Err(conflict());
        }
    }
    // To ask again for a room that is there costs nothing.
    let is_new = there.is_none();
    if is_new && let Err(wait) = makers.take(user, parts.engine.now()) {
        let error =
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "You have made too many rooms, try again later");
        return Err(error.with_header(RETRY_AFTER, &(wait.as_secs() + 1).to_string()));
    }
    let created = parts.engine.create_room(&id, &request).await;
    if is_new && !matches!(created, Ok(Created::Room(_))) {
        makers.give_back(user);
    }
    match created {
        Ok(Created::Room(room)) => Ok(reply::json(&RoomView::from(&*room))),
        Ok(Created::Conflict) => Err(conflict()),
        Err(CreateError::Refused(error)) => Err(error.into()),
        Err(CreateError::Store(error)) => {
            error!(%error, "a persistent room was not made");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The room could not be stored"))
        }
    }
}

fn conflict() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "A room of that id exists with other options")
}

/// What `members` wish for. Ranges that depend on the server's settings are not looked at here.
fn request(members: &Map<String, Value>) -> Result<RoomRequest, ApiError> {
    Ok(RoomRequest {
        max_users: body::member(members, "maxUsers", "a whole number")?,
        persistent: body::member(members, "persistent", "true or false")?,
        tick_hz: body::member(members, "tickHz", TICK_RATE_RULE)?,
        view_radius: body::member(members, "viewRadius", "a number")?,
        view_periods: body::member(members, "viewPeriods", VIEW_PERIODS_RULE)?,
        view_budget: body::member(members, "viewBudget", "a whole number")?,
        password: body::member(members, "password", "a string")?,
        record: body::member(members, "record", "true or false")?,
        record_messages: body::member(members, "recordMessages", "true or false")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_made_once_for_all_who_ask_within_its_time() {
        let list = RoomList::default();
        let now = Time::from_micros(1_000_000_000);
        let numbered = |number: usize| move || List(Bytes::new(), number);
        assert_eq!(list.kept(now, numbered(1)).1, 1);
        assert_eq!(list.kept(now + LIST_KEPT / 2, numbered(2)).1, 1);
        let meanwhile = || {
            assert_eq!(
                list.kept(now + LIST_KEPT, numbered(4)).1,
                1,
                "the old one, while the new one is made"
            );
            List(Bytes::new(), 3)
        };
        assert_eq!(list.kept(now + LIST_KEPT, meanwhile).1, 3);
        assert_eq!(list.kept(now + LIST_KEPT, numbered(5)).1, 3);
    }
}
