//! Where recordings are read from.

use replay::{RecordId, StoredRecord};

/// The recordings of all rooms. Every method may wait for a disk or a network, so it is called from a thread that may.
pub trait Recordings: Send + Sync + 'static {
    /// From when to when there are records of the room; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`]
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError>;

    /// The room's records from `from` on, in the order of their ids, none later than `until_ms`: as many as fit into
    /// about `bytes_max` bytes, and at least one if there is one. None: there are no more.
    /// A record that is there and damaged comes without its payload, or as it is.
    ///
    /// # Errors
    /// [`ReadError`]
    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError>;

    /// The room's newest keyframe, of either kind, whose id is not later than `at_ms`.
    ///
    /// # Errors
    /// [`ReadError`]
    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError>;

    /// Whether asking is in vain at present, as far as is known.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether it is known, without asking far away, that nothing was ever recorded of the room here.
    fn is_surely_without(&self, _room: &str) -> bool {
        false
    }
}

/// The first and the last record of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest that is still kept.
    pub first: RecordId,
    /// The newest.
    pub last: RecordId,
}

/// Recordings cannot be read. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// Two pages of one room, from two places, as one: up to where the shorter one ends, since what follows there is not
/// known. Of a record that both have, the one that is not damaged counts.
pub(super) fn merged(a: Vec<StoredRecord>, b: Vec<StoredRecord>) -> Vec<StoredRecord> {
    let (Some(last_a), Some(last_b)) = (a.last(), b.last()) else {
        return if a.is_empty() { b } else { a };
    };
    let end = last_a.id.min(last_b.id);
    let mut records: Vec<_> = a.into_iter().chain(b).filter(|record| record.id <= end).collect();
    records.sort_by_key(|record| (record.id, record.payload.is_empty()));
    records.dedup_by_key(|record| record.id);
    records
}

#[cfg(test)]
mod tests {
    use replay::RecordKind;

    use super::*;

    fn page(ids: &[u64], payload: &'static [u8]) -> Vec<StoredRecord> {
        let record = |ms: &u64| StoredRecord {
            id: RecordId::at(*ms),
            kind: RecordKind::Event,
            payload: payload.into(),
        };
        ids.iter().map(record).collect()
    }

    #[test]
    fn two_pages_are_one_as_far_as_both_reach() {
        for (a, b) in
            [(page(&[1, 3, 4], b""), page(&[2, 3, 9], b"x")), (page(&[2, 3, 9], b"x"), page(&[1, 3, 4], b""))]
        {
            let both: Vec<_> =
                merged(a, b).iter().map(|record| (record.id.ms, record.payload.len())).collect();
            assert_eq!(both, [(1, 0), (2, 1), (3, 1), (4, 0)]);
        }
        assert_eq!(merged(page(&[1], b""), Vec::new()), page(&[1], b""));
        assert_eq!(merged(Vec::new(), page(&[1], b"")), page(&[1], b""));
    }
}
