//! `/api/rooms/{roomId}/replay`.

mod parameters;
mod stream;

use std::sync::Arc;

use ::http::header::{ACCEPT, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use percent_encoding::{percent_decode, percent_decode_str};
use tracing::error;

use super::reply::{ApiError, Reply};
use super::{ApiParts, reply};
use crate::net::serve;
use crate::replay::query::Query;
use crate::replay::readers::{Lost, Place};
use crate::replay::recordings::ReadError;
use crate::replay::walk::{Form, Progress, Walk};

pub use parameters::{DEFAULT_REPLAY_LIMIT, MAX_REPLAY_LIMIT, MAX_REPLAY_USERS};
pub use stream::READ_TIMEOUT;

/// Bytes of one JSON array, because it is put together in memory. Above: it ends early, and its cursor says where. It
/// may be more by one event.
pub const MAX_REPLAY_BYTES: usize = 16 * 1024 * 1024;

/// Says where to read on. Absent: there is no more.
pub(super) const NEXT_CURSOR: &str = "x-next-cursor";

/// Says how many records are missing from an array because they were damaged. Absent: none.
pub(super) const GAPS: &str = "x-replay-gaps";

/// The password of the room, percent-encoded, because a header holds no other characters than Latin ones.
pub(super) const ROOM_PASSWORD: &str = "x-room-password";

const NDJSON: &str = "application/x-ndjson";

/// How long somebody is asked to wait who finds all places taken, in seconds.
const RETRY_AFTER_S: &str = "2";

/// A reading and the right to have it go on.
struct Reading {
    place: Place,
    walk: Walk,
}

/// Tells `user` what happened in a room. `segment` is its id as it stands in the path.
pub(super) async fn answer(
    parts: &ApiParts,
    user: &str,
    segment: &str,
    (uri, headers): (&Uri, &HeaderMap),
) -> Reply {
    let room = percent_decode_str(segment).decode_utf8_lossy();
    let form = if wants_lines(headers) { Form::Lines } else { Form::Items };
    let query = parameters::parse(uri.query().unwrap_or_default(), form)?;
    check_password(parts, user, &room, headers)?;
    let counts = &parts.replays.counts;
    let Some(place) = parts.replays.readers.try_place() else {
        counts.refused.inc();
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many recordings are being read");
        return Err(error.with_header(RETRY_AFTER, RETRY_AFTER_S));
    };
    let begun = begin(parts, place, &room, query, form).await.map_err(|error| failure(parts, &error))?;
    match (begun, form) {
        (Some(reading), Form::Items) => array(parts, reading).await,
        (Some(reading), Form::Lines) => lines(parts, reading).await,
        (None, _) if parts.engine.room(&room).is_none() => {
            Err(ApiError::new(StatusCode::NOT_FOUND, "Room not found"))
        }
        (None, Form::Items) => Ok(reply::of_type("application/json", "[]")),
        (None, Form::Lines) => Ok(reply::of_type(NDJSON, "")),
    }
}

/// Whoever may not join the room may not read what happens in it either. Of a room that is gone nobody knows the
/// password any more.
fn check_password(parts: &ApiParts, user: &str, room: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(room) = parts.engine.room(room) else { return Ok(()) };
    let given = headers.get(ROOM_PASSWORD).map(|value| percent_decode(value.as_bytes()).decode_utf8_lossy());
    let message = match parts.auth.passwords().check(&room, user, given.as_deref(), parts.engine.now()) {
        Ok(true) => return Ok(()),
        Ok(false) if given.is_some() => "Wrong password",
        Ok(false) => "The room has a password: it goes into the header x-room-password",
        Err(error) => return Err(error.into()),
    };
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// Whether the client names NDJSON among what it takes.
fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(NDJSON))
}

/// Why a reading does not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

fn failure(parts: &ApiParts, error: &Failure) -> ApiError {
    parts.replays.counts.failed.inc();
    error!(%error, "a recording cannot be read");
    let answer = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The recording cannot be read now");
    answer.with_header(RETRY_AFTER, RETRY_AFTER_S)
}

async fn begin(
    parts: &ApiParts,
    mut place: Place,
    room: &str,
    query: Query,
    form: Form,
) -> Result<Option<Reading>, Failure> {
    let (recordings, room) = (parts.replays.recordings.clone(), Arc::from(room));
    let engine = parts.engine.clone();
    let clock = move || engine.now().as_millis();
    let bytes_max = if form == Form::Items { MAX_REPLAY_BYTES } else { usize::MAX };
    let begin = move || Walk::begin(recordings, room, &query, form, bytes_max, clock);
    Ok(place.run(begin).await??.map(|walk| Reading { place, walk }))
}

impl Reading {
    /// Goes on by one step, which adds to the end of `text`.
    async fn step(self, mut text: Vec<u8>) -> Result<(Self, Vec<u8>, Result<Progress, ReadError>), Lost> {
        let Self { mut place, mut walk } = self;
        let (walk, text, progress) = place
            .run(move || {
                let progress = walk.step(&mut text);
                (walk, text, progress)
            })
            .await?;
        Ok((Self { place, walk }, text, progress))
    }
}

/// All that was asked for as one array.
async fn array(parts: &ApiParts, mut reading: Reading) -> Reply {
    let mut text = vec![b'['];
    let next = loop {
        let (same, longer, progress) =
            reading.step(text).await.map_err(|lost| failure(parts, &Failure::Lost(lost)))?;
        (reading, text) = (same, longer);
        match progress.map_err(|error| failure(parts, &Failure::Read(error)))? {
            Progress::More => {}
            Progress::Whole => break None,
            Progress::Cut(cursor) => break Some(cursor),
        }
    };
    text.push(b']');
    let gaps = reading.walk.gaps();
    let body = stream::start_read(reading.place, text, parts.replays.counts.clone());
    let mut response = reply::with_body("application/json", serve::boxed(body));
    let mut tell = |name, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(cursor) = next {
        tell(NEXT_CURSOR, cursor.to_string());
    }
    if gaps > 0 {
        parts.replays.counts.damaged.inc_by(gaps);
        tell(GAPS, gaps.to_string());
    }
    Ok(response)
}

/// All that was asked for, line by line. What cannot be read from the start is an error as any other.
async fn lines(parts: &ApiParts, reading: Reading) -> Reply {
    let (reading, text, progress) =
        reading.step(Vec::new()).await.map_err(|lost| failure(parts, &Failure::Lost(lost)))?;
    let progress = progress.map_err(|error| failure(parts, &Failure::Read(error)))?;
    let body = stream::start(reading, text, progress, parts.replays.counts.clone());
    Ok(reply::with_body(NDJSON, serve::boxed(body)))
}
