//! How a session is answered.

use protocol::Outgoing;
use protocol::error::ClientError;
use serde::Serialize;

use super::AckId;

/// `{ok: true, …}` for `ack`; nothing if no ack is wanted.
pub fn ok_packet<T: Serialize>(ack: AckId, members: T) -> Option<Outgoing> {
    #[derive(Serialize)]
    struct Answer<T> {
        ok: bool,
        #[serde(flatten)]
        members: T,
    }
    ack.map(|id| Outgoing::ack("/", id, &Answer { ok: true, members }))
}

/// How a failure is told: `{ok: false, error}` for `ack`, else the event `error`.
pub fn error_packet(ack: AckId, error: &ClientError) -> Option<Outgoing> {
    #[derive(Serialize)]
    struct Answer<'a> {
        ok: bool,
        error: &'a ClientError,
    }
    Some(match ack {
        Some(id) => Outgoing::ack("/", id, &Answer { ok: false, error }),
        None => Outgoing::event("error", error),
    })
}

/// Members of an answer that has none of its own.
#[derive(Debug, Serialize)]
pub struct Nothing {}
