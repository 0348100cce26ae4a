//! A whole recording in one file, to be taken elsewhere.
//!
//! `docs/RECORDING.md` says what stands where. Everything has a checksum, and the end says how many records there are,
//! so that a file that was cut short is told from one that is whole.

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::codec::Damaged;
use crate::codec::wire::{Reader as Fields, put_bytes, put_varint};
use crate::limits::{ARCHIVE_OPTIONS_BYTES_MAX, ID_MS_MAX, RECORD_BYTES_MAX};
use crate::{RecordId, RecordKind, StoredRecord};

/// What an archive begins with. The last byte is the layout's version.
const MAGIC: [u8; 8] = *b"CoprRec\x01";
/// First byte of a frame: what the archive is of.
const HEADER: u8 = b'h';
/// A record.
const RECORD: u8 = b'r';
/// The end.
const END: u8 = b'e';
/// Bytes of a frame in front of what it holds: what it is, and how long.
const FRAME_BYTES: usize = 5;
/// Bytes that a frame may hold besides a payload.
const FRAME_EXTRA_BYTES: usize = 64;

/// What an archive is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The room's id.
    pub room: String,
    /// The room's options, a JSON object.
    pub options: String,
}

/// Why an archive cannot be read or written.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(io::Error),
    /// It does not begin like an archive.
    #[error("not a recording, or one of another version")]
    NotAnArchive,
    /// It ends before its end mark.
    #[error("the recording is cut short")]
    Truncated,
    /// A checksum is wrong, or something does not fit.
    #[error("the recording is damaged")]
    Damaged,
    /// A record is larger than any that can be read again.
    #[error("a record is too large")]
    TooLarge,
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

impl From<Damaged> for ArchiveError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// Writes an archive. What it writes to should be buffered.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    frame: Vec<u8>,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// [`ArchiveError::Io`], and [`ArchiveError::TooLarge`] if the header is.
    pub fn new(mut to: W, header: &Header) -> Result<Self, ArchiveError> {
        to.write_all(&MAGIC)?;
        let mut writer = Self { to, frame: Vec::new(), records: 0 };
        if header.room.len() + header.options.len() > ARCHIVE_OPTIONS_BYTES_MAX {
            return Err(ArchiveError::TooLarge);
        }
        put_bytes(header.room.as_bytes(), &mut writer.frame);
        put_bytes(header.options.as_bytes(), &mut writer.frame);
        writer.put(HEADER)?;
        Ok(writer)
    }

    /// Appends a record. Records are in the order of their ids.
    ///
    /// # Errors
    /// [`ArchiveError::Io`], [`ArchiveError::TooLarge`]
    pub fn record(&mut self, record: &StoredRecord) -> Result<(), ArchiveError> {
        if record.payload.len() > RECORD_BYTES_MAX {
            return Err(ArchiveError::TooLarge);
        }
        put_varint(record.id.ms, &mut self.frame);
        put_varint(u64::from(record.id.seq), &mut self.frame);
        self.frame.push(record.kind as u8);
        self.frame.extend_from_slice(&record.payload);
        self.records += 1;
        self.put(RECORD)
    }

    /// Writes the end mark and gives back what was written to, flushed. Without it the archive is cut short.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        put_varint(self.records, &mut self.frame);
        self.put(END)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn put(&mut self, kind: u8) -> Result<(), ArchiveError> {
        let length = u32::try_from(self.frame.len()).map_err(|_| ArchiveError::TooLarge)?;
        let mut head = [kind; FRAME_BYTES];
        head[1..].copy_from_slice(&length.to_le_bytes());
        self.to.write_all(&head)?;
        self.to.write_all(&self.frame)?;
        self.to.write_all(&checksum(&head, &self.frame).to_le_bytes())?;
        self.frame.clear();
        Ok(())
    }
}

/// Reads an archive. What it reads from should be buffered.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    frame: Vec<u8>,
    records: u64,
    last: Option<RecordId>,
    is_over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads what the archive is of.
    ///
    /// # Errors
    /// [`ArchiveError`]
    pub fn new(mut from: R) -> Result<Self, ArchiveError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        let header = Header { room: String::new(), options: String::new() };
        let mut reader = Self { from, header, frame: Vec::new(), records: 0, last: None, is_over: false };
        if reader.take()? != HEADER {
            return Err(ArchiveError::Damaged);
        }
        let mut fields = Fields::new(&reader.frame);
        reader.header = Header { room: fields.text()?.to_owned(), options: fields.text()?.to_owned() };
        fields.end()?;
        Ok(reader)
    }

    /// What the archive is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next record; `None` after the last, when the archive is whole. Ids grow from each to the next.
    ///
    /// # Errors
    /// [`ArchiveError`]. There is nothing after one.
    pub fn next_record(&mut self) -> Result<Option<StoredRecord>, ArchiveError> {
        if self.is_over {
            return Ok(None);
        }
        let kind = self.take()?;
        let mut fields = Fields::new(&self.frame);
        if kind == END {
            self.is_over = true;
            let is_whole = fields.varint()? == self.records;
            fields.end()?;
            // Whatever follows was not written by a writer of archives.
            let ends = self.from.read(&mut [0])? == 0;
            return if is_whole && ends { Ok(None) } else { Err(ArchiveError::Damaged) };
        }
        if kind != RECORD {
            return Err(ArchiveError::Damaged);
        }
        let ms = fields.varint()?;
        let seq = u32::try_from(fields.varint()?).map_err(|_| ArchiveError::Damaged)?;
        let id = RecordId { ms, seq };
        let kind = RecordKind::from_number(fields.byte()?).ok_or(ArchiveError::Damaged)?;
        if self.last.is_some_and(|last| last >= id) || ms > ID_MS_MAX {
            return Err(ArchiveError::Damaged);
        }
        self.last = Some(id);
        self.records += 1;
        Ok(Some(StoredRecord { id, kind, payload: bytes::Bytes::copy_from_slice(fields.rest()) }))
    }

    /// Reads a frame and says what it is.
    fn take(&mut self) -> Result<u8, ArchiveError> {
        let mut head = [0; FRAME_BYTES];
        self.from.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        if length as usize > RECORD_BYTES_MAX + FRAME_EXTRA_BYTES {
            return Err(ArchiveError::Damaged);
        }
        self.frame.clear();
        // Grows with what is really there, not with what the length says.
        (&mut self.from).take(u64::from(length)).read_to_end(&mut self.frame)?;
        if self.frame.len() < length as usize {
            return Err(ArchiveError::Truncated);
        }
        let mut crc = [0; 4];
        self.from.read_exact(&mut crc)?;
        if checksum(&head, &self.frame) == u32::from_le_bytes(crc) {
            Ok(kind)
        } else {
            Err(ArchiveError::Damaged)
        }
    }
}

fn checksum(head: &[u8], frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(frame);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn header() -> Header {
        Header { room: "lobby".into(), options: r#"{"tickHz":20}"#.into() }
    }

    fn records() -> Vec<StoredRecord> {
        let record = |seq: u32| StoredRecord {
            id: RecordId { ms: 1_700_000_000_000, seq },
            kind: RecordKind::Event,
            payload: Bytes::from(vec![seq as u8; seq as usize]),
        };
        (0..4).map(record).collect()
    }

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &header()).unwrap();
        for record in records() {
            writer.record(&record).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<StoredRecord>, ArchiveError> {
        let mut reader = Reader::new(bytes)?;
        assert_eq!(*reader.header(), header());
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        assert!(reader.next_record()?.is_none());
        Ok(records)
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        assert_eq!(read(&archive()).unwrap(), records());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_told() {
        let archive = archive();
        for length in 0..archive.len() {
            assert!(matches!(read(&archive[..length]), Err(ArchiveError::Truncated)), "{length} bytes");
        }
        for at in 0..archive.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = archive.clone();
                flipped[at] ^= flip;
                assert!(read(&flipped).is_err(), "byte {at}");
            }
        }
        assert!(matches!(read(&[&archive[..], b"x"].concat()), Err(ArchiveError::Damaged)));
        assert!(matches!(read(b"PK\x03\x04 something else"), Err(ArchiveError::NotAnArchive)));
    }

    #[test]
    fn records_must_grow_and_must_not_be_too_large() {
        let mut writer = Writer::new(Vec::new(), &header()).unwrap();
        let record = records().remove(1);
        writer.record(&record).unwrap();
        writer.record(&record).unwrap();
        let archive = writer.finish().unwrap();
        assert!(matches!(read(&archive), Err(ArchiveError::Damaged)));
        for (ms, is_good) in [(ID_MS_MAX, true), (ID_MS_MAX + 1, false)] {
            let mut writer = Writer::new(Vec::new(), &header()).unwrap();
            writer.record(&StoredRecord { id: RecordId::at(ms), ..record.clone() }).unwrap();
            assert_eq!(read(&writer.finish().unwrap()).is_ok(), is_good, "{ms}");
        }
        let payload = Bytes::from(vec![0; RECORD_BYTES_MAX + 1]);
        let mut writer = Writer::new(Vec::new(), &header()).unwrap();
        assert!(matches!(writer.record(&StoredRecord { payload, ..record }), Err(ArchiveError::TooLarge)));
    }
}
