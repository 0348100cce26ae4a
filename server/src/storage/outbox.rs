//! What has changed here and is not elsewhere yet, and what comes from there.

use engine::ports::{RoomWrite, StoreError, StoredObject, StoredRoom};
use rusqlite::{Connection, OptionalExtension as _, Savepoint, Transaction, params};

use super::database::store_error;

/// Rows of the outbox. Full: it is emptied, and a comparison of everything takes its place. Each room and each object
/// has one at most, so it takes as many objects that come and go.
pub const OUTBOX_ROWS_MAX: u64 = 1_000_000;

/// Something that has changed, as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// There is this room.
    Room(StoredRoom),
    /// An object is now this.
    Object(String, StoredObject),
    /// The object of that room and that id is gone.
    Gone(String, String),
}

/// A piece of the outbox.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// In the order in which they happened last.
    pub changes: Vec<Change>,
    /// The number of the last of them, or of the last that ever was if there are none.
    pub until: u64,
    /// The number of the last change that ever was.
    pub head: u64,
    /// What is of this number or before is no longer in the outbox: it was copied, or there was no place for it.
    pub forgotten: u64,
}

/// Something that was found elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A room.
    Room(StoredRoom),
    /// An object of a room, which is there or comes before it.
    Object(String, StoredObject),
}

impl Found {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Room(room) => room.id.len() + room.options.len(),
                Self::Object(room, object) => {
                    room.len() + object.id.len() + object.owner.len() + object.json.len()
                }
            }
    }
}

/// Notes what `write` has changed. What is noted already moves to the end.
pub(super) fn note(savepoint: &Savepoint<'_>, write: &RoomWrite, rows_max: u64) -> rusqlite::Result<()> {
    let (room, what) = match write {
        RoomWrite::CreateRoom(room) => (&room.id, String::new()),
        RoomWrite::PutObject { room, object } => (room, row_of(&object.id)),
        RoomWrite::DeleteObject { room, id } => (room, row_of(id)),
    };
    let mut statement =
        savepoint.prepare_cached("INSERT OR REPLACE INTO outbox (room, what) VALUES (?1, ?2)")?;
    statement.execute(params![room, what])?;
    // Counting is as much work as there are rows, so it is done now and then.
    const COUNT_EVERY: u64 = 1_024;
    if savepoint.last_insert_rowid().cast_unsigned().is_multiple_of(COUNT_EVERY.min(rows_max)) {
        shorten(savepoint, rows_max)?;
    }
    Ok(())
}

fn row_of(object: &str) -> String {
    format!("o{object}")
}

fn shorten(savepoint: &Savepoint<'_>, rows_max: u64) -> rusqlite::Result<()> {
    let rows: i64 = savepoint.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
    if rows.cast_unsigned() > rows_max {
        forget_until(savepoint, savepoint.last_insert_rowid())?;
    }
    Ok(())
}

pub(super) fn changes(
    transaction: &Transaction<'_>,
    after: u64,
    rows_max: usize,
) -> Result<Changes, StoreError> {
    read(transaction, after, rows_max).map_err(store_error)
}

fn read(transaction: &Transaction<'_>, after: u64, rows_max: usize) -> rusqlite::Result<Changes> {
    let head: Option<i64> = transaction
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let head = head.unwrap_or(0).cast_unsigned();
    let forgotten: Option<i64> = transaction
        .prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'forgotten'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let forgotten = forgotten.unwrap_or(0).cast_unsigned();
    let mut found = Changes { until: head, head, forgotten, ..Changes::default() };
    let mut statement = transaction
        .prepare_cached("SELECT seq, room, what FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = statement.query(params![after.cast_signed(), rows_max as i64])?;
    while let Some(row) = rows.next()? {
        found.until = row.get::<_, i64>(0)?.cast_unsigned();
        let (room, what): (String, String) = (row.get(1)?, row.get(2)?);
        let change = match what.strip_prefix('o') {
            Some(id) => Some(match object(transaction, &room, id)? {
                Some(object) => Change::Object(room, object),
                None => Change::Gone(room, id.to_owned()),
            }),
            // A room never goes, but its row may come from a database that was put in this one's place.
            None => stored_room(transaction, &room)?.map(Change::Room),
        };
        found.changes.extend(change);
    }
    Ok(found)
}

fn object(transaction: &Transaction<'_>, room: &str, id: &str) -> rusqlite::Result<Option<StoredObject>> {
    const SQL: &str = "SELECT version, owner, json FROM objects WHERE room = ?1 AND id = ?2";
    transaction
        .prepare_cached(SQL)?
        .query_row([room, id], |row| {
            Ok(StoredObject {
                id: id.to_owned(),
                version: row.get::<_, i64>(0)?.cast_unsigned(),
                owner: row.get(1)?,
                json: row.get(2)?,
            })
        })
        .optional()
}

fn stored_room(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<StoredRoom>> {
    transaction
        .prepare_cached("SELECT options, created_ms FROM rooms WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(StoredRoom {
                id: id.to_owned(),
                options: row.get(0)?,
                created_ms: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
        .optional()
}

/// Takes what is copied out of the outbox.
pub(super) fn forget(transaction: &Transaction<'_>, until: u64) -> Result<(), StoreError> {
    forget_until(transaction, until.cast_signed()).map_err(store_error)
}

fn forget_until(connection: &Connection, until: i64) -> rusqlite::Result<()> {
    const NUMBER: &str = "INSERT INTO meta (name, value) VALUES ('forgotten', ?1)
                          ON CONFLICT (name) DO UPDATE SET value = excluded.value
                          WHERE CAST(excluded.value AS INTEGER) > CAST(meta.value AS INTEGER)";
    connection.prepare_cached("DELETE FROM outbox WHERE seq <= ?1")?.execute([until])?;
    connection.prepare_cached(NUMBER)?.execute([until.to_string()])?;
    Ok(())
}

/// From now on changes are not noted. So that this is known when they are again, a number is spent: what is elsewhere
/// has not come that far.
pub(super) fn leave(connection: &Connection) -> rusqlite::Result<()> {
    let spent = connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'outbox'", [])?;
    if spent > 0 {
        const HEAD: &str = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
        let head = connection.query_row(HEAD, [], |row| row.get(0))?;
        forget_until(connection, head)?;
    }
    Ok(())
}

/// What is gone here but still has a row in the outbox was taken away after it was copied, so it stays away.
pub(super) fn merge(transaction: &Transaction<'_>, found: &[Found]) -> Result<usize, StoreError> {
    const ROOM: &str = "INSERT INTO rooms (id, options, created_ms) VALUES (?1, ?2, ?3)
                        ON CONFLICT (id) DO NOTHING";
    const OBJECT: &str = "INSERT INTO objects (room, id, version, owner, json)
                          SELECT ?1, ?2, ?3, ?4, ?5
                          WHERE EXISTS (SELECT 1 FROM objects WHERE room = ?1 AND id = ?2)
                             OR NOT EXISTS (SELECT 1 FROM outbox WHERE room = ?1 AND what = 'o' || ?2)
                          ON CONFLICT (room, id) DO UPDATE
                          SET version = excluded.version, owner = excluded.owner, json = excluded.json
                          WHERE excluded.version > objects.version";
    let mut rooms = 0;
    for found in found {
        let done = match found {
            Found::Room(room) => transaction
                .prepare_cached(ROOM)
                .and_then(|mut sql| {
                    sql.execute(params![room.id, room.options, room.created_ms.cast_signed()])
                })
                .map(|new| rooms += new),
            Found::Object(room, object) => transaction
                .prepare_cached(OBJECT)
                .and_then(|mut sql| {
                    let version = object.version.cast_signed();
                    sql.execute(params![room, object.id, version, object.owner, object.json])
                })
                .map(|_| ()),
        };
        done.map_err(store_error)?;
    }
    Ok(rooms)
}
