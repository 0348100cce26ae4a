//! A file of records: what an hour of all rooms, a spool or an imported recording is kept in.
//!
//! Rows lie in the order in which they came, so that writing is appending, whichever rooms it is for; an index of
//! ids finds those of one room. Every row has a checksum, because SQLite has none.

mod format;
mod page;
mod rows;
mod seal;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use replay::{RecordId, StoredRecord};
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::backend::Entry;
use crate::database_damage::{self, check_schema, check_structure, is_damage};
use format::{
    MIGRATIONS, check_ends, check_format, check_log, damage, migrate, read_id, read_record, signed,
};

pub(super) use format::checksum;
pub use page::{Page, PageEnd};

/// How long another program that looks into the file is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a page. Larger ones would write more around each small record, and save nothing with large ones.
pub(super) const PAGE_BYTES: usize = 4_096;

/// Bytes that the write-ahead log is cut back to after it has grown.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Rooms whose numbers a table remembers. Full: all are forgotten, and looked up again.
const ROOMS_KNOWN: usize = 4_096;

/// A file of records.
#[derive(Debug)]
pub struct Table {
    connection: Connection,
    numbers: HashMap<Arc<str>, i64>,
    /// A row that the index names was not found for the file's structure.
    is_broken: Cell<bool>,
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
    /// The system's: files cannot be opened, moved or removed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TableError {
    /// That a file is damaged, found out without SQLite.
    pub fn damage(what: &str) -> Self {
        database_damage::damage(what).into()
    }

    /// Whether the file's content is at fault, and not the disk, the folder or another program.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::TooNew { .. } | Self::Io(_) => false,
            Self::Sqlite(error) => {
                use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
                // The others are values that are not what was written there.
                is_damage(error)
                    || matches!(
                        error,
                        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
                    )
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
        check_log(path)?;
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        // Should this fail, everything stays as it lies, for whoever saves what is left.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Of meaning for a new file only. Reading a damaged one goes by it.
        connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit has reached the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        migrate(&mut connection)?;
        let table = Self { connection, numbers: HashMap::new(), is_broken: Cell::new(false) };
        check_ends(&table.connection)?;
        table.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
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
        Ok(Self { connection, numbers: HashMap::new(), is_broken: Cell::new(false) })
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

    /// Whether the room has, or had, records here.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn knows(&self, room: &str) -> Result<bool, TableError> {
        Ok(self.number(room)?.is_some())
    }

    /// Checks that the room has, or had, records here.
    ///
    /// # Errors
    /// [`TableError`], damage too if it has not.
    pub fn check_room(&self, room: &str) -> Result<(), TableError> {
        if self.knows(room)? { Ok(()) } else { Err(TableError::damage("its room is not in it")) }
    }

    /// Whether records were left out, or told to be damaged, that may be whole and are only not found.
    pub fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// Moves the log's content into the file, which then is all that there is.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn checkpoint(&self) -> Result<(), TableError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Reads the file's structure through, which takes as long as reading all of it.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn check(&self) -> Result<(), TableError> {
        check_structure(&self.connection)?;
        Ok(check_schema(&self.connection, &MIGRATIONS)?)
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
            Ok(found) => {
                // Nothing there, or something whole that is another record: the index, or the way to the row, is wrong.
                if found.as_ref().is_none_or(|found| found.as_ref().is_some_and(|record| record.id != id)) {
                    self.is_broken.set(true);
                }
                Ok(found.flatten().filter(|record| record.id == id))
            }
            Err(error) if error.is_damage() => {
                self.is_broken.set(true);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn number_room(connection: &Connection, room: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO rooms (id) VALUES (?1) ON CONFLICT (id) DO NOTHING")?
        .execute([room])?;
    connection.prepare_cached("SELECT number FROM rooms WHERE id = ?1")?.query_row([room], |row| row.get(0))
}
