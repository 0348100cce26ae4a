//! What happens in rooms, on its way to where it is kept.

pub mod backend;
pub mod table;
