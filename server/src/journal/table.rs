//! A file of records: what an hour of all rooms, a spool or an imported recording is kept in.
//!
//! Rows lie in the order in which they came, so that writing is appending, whichever rooms it is for; an index of
//! ids finds those of one room. Every row has a checksum, because SQLite has none.

mod rows;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replay::{RecordId, RecordKind, StoredRecord};
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};

use super::backend::Entry;

/// Step *n* leads from format *n* to *n* + 1. A step that was released is never changed.
const MIGRATIONS: [&str; 1] = ["
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

/// How long another program that looks into the file is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the write-ahead log is cut back to after it has grown.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Rooms whose numbers a table remembers. Full: all are forgotten, and looked up again.
const ROOMS_KNOWN: usize = 4_096;

/// A file of records.
#[derive(Debug)]
pub struct Table {
    connection: Connection,
    numbers: HashMap<Arc<str>, i64>,
}

/// A part of a room's records.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of their ids.
    pub records: Vec<StoredRecord>,
    /// Records that were here and cannot be read any more.
    pub damaged: usize,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file was written by a newer version.
    #[error("the file has format {found}, this server knows up to {known}")]
    TooNew {
        /// The format that was found.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// SQLite's own reason.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl TableError {
    /// Whether the file's content is at fault, and not the disk, the folder or another program.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::TooNew { .. } => false,
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
                    || matches!(error, rusqlite::Error::FromSqlConversionFailure(..))
            }
        }
    }
}

impl Table {
    /// Opens the file at `path` to write, converts it if need be, and makes it if absent. Checks what can be checked
    /// without reading it through: the length that it should have, its structure's beginning, and both ends of
    /// its trees, where writing goes on. The rest is checked as it is read.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit has reached the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        migrate(&mut connection)?;
        let table = Self { connection, numbers: HashMap::new() };
        table.check_ends()?;
        Ok(table)
    }

    /// Opens the file at `path`, which is there, to read only. Whoever writes it is not disturbed, and the file may
    /// be unlinked meanwhile.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn open_to_read(path: &Path) -> Result<Self, TableError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // By the time it is closed, another file may have the name.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        check_format(&connection)?;
        Ok(Self { connection, numbers: HashMap::new() })
    }

    /// Writes all of `entries`, or none. On return they are on the disk. One whose room and id are there already is
    /// left as it is.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn insert(&mut self, entries: &[Entry]) -> Result<(), TableError> {
        if self.numbers.len() >= ROOMS_KNOWN {
            self.numbers.clear();
        }
        let mut numbered: HashMap<Arc<str>, i64> = HashMap::new();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO records (room, ms, seq, kind, checksum, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (room, ms, seq) DO NOTHING",
            )?;
            for entry in entries {
                let known = self.numbers.get(&entry.room).or_else(|| numbered.get(&entry.room)).copied();
                let number = match known {
                    Some(number) => number,
                    None => {
                        let number = number_room(&transaction, &entry.room)?;
                        numbered.insert(entry.room.clone(), number);
                        number
                    }
                };
                let checksum = checksum(&entry.room, entry.id, entry.kind, &entry.payload);
                insert.execute(params![
                    number,
                    entry.id.ms.cast_signed(),
                    entry.id.seq,
                    entry.kind as u8,
                    checksum,
                    &*entry.payload
                ])?;
            }
        }
        transaction.commit()?;
        // Not before: a room's number goes with the transaction if that is taken back.
        self.numbers.extend(numbered);
        Ok(())
    }

    /// The newest id of the room.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn last_id(&self, room: &str) -> Result<Option<RecordId>, TableError> {
        self.id_at_end(room, "DESC")
    }

    /// The oldest and the newest id of the room.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn span(&self, room: &str) -> Result<Option<(RecordId, RecordId)>, TableError> {
        let Some(first) = self.id_at_end(room, "ASC")? else { return Ok(None) };
        Ok(Some((first, self.last_id(room)?.unwrap_or(first))))
    }

    /// The room's records from `from` on, in the order of their ids, none later than `until_ms`: as many as fit into
    /// about `bytes_max` bytes, and at least one if there is one. What is damaged is left out and counted.
    ///
    /// # Errors
    /// [`TableError`]; if it is damage, what could be read before it comes first, as a page of its own.
    pub fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Page, TableError> {
        let mut page = Page::default();
        let Some(number) = self.number(room)? else { return Ok(page) };
        let mut ids = self.connection.prepare_cached(
            "SELECT row, ms, seq FROM records INDEXED BY ids
             WHERE room = ?1 AND (ms, seq) >= (?2, ?3) AND ms <= ?4 ORDER BY ms, seq",
        )?;
        let mut found = ids.query(params![number, signed(from.ms), from.seq, signed(until_ms)])?;
        let mut bytes = 0;
        loop {
            let (row, id) = match found.next() {
                Ok(Some(found)) => (found.get(0)?, read_id(found, 1)?),
                Ok(None) => return Ok(page),
                Err(error) => {
                    let error = TableError::from(error);
                    return if error.is_damage() && !page.records.is_empty() { Ok(page) } else { Err(error) };
                }
            };
            match self.record(room, number, row, id)? {
                Some(record) => {
                    bytes += record.payload.len();
                    if bytes > bytes_max && !page.records.is_empty() {
                        return Ok(page);
                    }
                    page.records.push(record);
                }
                None => page.damaged += 1,
            }
        }
    }

    /// The room's newest readable keyframe, of either kind, whose id is not later than `at_ms`.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, TableError> {
        let Some(number) = self.number(room)? else { return Ok(None) };
        let mut ids = self.connection.prepare_cached(
            "SELECT row, ms, seq FROM records INDEXED BY keyframes
             WHERE room = ?1 AND ms <= ?2 AND kind >= 3 ORDER BY ms DESC, seq DESC",
        )?;
        let mut found = ids.query(params![number, signed(at_ms)])?;
        while let Some(row) = found.next()? {
            let record = self.record(room, number, row.get(0)?, read_id(row, 1)?)?;
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }

    /// What was inserted after row `row` (0: from the start), of all rooms, in the order in which it was, with each
    /// one's row: at least one if there is one, and no more than about `bytes_max` bytes.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn after(&self, row: i64, bytes_max: usize) -> Result<Vec<(i64, Entry)>, TableError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, ms, seq, kind, checksum, payload, id FROM records JOIN rooms ON room = number
             WHERE row > ?1 ORDER BY row",
        )?;
        let mut found = statement.query([row])?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            let room: Arc<str> = row.get_ref(6)?.as_str().map_err(|_| damage(6, Type::Text))?.into();
            let Some(record) = read_record(&room, row)? else { continue };
            bytes += record.payload.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            let StoredRecord { id, kind, payload } = record;
            entries.push((row.get(0)?, Entry { room, id, kind, payload }));
        }
        Ok(entries)
    }

    /// Takes out everything up to and with row `row`, except the newest of all, so that rows' numbers only grow.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn remove_through(&mut self, row: i64) -> Result<(), TableError> {
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM records WHERE row <= ?1 AND row < (SELECT max(row) FROM records)")?;
        statement.execute([row])?;
        Ok(())
    }

    /// Every room that has, or had, records here.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn rooms(&self) -> Result<Vec<String>, TableError> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM rooms ORDER BY number")?;
        let rooms = statement.query_map([], |row| row.get(0))?;
        Ok(rooms.collect::<Result<_, _>>()?)
    }

    /// Moves the log's content into the file, which then is all that there is.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn checkpoint(&self) -> Result<(), TableError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Closes the file and leaves everything as it lies, the log included.
    pub fn abandon(self) {
        // If even this fails, the log is written back, which loses nothing either.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }

    fn number(&self, room: &str) -> Result<Option<i64>, TableError> {
        if let Some(number) = self.numbers.get(room) {
            return Ok(Some(*number));
        }
        let mut statement = self.connection.prepare_cached("SELECT number FROM rooms WHERE id = ?1")?;
        Ok(statement.query_row([room], |row| row.get(0)).optional()?)
    }

    fn id_at_end(&self, room: &str, order: &str) -> Result<Option<RecordId>, TableError> {
        let Some(number) = self.number(room)? else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT ms, seq FROM records INDEXED BY ids WHERE room = ?1 ORDER BY ms {order}, seq {order} LIMIT 1"
        ))?;
        Ok(statement.query_row([number], |row| read_id(row, 0)).optional()?)
    }

    /// The record at `row`, which the index says is `id` of the room; `None` if that is not what is found there.
    fn record(
        &self,
        room: &str,
        number: i64,
        row: i64,
        id: RecordId,
    ) -> Result<Option<StoredRecord>, TableError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, ms, seq, kind, checksum, payload, room FROM records WHERE row = ?1",
        )?;
        let read = statement
            .query_row([row], |row| Ok(read_record(room, row)?.filter(|_| row.get(6) == Ok(number))))
            .optional();
        match read.map_err(TableError::from) {
            Ok(record) => Ok(record.flatten().filter(|record| record.id == id)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_ends(&self) -> Result<(), TableError> {
        for sql in [
            "SELECT length(payload) FROM records ORDER BY row LIMIT 1",
            "SELECT length(payload) FROM records ORDER BY row DESC LIMIT 1",
            "SELECT row FROM records INDEXED BY ids ORDER BY room, ms, seq LIMIT 1",
            "SELECT row FROM records INDEXED BY ids ORDER BY room DESC, ms DESC, seq DESC LIMIT 1",
            "SELECT count(id) FROM rooms",
        ] {
            self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?;
        }
        Ok(())
    }
}

/// What a row's checksum is of: everything that must not be taken for something else.
pub(super) fn checksum(room: &str, id: RecordId, kind: RecordKind, payload: &[u8]) -> u32 {
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
fn read_record(room: &str, row: &Row<'_>) -> rusqlite::Result<Option<StoredRecord>> {
    let id = read_id(row, 1)?;
    let (kind, expected): (i64, i64) = (row.get(3)?, row.get(4)?);
    let payload = row.get_ref(5)?.as_blob().map_err(|_| damage(5, Type::Blob))?;
    let kind = u8::try_from(kind).ok().and_then(RecordKind::from_number);
    let kind = kind.filter(|kind| i64::from(checksum(room, id, *kind, payload)) == expected);
    Ok(kind.map(|kind| StoredRecord { id, kind, payload: Bytes::copy_from_slice(payload) }))
}

fn read_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RecordId> {
    let seq = u32::try_from(row.get::<_, i64>(column + 1)?).map_err(|_| damage(column + 1, Type::Integer))?;
    Ok(RecordId { ms: row.get::<_, i64>(column)?.cast_unsigned(), seq })
}

fn damage(column: usize, found: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, "not what was written there".into())
}

/// A time as SQLite compares it.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn number_room(connection: &Connection, room: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO rooms (id) VALUES (?1) ON CONFLICT (id) DO NOTHING")?
        .execute([room])?;
    connection.prepare_cached("SELECT number FROM rooms WHERE id = ?1")?.query_row([room], |row| row.get(0))
}

fn check_format(connection: &Connection) -> Result<i64, TableError> {
    let known = MIGRATIONS.len() as i64;
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if (0..=known).contains(&found) { Ok(found) } else { Err(TableError::TooNew { found, known }) }
}

fn migrate(connection: &mut Connection) -> Result<(), TableError> {
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
