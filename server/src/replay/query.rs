//! What somebody wants to know of a recording, and how far it has read.

use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use replay::Types;

/// What a recording is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Nothing before this time, Unix ms.
    pub from_ms: u64,
    /// Nothing after this time, Unix ms.
    pub to_ms: u64,
    /// Only events of these types.
    pub types: Types,
    /// Only what these users did; empty: what anybody did.
    pub users: Vec<String>,
    /// At most so many moves a second of each member, from 0.1 to 90.
    pub hz: Option<f64>,
    /// At most so many events.
    pub limit: Option<u64>,
    /// Only what comes after this.
    pub after: Option<Cursor>,
}

impl Default for Query {
    /// Everything.
    fn default() -> Self {
        Self {
            from_ms: 0,
            to_ms: u64::MAX,
            types: Types::ALL,
            users: Vec::new(),
            hz: None,
            limit: None,
            after: None,
        }
    }
}

/// A text that is not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThat(&'static str);

/// A time in Unix ms, given as such or as RFC 3339 writes it in UTC.
///
/// # Errors
/// [`NotThat`], with the rule.
pub fn unix_ms(text: &str) -> Result<u64, NotThat> {
    const RULE: NotThat = NotThat("must be Unix milliseconds, or a time in UTC such as 2026-01-31T12:00:00Z");
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| RULE);
    }
    let time = humantime::parse_rfc3339(text).map_err(|_| RULE)?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| RULE)?;
    u64::try_from(since.as_millis()).map_err(|_| RULE)
}

/// A rate in Hz: how many moves a second there may be of each member.
///
/// # Errors
/// [`NotThat`], with the rule.
pub fn hz(text: &str) -> Result<f64, NotThat> {
    const RULE: NotThat = NotThat("must be a number from 0.1 to 90");
    // NaN is in no range.
    text.parse().ok().filter(|hz| (0.1..=90.0).contains(hz)).ok_or(RULE)
}

/// How far somebody has read: all events before a time, and so many of those at that very time. Events have an order
/// that never changes, so that reading on from here is as if it had not been interrupted, if the same is asked for.
///
/// Written `<at_ms>-<seen>`; to a client it is a text without a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// The time of the last event that was told, Unix ms.
    pub at_ms: u64,
    /// How many of that time were told, of those that were asked for.
    pub seen: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at_ms, self.seen)
    }
}

impl FromStr for Cursor {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        const NONE: NotThat = NotThat("no cursor");
        let (at_ms, seen) = text.split_once('-').ok_or(NONE)?;
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse().map_err(|_| NONE),
            false => Err(NONE),
        };
        Ok(Self { at_ms: number(at_ms)?, seen: number(seen)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_is_written(at_ms: u64, seen: u64) {
            let cursor = Cursor { at_ms, seen };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }
}
