//! How a SQLite database shows that it is damaged.

use std::collections::HashSet;

use rusqlite::ffi::{SQLITE_CORRUPT, SQLITE_ERROR};
use rusqlite::{Connection, Error, ErrorCode};

/// Whether the content of the file is at fault that SQLite says this of, and not the disk, the folder or another program.
pub(crate) fn is_damage(error: &Error) -> bool {
    let (Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. }) = error else { return false };
    // What we ask never changes: a file that cannot be asked it has lost the names of its tables or columns.
    let is_unknown = error.extended_code == SQLITE_ERROR;
    is_unknown || matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
}

/// That a file is damaged, found out without SQLite.
pub(crate) fn damage(what: impl Into<String>) -> Error {
    Error::SqliteFailure(rusqlite::ffi::Error::new(SQLITE_CORRUPT), Some(what.into()))
}

/// Reads the file's structure through, which takes as long as reading all of it.
///
/// # Errors
/// The first damage that was found, or why it cannot be looked for.
pub(crate) fn check_structure(connection: &Connection) -> rusqlite::Result<()> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(damage(found)) }
}

/// Compares what the tables are called and made of with what `steps` make; the structure is whole without that too.
/// There may be more, if somebody has looked into the file with other programs.
///
/// # Errors
/// The damage, or why it cannot be looked for.
pub(crate) fn check_schema(connection: &Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let intact = Connection::open_in_memory()?;
    steps.iter().try_for_each(|step| intact.execute_batch(step))?;
    let is_whole = schema(&intact)?.is_subset(&schema(connection)?);
    if is_whole { Ok(()) } else { Err(damage("the tables are not what they were made as")) }
}

fn schema(connection: &Connection) -> rusqlite::Result<HashSet<(String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
