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

    /// Forgets rooms that have no records here any more, those first that came first, until no more than `rooms_max`
    /// are left. How many went.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn forget_rooms(&mut self, rooms_max: u64) -> Result<usize, TableError> {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM rooms", [], |row| row.get(0))?;
        let excess = count.saturating_sub_unsigned(rooms_max);
        if excess <= 0 {
            return Ok(0);
        }
        // A number may be given to another room later.
        self.numbers.clear();
        let forgotten = self.connection.execute(
            "DELETE FROM rooms WHERE number IN (
                 SELECT number FROM rooms WHERE NOT EXISTS (SELECT 1 FROM records WHERE room = number)
                 ORDER BY number LIMIT ?1)",
            [excess],
        )?;
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use replay::{RecordId, RecordKind};

    use super::*;
    use crate::journal::backend::Entry;

    #[test]
    fn rooms_without_records_are_remembered_up_to_a_limit() {
        let mut table = Table::open(Path::new(":memory:")).unwrap();
        let entry = |room: &str, ms| Entry {
            room: room.into(),
            id: RecordId::at(ms),
            kind: RecordKind::Event,
            payload: Bytes::from_static(b"x"),
        };
        table.insert(&["a", "b", "c", "d"].map(|room| entry(room, 1))).unwrap();
        table.insert(&[entry("a", 2), entry("d", 2)]).unwrap();
        table.remove_through(4).unwrap();
        assert_eq!(table.forget_rooms(4).unwrap(), 0);
        assert_eq!(table.forget_rooms(3).unwrap(), 1, "the oldest that has nothing");
        assert_eq!(table.rooms().unwrap(), ["a", "c", "d"]);
        assert!(!table.knows("b").unwrap() && table.knows("c").unwrap());
        assert_eq!(table.forget_rooms(0).unwrap(), 1, "what has records stays");
        table.insert(&[entry("b", 3), entry("e", 3)]).unwrap();
        for room in ["a", "b", "d", "e"] {
            assert_eq!(
                table.last_id(room).unwrap().unwrap().ms,
                if room < "b" || room == "d" { 2 } else { 3 }
            );
        }
    }
}
