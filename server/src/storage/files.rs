//! The files of a store: whose they are, and what happens to one that cannot be read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::error;

use super::OpenError;
use super::database::Database;
use super::salvage::{Salvaged, salvage};
use crate::database_damage::is_damage;
use crate::database_files::{free_aside, rename_companions};

const DATABASE: &str = "rooms.db";
const LOCK: &str = "copresence.lock";

/// An open store.
pub(super) struct Opened {
    pub(super) database: Database,
    /// Held for as long as the database is in use.
    pub(super) lock: File,
    /// Where a database went that could not be read.
    pub(super) corrupt_moved_to: Option<PathBuf>,
}

/// Opens the store in `directory`, which is made if absent.
pub(super) fn open(directory: &Path, outbox_rows: Option<u64>) -> Result<Opened, OpenError> {
    let in_directory = |source| OpenError::Directory { directory: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(in_directory)?;
    let lock = lock(directory)?;
    let path = directory.join(DATABASE);
    match Database::open(&path, outbox_rows) {
        Ok(database) => Ok(Opened { database, lock, corrupt_moved_to: None }),
        Err(OpenError::Sqlite(reason)) if is_damage(&reason) => {
            let moved_to = move_aside(&path).map_err(in_directory)?;
            let mut database = Database::open(&path, outbox_rows)?;
            let kept = salvage(&moved_to, &mut database).unwrap_or_else(|error| {
                error!(%error, "what can be read of the damaged database cannot be written");
                Salvaged::default()
            });
            error!(
                %reason, moved_to = %moved_to.display(), rooms = kept.rooms, objects = kept.objects,
                "the database was damaged; a new one is begun with what could be read"
            );
            Ok(Opened { database, lock, corrupt_moved_to: Some(moved_to) })
        }
        Err(error) => Err(error),
    }
}

/// Two servers that wrote the same rooms would each undo what the other one knows nothing of. The system
/// releases the lock when its holder dies, however it dies.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let in_directory = |source| OpenError::Directory { directory: directory.to_owned(), source };
    let path = directory.join(LOCK);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(in_directory)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(in_directory(source)),
    }
}

/// Moves a database and its companions, which may hold what can still be saved, out of the way. Where it is then.
///
/// # Errors
/// The system's.
pub(crate) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let moved_to = free_aside(path, unix_ms as u64);
    // The companions go first: a new database must never find the log of an old one.
    rename_companions(path, &moved_to)?;
    fs::rename(path, &moved_to)?;
    Ok(moved_to)
}
