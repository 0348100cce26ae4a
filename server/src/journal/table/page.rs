//! Reading a room's records a part at a time.

use bytes::Bytes;
use replay::{RecordId, RecordKind, StoredRecord};
use rusqlite::params;

use super::format::{read_id, signed};
use super::{Table, TableError};

/// Damaged records that stand one after the other and are told one by one. Beyond, they are counted only.
const MISSING_MAX: usize = 1_000;

/// A part of a room's records.
#[derive(Debug)]
pub struct Page {
    /// In the order of their ids.
    pub records: Vec<StoredRecord>,
    /// Records that were here and cannot be read any more. Where that can be told, they are among the others, without
    /// their payload, which is damage to every decoder.
    pub damaged: usize,
    /// Why it has no more.
    pub end: PageEnd,
}

/// Why a page ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEnd {
    /// There are no more in the file.
    Last,
    /// The next one does not fit.
    Full,
    /// What follows cannot be found, because the file is damaged.
    Damage,
}

impl Page {
    /// The last id that is known to be right.
    fn last(&self) -> Option<RecordId> {
        self.records.last().map(|record| record.id)
    }

    /// Puts in what is missing before `next`. An id that does not fit there is damaged itself: whoever went on
    /// from it would leave out what is whole.
    fn add_missing(&mut self, missing: &mut Vec<RecordId>, next: RecordId) {
        for id in missing.drain(..) {
            if id < next && self.last().is_none_or(|last| last < id) {
                self.records.push(absent(id));
            }
        }
    }

    /// The same at the end, where nothing shows which ids are right.
    fn add_missing_last(&mut self, missing: &[RecordId]) {
        if let Some(last) = self.last().filter(|_| !missing.is_empty()) {
            self.records.push(absent(last.next()));
        }
    }
}

fn absent(id: RecordId) -> StoredRecord {
    StoredRecord { id, kind: RecordKind::Poses, payload: Bytes::new() }
}

impl Table {
    /// The room's records from `from` on, in the order of their ids, none later than `until_ms`: as many as fit into
    /// about `bytes_max` bytes, and at least one if there is one. What is damaged comes without its payload, and is
    /// counted.
    ///
    /// # Errors
    /// [`TableError`]; if it is damage, what could be read before it comes first, as a page of its own.
    pub fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Page, TableError> {
        let mut page = Page { records: Vec::new(), damaged: 0, end: PageEnd::Last };
        let Some(number) = self.number(room)? else { return Ok(page) };
        let mut ids = self.connection.prepare_cached(
            "SELECT row, ms, seq FROM records INDEXED BY ids
             WHERE room = ?1 AND (ms, seq) >= (?2, ?3) AND ms <= ?4 ORDER BY ms, seq",
        )?;
        let mut found = ids.query(params![number, signed(from.ms), from.seq, signed(until_ms)])?;
        let (mut bytes, mut missing) = (0, Vec::new());
        loop {
            let next = found.next().and_then(|found| {
                found
                    .map(|found| Ok::<(i64, _), rusqlite::Error>((found.get(0)?, read_id(found, 1)?)))
                    .transpose()
            });
            let (row, id) = match next.map_err(TableError::from) {
                Ok(Some(next)) => next,
                Ok(None) => {
                    page.add_missing_last(&missing);
                    return Ok(page);
                }
                Err(error) if page.records.is_empty() || !error.is_damage() => return Err(error),
                Err(_) => return Ok(Page { end: PageEnd::Damage, ..page }),
            };
            let is_next = id >= from && page.last().is_none_or(|last| last < id);
            match self.record(room, number, row, id)?.filter(|_| is_next) {
                Some(record) => {
                    page.add_missing(&mut missing, record.id);
                    bytes += record.payload.len();
                    if bytes > bytes_max && !page.records.is_empty() {
                        return Ok(Page { end: PageEnd::Full, ..page });
                    }
                    page.records.push(record);
                }
                None => {
                    page.damaged += 1;
                    if is_next && missing.len() < MISSING_MAX {
                        missing.push(id);
                    }
                }
            }
        }
    }
}
