//! What somebody wants to know of a recording, and how far it has read.

use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

/// What a recording is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Nothing before this time, Unix ms.
    pub from_ms: u64,
    /// Nothing after this time, Unix ms.
    pub to_ms: u64,
    /// Only events of these types.
    pub types: EventTypes,
    /// Only what these users did; empty: what anybody did.
    pub users: Vec<String>,
    /// How many moves of each member there are at most.
    pub rate: Option<Rate>,
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
            types: EventTypes::ALL,
            users: Vec::new(),
            rate: None,
            limit: None,
            after: None,
        }
    }
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EventType {
    /// Somebody came.
    Join,
    /// Somebody went.
    Leave,
    /// Somebody moved.
    Move,
    /// An object was made.
    ObjectCreate,
    /// An object was changed.
    ObjectUpdate,
    /// An object was taken away.
    ObjectDelete,
    /// Somebody said something of itself.
    UserUpdate,
    /// Somebody said something to everybody.
    RoomMessage,
}

impl EventType {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Join,
        Self::Leave,
        Self::Move,
        Self::ObjectCreate,
        Self::ObjectUpdate,
        Self::ObjectDelete,
        Self::UserUpdate,
        Self::RoomMessage,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Move => "move",
            Self::ObjectCreate => "object-create",
            Self::ObjectUpdate => "object-update",
            Self::ObjectDelete => "object-delete",
            Self::UserUpdate => "user-update",
            Self::RoomMessage => "room-message",
        }
    }
}

/// A text that is not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThat(&'static str);

impl FromStr for EventType {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        Self::ALL.into_iter().find(|known| known.name() == text).ok_or(NotThat("no type of event"))
    }
}

/// Several types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventTypes(u8);

impl EventTypes {
    /// Every one.
    pub const ALL: Self = Self(u8::MAX);

    /// Adds one.
    pub fn insert(&mut self, one: EventType) {
        self.0 |= 1 << one as u8;
    }

    /// Whether it is among them.
    pub fn contains(self, one: EventType) -> bool {
        self.0 & (1 << one as u8) != 0
    }
}

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

/// How often, at most. Time is cut into intervals of that rate, which begin with the Unix epoch; of each there is the
/// last only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    millihertz: u32,
}

/// The rule for a [`Rate`].
const RATE_RULE: NotThat = NotThat("must be a number from 0.1 to 90");

impl Rate {
    /// The number of the interval that holds this time, Unix ms.
    pub fn interval(self, at_ms: u64) -> u64 {
        (u128::from(at_ms) * u128::from(self.millihertz) / 1_000_000) as u64
    }

    /// When an interval begins: the first millisecond in it.
    pub fn begin_ms(self, interval: u64) -> u64 {
        (u128::from(interval) * 1_000_000).div_ceil(u128::from(self.millihertz)) as u64
    }
}

impl FromStr for Rate {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        let hz: f64 = text.parse().map_err(|_| RATE_RULE)?;
        // NaN is in no range.
        if !(0.1..=90.0).contains(&hz) {
            return Err(RATE_RULE);
        }
        Ok(Self { millihertz: (hz * 1000.0).round() as u32 })
    }
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

    #[test]
    fn types_are_known_by_their_names() {
        let mut types = EventTypes::default();
        for known in EventType::ALL {
            assert_eq!(known.name().parse(), Ok(known));
            assert!(!types.contains(known) && EventTypes::ALL.contains(known));
            types.insert(known);
            assert!(types.contains(known));
        }
        assert!("".parse::<EventType>().is_err() && "Join".parse::<EventType>().is_err());
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_is_written(at_ms: u64, seen: u64) {
            let cursor = Cursor { at_ms, seen };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn intervals_lie_side_by_side(hz in 0.1f64..=90.0, at_ms in 0..4_102_444_800_000u64) {
            let rate: Rate = hz.to_string().parse().unwrap();
            let interval = rate.interval(at_ms);
            let begin_ms = rate.begin_ms(interval);
            prop_assert!(begin_ms <= at_ms && at_ms < rate.begin_ms(interval + 1).max(at_ms + 1));
            prop_assert_eq!(rate.interval(begin_ms), interval);
            prop_assert!(begin_ms == 0 || rate.interval(begin_ms - 1) < interval);
        }
    }
}
