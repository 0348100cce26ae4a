//! A room's recording as one file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use replay::archive::{self, Header};
use replay::timeline::LOOK_AHEAD_MS;
use replay::{Content, Objects, RecordId, RecordKind, StoredRecord};

use super::begun::{Begun, Naming};
use super::recordings::{ReadError, Recordings};
use super::sqlite::{import_path, make_import_folder};
use crate::database_files::sync_folder;
use crate::journal::backend::Entry;
use crate::journal::table::{Table, TableError};

/// Bytes of records that are read, or written, at once.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Records that are written at once.
const BATCH_RECORDS: usize = 4_096;

/// Why a recording was not taken out or in.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is nothing to take out.
    #[error("there is no recording of the room {0:?} in that time")]
    NoRecording(String),
    /// The time ends before it begins.
    #[error("--to is before --from")]
    Backwards,
    /// What is there shall stay.
    #[error("{0} is there already; --force replaces it")]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is no recording, or not whole any more.
    #[error("{0}: {1}")]
    Archive(PathBuf, archive::ArchiveError),
    /// A room cannot have that id.
    #[error("no room can have the id {0:?}")]
    RoomId(String),
    /// The recordings cannot be read.
    #[error("the recordings cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The database of an import cannot be written.
    #[error("{0}: {1}")]
    Table(PathBuf, TableError),
}

/// What was transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Records.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// The time of the first, Unix ms.
    pub first_ms: Option<u64>,
    /// The time of the last, Unix ms.
    pub last_ms: u64,
}

impl Transferred {
    fn count(&mut self, record: &StoredRecord) {
        self.records += 1;
        self.bytes += record.payload.len() as u64;
        self.first_ms.get_or_insert(record.id.ms);
        self.last_ms = record.id.ms;
    }
}

/// Writes what is recorded of `room` from `from_ms` to `to_ms` to `file`. What comes before, back to a keyframe that
/// says how everything stood, is written too: up to an hour.
///
/// # Errors
/// [`TransferError`]
pub fn export(
    recordings: &dyn Recordings,
    room: &str,
    (from_ms, to_ms): (u64, u64),
    (file, to): (&Path, impl Write),
    mut progress: impl FnMut(&Transferred),
) -> Result<Transferred, TransferError> {
    let failed = |error| TransferError::Archive(file.to_owned(), error);
    let none = || TransferError::NoRecording(room.to_owned());
    if to_ms < from_ms {
        return Err(TransferError::Backwards);
    }
    let span = recordings.span(room)?.ok_or_else(none)?;
    if span.last.ms < from_ms || span.first.ms > to_ms.saturating_add(LOOK_AHEAD_MS) {
        return Err(none());
    }
    let mut next = beginning(recordings, room, from_ms)?.unwrap_or(span.first);
    let header = Header { room: room.to_owned(), options: "{}".into() };
    let mut writer = archive::Writer::new(to, &header).map_err(failed)?;
    let mut done = Transferred::default();
    loop {
        let page = recordings.page(room, next, to_ms.saturating_add(LOOK_AHEAD_MS), BATCH_BYTES)?;
        let Some(last) = page.last() else { break };
        next = last.id.next();
        for record in &page {
            writer.record(record).map_err(failed)?;
            done.count(record);
        }
        progress(&done);
    }
    writer.finish().map_err(failed)?;
    Ok(done)
}

/// The record to begin with, so that everything from `from_ms` on can be told from it alone.
fn beginning(
    recordings: &dyn Recordings,
    room: &str,
    from_ms: u64,
) -> Result<Option<RecordId>, TransferError> {
    let Some(keyframe) = recordings.keyframe_before(room, from_ms)? else { return Ok(None) };
    if keyframe.kind == RecordKind::Keyframe {
        return Ok(Some(keyframe.id));
    }
    // The objects are in an earlier one.
    let since = match replay::decode(keyframe.kind, &keyframe.payload).map(|record| record.content) {
        Ok(Content::Keyframe(replay::Keyframe { objects: Objects::UnchangedSince(at_ms), .. })) => at_ms,
        _ => return Ok(Some(keyframe.id)),
    };
    Ok(Some(RecordId::at(since.min(keyframe.id.ms))))
}

/// Writes an export to the file at `path`, which is there as a whole afterwards or not at all.
///
/// # Errors
/// [`TransferError`]
pub fn export_to_file(
    recordings: &dyn Recordings,
    room: &str,
    span_ms: (u64, u64),
    path: &Path,
    force: bool,
    progress: impl FnMut(&Transferred),
) -> Result<Transferred, TransferError> {
    let failed = |error| TransferError::File(path.to_owned(), error);
    if !force && path.exists() {
        return Err(TransferError::Exists(path.to_owned()));
    }
    let begun = Begun::beside(path).map_err(failed)?;
    let file = File::create(begun.path()).map_err(failed)?;
    let mut to = BufWriter::new(file);
    let done = export(recordings, room, span_ms, (path, &mut to), progress)?;
    let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    begun.rename(path).map_err(failed)?;
    Ok(done)
}

/// Keeps the recording in the file at `path` in `data_dir`, for `room` or else the room that it was of. It is there as a
/// whole afterwards or not at all.
///
/// # Errors
/// [`TransferError`]
pub fn import(
    path: &Path,
    room: Option<&str>,
    data_dir: &Path,
    force: bool,
    mut progress: impl FnMut(&Transferred),
) -> Result<(String, Transferred), TransferError> {
    let damaged = |error| TransferError::Archive(path.to_owned(), error);
    let from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(path).map_err(|error| TransferError::File(path.to_owned(), error))?),
    };
    let mut reader = archive::Reader::new(BufReader::new(from)).map_err(damaged)?;
    let room: Arc<str> = room.unwrap_or(&reader.header().room).into();
    protocol::event::check_room_id(&room).map_err(|_| TransferError::RoomId(room.to_string()))?;
    let kept = import_path(data_dir, &room);
    let unkept = |error| TransferError::File(kept.clone(), error);
    make_import_folder(data_dir).map_err(unkept)?;
    if !force && kept.exists() {
        return Err(TransferError::Exists(kept.clone()));
    }
    let begun = Begun::import(&kept).map_err(unkept)?;
    let failed = |error| TransferError::Table(begun.path().to_owned(), error);
    let mut table = Table::open(begun.path()).map_err(failed)?;
    let (mut done, mut batch, mut bytes) = (Transferred::default(), Vec::new(), 0);
    while let Some(record) = reader.next_record().map_err(damaged)? {
        done.count(&record);
        bytes += record.payload.len();
        let StoredRecord { id, kind, payload } = record;
        batch.push(Entry { room: room.clone(), id, kind, payload });
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_RECORDS {
            table.insert(&batch).map_err(failed)?;
            batch.clear();
            bytes = 0;
            progress(&done);
        }
    }
    table.insert(&batch).map_err(failed)?;
    table.seal().map_err(failed)?;
    let _naming = Naming::beside(&kept).map_err(unkept)?;
    // Another one may have come meanwhile.
    if !force && kept.exists() {
        return Err(TransferError::Exists(kept.clone()));
    }
    begun.rename(&kept).map_err(unkept)?;
    sync_folder(&kept).map_err(unkept)?;
    Ok((room.to_string(), done))
}
