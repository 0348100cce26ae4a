//! Recordings that are in two places.

use replay::{RecordId, StoredRecord};

use super::recordings::{ReadError, Recordings, Span, merged};

/// Two places read as one: what was imported, or recorded before there was a second place, lies in the first. If either
/// cannot be read there is no answer, for it would be a part of one.
#[derive(Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Recordings, B: Recordings> Recordings for Both<A, B> {
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError> {
        let spans = [self.0.span(room)?, self.1.span(room)?];
        let join = |a: Span, b: Span| Span { first: a.first.min(b.first), last: a.last.max(b.last) };
        Ok(spans.into_iter().flatten().reduce(join))
    }

    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let first = self.0.page(room, from, until_ms, bytes_max)?;
        let second = self.1.page(room, from, until_ms, bytes_max)?;
        Ok(merged(first, second))
    }

    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        let found = [self.0.keyframe_before(room, at_ms)?, self.1.keyframe_before(room, at_ms)?];
        Ok(found.into_iter().flatten().max_by_key(|record| record.id))
    }
}
