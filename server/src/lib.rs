//! The Copresence server: Socket.IO and HTTP around the [`engine`].
//!
//! - [`config`]: flags and environment, the only reader of the latter
//! - [`net`]: sockets and the threads bound to cores
//! - [`transport`]: from bytes to events
//! - [`app`]: from events to the engine
//! - [`http`]: the HTTP API and the page
//! - [`auth`] makes and checks tokens
//! - [`storage`]: where persistent rooms are kept
//! - [`journal`]: what is written down of rooms
//! - [`replay`]: what was written down, read back
//! - [`redis`]: all of that in Redis, by way of the disk
//! - [`workers`]: the bridge to those who do heavy work
//! - [`run`]: all of it, put together
//! - [`drain`]: the end

pub mod app;
pub mod auth;
pub mod clock;
pub mod config;
mod database_damage;
mod database_files;
pub mod drain;
pub mod http;
pub mod journal;
pub mod logging;
pub mod net;
pub mod passwords;
pub mod redis;
pub mod replay;
pub mod run;
pub mod storage;
pub mod transport;
mod windows;
pub mod workers;
