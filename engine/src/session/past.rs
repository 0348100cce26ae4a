//! How a session gets into a private room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::error::{ClientError, ErrorCode};
use protocol::event::{Encoding, View};

use super::Session;
use crate::private::PrivateRoom;
use crate::room::{AckId, Command};

/// Where a session stood when it asked for something that takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing(u64);

impl Session {
    /// Where the session stands. Changes with every join and departure.
    pub fn standing(&self) -> Standing {
        Standing(self.seat().turn)
    }

    /// Enters a private room, unless the session has gone anywhere else since it stood there. Until then it stays in the
    /// room that it is in.
    ///
    /// # Errors
    /// `unavailable` if it has gone elsewhere, `overloaded` as with any join. The private room is gone then.
    pub fn enter_private(
        self: &Arc<Self>,
        standing: Standing,
        room: PrivateRoom,
        (encoding, view): (Encoding, View),
        ack: AckId,
    ) -> Result<(), ClientError> {
        let mut seat = self.seat();
        if seat.closed {
            return Ok(());
        }
        if seat.turn != standing.0 {
            return Err(ClientError::new(ErrorCode::Unavailable, "you have gone elsewhere meanwhile"));
        }
        if self.departures.load(Ordering::Acquire) > 0 {
            return Err(self.overloaded());
        }
        let command = Command::Join { user: self.user.clone(), encoding, password: None, view };
        self.take_seat(&mut seat, room.into_lease(), command, ack)
    }
}
