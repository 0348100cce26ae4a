//! A SQLite database as files: what lies beside it, and where it goes when it is damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What SQLite keeps beside its database, by the ends of their names.
pub(crate) const COMPANIONS: [&str; 2] = [LOG, "-shm"];

/// The end of the name of a database's write-ahead log.
const LOG: &str = "-wal";

/// What stands between a database's name and the time when it was moved out of the way.
pub(crate) const ASIDE: &str = ".corrupt-";

/// `path` with `end` behind its name.
pub(crate) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The write-ahead log of the database at `path`.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    with_end(path, LOG)
}

/// The database at `path`, and its companions behind it.
pub(crate) fn with_companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::once("").chain(COMPANIONS).map(|end| with_end(path, end))
}

/// Removes a database and what is beside it. The database goes first, so that nobody finds it without its log. That it is not there is
/// no error.
///
/// # Errors
/// The system's. What comes behind the one that stays, stays too.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    with_companions(path).try_for_each(|part| unless_absent(fs::remove_file(part)))
}

/// Gives the companions of the database at `from` the names of those of `to`.
///
/// # Errors
/// The system's. That one is not there is none.
pub(crate) fn rename_companions(from: &Path, to: &Path) -> io::Result<()> {
    COMPANIONS.iter().try_for_each(|end| unless_absent(fs::rename(with_end(from, end), with_end(to, end))))
}

/// Where the database at `path` goes when it is moved out of the way at that time, Unix ms: a name that is taken would lose what has
/// it.
pub(crate) fn free_aside(path: &Path, now_ms: u64) -> PathBuf {
    let mut names = (now_ms..).map(|ms| with_end(path, &format!("{ASIDE}{ms}")));
    names.find(|path| !path.exists()).unwrap_or_else(|| with_end(path, ASIDE))
}

fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
