//! What can still be read from a damaged file of records.
//!
//! SQLite finds a row by its trees; where one of their pages is gone, all below it is out of reach though it is there.
//! So the pages are read one after the other, in SQLite's documented file format: those that hold rows of the
//! table are recognised, and each row is taken if it agrees with its checksum. The write-ahead log counts too.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use replay::{RecordId, RecordKind};

use super::backend::Entry;
use super::table::{PAGE_BYTES, Table, TableError, checksum};
use crate::database_files::log_of;

/// The first byte of a page with rows of a table.
const LEAF: u8 = 13;
/// Where the first page's content begins.
const FIRST_PAGE_SKIPS: usize = 100;
/// Bytes of the log's header.
const LOG_HEADER: u64 = 32;
/// Bytes of the header that each page in the log has.
const FRAME_HEADER: u64 = 24;
/// Bytes of a row that stay in its page at most, and at least if it does not fit; SQLite's rule for this page size.
const LOCAL_MAX: usize = PAGE_BYTES - 35;
const LOCAL_MIN: usize = (PAGE_BYTES - 12) * 32 / 255 - 23;
/// Bytes of a page that a row goes on in.
const CONTINUATION: usize = PAGE_BYTES - 4;
/// The largest row that is believed. Longer ones are damage.
const ROW_BYTES_MAX: usize = 1 << 30;
/// Bytes of what is read that are written in one go.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What came of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Salvaged {
    /// Records that are whole.
    pub records: usize,
    /// Rows that were found and are not.
    pub lost: usize,
}

/// Why what can be read of a damaged file was not written to another.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The other one cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The damaged one cannot be read at all.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes every whole record of the file at `path` to `table`. `only` is the room that all of them are of, if it is
/// known to be one. Nobody may have the file open to write.
///
/// # Errors
/// [`SalvageError`]
pub fn into_table(path: &Path, only: Option<Arc<str>>, table: &mut Table) -> Result<Salvaged, SalvageError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let salvaged = read(path, only, |entry| {
        bytes += entry.payload.len() + size_of::<Entry>();
        batch.push(entry);
        if bytes >= BATCH_BYTES {
            table.insert(&batch)?;
            (batch, bytes) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    table.insert(&batch)?;
    Ok(salvaged)
}

/// Hands every whole record of the file at `path` to `take`, in about the order in which they were written.
fn read(
    path: &Path,
    only: Option<Arc<str>>,
    mut take: impl FnMut(Entry) -> Result<(), SalvageError>,
) -> Result<Salvaged, SalvageError> {
    let pages = Pages::open(path)?;
    let mut rooms = Rooms { by_number: HashMap::new(), only };
    pages.each_row(|row, _| {
        if let Some((number, name)) = row.as_room() {
            rooms.by_number.insert(number, name);
        }
        Ok::<_, SalvageError>(())
    })?;
    let mut salvaged = Salvaged::default();
    pages.each_row(|row, pages| {
        if row.columns.len() != RECORD_COLUMNS {
            return Ok(());
        }
        match row.as_record(&rooms, pages) {
            Some(entry) => {
                salvaged.records += 1;
                take(entry)
            }
            None => {
                salvaged.lost += 1;
                Ok(())
            }
        }
    })?;
    Ok(salvaged)
}

/// What the rooms of a file are called.
struct Rooms {
    by_number: HashMap<i64, Arc<str>>,
    /// The only one that there is, which then needs no row that says so: checksums are of the id too.
    only: Option<Arc<str>>,
}

impl Rooms {
    fn name(&self, number: i64) -> Option<Arc<str>> {
        self.only.as_ref().or_else(|| self.by_number.get(&number)).cloned()
    }
}

/// A file's pages, the log's instead of those that it replaces.
struct Pages {
    file: File,
    file_pages: u32,
    log: Option<File>,
    /// Where in the log each page is that stands there.
    in_log: HashMap<u32, u64>,
}

type PageBytes = [u8; PAGE_BYTES];

impl Pages {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_pages = file.metadata()?.len().div_ceil(PAGE_BYTES as u64) as u32;
        let log = File::open(log_of(path)).ok();
        let in_log = log.as_ref().map(index_log).unwrap_or_default();
        Ok(Self { file, file_pages, log, in_log })
    }

    /// A page, or what there is of it before the file's end; the rest is zeros.
    fn page(&self, number: u32) -> Option<PageBytes> {
        let mut page = [0; PAGE_BYTES];
        match (self.in_log.get(&number), &self.log) {
            (Some(offset), Some(log)) => log.read_exact_at(&mut page, *offset).ok()?,
            _ => {
                let offset = u64::from(number.checked_sub(1)?) * PAGE_BYTES as u64;
                if read_up_to(&self.file, &mut page, offset) == 0 {
                    return None;
                }
            }
        }
        Some(page)
    }

    fn each_row<E>(&self, mut take: impl FnMut(Row<'_>, &Self) -> Result<(), E>) -> Result<(), E> {
        let last = self.in_log.keys().copied().max().unwrap_or_default().max(self.file_pages);
        for number in 1..=last {
            let Some(page) = self.page(number) else { continue };
            let start = if number == 1 { FIRST_PAGE_SKIPS } else { 0 };
            if page[start] != LEAF {
                continue;
            }
            let cells = usize::from(u16::from_be_bytes([page[start + 3], page[start + 4]]));
            let pointers = page[start + 8..].as_chunks::<2>().0.iter().take(cells);
            for pointer in pointers {
                let cell = page.get(usize::from(u16::from_be_bytes(*pointer))..).unwrap_or_default();
                if let Some(row) = Row::parse(cell) {
                    take(row, self)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads until `page` is full or the file ends, and says how much that was.
fn read_up_to(file: &File, page: &mut [u8], offset: u64) -> usize {
    let mut filled = 0;
    while filled < page.len() {
        match file.read_at(&mut page[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    filled
}

/// Where the newest form of each page stands in a log. What follows the log's end is of one before: its salt differs.
fn index_log(log: &File) -> HashMap<u32, u64> {
    let mut index = HashMap::new();
    let mut header = [0; LOG_HEADER as usize];
    if log.read_exact_at(&mut header, 0).is_err() {
        return index;
    }
    // The last page may be cut off; its older form then counts.
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let mut offset = LOG_HEADER;
    let mut frame = [0; FRAME_HEADER as usize];
    while log.read_exact_at(&mut frame, offset).is_ok() && frame[8..16] == header[16..24] {
        let page_at = offset + FRAME_HEADER;
        offset = page_at + PAGE_BYTES as u64;
        if offset <= length {
            index.insert(u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]), page_at);
        }
    }
    index
}

/// Columns of a room's row, and of a record's.
const ROOM_COLUMNS: usize = 2;
const RECORD_COLUMNS: usize = 7;

/// A row as it lies in its page.
struct Row<'a> {
    number: i64,
    /// The types of its columns.
    columns: Vec<u64>,
    /// Bytes of header and columns together.
    length: usize,
    /// Where the columns begin.
    body_at: usize,
    /// As much of it as lies here.
    local: &'a [u8],
    /// The page on which it goes on.
    rest: Option<u32>,
}

impl<'a> Row<'a> {
    fn parse(cell: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let length = usize::try_from(varint(cell, &mut at)?).ok()?;
        let number = varint(cell, &mut at)?.cast_signed();
        if length > ROW_BYTES_MAX {
            return None;
        }
        let here = if length <= LOCAL_MAX {
            length
        } else {
            let here = LOCAL_MIN + (length - LOCAL_MIN) % CONTINUATION;
            if here <= LOCAL_MAX { here } else { LOCAL_MIN }
        };
        let local = cell.get(at..at + here)?;
        let rest = match length > here {
            true => Some(u32::from_be_bytes(cell.get(at + here..at + here + 4)?.try_into().ok()?)),
            false => None,
        };
        let mut at = 0;
        let body_at = usize::try_from(varint(local, &mut at)?).ok()?;
        let mut columns = Vec::with_capacity(RECORD_COLUMNS);
        while at < body_at {
            if columns.len() == RECORD_COLUMNS {
                return None;
            }
            columns.push(varint(local, &mut at)?);
        }
        Some(Self { number, columns, length, body_at, local, rest })
    }

    /// The room's number and id, if the row is of that kind.
    fn as_room(&self) -> Option<(i64, Arc<str>)> {
        let [_, text] = self.columns[..] else { return None };
        debug_assert_eq!(self.columns.len(), ROOM_COLUMNS);
        let length = text.checked_sub(13).filter(|rest| rest % 2 == 0)? / 2;
        // Ids of rooms are short enough to lie in the page.
        let text = self.local.get(self.body_at..)?.get(..usize::try_from(length).ok()?)?;
        Some((self.number, std::str::from_utf8(text).ok()?.into()))
    }

    /// The record, if it is whole.
    fn as_record(&self, rooms: &Rooms, pages: &Pages) -> Option<Entry> {
        let (mut at, mut numbers) = (self.body_at, [0; 5]);
        for (number, column) in numbers.iter_mut().zip(&self.columns[1..]) {
            *number = integer(self.local, &mut at, *column)?;
        }
        let [room, ms, seq, kind, expected] = numbers;
        let payload = self.columns[6].checked_sub(12).filter(|rest| rest % 2 == 0)? / 2;
        let payload = usize::try_from(payload).ok().filter(|payload| at + payload == self.length)?;
        let room = rooms.name(room)?;
        let id = RecordId { ms: ms.cast_unsigned(), seq: u32::try_from(seq).ok()? };
        let kind = RecordKind::from_number(u8::try_from(kind).ok()?)?;
        let payload = self.payload(at, payload, pages)?;
        let is_whole = i64::from(checksum(&room, id, kind, &payload)) == expected;
        is_whole.then_some(Entry { room, id, kind, payload })
    }

    fn payload(&self, at: usize, length: usize, pages: &Pages) -> Option<Bytes> {
        let mut payload = self.local.get(at..)?.to_vec();
        let mut next = self.rest;
        // Each round adds to it, so a chain that bites its own tail ends as well.
        while payload.len() < length {
            let page = pages.page(next?)?;
            next = Some(u32::from_be_bytes([page[0], page[1], page[2], page[3]]));
            let missing = length - payload.len();
            payload.extend_from_slice(&page[4..4 + missing.min(CONTINUATION)]);
        }
        Some(payload.into())
    }
}

/// A number of one to nine bytes, the high bits first.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for index in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if index == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

/// A whole number, stored as its column's type says.
fn integer(bytes: &[u8], at: &mut usize, column: u64) -> Option<i64> {
    let length = match column {
        8 => return Some(0),
        9 => return Some(1),
        1..=4 => column as usize,
        5 => 6,
        6 => 8,
        _ => return None,
    };
    let bytes = bytes.get(*at..*at + length)?;
    *at += length;
    let negative = bytes[0] & 0x80 != 0;
    let start = if negative { -1 } else { 0 };
    Some(bytes.iter().fold(start, |value: i64, byte| value << 8 | i64::from(*byte)))
}
