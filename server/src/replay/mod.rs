//! What was written down, read back.

pub mod recordings;
pub mod sqlite;
