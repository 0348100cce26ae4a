//! What the engine's integration tests share. Each of them uses its own part of it.
#![allow(dead_code, reason = "every test binary compiles all of this and uses some")]

pub(crate) mod journal;
pub(crate) mod ports;
pub(crate) mod poses;
pub(crate) mod replayed;
pub(crate) mod viewer;
pub(crate) mod world;
