//! A SQLite database as files: what lies beside it, where it goes when it is damaged, and how another one takes its place.
//!
//! What is put together instead of a damaged one has a name of its own while it is [`unfinished`], so that a process that
//! ends meanwhile leaves the damaged one to be read once more. [`finish`] gives it another name, and from then on it is
//! what counts: [`put_in_place`] does what remains, after the next start if need be.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::unix_ms;

/// What SQLite keeps beside its database, by the ends of their names.
pub(crate) const COMPANIONS: [&str; 2] = [LOG, "-shm"];

/// The end of the name of a database's write-ahead log.
const LOG: &str = "-wal";

/// What stands between a database's name and the time when it was moved out of the way.
pub(crate) const ASIDE: &str = ".corrupt-";

/// The end of the name of a database that is being put together instead of a damaged one.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// The end of its name when all is in it and it is not in its place yet.
pub(crate) const FINISHED: &str = ".new";

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

/// Moves a database and its companions, which may hold what can still be saved, out of the way at that time, Unix ms.
/// Where it is then.
///
/// # Errors
/// The system's.
pub(crate) fn move_aside(path: &Path, now_ms: u64) -> io::Result<PathBuf> {
    let aside = free_aside(path, now_ms);
    // The companions go first: a new database must never find the log of an old one.
    rename_companions(path, &aside)?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Where the database is put together that is to take the place of the one at `path`.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    with_end(path, UNFINISHED)
}

/// Where it is when all is in it.
pub(crate) fn finished(path: &Path) -> PathBuf {
    with_end(path, FINISHED)
}

/// Says of what was put together at [`unfinished`] that all is in it. It is closed, and its log is written back.
///
/// # Errors
/// The system's.
pub(crate) fn finish(path: &Path) -> io::Result<()> {
    let unfinished = unfinished(path);
    File::open(&unfinished)?.sync_all()?;
    fs::rename(unfinished, finished(path))?;
    // Before the old one goes, or a power failure could leave neither.
    sync_folder(path)
}

/// Moves the database at `path` aside, if it is still there, and what is finished into its place. Where the old one is
/// then, or `None` if nothing is finished. Interrupted, it is to be called again before anybody opens what is at `path`.
///
/// # Errors
/// The system's.
pub(crate) fn put_in_place(path: &Path) -> io::Result<Option<PathBuf>> {
    let finished = finished(path);
    let made = match fs::metadata(&finished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.modified()?,
    };
    // By its time, and not by the present one: whoever goes on with it gives the rest of the old one the same name.
    let made_ms = unix_ms(made);
    let aside = if path.exists() {
        move_aside(path, made_ms)?
    } else {
        let aside = with_end(path, &format!("{ASIDE}{made_ms}"));
        rename_companions(path, &aside)?;
        aside
    };
    fs::rename(finished, path)?;
    sync_folder(path)?;
    Ok(Some(aside))
}

/// Waits until the disk has the names of the files that lie beside `of`.
///
/// # Errors
/// The system's.
pub(crate) fn sync_folder(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn contents(folder: &Path) -> BTreeMap<String, String> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        files.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
    }

    #[test]
    fn however_far_it_came_it_is_brought_to_the_same_end() {
        // How many of these were done: nothing, one companion, both, the database itself.
        for done in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            for end in ["", "-wal", "-shm"] {
                fs::write(with_end(&path, end), format!("old{end}")).unwrap();
            }
            fs::write(unfinished(&path), "new").unwrap();
            assert_eq!(put_in_place(&path).unwrap(), None, "it is not finished");
            finish(&path).unwrap();
            let made_ms = unix_ms(fs::metadata(finished(&path)).unwrap().modified().unwrap());
            let aside = with_end(&path, &format!("{ASIDE}{made_ms}"));
            for end in ["-wal", "-shm", ""].iter().take(done) {
                fs::rename(with_end(&path, end), with_end(&aside, end)).unwrap();
            }

            assert_eq!(put_in_place(&path).unwrap(), Some(aside.clone()), "{done}");
            let aside = aside.file_name().unwrap().to_str().unwrap();
            let mut expected = BTreeMap::from([("a.db".to_owned(), "new".to_owned())]);
            expected.extend(["", "-wal", "-shm"].map(|end| (format!("{aside}{end}"), format!("old{end}"))));
            assert_eq!(contents(folder.path()), expected, "{done}");
            assert_eq!(put_in_place(&path).unwrap(), None, "once only");
        }
    }
}
