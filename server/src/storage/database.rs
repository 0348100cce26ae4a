//! What is in the database, and how it gets there.

use std::path::Path;
use std::time::Duration;

use engine::ports::{RoomWrite, StoreError, StoredObject, StoredRoom};
use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior, params};

use super::{OpenError, outbox, salvage};
use crate::database_damage::{check_schema, check_structure};

/// Step *n* leads from format *n* to *n* + 1. A step that was released is never changed.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE rooms (
        id TEXT NOT NULL PRIMARY KEY,
        options TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        room TEXT NOT NULL REFERENCES rooms (id),
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        owner TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (room, id)
    ) STRICT, WITHOUT ROWID;
",
    // `what` is empty for the room itself, and `o` and its id for an object. `AUTOINCREMENT`, so that a number tells
    // of how much this database has seen, even when the table is empty.
    "
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        what TEXT NOT NULL,
        UNIQUE (room, what)
    ) STRICT;
    CREATE TABLE meta (
        name TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO meta (name, value) VALUES ('id', lower(hex(randomblob(16))));
",
];

/// How long another program that looks into the database is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the write-ahead log is cut back to after it has grown.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// An open database of the newest format.
pub(super) struct Database {
    connection: Connection,
    /// Rows that are kept of what changes, for a copy elsewhere; none if there is no copy.
    outbox_rows: Option<u64>,
}

impl Database {
    /// Opens, checks and if need be converts the database at `path`.
    pub(super) fn open(path: &Path, outbox_rows: Option<u64>) -> Result<Self, OpenError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit has reached the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        // A damaged file is found now, and not when somebody joins.
        check_structure(&connection)?;
        migrate(&mut connection)?;
        check_schema(&connection, &MIGRATIONS)?;
        if outbox_rows.is_none() {
            outbox::leave(&connection)?;
        }
        Ok(Self { connection, outbox_rows })
    }

    /// Begins a batch: what it does is there as a whole after [`Batch::commit`], or not at all.
    pub(super) fn batch(&mut self) -> Result<Batch<'_>, StoreError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(store_error)?;
        Ok(Batch { transaction, outbox_rows: self.outbox_rows })
    }

    /// What tells this database from every other.
    pub(super) fn id(&self) -> Result<String, OpenError> {
        Ok(self.connection.query_row("SELECT value FROM meta WHERE name = 'id'", [], |row| row.get(0))?)
    }

    /// Moves the log's content into the database file.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(store_error)
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

/// Several requests in one transaction.
pub(super) struct Batch<'a> {
    transaction: Transaction<'a>,
    outbox_rows: Option<u64>,
}

impl Batch<'_> {
    /// Carries out all of `writes`, or none of them and leaves the batch as it was before.
    pub(super) fn write(&mut self, writes: &[RoomWrite]) -> Result<(), StoreError> {
        let savepoint = self.transaction.savepoint().map_err(store_error)?;
        for write in writes {
            apply(&savepoint, write)?;
            if let Some(rows_max) = self.outbox_rows {
                outbox::note(&savepoint, write, rows_max).map_err(store_error)?;
            }
        }
        savepoint.commit().map_err(store_error)
    }

    /// The transaction, for what is done to the outbox.
    pub(super) fn transaction(&self) -> &Transaction<'_> {
        &self.transaction
    }

    /// Every room.
    pub(super) fn rooms(&self) -> Result<Vec<StoredRoom>, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT id, options, created_ms FROM rooms ORDER BY created_ms, id")
            .map_err(store_error)?;
        let rows = statement.query_map([], |row| Ok(salvage::read_room(row)));
        whole("rooms", rows)
    }

    /// The objects of one room.
    pub(super) fn objects(&self, room: &str) -> Result<Vec<StoredObject>, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT id, version, owner, json FROM objects WHERE room = ?1")
            .map_err(store_error)?;
        let rows = statement.query_map([room], |row| Ok(salvage::read_object(row)));
        whole("objects", rows)
    }

    /// Whether SQLite has taken back the whole transaction by itself, as it does when the disk is full.
    pub(super) fn is_lost(&self) -> bool {
        self.transaction.is_autocommit()
    }

    /// Puts everything on the disk.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().map_err(store_error)
    }
}

/// Rows that are as they were written, as far as can be seen. One that is damaged must not hide the others.
fn whole<T>(
    what: &'static str,
    rows: rusqlite::Result<impl Iterator<Item = rusqlite::Result<Option<T>>>>,
) -> Result<Vec<T>, StoreError> {
    let rows = rows.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>).map_err(store_error)?;
    let found = rows.len();
    let whole: Vec<_> = rows.into_iter().flatten().collect();
    salvage::tell_damaged(what, found - whole.len());
    Ok(whole)
}

/// SQLite's words without any value from a statement.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}

fn apply(savepoint: &Savepoint<'_>, write: &RoomWrite) -> Result<(), StoreError> {
    // Numbers keep their 64 bits; SQLite's are signed, and no query compares them.
    let done = match write {
        RoomWrite::CreateRoom(room) => {
            const SQL: &str = "INSERT INTO rooms (id, options, created_ms) VALUES (?1, ?2, ?3)
                               ON CONFLICT (id) DO NOTHING";
            let created_ms = room.created_ms.cast_signed();
            execute(savepoint, SQL, params![room.id, room.options, created_ms])
        }
        RoomWrite::PutObject { room, object } => {
            const SQL: &str = "INSERT INTO objects (room, id, version, owner, json)
                               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (room, id) DO UPDATE
                               SET version = excluded.version, owner = excluded.owner, json = excluded.json";
            let version = object.version.cast_signed();
            execute(savepoint, SQL, params![room, object.id, version, object.owner, object.json])
        }
        RoomWrite::DeleteObject { room, id } => {
            execute(savepoint, "DELETE FROM objects WHERE room = ?1 AND id = ?2", params![room, id])
        }
    };
    done.map_err(store_error)
}

fn execute(savepoint: &Savepoint<'_>, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    savepoint.prepare_cached(sql)?.execute(values).map(|_| ())
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len() as i64;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(0..=known).contains(&found) {
        return Err(OpenError::TooNew { found, known });
    }
    if found < known {
        for step in &MIGRATIONS[found as usize..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", known)?;
    }
    Ok(transaction.commit()?)
}
