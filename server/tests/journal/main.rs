//! The journal: its lanes, its thread and its files.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;
mod damage;
mod files;
mod killed;
mod lanes;
