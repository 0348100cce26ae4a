//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use engine::ports::OutboxError;
use protocol::Outgoing;
use protocol::limits::MAX_USER_UPDATE_BYTES;

use crate::config::MAX_USERS_PER_ROOM_LIMIT;
use crate::transport::outbox::MAX_QUEUED_BYTES;

/// Frames that wait for one connection. Full: it is closed as a slow reader. Everybody's arrival in the largest
/// room fits in. They are references to frames that all who wait for them share.
const MAX_QUEUED_FRAMES: usize = 32_768;

/// What the server adds to what a user says of itself, where it lists users.
const USER_ENTRY_BYTES: usize = 1024;

/// Bytes of the largest packet that may wait. One of more than half of [`MAX_QUEUED_BYTES`] may wait besides what
/// that allows, up to this: the list of everybody in the largest room, each of whom says as much as is allowed. All
/// who wait for the same list share it. Longer: the connection is closed as a slow reader.
const MAX_LARGE_PACKET_BYTES: usize = MAX_USERS_PER_ROOM_LIMIT * (MAX_USER_UPDATE_BYTES + USER_ENTRY_BYTES);

/// A queue that has been longer than this gives its memory back when it is empty.
const KEPT_QUEUE_FRAMES: usize = 16;

/// Frames in their order, the first of which may have left in part.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) frames: VecDeque<Bytes>,
    /// Bytes of the first frame that have left.
    sent: usize,
    bytes: usize,
    /// Bytes of the one large packet that has been let in besides since the queue was last empty.
    large_bytes: usize,
    /// A close frame is the last one; nothing may follow.
    pub(super) is_closing: bool,
}

impl Queue {
    /// Queues a frame.
    ///
    /// # Errors
    /// `Full` or `Closed`; nothing has been queued then.
    pub(super) fn push(&mut self, frame: Bytes) -> Result<(), OutboxError> {
        if self.is_closing {
            return Err(OutboxError::Closed);
        }
        self.admit(frame.len())?;
        self.append(frame);
        Ok(())
    }

    /// Queues a packet's frames: all of them, or none.
    ///
    /// # Errors
    /// As for [`Queue::push`].
    pub(super) fn push_packet(&mut self, packet: &Outgoing) -> Result<(), OutboxError> {
        if let Some(frames) = packet.contiguous() {
            return self.push(frames.clone());
        }
        if self.is_closing {
            return Err(OutboxError::Closed);
        }
        self.admit(packet.wire_bytes())?;
        self.append(packet.frame());
        for attachment in packet.attachment_frames() {
            self.append(Bytes::copy_from_slice(attachment.header()));
            self.append(attachment.payload.clone());
        }
        Ok(())
    }

    /// Whether a packet of this many bytes may wait. It may have several frames, at most two for each attachment
    /// and one more, by which the queue may get longer than its limit.
    fn admit(&mut self, bytes: usize) -> Result<(), OutboxError> {
        if self.frames.is_empty() {
            self.large_bytes = 0;
        }
        if self.frames.len() >= MAX_QUEUED_FRAMES {
            return Err(OutboxError::Full);
        }
        // Otherwise the list of a large room could never be sent, and the room never be joined.
        if bytes > MAX_QUEUED_BYTES / 2 && bytes <= MAX_LARGE_PACKET_BYTES && self.large_bytes == 0 {
            self.large_bytes = bytes;
            return Ok(());
        }
        if self.bytes + bytes > MAX_QUEUED_BYTES + self.large_bytes {
            return Err(OutboxError::Full);
        }
        Ok(())
    }

    /// Queues a frame whatever the limits.
    pub(super) fn append(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Puts as many frames as `parts` takes there, and says how many they are.
    pub(super) fn fill<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        let mut sent = self.sent;
        let mut count = 0;
        for (part, frame) in parts.iter_mut().zip(&self.frames) {
            *part = IoSlice::new(&frame[sent..]);
            sent = 0;
            count += 1;
        }
        count
    }

    /// Forgets this many bytes, which have been written.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.frames.pop_front();
        }
    }

    /// Gives back the memory of a queue that is empty and has been long.
    pub(super) fn shrink(&mut self) {
        if self.frames.is_empty() && self.frames.capacity() > KEPT_QUEUE_FRAMES {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: usize) -> Outgoing {
        Outgoing::message(&"x".repeat(bytes))
    }

    fn written(queue: &mut Queue) {
        queue.advance(queue.bytes);
        assert!(queue.frames.is_empty());
    }

    #[test]
    fn what_waits_is_limited_in_bytes_and_in_frames() {
        let mut queue = Queue::default();
        let small = packet(MAX_QUEUED_BYTES / 4);
        assert_eq!([(); 4].map(|()| queue.push_packet(&small).is_ok()), [true, true, true, false]);
        written(&mut queue);
        let tiny = Bytes::from_static(b"x");
        assert!((0..MAX_QUEUED_FRAMES).all(|_| queue.push(tiny.clone()).is_ok()));
        assert_eq!(queue.push(tiny), Err(OutboxError::Full));
    }

    #[test]
    fn one_large_packet_may_wait_besides_and_then_another() {
        let mut queue = Queue::default();
        let (small, large) = (packet(100), packet(MAX_QUEUED_BYTES + 1));
        for _ in 0..2 {
            // As a room greets: its answer, everybody in it, its objects.
            assert_eq!([&small, &large, &small].map(|packet| queue.push_packet(packet)), [Ok(()); 3]);
            assert_eq!(queue.push_packet(&large), Err(OutboxError::Full));
            assert_eq!(queue.push_packet(&packet(MAX_QUEUED_BYTES / 2 - 500)), Ok(()));
            assert_eq!(queue.push_packet(&packet(MAX_QUEUED_BYTES / 2)), Ok(()));
            assert_eq!(queue.push_packet(&packet(MAX_QUEUED_BYTES / 2)), Err(OutboxError::Full));
            written(&mut queue);
        }
        let small = packet(MAX_QUEUED_BYTES / 4);
        let taken = (0..9).filter(|_| queue.push_packet(&small).is_ok()).count();
        assert_eq!(taken, 3, "the limit is what it was");
    }

    #[test]
    fn a_packet_is_queued_whole_or_not_at_all() {
        let mut queue = Queue::default();
        queue.push_packet(&packet(MAX_QUEUED_BYTES / 2)).unwrap();
        let frames = queue.frames.len();
        let attachments = vec![Bytes::from(vec![0; MAX_QUEUED_BYTES / 4]); 3];
        let refused = Outgoing::binary_event_raw("x", r#"{"_placeholder":true,"num":0}"#, attachments);
        // It is large, and the first may be; the second is refused before anything of it is queued.
        assert_eq!(queue.push_packet(&refused), Ok(()));
        assert_eq!(queue.frames.len(), frames + 7);
        assert_eq!(queue.push_packet(&refused), Err(OutboxError::Full));
        assert_eq!(queue.frames.len(), frames + 7);
    }
}
