//! A table as a queue: how far it reaches, and how much it holds.

use super::{Table, TableError};

impl Table {
    /// The first and the last row; `None` if there is none. Rows' numbers only grow.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn rows(&self) -> Result<Option<(i64, i64)>, TableError> {
        let ends = |sql: &str| -> Result<Option<i64>, TableError> {
            Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        };
        let first = ends("SELECT min(row) FROM records")?;
        Ok(first.zip(ends("SELECT max(row) FROM records")?))
    }

    /// The newest id of all rooms: that of the last row.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn newest_id(&self) -> Result<Option<replay::RecordId>, TableError> {
        use rusqlite::OptionalExtension as _;
        let mut statement =
            self.connection.prepare_cached("SELECT ms, seq FROM records ORDER BY row DESC LIMIT 1")?;
        Ok(statement.query_row([], |row| super::format::read_id(row, 0)).optional()?)
    }

    /// Bytes of the file that are in use. What was taken out is used again, so the file does not shrink.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn bytes(&self) -> Result<u64, TableError> {
        let number = |name: &str| -> Result<i64, TableError> {
            Ok(self.connection.pragma_query_value(None, name, |row| row.get(0))?)
        };
        let pages = number("page_count")? - number("freelist_count")?;
        Ok((pages * number("page_size")?).max(0).cast_unsigned())
    }
}
