//! Reading: all that a server must do to what comes in, which is to find out where it ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

/// As large as the server's.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A client's frame has a mask after its length.
const MASK_BYTES: u64 = 4;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER_BYTES]);
}

/// Reads until the client is gone. `early` is what has been read before.
pub(crate) async fn read_to_end(mut input: OwnedReadHalf, early: &[u8]) {
    let mut boundaries = Boundaries::default();
    boundaries.pass(early);
    poll_fn(|cx| poll_end(&mut input, &mut boundaries, cx)).await;
}

fn poll_end(input: &mut OwnedReadHalf, boundaries: &mut Boundaries, cx: &mut Context<'_>) -> Poll<()> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        // Tokio's budget lets the others go on after a while. A read that does not fill the buffer is known to be
        // the last, so that this costs one system call.
        loop {
            let mut read = ReadBuf::new(buffer);
            let done = ready!(Pin::new(&mut *input).poll_read(cx, &mut read));
            if done.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
            boundaries.pass(read.filled());
        }
    })
}

/// Where a connection is between its frames.
#[derive(Debug, Default)]
struct Boundaries {
    /// Bytes of the current frame that are still to come, its mask included.
    left: u64,
    /// The start of a header that came in pieces.
    header: [u8; 10],
    header_bytes: usize,
    /// Whole headers so far.
    frames: u64,
}

impl Boundaries {
    fn pass(&mut self, mut input: &[u8]) {
        loop {
            let passed = self.left.min(input.len() as u64);
            input = &input[passed as usize..];
            self.left -= passed;
            let Some((&byte, rest)) = input.split_first() else { return };
            input = rest;
            self.header[self.header_bytes] = byte;
            self.header_bytes += 1;
            if let Some(length) = payload_bytes(&self.header[..self.header_bytes]) {
                self.left = MASK_BYTES.saturating_add(length);
                self.header_bytes = 0;
                self.frames += 1;
            }
        }
    }
}

/// The length that a header tells, once it has been read so far.
fn payload_bytes(header: &[u8]) -> Option<u64> {
    match *header {
        [_, length] if length & 0x7F < 126 => Some(u64::from(length & 0x7F)),
        [_, length, a, b] if length & 0x7F == 126 => Some(u64::from(u16::from_be_bytes([a, b]))),
        [_, length, ref long @ ..] if length & 0x7F == 127 => Some(u64::from_be_bytes(long.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_come_in_pieces() {
        let mut bytes = Vec::new();
        for length in [0_usize, 1, 125, 126, 65_535, 65_536, 3] {
            let (mut header, used) = protocol::outgoing::frame_header(1, length);
            header[1] |= 0x80;
            bytes.extend_from_slice(&header[..used]);
            // Payload that looks like headers, should anybody mistake it for one.
            bytes.resize(bytes.len() + MASK_BYTES as usize + length, 0x81);
        }
        for piece in [1, 2, 3, 7, 1_000, bytes.len()] {
            let mut boundaries = Boundaries::default();
            bytes.chunks(piece).for_each(|chunk| boundaries.pass(chunk));
            assert_eq!((boundaries.frames, boundaries.left, boundaries.header_bytes), (7, 0, 0), "{piece}");
        }
    }
}
