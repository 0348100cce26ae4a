//! The naive model of a room, and what drives a room beside it.

pub(crate) mod fan;
pub(crate) mod operation;
pub(crate) mod run;
pub(crate) mod truth;
