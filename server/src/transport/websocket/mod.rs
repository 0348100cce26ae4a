//! A transport of our own for sessions that begin with a WebSocket, which is where the crowds are.
//!
//! What it saves against a general one: reads are parsed in place in one buffer per core, a tick is written
//! straight from the shared frames to the socket in one call, nothing passes through a channel, and heartbeats
//! come from one timer per core. Polling, and sessions that begin there, are engineioxide's.
//!
//! - [`handshake`]: the HTTP request that becomes a WebSocket
//! - `drive`: the task of a connection, which reads
//! - `backlog`: what it has read and not taken yet
//! - `wire`: its way out
//! - `queue`: what waits to be written
//! - `heartbeat`: pings, and the end of those who do not answer

mod backlog;
mod drive;
pub mod handshake;
mod heartbeat;
mod queue;
mod wire;

pub use handshake::{WebSockets, wants_websocket};
