//! What can still be read from a damaged database of rooms.
//!
//! Rows are asked of SQLite and not looked for in its pages: a page that is free may hold an object that was deleted,
//! which must not come back. Each table is read from both ends up to what cannot be read, and each room by itself.

use std::collections::BTreeMap;
use std::path::Path;

use engine::ports::{RoomWrite, StoreError, StoredObject, StoredRoom};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Row, ToSql};
use serde::de::IgnoredAny;
use tracing::error;

use super::database::Database;
use crate::database_files::log_of;

/// Rows that are written in one transaction.
const BATCH_ROWS: usize = 1_000;

/// What of a damaged database is in the new one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) rooms: usize,
    pub(super) objects: usize,
}

/// Writes into `database` what can be read of the damaged one at `path`, which stays as it is.
///
/// # Errors
/// Nothing can be written to `database`.
pub(super) fn salvage(path: &Path, database: &mut Database) -> Result<Salvaged, StoreError> {
    let has_log = log_of(path).exists();
    let Ok(damaged) = Connection::open(path) else { return Ok(Salvaged::default()) };
    // A log that is there stays; one that is made for reading only goes again. If even this fails, the log is written
    // back, which loses nothing either.
    let _ = damaged.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log);
    // Without this SQLite reads nothing at all of a file that was cut off. Nothing is written to it.
    let _ = damaged.pragma_update(None, "writable_schema", true);
    let rooms = rooms(&damaged);
    let mut objects = BTreeMap::new();
    objects_where(&damaged, "true", &[], &mut objects);
    for room in rooms.keys() {
        objects_where(&damaged, "room = ?1", &[room], &mut objects);
    }
    // Of a room that is lost nobody knows who may come in; what it held is in the damaged file.
    // And a page that was cut through ends in zeros, which are text to SQLite.
    objects.retain(|(room, _), object| rooms.contains_key(room) && is_json(&object.json));
    let salvaged = Salvaged { rooms: rooms.len(), objects: objects.len() };
    let writes: Vec<_> = rooms
        .into_values()
        .map(RoomWrite::CreateRoom)
        .chain(objects.into_iter().map(|((room, _), object)| RoomWrite::PutObject { room, object }))
        .collect();
    for rows in writes.chunks(BATCH_ROWS) {
        let mut batch = database.batch()?;
        batch.write(rows)?;
        batch.commit()?;
    }
    Ok(salvaged)
}

fn rooms(damaged: &Connection) -> BTreeMap<String, StoredRoom> {
    let mut found = BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT id, options, created_ms FROM rooms ORDER BY id {order}");
        rows(damaged, &sql, &[], |row| {
            let room = read_room(row)?;
            found.insert(room.id.clone(), room);
            Some(())
        });
    }
    found
}

fn objects_where(
    damaged: &Connection,
    condition: &str,
    values: &[&dyn ToSql],
    found: &mut BTreeMap<(String, String), StoredObject>,
) {
    for order in ["ASC", "DESC"] {
        let sql = format!(
            "SELECT id, version, owner, json, room FROM objects WHERE {condition} ORDER BY room {order}, id {order}"
        );
        rows(damaged, &sql, values, |row| {
            let object = read_object(row)?;
            found.insert((row.get(4).ok()?, object.id.clone()), object);
            Some(())
        });
    }
}

/// Hands rows to `take` up to the first that SQLite does not find. One that `take` makes nothing of is passed over.
fn rows(
    damaged: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    mut take: impl FnMut(&Row<'_>) -> Option<()>,
) {
    let Ok(mut statement) = damaged.prepare(sql) else { return };
    let Ok(mut rows) = statement.query(values) else { return };
    while let Ok(Some(row)) = rows.next() {
        take(row);
    }
}

/// A room's `id, options, created_ms`, if they can be what was written.
pub(super) fn read_room(row: &Row<'_>) -> Option<StoredRoom> {
    Some(StoredRoom { id: row.get(0).ok()?, options: row.get(1).ok()?, created_ms: unsigned(row, 2)? })
}

/// An object's `id, version, owner, json`, if they can be what was written.
pub(super) fn read_object(row: &Row<'_>) -> Option<StoredObject> {
    Some(StoredObject {
        id: row.get(0).ok()?,
        version: unsigned(row, 1)?,
        owner: row.get(2).ok()?,
        json: row.get(3).ok()?,
    })
}

/// Says of rows that they are damaged, if there are any.
pub(super) fn tell_damaged(what: &'static str, rows: usize) {
    if rows > 0 {
        error!(what, rows, "rows of the database are damaged and left out");
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> Option<u64> {
    row.get::<_, i64>(column).ok().map(i64::cast_unsigned)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}
