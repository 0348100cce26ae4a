//! What a connection hands its events to.

use std::sync::Arc;

use bytes::Bytes;
use engine::allowance::Verdict;
use protocol::attachments::AssembleError;
use protocol::packet::{DecodeError, Event};

use crate::transport::upper::Link;

/// What the events of a connection go to.
pub trait Application: Send + Sync + 'static {
    /// What it keeps for each namespace that a connection is connected to.
    type Session: Send + Sync + 'static;

    /// Pays for a CONNECT or DISCONNECT of so many bytes, before anything is done about it. Free unless the application
    /// says otherwise.
    fn pay(&self, _link: &Link, _bytes: usize) -> Verdict {
        Verdict::Granted
    }

    /// Lets a client into a namespace, or says why not. `auth` is the CONNECT packet's JSON payload.
    ///
    /// # Errors
    /// [`Refused`], which the client gets as CONNECT_ERROR.
    fn connect(
        &self,
        namespace: &str,
        auth: Option<&str>,
        link: &Link,
    ) -> Result<Accepted<Self::Session>, Refused>;

    /// The client has got its CONNECT; from here on events may be sent to it.
    fn connected(&self, _session: &Arc<Self::Session>) {}

    /// Tries to take a whole Socket.IO packet of the namespace `/` by a short way of its own. `false`: it is not
    /// one of that kind, and goes the usual way. Called for every packet, so it must be quick to say no.
    fn shortcut(&self, _session: &Arc<Self::Session>, _text: &str) -> bool {
        false
    }

    /// Whether a Socket.IO packet of the namespace `/` is one whose only attachment says everything, so that
    /// [`attachment`](Application::attachment) can take that where it lies. Called for every packet that took no
    /// shortcut.
    fn announces(&self, _text: &str) -> bool {
        false
    }

    /// The attachment of a packet that was [announced](Application::announces).
    fn attachment(&self, _session: &Arc<Self::Session>, _attachment: &[u8]) {}

    /// An event, with the attachments that came with it.
    fn event(
        &self,
        session: &Arc<Self::Session>,
        event: &Event<'_>,
        attachments: Vec<Bytes>,
        ack: Option<u64>,
    );

    /// The client has left the namespace, or its connection is gone.
    fn disconnected(&self, session: &Arc<Self::Session>);

    /// Something came that broke the protocol; the connection is being closed.
    fn broken(&self, _error: &ConnectionError) {}
}

/// A session that was let in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The session.
    pub session: S,
    /// Its id in the namespace, which the client learns.
    pub sid: String,
}

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// What breaks a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A packet that is none.
    #[error("bad packet: {0}")]
    Decode(#[from] DecodeError),
    /// Attachments too many, too large, too late, or without a packet.
    #[error("bad attachments: {0}")]
    Attachments(#[from] AssembleError),
    /// An event for a namespace that the client is not connected to.
    #[error("an event without a CONNECT before it")]
    NotConnected,
    /// A text packet where attachments were to come.
    #[error("a text packet between a binary packet and its attachments")]
    TextAmongAttachments,
    /// No CONNECT in time.
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// No attachments in time.
    #[error("attachments did not come in time")]
    AttachmentTimeout,
    /// Too many namespaces.
    #[error("too many namespaces")]
    TooManyNamespaces,
    /// CONNECTs and DISCONNECTs although the client has been told often enough to slow down.
    #[error("too many requests")]
    TooManyRequests,
}
