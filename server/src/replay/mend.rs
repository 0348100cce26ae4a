//! Imported recordings that are damaged.
//!
//! Nobody writes an import any more, so whoever reads one and finds it damaged puts it together anew of what can be
//! read. The damaged one stays beside it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::error;

use super::begun::{Begun, Naming};
use super::sqlite::{FileId, file_id, id_of};
use crate::clock::now_ms;
use crate::database_files::{free_aside, sync_folder};
use crate::journal::salvage::{self, SalvageError, Salvaged};
use crate::journal::table::{Table, TableError};

/// Imports that one process puts together anew. Beyond, the disk is at fault: what it damages stays as it is, and cannot
/// be read.
const MENDED_MAX: usize = 16;

/// Puts damaged imports together anew.
#[derive(Debug, Default)]
pub(super) struct Mender {
    /// Never held while anything is read, written or logged: all who read would wait.
    state: Mutex<State>,
    mended: Counter,
    lost: Counter,
}

#[derive(Debug, Default)]
struct State {
    mended: usize,
    /// What is being put together. As many at most as there are threads that read.
    under_way: HashSet<PathBuf>,
    /// Files of which nothing can be saved. As many at most as there are imports.
    given_up: HashSet<FileId>,
}

/// What a damaged import is now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Another file, or gone.
    Anew,
    /// The same file, of which nothing can be saved.
    Nothing,
}

impl Mender {
    /// Tells `/metrics` what comes of it.
    pub(super) fn register(&self, registry: &mut Registry) {
        let (mended, lost) = (self.mended.clone(), self.lost.clone());
        registry.register("replay_import_repairs", "Damaged imports put together anew", mended);
        registry.register("replay_import_records_lost", "Records of imports that could not be saved", lost);
    }

    /// Puts the import of `room` at `path`, which was found to be damaged when it was `file`, together anew.
    ///
    /// # Errors
    /// That cannot be done now. The next reading may try again.
    pub(super) fn mend(
        &self,
        path: &Path,
        file: FileId,
        room: &str,
        reason: &TableError,
    ) -> Result<Outcome, MendError> {
        let Some(turn) = self.turn(path, file)? else { return Ok(Outcome::Nothing) };
        let done = mend(path, file, room);
        match &done {
            Ok(Some(_)) => self.state().mended += 1,
            Err(MendError::Nothing) => drop(self.state().given_up.insert(file)),
            Ok(None) | Err(_) => {}
        }
        drop(turn);
        match done {
            Ok(Some((Salvaged { records, lost }, aside))) => {
                self.mended.inc();
                self.lost.inc_by(lost as u64);
                error!(
                    %reason, room, moved_to = %aside.display(), kept = records, lost,
                    "an imported recording was damaged and has been put together anew"
                );
                Ok(Outcome::Anew)
            }
            Ok(None) => Ok(Outcome::Anew),
            Err(MendError::Nothing) => {
                error!(%reason, room, file = %path.display(), "nothing of an imported recording can be read");
                Ok(Outcome::Nothing)
            }
            // Whoever reads is told, and tells the log.
            Err(error) => Err(error),
        }
    }

    /// The right to mend what is at `path`; `None` if it is known that there is nothing to be saved.
    fn turn<'a>(&'a self, path: &'a Path, file: FileId) -> Result<Option<Turn<'a>>, MendError> {
        let mut state = self.state();
        if state.given_up.contains(&file) {
            return Ok(None);
        }
        if state.under_way.contains(path) {
            return Err(MendError::UnderWay);
        }
        if state.mended + state.under_way.len() >= MENDED_MAX {
            return Err(MendError::TooMany);
        }
        state.under_way.insert(path.to_owned());
        Ok(Some(Turn { mender: self, path }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody else in this process mends what is at `path` meanwhile.
struct Turn<'a> {
    mender: &'a Mender,
    path: &'a Path,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.mender.state().under_way.remove(self.path);
    }
}

/// Why an import is left as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum MendError {
    #[error("it cannot be put together anew: {0}")]
    Salvage(#[from] SalvageError),
    #[error("it cannot be put together anew: {0}")]
    Table(#[from] TableError),
    #[error("it cannot be put together anew: {0}")]
    Io(#[from] io::Error),
    #[error("nothing of it can be read")]
    Nothing,
    #[error("it is being put together anew")]
    UnderWay,
    #[error("it stays so: too many are damaged, the disk may be at fault")]
    TooMany,
}

/// What was saved, and where the damaged file is now; nothing if there is another one in its place already.
fn mend(path: &Path, file: FileId, room: &str) -> Result<Option<(Salvaged, PathBuf)>, MendError> {
    // While it is open, no other file can get its number.
    let damaged = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        damaged => damaged?,
    };
    if id_of(&damaged.metadata()?) != file {
        return Ok(None);
    }
    let begun = Begun::import(path)?;
    let mut table = Table::open(begun.path())?;
    let salvaged = salvage::into_table(path, Some(Arc::from(room)), &mut table)?;
    table.seal()?;
    if salvaged.records == 0 {
        // Another one may have been read halfway.
        return if file_id(path) == Some(file) { Err(MendError::Nothing) } else { Ok(None) };
    }
    Ok(swap(begun, path, file)?.map(|aside| (salvaged, aside)))
}

/// Puts `begun` into the place of `path` if that is still `file`. Where that is now.
fn swap(begun: Begun, path: &Path, file: FileId) -> io::Result<Option<PathBuf>> {
    let _naming = Naming::beside(path)?;
    if file_id(path) != Some(file) {
        return Ok(None);
    }
    let aside = free_aside(path, now_ms());
    // Both names, so that the recording is never without one. Not every file system can do that.
    let is_linked = fs::hard_link(path, &aside).is_ok();
    if !is_linked {
        fs::rename(path, &aside)?;
    }
    begun.rename(path).inspect_err(|_| {
        // As it was before.
        let undone = if is_linked { fs::remove_file(&aside) } else { fs::rename(&aside, path) };
        if let Err(error) = undone {
            error!(%error, moved_to = %aside.display(), "a damaged import is not where it was");
        }
    })?;
    sync_folder(path)?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, "damaged").unwrap();
        (folder, path)
    }

    fn files(folder: &TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    fn try_to_mend(mender: &Mender, path: &Path) -> Result<Outcome, MendError> {
        mender.mend(path, file_id(path).unwrap(), "hall", &TableError::damage("it is a test"))
    }

    #[test]
    fn what_came_into_its_place_meanwhile_stays() {
        let (folder, path) = folder();
        let begun = Begun::import(&path).unwrap();
        let (file, damaged) = (file_id(&path).unwrap(), File::open(&path).unwrap());
        let other = Begun::import(&path).unwrap();
        fs::write(other.path(), "another").unwrap();
        other.rename(&path).unwrap();
        assert_eq!(swap(begun, &path, file).unwrap(), None);
        assert!(mend(&path, file, "hall").unwrap().is_none());
        assert_eq!(fs::read(&path).unwrap(), b"another");
        // And the lock.
        assert_eq!(files(&folder), 2);
        drop(damaged);
    }

    #[test]
    fn a_swap_that_fails_is_undone() {
        let (folder, path) = folder();
        let missing = || {
            let begun = Begun::import(&path).unwrap();
            fs::remove_file(begun.path()).unwrap();
            begun
        };
        swap(missing(), &path, file_id(&path).unwrap()).unwrap_err();
        assert_eq!((files(&folder), fs::read(&path).unwrap()), (2, b"damaged".to_vec()));
        // Of a directory there is no second name, as there is of no file in some file systems.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        swap(missing(), &path, file_id(&path).unwrap()).unwrap_err();
        assert!(path.is_dir() && files(&folder) == 2);
    }

    #[test]
    fn one_is_given_up_only_if_nothing_is_in_it() {
        let (folder, path) = folder();
        let mender = Mender::default();
        let lock = folder.path().join("lock");
        fs::create_dir(&lock).unwrap();
        assert!(matches!(try_to_mend(&mender, &path), Err(MendError::Io(_))));
        mender.state().under_way.insert(path.clone());
        assert!(matches!(try_to_mend(&mender, &path), Err(MendError::UnderWay)));
        mender.state().under_way.clear();
        mender.state().mended = MENDED_MAX;
        assert!(matches!(try_to_mend(&mender, &path), Err(MendError::TooMany)));
        mender.state().mended = 0;
        assert!(mender.state().given_up.is_empty());
        fs::remove_dir(&lock).unwrap();
        assert_eq!(try_to_mend(&mender, &path).unwrap(), Outcome::Nothing);
        // It is not even looked at again.
        fs::remove_file(&lock).unwrap();
        assert_eq!(try_to_mend(&mender, &path).unwrap(), Outcome::Nothing);
        assert!(mender.state().under_way.is_empty() && files(&folder) == 1);
    }

    #[test]
    fn nobody_waits_for_another_ones_mending() {
        let ((_held, path), (_free, other)) = (folder(), folder());
        let (mender, naming) = (Mender::default(), Naming::beside(&path).unwrap());
        thread::scope(|scope| {
            let mending = scope.spawn(|| try_to_mend(&mender, &path));
            let end = Instant::now() + Duration::from_secs(30);
            let is_under_way = || mender.state.try_lock().is_ok_and(|state| state.under_way.contains(&path));
            while !is_under_way() && Instant::now() < end {
                thread::yield_now();
            }
            let is_seen = is_under_way();
            let others = is_seen.then(|| (try_to_mend(&mender, &path), try_to_mend(&mender, &other)));
            drop(naming);
            assert_eq!(mending.join().unwrap().unwrap(), Outcome::Nothing);
            assert!(matches!(others, Some((Err(MendError::UnderWay), Ok(Outcome::Nothing)))), "{others:?}");
        });
    }
}
