//! What a request asks of a recording.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use replay::Types;

use super::super::reply::ApiError;
use crate::replay::query::{Cursor, Query, hz, unix_ms};
use crate::replay::walk::Form;

/// Events in one JSON array if the request names no limit. NDJSON has no limit then.
pub const DEFAULT_REPLAY_LIMIT: u64 = 10_000;

/// The most events that a request may want in one JSON array, because it is put together in memory.
pub const MAX_REPLAY_LIMIT: u64 = 50_000;

/// The most events that a request may want as NDJSON: more than this is no number that JavaScript knows exactly.
const MAX_STREAM_LIMIT: u64 = (1 << 53) - 1;

/// The types of events, by their names.
const TYPES: [&str; 8] =
    ["join", "leave", "move", "object-create", "object-update", "object-delete", "user-update", "message"];

/// Users that one request may name. Above: 400.
pub const MAX_REPLAY_USERS: usize = 100;

/// What `query`, the part of the URL behind the question mark, asks for. An empty value counts as absent, a name that
/// means nothing here is passed over.
pub(super) fn parse(query: &str, form: Form) -> Result<Query, ApiError> {
    let mut given = Given::default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value)?;
        if !value.is_empty() {
            given.take(&decode(name)?, value)?;
        }
    }
    given.into_query(form)
}

/// A name or a value as it was before it was put into a URL.
fn decode(text: &str) -> Result<Cow<'_, str>, ApiError> {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let decoded = percent_decode_str(&text).decode_utf8().map(Cow::into_owned);
    decoded.map(Cow::Owned).map_err(|_| ApiError::bad_request("The query is not UTF-8"))
}

#[derive(Default)]
struct Given {
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    types: Option<Types>,
    users: Vec<String>,
    hz: Option<f64>,
    limit: Option<u64>,
    after: Option<Cursor>,
}

impl Given {
    fn take(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), ApiError> {
        let bad = |rule: &str| ApiError::bad_request(format!("{name} {rule}"));
        match name {
            "from" => once(name, &mut self.from_ms, unix_ms(&value).map_err(|rule| bad(&rule.to_string()))?),
            "to" => once(name, &mut self.to_ms, unix_ms(&value).map_err(|rule| bad(&rule.to_string()))?),
            "hz" => once(name, &mut self.hz, hz(&value).map_err(|rule| bad(&rule.to_string()))?),
            "limit" => once(name, &mut self.limit, value.parse().map_err(|_| bad("must be a whole number"))?),
            "cursor" => {
                let after = value.parse().map_err(|_| bad("is none that this server has given"))?;
                once(name, &mut self.after, after)
            }
            "types" => {
                for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                    let known = Types::from_name(part).ok_or_else(|| bad(&types_rule()))?;
                    self.types = Some(self.types.map_or(known, |types| types | known));
                }
                Ok(())
            }
            "users" => {
                self.users.extend(
                    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned),
                );
                if self.users.len() > MAX_REPLAY_USERS {
                    return Err(bad(&format!("must be at most {MAX_REPLAY_USERS}")));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn into_query(self, form: Form) -> Result<Query, ApiError> {
        let (from_ms, to_ms) = (self.from_ms.unwrap_or(0), self.to_ms.unwrap_or(u64::MAX));
        if to_ms < from_ms {
            return Err(ApiError::bad_request("to must not be before from"));
        }
        let (default, most) = match form {
            Form::Items => (Some(DEFAULT_REPLAY_LIMIT), MAX_REPLAY_LIMIT),
            Form::Lines => (None, MAX_STREAM_LIMIT),
        };
        if self.limit.is_some_and(|limit| !(1..=most).contains(&limit)) {
            return Err(ApiError::bad_request(format!("limit must be 1 to {most}")));
        }
        Ok(Query {
            from_ms,
            to_ms,
            types: self.types.unwrap_or(Types::ALL),
            users: self.users,
            hz: self.hz,
            limit: self.limit.or(default),
            after: self.after,
        })
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), ApiError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!("{name} is given twice"))),
    }
}

fn types_rule() -> String {
    format!("must be of {}", TYPES.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::StatusCode;

    fn good(query: &str) -> Query {
        parse(query, Form::Items).unwrap_or_else(|error| panic!("{query}: {error:?}"))
    }

    fn refused(query: &str, message: &str) {
        match parse(query, Form::Items) {
            Err(error) => assert_eq!(error.parts(), (StatusCode::BAD_REQUEST, message), "{query}"),
            Ok(read) => panic!("{query}: {read:?}"),
        }
    }

    #[test]
    fn nothing_given_is_everything_there_is() {
        let everything = Query { limit: Some(DEFAULT_REPLAY_LIMIT), ..Query::default() };
        for query in
            ["", "from=", "from=&to=&types=&users=&hz=&limit=&cursor=", "&&", "_=17", "fro=x", "types=,"]
        {
            assert_eq!(good(query), everything, "{query:?}");
        }
        assert_eq!(parse("", Form::Lines).map(|read| read.limit).ok(), Some(None));
    }

    const TIME_RULE: &str = "must be Unix milliseconds, or a time in UTC such as 2026-01-31T12:00:00Z";

    #[test]
    fn times_are_numbers_or_dates() {
        let read = good("from=1700000000123&to=2023-11-14T22:13:21.5Z");
        assert_eq!((read.from_ms, read.to_ms), (1_700_000_000_123, 1_700_000_001_500));
        assert_eq!(good("from=5&to=5").to_ms, 5);
        assert_eq!(good("from=2023-11-14T22%3A13%3A21Z").from_ms, 1_700_000_001_000);
        for bad in
            ["-1", "1.5", "yesterday", "2023-11-14", "2023-11-14T22:13:21%2B01:00", "18446744073709551616"]
        {
            refused(&format!("from={bad}"), &format!("from {TIME_RULE}"));
            refused(&format!("to={bad}"), &format!("to {TIME_RULE}"));
        }
        refused("from=2&to=1", "to must not be before from");
        refused("from=2&from=2", "from is given twice");
    }

    #[test]
    fn lists_are_of_what_there_is() {
        let read = good("types=join,object-create&types=+leave&users=ada%2Cbob&users=%C3%A9");
        assert_eq!(read.types, Types::JOIN | Types::LEAVE | Types::OBJECT_CREATE);
        assert_eq!(good(&format!("types={}", TYPES.join(","))).types, Types::ALL, "every name is known");
        assert_eq!(read.users, ["ada", "bob", "é"]);
        refused("types=join,moves", &format!("types {}", types_rule()));
        refused("users=%ff", "The query is not UTF-8");
        let many = vec!["u"; MAX_REPLAY_USERS + 1].join(",");
        assert_eq!(good(&format!("users={}", &many[2..])).users.len(), MAX_REPLAY_USERS);
        refused(&format!("users={many}"), "users must be at most 100");
    }

    #[test]
    fn numbers_have_their_ranges() {
        assert_eq!(good("limit=1").limit, Some(1));
        assert_eq!(good("limit=50000").limit, Some(50_000));
        refused("limit=0", "limit must be 1 to 50000");
        refused("limit=50001", "limit must be 1 to 50000");
        assert_eq!(parse("limit=50001", Form::Lines).map(|read| read.limit).ok(), Some(Some(50_001)));
        for bad in ["-1", "ten", "1.5", "1e3"] {
            refused(&format!("limit={bad}"), "limit must be a whole number");
        }
        assert_eq!(good("hz=2.5").hz, Some(2.5));
        for bad in ["0", "-1", "0.09", "91", "NaN", "inf", "fast"] {
            refused(&format!("hz={bad}"), "hz must be a number from 0.1 to 90");
        }
    }

    #[test]
    fn a_cursor_is_one_that_was_given() {
        let after = Cursor { at_ms: 5, seen: 3 };
        assert_eq!(good(&format!("cursor={after}")).after, Some(after));
        for bad in ["5", "5-", "-5", "5-7-1", "x-7", "5--7", "5-+7", "5-18446744073709551616"] {
            refused(&format!("cursor={bad}"), "cursor is none that this server has given");
        }
    }
}
