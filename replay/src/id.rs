//! Where a record stands in a recording.

use std::fmt;
use std::str::FromStr;

/// Where a record stands among all of its room, and when it was written down.
///
/// Ids of a room only grow. Written `<ms>-<seq>`, as Redis writes the ids of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordId {
    /// Unix ms. Not before that of any earlier record, even if the clock was set back.
    pub ms: u64,
    /// Counts the records of one millisecond, from 0.
    pub seq: u32,
}

impl RecordId {
    /// The first id that a record of that time may have.
    pub fn at(ms: u64) -> Self {
        Self { ms, seq: 0 }
    }

    /// The id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self::at(self.ms + 1),
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A text that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a record")]
pub struct InvalidId;

impl FromStr for RecordId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (ms, seq) = text.split_once('-').ok_or(InvalidId)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(ms) || !digits(seq) {
            return Err(InvalidId);
        }
        Ok(Self { ms: ms.parse().map_err(|_| InvalidId)?, seq: seq.parse().map_err(|_| InvalidId)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let id = RecordId { ms: 1_700_000_000_123, seq: 7 };
        assert_eq!(id.to_string(), "1700000000123-7");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in
            ["", "-", "1", "1-", "-1", "+1-2", "1-2-3", "1-4294967296", "99999999999999999999-0", " 1-2"]
        {
            assert_eq!(text.parse::<RecordId>(), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn the_next_id_is_greater() {
        let last = RecordId { ms: 5, seq: u32::MAX };
        assert_eq!(last.next(), RecordId::at(6));
        assert_eq!(RecordId::at(5).next(), RecordId { ms: 5, seq: 1 });
    }
}
