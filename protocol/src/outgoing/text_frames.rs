//! Many packets in one buffer: a tick.

use std::ops::Range;

use bytes::Bytes;

use super::{ENGINE_MESSAGE, OPCODE_TEXT, frame_header, header_bytes};

/// Where a frame lies in the buffer of [`TextFrames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSpan {
    /// The WebSocket header's first byte.
    pub start: u32,
    /// One past the frame's last byte.
    pub end: u32,
    /// The Socket.IO text's first byte, after Engine.IO's type.
    pub text_start: u32,
}

impl FrameSpan {
    /// The whole WebSocket frame.
    pub const fn frame(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The Socket.IO packet's text.
    pub const fn text(self) -> Range<usize> {
        self.text_start as usize..self.end as usize
    }
}

/// Many Socket.IO text packets, each a WebSocket frame, one behind the other in one buffer without gaps.
#[derive(Debug, Default)]
pub struct TextFrames {
    buffer: Vec<u8>,
    /// The open frame: where it starts, and where its payload does.
    open: Option<(usize, usize)>,
}

impl TextFrames {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity), open: None }
    }

    /// Opens a frame and gives the buffer to append its Socket.IO text to; the text must be UTF-8, and what
    /// is in the buffer already must be left alone.
    ///
    /// `text_bytes_hint` is how long the text will be. It need not be exact: nothing is moved as long as it
    /// is on the same side of 125 and 65,535 as the truth, and otherwise the text is moved once.
    ///
    /// # Panics
    /// When a frame is open.
    pub fn begin(&mut self, text_bytes_hint: usize) -> &mut Vec<u8> {
        assert!(self.open.is_none(), "the frame before has not been ended");
        let start = self.buffer.len();
        let payload_start = start + header_bytes(text_bytes_hint.saturating_add(1));
        self.buffer.resize(payload_start, 0);
        self.buffer.push(ENGINE_MESSAGE);
        self.open = Some((start, payload_start));
        &mut self.buffer
    }

    /// The buffer, to go on appending to the open frame.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Closes the frame and says where it is.
    ///
    /// # Panics
    /// When no frame is open, the buffer was shortened, or it has grown beyond 4 GiB.
    pub fn end(&mut self) -> FrameSpan {
        let (start, mut payload_start) = self.open.take().expect("a frame has been begun");
        let payload_len = self.buffer.len().checked_sub(payload_start).expect("the buffer only grows");
        assert!(payload_len > 0, "the buffer only grows");
        let (header, used) = frame_header(OPCODE_TEXT, payload_len);
        if start + used != payload_start {
            payload_start = self.move_payload(payload_start, start + used, payload_len);
        }
        self.buffer[start..payload_start].copy_from_slice(&header[..used]);
        let end = u32::try_from(self.buffer.len()).expect("a tick is far below 4 GiB");
        FrameSpan { start: start as u32, end, text_start: payload_start as u32 + 1 }
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The frames, without copying them.
    ///
    /// # Panics
    /// When a frame is open.
    pub fn finish(self) -> Bytes {
        assert!(self.open.is_none(), "the last frame has not been ended");
        Bytes::from(self.buffer)
    }

    fn move_payload(&mut self, from: usize, to: usize, payload_len: usize) -> usize {
        if to > from {
            self.buffer.resize(to + payload_len, 0);
        }
        self.buffer.copy_within(from..from + payload_len, to);
        self.buffer.truncate(to + payload_len);
        to
    }
}
