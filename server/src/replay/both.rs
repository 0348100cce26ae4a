//! Recordings that are in two places.

use replay::{RecordId, StoredRecord};

use super::recordings::{ReadError, Recordings, Span, merged};

/// Two places read as one: what was imported, or recorded before there was a second place, lies in the first. If either
/// cannot be read there is no answer, for it would be a part of one; unless the first has the room, and the second is
/// known to have nothing of it.
#[derive(Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Recordings, B: Recordings> Both<A, B> {
    /// What the second place has of the room.
    fn second<T: Default>(
        &self,
        room: &str,
        read: impl FnOnce(&B) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let is_first_alone = || Ok(self.1.is_surely_without(room) && self.0.span(room)?.is_some());
        if self.1.is_away() && is_first_alone()? {
            return Ok(T::default());
        }
        match read(&self.1) {
            Err(_) if is_first_alone()? => Ok(T::default()),
            read => read,
        }
    }
}

impl<A: Recordings, B: Recordings> Recordings for Both<A, B> {
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError> {
        let spans = [self.0.span(room)?, self.second(room, |place| place.span(room))?];
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
        let second = self.second(room, |place| place.page(room, from, until_ms, bytes_max))?;
        Ok(merged(first, second))
    }

    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        let second = self.second(room, |place| place.keyframe_before(room, at_ms))?;
        let found = [self.0.keyframe_before(room, at_ms)?, second];
        Ok(found.into_iter().flatten().max_by_key(|record| record.id))
    }
}
