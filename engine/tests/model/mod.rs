//! The naive model of a room, and what drives a room beside it.

mod fan;
mod judge;
mod late;
pub(crate) mod operation;
pub(crate) mod run;
mod truth;
pub(crate) mod twin;
