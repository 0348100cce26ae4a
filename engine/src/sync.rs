//! The atomics that the pose path is built on: the standard library's, or loom's when its model checker runs.

#[cfg(not(loom_model))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom_model)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
