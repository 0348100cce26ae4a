//! How a file of records is laid out, and what a row of it says.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use replay::{RecordId, RecordKind, StoredRecord};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior};

use super::{PAGE_BYTES, TableError};
use crate::database_files::log_of;

/// Step *n* leads from format *n* to *n* + 1. A step that was released is never changed.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE rooms (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE records (
        row INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        ms INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX ids ON records (room, ms, seq);
    CREATE INDEX keyframes ON records (room, ms, seq) WHERE kind >= 3;
"];

/// What a row's checksum is of: everything that must not be taken for something else.
pub(in crate::journal) fn checksum(room: &str, id: RecordId, kind: RecordKind, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(room.len() as u64).to_le_bytes());
    hasher.update(room.as_bytes());
    hasher.update(&id.ms.to_le_bytes());
    hasher.update(&id.seq.to_le_bytes());
    hasher.update(&[kind as u8]);
    hasher.update(payload);
    hasher.finalize()
}

/// A row that begins with `row, ms, seq, kind, checksum, payload`; `None` if it does not agree with its checksum.
pub(super) fn read_record(room: &str, row: &Row<'_>) -> rusqlite::Result<Option<StoredRecord>> {
    let id = read_id(row, 1)?;
    let (kind, expected): (i64, i64) = (row.get(3)?, row.get(4)?);
    let payload = row.get_ref(5)?.as_blob().map_err(|_| damage(5, Type::Blob))?;
    let kind = u8::try_from(kind).ok().and_then(RecordKind::from_number);
    let kind = kind.filter(|kind| i64::from(checksum(room, id, *kind, payload)) == expected);
    Ok(kind.map(|kind| StoredRecord { id, kind, payload: Bytes::copy_from_slice(payload) }))
}

pub(super) fn read_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RecordId> {
    let seq = u32::try_from(row.get::<_, i64>(column + 1)?).map_err(|_| damage(column + 1, Type::Integer))?;
    Ok(RecordId { ms: row.get::<_, i64>(column)?.cast_unsigned(), seq })
}

pub(super) fn damage(column: usize, found: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, "not what was written there".into())
}

/// A time as SQLite compares it.
pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The format of the file, if it is a known one.
pub(super) fn check_format(connection: &Connection) -> Result<i64, TableError> {
    let known = MIGRATIONS.len() as i64;
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if (0..=known).contains(&found) { Ok(found) } else { Err(TableError::TooNew { found, known }) }
}

/// Brings the file to the newest format.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), TableError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = check_format(&transaction)?;
    if found < MIGRATIONS.len() as i64 {
        for step in &MIGRATIONS[found as usize..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    }
    Ok(transaction.commit()?)
}

/// SQLite throws the log of a file away that it takes for empty, though all that there is may be in it.
pub(super) fn check_log(path: &Path) -> Result<(), TableError> {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    match (length(path), length(&log_of(path))) {
        (Some(length), Some(1..)) if length < PAGE_BYTES as u64 => {
            Err(TableError::damage("its beginning is gone, and its log is not"))
        }
        _ => Ok(()),
    }
}

/// Looks at both ends of every tree.
pub(super) fn check_ends(connection: &Connection) -> Result<(), TableError> {
    for sql in [
        "SELECT length(payload) FROM records ORDER BY row LIMIT 1",
        "SELECT length(payload) FROM records ORDER BY row DESC LIMIT 1",
        "SELECT row FROM records INDEXED BY ids ORDER BY room, ms, seq LIMIT 1",
        "SELECT row FROM records INDEXED BY ids ORDER BY room DESC, ms DESC, seq DESC LIMIT 1",
        "SELECT count(id) FROM rooms",
    ] {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?;
    }
    Ok(())
}
