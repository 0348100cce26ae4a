//! The way out of a session.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use tokio::net::tcp::OwnedWriteHalf;

use crate::polling::Outbox;
use crate::websocket::write_frame;

/// Bytes that may wait to be sent: pongs and the rest of a frame that the kernel took in part. Poses are left
/// out while anything waits; a session with more than this ends.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// Answers that one session may wait for. More are not asked for.
const ASKED_MAX: usize = 4_096;

/// What a session is held over.
#[derive(Debug)]
pub(crate) enum Way {
    Socket(OwnedWriteHalf),
    Polling(Rc<Outbox>),
}

/// The way out of a session; the pacer and the reader share it.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The user's index among all users.
    pub(crate) index: u32,
    way: Way,
    pending: RefCell<Vec<u8>>,
    /// Numbers of the poses with which an answer was asked for that has not come, oldest first.
    asked: RefCell<VecDeque<u32>>,
    /// Set once the session has ended.
    pub(crate) closed: Cell<bool>,
}

impl Sender {
    /// The way out of the session of the user `index`.
    pub(crate) fn new(index: u32, way: Way) -> Self {
        Self { index, way, pending: RefCell::default(), asked: RefCell::default(), closed: Cell::new(false) }
    }

    /// Notes that with pose `number` an answer is asked for. `false` if too many are open to ask for more.
    pub(crate) fn ask(&self, number: u32) -> bool {
        let mut asked = self.asked.borrow_mut();
        let room = asked.len() < ASKED_MAX;
        if room {
            asked.push_back(number);
        }
        room
    }

    /// The answer to what was asked with pose `number` has come. `false` if nobody waits for it.
    pub(crate) fn answered(&self, number: u32) -> bool {
        let mut asked = self.asked.borrow_mut();
        let at = asked.iter().position(|open| *open == number);
        at.is_some_and(|at| asked.remove(at).is_some())
    }

    /// With which poses answers were asked for that have not come.
    pub(crate) fn unanswered(&self) -> Vec<u32> {
        self.asked.borrow().iter().copied().collect()
    }

    /// Whether nothing waits to be sent and no answer is open, or never will come.
    pub(crate) fn is_settled(&self) -> bool {
        let all_sent = match &self.way {
            Way::Socket(_) => self.pending.borrow().is_empty(),
            Way::Polling(outbox) => outbox.is_idle(),
        };
        self.closed.get() || (all_sent && self.asked.borrow().is_empty())
    }

    /// Sends a message, or queues it if the connection takes no more at the moment.
    pub(crate) fn send(&self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        if let Way::Polling(outbox) = &self.way {
            return outbox.push(&[(opcode, payload)], false).map(|_| ());
        }
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
        if let Way::Polling(outbox) = &self.way {
            return outbox.push(messages, true);
        }
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

    /// Sends bytes that are no message. Only over a socket.
    pub(crate) fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.borrow_mut();
        pending.extend_from_slice(bytes);
        self.flush(&mut pending)
    }

    fn flush(&self, pending: &mut Vec<u8>) -> io::Result<()> {
        let Way::Socket(socket) = &self.way else { return Ok(()) };
        while !pending.is_empty() {
            match socket.try_write(pending) {
                Ok(written) => drop(pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
