//! What was recorded, told over HTTP: from real files, through the real API, without a socket.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod answers;
mod imports;
mod live;
mod naive;
mod places;
mod rig;
mod room;
mod transfer;
