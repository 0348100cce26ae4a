//! The end of a file's being written.

use super::{Table, TableError};

impl Table {
    /// Closes a file that nobody will write any more. It is all that there is, and stays so while it is read: there
    /// are no companions that would have to go where it goes.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn seal(self) -> Result<(), TableError> {
        self.checkpoint()?;
        Ok(self.connection.pragma_update(None, "journal_mode", "DELETE")?)
    }
}
