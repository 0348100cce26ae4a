//! Copresence's wire contract, without IO.
//!
//! This crate turns text and bytes into typed packets, events and poses, and back. It knows no socket, no
//! clock and no source of randomness: whoever calls it brings the time. `docs/PROTOCOL.md` is the contract
//! that it implements.
//!
//! - [`packet`]: Socket.IO v5 packets, decoded in place
//! - [`attachments`]: binary packets put together again, within limits
//! - [`outgoing`]: a packet encoded once and shared by everyone whom it reaches
//! - [`event`]: the events that a client may send, as types
//! - [`pose`]: head and hands at one moment, as JSON
//! - [`view`]: where a client looks from
//! - [`playback`]: which part of a recording a client watches, and how
//! - [`frame`]: the binary pose frame, both ways
//! - [`websocket`]: WebSocket frames from a client, read in place
//! - [`error`]: the codes in which a failure is told to a client
//! - [`limits`]: every bound that the contract sets

pub mod attachments;
pub mod error;
pub mod event;
pub mod frame;
pub mod limits;
pub mod members;
pub mod outgoing;
pub mod packet;
pub mod playback;
pub mod pose;
pub mod view;
pub mod websocket;

pub use error::{ClientError, ErrorCode};
pub use event::ClientEvent;
pub use members::Members;
pub use outgoing::Outgoing;
pub use packet::{DecodeError, Event, Packet, PacketKind};
pub use pose::{Part, Pose, Rotation};
