//! Imported recordings that are damaged.
//!
//! Nobody writes an import any more, so whoever reads one and finds it damaged puts it together anew of what can be
//! read. The damaged one stays beside it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::error;

use super::sqlite::{FileId, file_id};
use super::transfer::{Begun, sync_folder};
use crate::journal::salvage::{self, SalvageError, Salvaged};
use crate::journal::table::{Table, TableError};

/// Imports that one process puts together anew. Beyond, the disk is at fault: of what it damages, what can be found is
/// read, and the rest counts as absent.
const MENDED_MAX: usize = 16;

/// Puts damaged imports together anew.
#[derive(Debug, Default)]
pub(super) struct Mender {
    /// Held while one is put together: whoever else finds it damaged waits for that.
    state: Mutex<State>,
    mended: Counter,
    lost: Counter,
}

#[derive(Debug, Default)]
struct State {
    mended: usize,
    /// Files of which nothing can be saved, or cannot be now. As many at most as there are imports.
    given_up: HashSet<FileId>,
}

impl Mender {
    /// Tells `/metrics` what comes of it.
    pub(super) fn register(&self, registry: &mut Registry) {
        let (mended, lost) = (self.mended.clone(), self.lost.clone());
        registry.register("replay_import_repairs", "Damaged imports put together anew", mended);
        registry.register("replay_import_records_lost", "Records of imports that could not be saved", lost);
    }

    /// Puts the import of `room` at `path`, which was found to be damaged when it was `file`, together anew. Whether it
    /// is another file now.
    pub(super) fn mend(&self, path: &Path, file: FileId, room: &str, reason: &TableError) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if file_id(path) != Some(file) {
            return true;
        }
        if state.given_up.contains(&file) {
            return false;
        }
        let done = match state.mended < MENDED_MAX {
            true => mend(path, file, room),
            false => Err(MendError::TooMany),
        };
        match done {
            Ok(Some((Salvaged { records, lost }, aside))) => {
                state.mended += 1;
                self.mended.inc();
                self.lost.inc_by(lost as u64);
                error!(
                    %reason, room, moved_to = %aside.display(), kept = records, lost,
                    "an imported recording was damaged and has been put together anew"
                );
                true
            }
            Ok(None) => true,
            Err(error) => {
                state.given_up.insert(file);
                error!(%reason, %error, room, file = %path.display(), "an imported recording is damaged");
                false
            }
        }
    }
}

/// Why an import is left as it is.
#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("nothing of it can be read")]
    Nothing,
    #[error("too many files are damaged: the disk may be at fault")]
    TooMany,
}

/// What was saved, and where the damaged file is now; nothing if another process has put it together meanwhile.
fn mend(path: &Path, file: FileId, room: &str) -> Result<Option<(Salvaged, PathBuf)>, MendError> {
    // An export may read beside a server. SQLite's own locks are of another kind.
    let damaged = File::open(path)?;
    damaged.lock()?;
    if file_id(path) != Some(file) {
        return Ok(None);
    }
    let begun = Begun::beside(path);
    let mut table = Table::open(begun.path())?;
    let salvaged = salvage::into_table(path, Some(Arc::from(room)), &mut table)?;
    table.seal()?;
    if salvaged.records == 0 {
        return Err(MendError::Nothing);
    }
    let aside = free_name(path);
    // Both names, so that the recording is never without one. Not every file system can do that.
    fs::hard_link(path, &aside).or_else(|_| fs::rename(path, &aside))?;
    fs::rename(begun.path(), path)?;
    sync_folder(path)?;
    Ok(Some((salvaged, aside)))
}

fn free_name(path: &Path) -> PathBuf {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut names = (now_ms..).map(|ms| path.with_file_name(format!("{name}.corrupt-{ms}")));
    names.find(|path| !path.exists()).unwrap_or_else(|| path.with_extension("corrupt"))
}
