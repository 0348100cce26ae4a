//! From bytes on a connection to events of a session, and back.
//!
//! - [`connection`]: Socket.IO on one Engine.IO connection: namespaces, packets, attachments, time-outs
//! - [`engineio`]: Engine.IO by engineioxide, for polling, websocket and the change from one to the other
//! - [`outbox`]: a session's way out through engineioxide

pub mod connection;
pub mod engineio;
pub mod outbox;

pub use connection::{Application, Connection, Link, Refused};
pub use engineio::{EngineIoHandler, TransportConfig, engine_io};
