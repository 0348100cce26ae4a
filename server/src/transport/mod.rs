//! From bytes on a connection to events of a session, and back.
//!
//! - [`connection`]: Socket.IO on one Engine.IO connection: namespaces, packets, attachments, time-outs
//! - [`engineio`]: Engine.IO by engineioxide, for polling, websocket and the change from one to the other
//! - [`outbox`]: a session's way out through engineioxide
//! - [`polling`]: engineioxide, with what it does otherwise than it should put right around it
//! - [`websocket`]: our own transport for sessions that begin with a WebSocket
//! - [`upper`]: what a transport hands its messages to

pub mod connection;
pub mod engineio;
pub mod outbox;
pub mod polling;
pub mod upper;
pub mod websocket;

pub use connection::{Application, Connection, Refused, SocketIo};
pub use engineio::{EngineIoHandler, TransportConfig, engine_io};
pub use polling::EngineIo;
pub use upper::{Link, Upper};
pub use websocket::WebSockets;
