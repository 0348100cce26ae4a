//! What was written down, read back.

pub mod playback;
pub mod recordings;
