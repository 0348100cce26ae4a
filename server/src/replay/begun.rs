//! Files that are put together under another name, and how they come to the one that is meant.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::database_files::{self, COMPANIONS};

/// The end of the name of a file that is being put together.
const BEGUN: &str = ".begun";

/// The file in the folder of imports that [`Naming`] locks. It is never removed: who waits for it would wait for
/// another one than who comes next.
const LOCK: &str = "lock";

/// A file that is being written, and goes away unless it is renamed.
#[derive(Debug)]
pub(super) struct Begun {
    path: PathBuf,
    /// Says to other processes that it is no leftover.
    held: Option<File>,
}

impl Begun {
    /// An empty one, under a name that nobody takes for a whole file and that nobody else has: the number of a process
    /// would not do, it is the same in every container.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}{BEGUN}", rand::random::<u64>()));
        let path = path.with_file_name(name);
        // What another one left under that very name is not to be mixed with this one.
        let _ = database_files::remove(&path);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // Where this cannot be said, nobody can find out that it is not so either, and leftovers stay.
        let _ = file.try_lock();
        Ok(Self { path, held: Some(file) })
    }

    /// The same for the import at `path`. What is left of those that were killed goes away.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn import(path: &Path) -> io::Result<Self> {
        // Between its being made and its being held, others would take it for a leftover.
        let _naming = Naming::beside(path)?;
        remove_leftovers(path)?;
        Self::beside(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it into the place of `path`.
    ///
    /// # Errors
    /// The system's. It goes away then.
    pub(super) fn rename(mut self, path: &Path) -> io::Result<()> {
        // Not later: closing the file would take SQLite's locks from those who read it by then.
        self.held = None;
        fs::rename(&self.path, path)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Absent if it was renamed.
        let _ = database_files::remove(&self.path);
    }
}

/// The right to give an import's name to another file. An import that is put in and a damaged one that is put together
/// anew must not replace one another unseen, whichever processes do that.
#[derive(Debug)]
pub(super) struct Naming(#[expect(dead_code, reason = "held, not used")] File);

impl Naming {
    /// Waits for whoever has it, which is never for long.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn beside(import: &Path) -> io::Result<Self> {
        let path = import.with_file_name(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(Self(file))
    }
}

/// Removes what was begun for the import at `path` and nobody holds. One that cannot be removed does no harm but to the
/// disk's space.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
        let database = COMPANIONS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        if !database.ends_with(BEGUN) {
            continue;
        }
        let begun = folder.join(database);
        let is_held = match File::open(&begun) {
            Ok(file) => file.try_lock().is_err(),
            // Its companions may have outlived it.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !is_held {
            let _ = database_files::remove(&begun);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_nobody_holds_goes_when_the_next_import_of_the_room_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let kept = ["a.db", "a.db.corrupt-5", "a.dbx.1.begun", "b.db.1.begun", "b.db.1.begun-wal"];
        let gone = ["a.db.1.begun", "a.db.1.begun-wal", "a.db.1.begun-shm", "a.db.2.begun-wal"];
        for name in kept.iter().chain(&gone) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let name_of = |begun: &Begun| begun.path().file_name().unwrap().to_str().unwrap().to_owned();
        let one = Begun::import(&path).unwrap();
        let two = Begun::import(&path).unwrap();
        let mut expected: Vec<String> = kept.iter().map(|name| (*name).to_owned()).collect();
        expected.extend([name_of(&one), name_of(&two), LOCK.to_owned()]);
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::metadata(one.path()).unwrap().len(), 0);

        fs::write(one.path(), "whole").unwrap();
        one.rename(&path).unwrap();
        drop(two);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()).len(), kept.len() + 1);
    }
}
