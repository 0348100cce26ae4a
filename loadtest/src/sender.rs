//! The way out of a session.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::net::tcp::OwnedWriteHalf;

use crate::websocket::write_frame;

/// Bytes that may wait to be sent: pongs and the rest of a frame that the kernel took in part. Poses are left
/// out while anything waits; a session with more than this ends.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// The way out of a session; the pacer and the reader share it.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The user's index among all users.
    pub(crate) index: u32,
    socket: OwnedWriteHalf,
    pending: RefCell<Vec<u8>>,
    /// Set once the session has ended.
    pub(crate) closed: Cell<bool>,
}

impl Sender {
    /// The way out of the session of the user `index`.
    pub(crate) fn new(index: u32, socket: OwnedWriteHalf) -> Self {
        Self { index, socket, pending: RefCell::new(Vec::new()), closed: Cell::new(false) }
    }

    /// Sends a message, or queues it if the connection takes no more at the moment.
    pub(crate) fn send(&self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.borrow_mut();
        if pending.len() + payload.len() > PENDING_BYTES_MAX {
            return Err(io::Error::other("the server does not read"));
        }
        write_frame(opcode, payload, rand::random(), &mut pending);
        self.flush(&mut pending)
    }

    /// Sends messages, each with its opcode, in one write if nothing waits before them and the connection takes
    /// them. `false` if they were left out.
    pub(crate) fn send_volatile(&self, messages: &[(u8, &[u8])]) -> io::Result<bool> {
        let mut pending = self.pending.borrow_mut();
        self.flush(&mut pending)?;
        if !pending.is_empty() {
            return Ok(false);
        }
        for (opcode, payload) in messages {
            write_frame(*opcode, payload, rand::random(), &mut pending);
        }
        let whole = pending.len();
        self.flush(&mut pending)?;
        if pending.len() == whole {
            pending.clear();
            return Ok(false);
        }
        Ok(true)
    }

    fn flush(&self, pending: &mut Vec<u8>) -> io::Result<()> {
        while !pending.is_empty() {
            match self.socket.try_write(pending) {
                Ok(written) => drop(pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
