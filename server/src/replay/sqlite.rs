//! Recordings in the files of hours, and imported ones beside them.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use replay::{RecordId, StoredRecord};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::mend::{Mender, Outcome};
use super::recordings::{ReadError, Recordings, Span, merged};
use crate::journal::folder::{Folder, Hour};
use crate::journal::table::{PageEnd, Table, TableError};

/// Files that are kept open for the next reader. More are opened when they are needed.
const OPEN_MAX: usize = 16;

/// The folder of imported recordings, in that of the hours.
const IMPORTS: &str = "imports";

/// How often an import is read that is another one each time.
const IMPORT_TRIES: usize = 3;

/// Formats that newer versions may bring. A file that claims to have a later one, or one before the first, is damaged.
const FORMATS_TO_COME: i64 = 1_000;

/// Where the imported recording of a room is, or would be: a file of records with this room alone. Put together under
/// another name and then renamed, it is there whole or not at all.
pub fn import_path(data_dir: &Path, room: &str) -> PathBuf {
    import_in(Folder::in_data_dir(data_dir).path(), room)
}

fn import_in(folder: &Path, room: &str) -> PathBuf {
    // A room's id may hold anything; a file's name may not.
    let mut name = String::new();
    for byte in Sha256::digest(room) {
        let _ = write!(name, "{byte:02x}");
    }
    folder.join(IMPORTS).join(name + ".db")
}

/// What the journal wrote into the files of hours, and what was imported. Each reader has a connection for itself.
#[derive(Debug)]
pub struct SqliteRecordings {
    folder: Arc<Folder>,
    /// The most recently used last.
    idle: Mutex<Vec<Open>>,
    mender: Mender,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    /// A name may go over to another file.
    file: FileId,
    table: Table,
}

/// Device and inode.
pub(super) type FileId = (u64, u64);

impl SqliteRecordings {
    /// What is in `folder`, beside a journal that writes there.
    pub fn new(folder: Arc<Folder>) -> Self {
        Self { folder, idle: Mutex::default(), mender: Mender::default() }
    }

    /// What is in `data_dir`, whether a server writes there or not.
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self::new(Arc::new(Folder::in_data_dir(data_dir)))
    }

    /// Tells `/metrics` what becomes of damaged imports.
    pub fn register(&self, registry: &mut Registry) {
        self.mender.register(registry);
    }

    /// Does `work` on the file at `path`; `None` if there is none.
    fn with_file<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&Table) -> Result<T, TableError>,
    ) -> Result<Option<T>, TableError> {
        let Some(open) = self.open(path)? else { return Ok(None) };
        let result = work(&open.table);
        // One that fails is opened anew next time.
        if result.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() >= OPEN_MAX {
                idle.remove(0);
            }
            idle.push(open);
        }
        result.map(Some)
    }

    fn open(&self, path: &Path) -> Result<Option<Open>, TableError> {
        let _opening = self.folder.opening();
        let Some(file) = file_id(path) else { return Ok(None) };
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // Those whose file has gone would hold its disk space.
            idle.retain(|open| open.path != path || open.file == file);
            if let Some(at) = idle.iter().rposition(|open| open.path == path) {
                return Ok(Some(idle.remove(at)));
            }
        }
        Ok(Some(Open { path: path.to_owned(), file, table: Table::open_to_read(path)? }))
    }

    /// The same for an hour. One that is damaged counts as absent, and is reported.
    fn with_hour<T>(
        &self,
        hour: Hour,
        work: impl FnOnce(&Table) -> Result<T, TableError>,
    ) -> Result<Option<T>, ReadError> {
        let work = |table: &Table| {
            let done = work(table);
            if table.is_broken() {
                self.folder.report_damage(hour);
            }
            done
        };
        match self.with_file(&self.folder.file(hour), work) {
            Err(error) if error.is_damage() => {
                warn!(%error, file = %self.folder.file(hour).display(), "an hour of replay cannot be read");
                self.folder.report_damage(hour);
                Ok(None)
            }
            result => result.map_err(read_error),
        }
    }

    /// The same for an import. One that is damaged is put together anew first; if nothing of it can be saved, it counts
    /// as absent. If that cannot be done now, there is no answer, for it would be a part of one.
    fn with_import<T>(
        &self,
        room: &str,
        mut work: impl FnMut(&Table) -> Result<T, TableError>,
    ) -> Result<Option<T>, ReadError> {
        let path = import_in(self.folder.path(), room);
        let mut work = |table: &Table| {
            table.check_room(room)?;
            let done = work(table)?;
            match table.is_broken() {
                true => Err(TableError::damage("records cannot be found")),
                false => Ok(done),
            }
        };
        for _ in 0..IMPORT_TRIES {
            // One that nobody lets us see is not absent.
            let file = match fs::metadata(&path) {
                Ok(metadata) => id_of(&metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(ReadError(error.to_string())),
            };
            match self.with_file(&path, &mut work) {
                Err(error) if is_damage(&error) => match self.mender.mend(&path, file, room, &error) {
                    Ok(Outcome::Anew) => {}
                    Ok(Outcome::Nothing) => return Ok(None),
                    Err(mend) => return Err(ReadError(format!("an import is damaged: {error}; {mend}"))),
                },
                result => return result.map_err(read_error),
            }
        }
        Err(ReadError("an import is another one each time".into()))
    }

    /// The room's records in its import.
    fn page_of_import(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let mut part = Vec::new();
        // What comes before the damage stays if there is no more to be saved.
        self.with_import(room, |table| {
            let page = table.page(room, from, until_ms, bytes_max)?;
            if page.damaged > 0 {
                warn!(records = page.damaged, room, "records of an import are damaged");
            }
            part = page.records;
            match page.end {
                PageEnd::Damage => Err(TableError::damage("a part of it cannot be found")),
                PageEnd::Last | PageEnd::Full => Ok(()),
            }
        })?;
        Ok(part)
    }

    /// The hours that are there. Those of which the files have gone are closed.
    fn hours(&self) -> Result<Vec<Hour>, ReadError> {
        let hours = self.folder.hours().map_err(|error| ReadError(error.to_string()))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|open| file_id(&open.path) == Some(open.file));
        Ok(hours.into_iter().collect())
    }

    /// The room's records in the files of hours.
    fn page_of_hours(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let span = Hour::of(from.ms)..=Hour::of(until_ms);
        for hour in self.hours()?.into_iter().filter(|hour| span.contains(hour)) {
            let read = |table: &Table| table.page(room, from, until_ms, bytes_max - bytes);
            let Some(page) = self.with_hour(hour, read)? else { continue };
            if page.damaged > 0 {
                let file = self.folder.file(hour);
                warn!(records = page.damaged, file = %file.display(), "records are damaged");
            }
            // Of a later hour the first comes even if it does not fit.
            let is_first = records.is_empty();
            for record in page.records {
                bytes += record.payload.len();
                if bytes > bytes_max && !is_first {
                    return Ok(records);
                }
                records.push(record);
            }
            if page.end == PageEnd::Damage {
                self.folder.report_damage(hour);
            }
            if page.end != PageEnd::Last || bytes >= bytes_max {
                break;
            }
        }
        Ok(records)
    }
}

impl Recordings for SqliteRecordings {
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError> {
        let imported = self.with_import(room, |table| table.span(room))?.flatten();
        let hours = self.hours()?;
        let find =
            |hour: &Hour| self.with_hour(*hour, |table| table.span(room)).map(Option::flatten).transpose();
        let oldest = hours.iter().find_map(find).transpose()?;
        let newest = match oldest {
            Some(_) => hours.iter().rev().find_map(find).transpose()?,
            None => None,
        };
        let spans = [imported, oldest, newest];
        let firsts = spans.iter().flatten().map(|(first, _)| *first).min();
        let lasts = spans.iter().flatten().map(|(_, last)| *last).max();
        Ok(firsts.zip(lasts).map(|(first, last)| Span { first, last }))
    }

    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let imported = self.page_of_import(room, from, until_ms, bytes_max)?;
        let recorded = self.page_of_hours(room, from, until_ms, bytes_max)?;
        Ok(merged(imported, recorded))
    }

    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        let imported = self.with_import(room, |table| table.keyframe_before(room, at_ms))?.flatten();
        for hour in self.hours()?.into_iter().rev().filter(|hour| *hour <= Hour::of(at_ms)) {
            let found = self.with_hour(hour, |table| table.keyframe_before(room, at_ms))?.flatten();
            if found.is_some() {
                return Ok([found, imported].into_iter().flatten().max_by_key(|record| record.id));
            }
        }
        Ok(imported)
    }
}

pub(super) fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).map(|metadata| id_of(&metadata)).ok()
}

pub(super) fn id_of(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Whether an import's content is at fault. One that a newer version wrote is for that one to read.
fn is_damage(error: &TableError) -> bool {
    match error {
        TableError::TooNew { found, known } => !(*known..=known + FORMATS_TO_COME).contains(found),
        error => error.is_damage(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn read_error(error: TableError) -> ReadError {
    ReadError(error.to_string())
}

/// Makes the folder of imports if there is none.
///
/// # Errors
/// It cannot be made.
pub fn make_import_folder(data_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(Folder::in_data_dir(data_dir).path().join(IMPORTS))
}
