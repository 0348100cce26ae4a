//! Opening the spool, and putting a damaged one together anew.

use std::path::Path;

use replay::RecordId;

use crate::clock::now_ms;
use crate::database_files::{finish, move_aside, put_in_place, remove, unfinished, with_end};
use crate::journal::backend::Entry;
use crate::journal::salvage::{self, SalvageError};
use crate::journal::table::{Table, TableError};

/// The spool's file in `DATA_DIR`.
pub const SPOOL: &str = "spool.db";

/// The end of the name of what can be read of a damaged spool, as it was found.
const FOUND: &str = ".found";

/// Bytes of what was saved that are put into order in one go.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Opens the spool in `directory`. One that is damaged is moved aside, and a new one begun with what can be read of it.
pub(super) fn open(directory: &Path) -> Result<Table, TableError> {
    let path = directory.join(SPOOL);
    // Where the process had ended before what was saved was in its place, or the disk had not let it.
    put_in_place(&path)?;
    match Table::open(&path) {
        Err(error) if error.is_damage() => repair(directory, &error),
        other => other,
    }
}

/// Puts the spool together anew. Nobody has it open to write.
///
/// # Errors
/// There is no room for it, or the like: everything is where it was, or on its way to where [`open`] finds it. That is
/// to be tried again.
pub(super) fn repair(directory: &Path, reason: &TableError) -> Result<Table, TableError> {
    let path = directory.join(SPOOL);
    // An attempt before this one has saved it already; that must not be thrown away.
    if put_in_place(&path)?.is_some() {
        return open(directory);
    }
    let saved = save(&path);
    let _ = remove(&with_end(&path, FOUND));
    match saved {
        Ok(kept) => {
            let aside = put_in_place(&path)?;
            tracing::error!(%reason, kept, moved_to = ?aside, "the spool was damaged");
        }
        Err(error) => {
            let _ = remove(&unfinished(&path));
            if !error.is_damage() {
                tracing::error!(%reason, %error, "the spool is damaged and cannot be put together anew yet");
                return Err(error);
            }
            let aside = move_aside(&path, now_ms())?;
            tracing::error!(%reason, %error, moved_to = %aside.display(), "nothing of the spool could be saved");
        }
    }
    Table::open(&path)
}

/// Writes what can be read of the file at `path` to one that is to take its place, each room's records in their order.
/// How many.
fn save(path: &Path) -> Result<usize, TableError> {
    let (found_path, new_path) = (with_end(path, FOUND), unfinished(path));
    remove(&found_path)?;
    remove(&new_path)?;
    let mut found = Table::open(&found_path)?;
    salvage::into_table(path, None, &mut found).map_err(|error| match error {
        SalvageError::Table(error) => error,
        SalvageError::Io(error) => error.into(),
    })?;
    let mut new = Table::open(&new_path)?;
    let mut kept = 0;
    for room in found.rooms()? {
        let mut from = RecordId::default();
        loop {
            let records = found.page(&room, from, u64::MAX, BATCH_BYTES)?.records;
            let Some(last) = records.last() else { break };
            from = last.id.next();
            kept += records.len();
            let entries: Vec<Entry> = records
                .into_iter()
                .map(|record| Entry {
                    room: room.as_str().into(),
                    id: record.id,
                    kind: record.kind,
                    payload: record.payload,
                })
                .collect();
            new.insert(&entries)?;
        }
    }
    new.checkpoint()?;
    drop(new);
    finish(path)?;
    Ok(kept)
}
