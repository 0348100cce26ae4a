//! The files of a store: whose they are, and what happens to one that cannot be read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use tracing::error;

use super::OpenError;
use super::database::Database;
use super::salvage::{Salvaged, salvage};
use crate::database_damage::is_damage;
use crate::database_files::{self, finish, put_in_place, unfinished};

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
    // Whoever stopped while one was put together has left the damaged one in its place; whoever stopped later has not,
    // but everything is in the new one.
    let put_right = put_in_place(&path).map_err(in_directory)?;
    if let Some(moved_to) = &put_right {
        error!(moved_to = %moved_to.display(), "the database was damaged; what could be read of it takes its place");
    }
    let (database, corrupt_moved_to) = match Database::open(&path, outbox_rows) {
        Ok(database) => (database, put_right),
        Err(OpenError::Sqlite(reason)) if is_damage(&reason) => {
            let kept = put_together(&path, outbox_rows)?;
            let moved_to = put_in_place(&path).map_err(in_directory)?;
            error!(
                %reason, ?moved_to, rooms = kept.rooms, objects = kept.objects,
                "the database was damaged; a new one is begun with what could be read"
            );
            (Database::open(&path, outbox_rows)?, moved_to)
        }
        Err(error) => return Err(error),
    };
    Ok(Opened { database, lock, corrupt_moved_to })
}

/// Puts what can be read of the damaged database at `path` into a new one beside it. That is finished with everything in
/// it, or not at all.
fn put_together(path: &Path, outbox_rows: Option<u64>) -> Result<Salvaged, OpenError> {
    let new = unfinished(path);
    let in_directory =
        |source| OpenError::Directory { directory: path.parent().unwrap_or(path).to_owned(), source };
    database_files::remove(&new).map_err(in_directory)?;
    let mut database = Database::open(&new, outbox_rows)?;
    let kept = salvage(path, &mut database).map_err(OpenError::Salvage)?;
    database.checkpoint().map_err(OpenError::Salvage)?;
    drop(database);
    finish(path).map_err(in_directory)?;
    Ok(kept)
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use engine::ports::{RoomWrite, StoredObject, StoredRoom};

    use super::*;

    /// Where the child is to repair a database. It is the same program, asked for one test.
    const DATA: &str = "COPRESENCE_TEST_REPAIRED_DATA";
    const OBJECTS: usize = 20_000;
    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn child() {
        let Some(data) = std::env::var_os(DATA) else { return };
        open(Path::new(&data), None).unwrap();
    }

    /// A database in `folder` that is damaged, though everything in it can be read.
    fn damaged(folder: &Path) {
        let mut database = open(folder, None).unwrap().database;
        let room = StoredRoom { id: "a".into(), options: "{}".into(), created_ms: 1 };
        let object = |id: usize| StoredObject {
            id: id.to_string(),
            version: 1,
            owner: "user_1".into(),
            json: "{}".into(),
        };
        let put = |id| RoomWrite::PutObject { room: "a".into(), object: object(id) };
        let writes: Vec<_> = [RoomWrite::CreateRoom(room)].into_iter().chain((0..OBJECTS).map(put)).collect();
        let mut batch = database.batch().unwrap();
        batch.write(&writes).unwrap();
        batch.commit().unwrap();
        drop(database);
        let connection = rusqlite::Connection::open(folder.join(DATABASE)).unwrap();
        connection.execute("DROP TABLE meta", []).unwrap();
    }

    fn has(folder: &Path, part: &str) -> bool {
        let mut names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_str().unwrap().contains(part))
    }

    #[test]
    fn a_repair_that_is_killed_loses_nothing() {
        let data = tempfile::tempdir().unwrap();
        damaged(data.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::files::tests::child", "--test-threads=1"])
            .env(DATA, data.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !has(data.path(), ".unfinished") && !has(data.path(), ".corrupt-") {
            assert!(began.elapsed() < PATIENCE, "it begins");
            thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let mut opened = open(data.path(), None).unwrap();
        assert_eq!(opened.database.batch().unwrap().objects("a").unwrap().len(), OBJECTS);
        assert!(opened.corrupt_moved_to.is_some_and(|path| path.exists()), "it is told");
        for end in [".unfinished", ".new"] {
            assert!(!has(data.path(), end), "{end}");
        }
    }

    #[test]
    fn a_new_one_that_was_finished_takes_the_place_at_the_next_start() {
        for is_moved in [false, true] {
            let data = tempfile::tempdir().unwrap();
            damaged(data.path());
            let path = data.path().join(DATABASE);
            put_together(&path, None).unwrap();
            if is_moved {
                fs::remove_file(&path).unwrap();
            }
            let mut opened = open(data.path(), None).unwrap();
            assert_eq!(opened.database.batch().unwrap().objects("a").unwrap().len(), OBJECTS);
            assert!(opened.corrupt_moved_to.is_some_and(|path| path.exists() != is_moved));
        }
    }
}
