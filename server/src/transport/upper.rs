//! What lies above Engine.IO, whichever transport brings it.

use std::sync::Arc;

use engine::Allowance;
use engine::ports::Outbox;

/// A protocol above Engine.IO. For one connection its methods are called one at a time, except that a polling
/// client's last message may still be on its way in when its connection is closed.
pub trait Upper: Send + Sync + 'static {
    /// What it keeps for each connection.
    type Connection: Send + Sync + 'static;

    /// A connection has been opened.
    fn open(&self, link: Link) -> Arc<Self::Connection>;

    /// A text message has come.
    fn text(&self, connection: &Arc<Self::Connection>, text: &str);

    /// A binary message has come.
    fn binary(&self, connection: &Arc<Self::Connection>, message: &[u8]);

    /// The connection is gone. Nothing comes after this.
    fn closed(&self, connection: &Arc<Self::Connection>);
}

/// The way back to the client, and what is known of how it came.
#[derive(Clone)]
pub struct Link {
    /// Its way out.
    pub outbox: Arc<dyn Outbox>,
    /// The query string of the request that opened the connection. May hold a token: never to be logged.
    pub query: Arc<str>,
    /// The core on which the connection lives.
    pub core: usize,
    /// How much the client may say, in whatever sessions.
    pub allowance: Arc<Allowance>,
}

impl Link {
    /// The link of a new connection.
    pub fn new(outbox: Arc<dyn Outbox>, query: Arc<str>, core: usize) -> Self {
        Self { outbox, query, core, allowance: Arc::default() }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("core", &self.core).finish_non_exhaustive()
    }
}
