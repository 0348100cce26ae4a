//! Packets on their way out, built once however many they go to.
//!
//! An [`Outgoing`] holds its text already framed for a WebSocket, so that the sender only counts a reference
//! up and writes. [`TextFrames`] puts a whole tick's packets into one buffer.

mod text_frames;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::limits::MAX_ATTACHMENTS;
use crate::packet::PacketKind;

pub use text_frames::{FrameSpan, TextFrames};

/// WebSocket opcode of a text frame.
pub const OPCODE_TEXT: u8 = 0x1;
/// WebSocket opcode of a binary frame.
pub const OPCODE_BINARY: u8 = 0x2;

/// The longest header of an unmasked WebSocket frame, in bytes.
const HEADER_BYTES_MAX: usize = 10;
/// The Engine.IO packet type "message", which precedes every Socket.IO packet.
const ENGINE_MESSAGE: u8 = b'4';
/// What stands in an event's arguments for its first attachment.
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;
/// Room for the punctuation around a payload: kind, brackets, quotes, comma, ack id.
const PUNCTUATION_BYTES: usize = 32;

/// One Socket.IO packet, encoded; cloning counts references and copies no bytes.
///
/// The buffer is `[WebSocket header]['4'][Socket.IO text]`. The header's place is kept free in front while
/// the text is written, because its length is only known afterwards.
#[derive(Clone, Debug)]
pub struct Outgoing {
    frame: Bytes,
    text_start: usize,
    attachments: Option<Arc<[Bytes]>>,
    /// All frames, where they stand one behind the other in one buffer.
    contiguous: Option<Bytes>,
}

/// Events of one name whose one argument is one attachment: all of them begin alike.
#[derive(Clone, Debug)]
pub struct AttachmentEvents {
    text: Outgoing,
}

impl AttachmentEvents {
    /// Events in the namespace `/`.
    pub fn new(name: &str) -> Self {
        Self { text: Outgoing::event_raw_in("/", name, PLACEHOLDER, vec![Bytes::new()]) }
    }

    /// The event whose attachment is what `write` appends to a buffer. Everything that goes over a WebSocket then
    /// stands in that one buffer, and is written without being put together first. `bytes_hint` is about how long the
    /// attachment is.
    pub fn event(&self, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Outgoing {
        let Outgoing { frame: text, text_start, .. } = &self.text;
        let mut buffer = Vec::with_capacity(HEADER_BYTES_MAX + text.len() + bytes_hint);
        buffer.resize(HEADER_BYTES_MAX, 0);
        buffer.extend_from_slice(text);
        let payload_start = buffer.len();
        write(&mut buffer);
        // The header's length is only known now; what stands before it moves up against it.
        let (header, used) = frame_header(OPCODE_BINARY, buffer.len() - payload_start);
        let start = HEADER_BYTES_MAX - used;
        buffer.copy_within(HEADER_BYTES_MAX..payload_start, start);
        buffer[payload_start - used..payload_start].copy_from_slice(&header[..used]);
        let contiguous = Bytes::from(buffer).slice(start..);
        let frame = contiguous.slice(..text.len());
        let payload = contiguous.slice(text.len() + used..);
        let attachments = Some([payload].into());
        Outgoing { frame, text_start: *text_start, attachments, contiguous: Some(contiguous) }
    }
}

impl Outgoing {
    /// Grants a CONNECT: the session's id in that namespace.
    pub fn connect(namespace: &str, sid: &str) -> Self {
        let mut draft = Draft::new(PacketKind::Connect, 0, namespace, None, sid.len());
        draft.raw("{\"sid\":");
        draft.json(sid);
        draft.raw("}");
        draft.finish(Vec::new())
    }

    /// Refuses a CONNECT, with a reason for the client.
    pub fn connect_error(namespace: &str, message: &str) -> Self {
        let mut draft = Draft::new(PacketKind::ConnectError, 0, namespace, None, message.len());
        draft.raw("{\"message\":");
        draft.json(message);
        draft.raw("}");
        draft.finish(Vec::new())
    }

    /// Ends a namespace's session.
    pub fn disconnect(namespace: &str) -> Self {
        Draft::new(PacketKind::Disconnect, 0, namespace, None, 0).finish(Vec::new())
    }

    /// An event with one argument, in the namespace `/`.
    ///
    /// # Panics
    /// When `payload` cannot be JSON (a map whose keys are no strings): a bug in its type, not in its data.
    pub fn event<T: Serialize + ?Sized>(name: &str, payload: &T) -> Self {
        Self::event_in("/", name, payload)
    }

    /// An event with one argument.
    ///
    /// # Panics
    /// As [`Outgoing::event`].
    pub fn event_in<T: Serialize + ?Sized>(namespace: &str, name: &str, payload: &T) -> Self {
        let mut draft = Draft::new(PacketKind::Event, 0, namespace, None, name.len() + 96);
        draft.raw("[");
        draft.json(name);
        draft.raw(",");
        draft.json(payload);
        draft.raw("]");
        draft.finish(Vec::new())
    }

    /// An event in the namespace `/` whose arguments are JSON text already, comma-separated; may be empty.
    pub fn event_raw(name: &str, args_json: &str) -> Self {
        Self::event_raw_in("/", name, args_json, Vec::new())
    }

    /// An event in the namespace `/` with attachments, to which placeholders in `args_json` point.
    ///
    /// # Panics
    /// As [`Outgoing::event_raw_in`].
    pub fn binary_event_raw(name: &str, args_json: &str, attachments: Vec<Bytes>) -> Self {
        Self::event_raw_in("/", name, args_json, attachments)
    }

    /// An event whose arguments are JSON text already. Without attachments it is a plain event: the stock
    /// JavaScript parser refuses a binary one that has none.
    ///
    /// `args_json` must be valid, and its placeholders too (see [`crate::attachments::placeholders_valid`]):
    /// a stock client drops its connection on either fault.
    ///
    /// # Panics
    /// With more than [`MAX_ATTACHMENTS`] attachments, which no stock client takes.
    pub fn event_raw_in(namespace: &str, name: &str, args_json: &str, attachments: Vec<Bytes>) -> Self {
        let kind = if attachments.is_empty() { PacketKind::Event } else { PacketKind::BinaryEvent };
        let room = name.len() + args_json.len();
        let mut draft = Draft::new(kind, attachments.len(), namespace, None, room);
        draft.raw("[");
        draft.json(name);
        if !args_json.is_empty() {
            draft.raw(",");
            draft.raw(args_json);
        }
        draft.raw("]");
        draft.finish(attachments)
    }

    /// The answer to the event that carried `id`, with one argument.
    ///
    /// # Panics
    /// As [`Outgoing::event`].
    pub fn ack<T: Serialize + ?Sized>(namespace: &str, id: u64, payload: &T) -> Self {
        let mut draft = Draft::new(PacketKind::Ack, 0, namespace, Some(id), 64);
        draft.raw("[");
        draft.json(payload);
        draft.raw("]");
        draft.finish(Vec::new())
    }

    /// The answer to the event that carried `id`; the arguments are JSON text, comma-separated, may be empty.
    ///
    /// # Panics
    /// As [`Outgoing::event_raw_in`].
    pub fn ack_raw(namespace: &str, id: u64, args_json: &str, attachments: Vec<Bytes>) -> Self {
        let kind = if attachments.is_empty() { PacketKind::Ack } else { PacketKind::BinaryAck };
        let mut draft = Draft::new(kind, attachments.len(), namespace, Some(id), args_json.len());
        draft.raw("[");
        draft.raw(args_json);
        draft.raw("]");
        draft.finish(attachments)
    }

    /// A text message of Engine.IO that is no packet of Socket.IO's.
    pub fn message(text: &str) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES_MAX + 1 + text.len());
        buffer.extend_from_slice(&[0; HEADER_BYTES_MAX]);
        buffer.push(ENGINE_MESSAGE);
        buffer.extend_from_slice(text.as_bytes());
        Draft { buffer }.finish(Vec::new())
    }

    /// A binary message of Engine.IO without a text before it.
    pub fn binary_message(message: Bytes) -> Self {
        Self { frame: Bytes::new(), text_start: 0, attachments: Some([message].into()), contiguous: None }
    }

    /// Whether there is a text; only [`Outgoing::binary_message`] has none.
    pub fn has_text(&self) -> bool {
        !self.frame.is_empty()
    }

    /// The Socket.IO packet's text, without Engine.IO's type in front.
    pub fn text(&self) -> &str {
        // Only strings and serde_json have written here. The check is cheap; unsafe code is not worth it.
        std::str::from_utf8(&self.frame[self.text_start..]).expect("a packet is built from strings")
    }

    /// The same as [`Outgoing::text`], sharing the buffer.
    pub fn text_bytes(&self) -> Bytes {
        self.frame.slice(self.text_start..)
    }

    /// The whole WebSocket text frame, Engine.IO's type included, sharing the buffer.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// The attachments in order, each of which goes out as a binary message after the text.
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().unwrap_or_default()
    }

    /// The attachments with the WebSocket headers that go before them.
    pub fn attachment_frames(&self) -> impl Iterator<Item = AttachmentFrame<'_>> {
        self.attachments().iter().map(|payload| {
            let (header, header_bytes) = frame_header(OPCODE_BINARY, payload.len());
            AttachmentFrame { header, header_bytes, payload }
        })
    }

    /// All of its WebSocket frames in one buffer, if that is how they stand. `None` means that they do not, and
    /// are to be had one by one.
    pub fn contiguous(&self) -> Option<&Bytes> {
        match &self.contiguous {
            None if self.attachments.is_none() => Some(&self.frame),
            contiguous => contiguous.as_ref(),
        }
    }

    /// How many bytes of WebSocket frames this is, attachments and headers included.
    pub fn wire_bytes(&self) -> usize {
        let frame_bytes = |frame: AttachmentFrame<'_>| frame.header_bytes + frame.payload.len();
        self.frame.len() + self.attachment_frames().map(frame_bytes).sum::<usize>()
    }
}

/// One attachment as a WebSocket binary frame: [`AttachmentFrame::header`], then `payload`.
#[derive(Clone, Copy, Debug)]
pub struct AttachmentFrame<'a> {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// The attachment.
    pub payload: &'a Bytes,
}

impl AttachmentFrame<'_> {
    /// The frame's header.
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_bytes]
    }
}

/// The header of a final, unmasked WebSocket frame (RFC 6455, server to client) and its length in bytes.
pub fn frame_header(opcode: u8, payload_len: usize) -> ([u8; 10], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = 0x80 | (opcode & 0x0f);
    let used = header_bytes(payload_len);
    match used {
        2 => header[1] = payload_len as u8,
        4 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    (header, used)
}

const fn header_bytes(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// A packet being written.
struct Draft {
    buffer: Vec<u8>,
}

impl Draft {
    fn new(
        kind: PacketKind,
        attachments: usize,
        namespace: &str,
        id: Option<u64>,
        payload_bytes_hint: usize,
    ) -> Self {
        let capacity = HEADER_BYTES_MAX + PUNCTUATION_BYTES + namespace.len() + payload_bytes_hint;
        let mut buffer = Vec::with_capacity(capacity);
        buffer.extend_from_slice(&[0; HEADER_BYTES_MAX]);
        buffer.extend_from_slice(&[ENGINE_MESSAGE, kind.digit()]);
        let mut draft = Self { buffer };
        if kind.is_binary() {
            draft.number(attachments as u64);
            draft.raw("-");
        }
        if namespace != "/" {
            draft.raw(namespace);
            draft.raw(",");
        }
        if let Some(id) = id {
            draft.number(id);
        }
        draft
    }

    fn raw(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, value: u64) {
        self.raw(itoa::Buffer::new().format(value));
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.buffer, value).expect("a payload's type can be JSON");
    }

    fn finish(mut self, attachments: Vec<Bytes>) -> Outgoing {
        assert!(attachments.len() <= MAX_ATTACHMENTS, "{} attachments", attachments.len());
        let (header, used) = frame_header(OPCODE_TEXT, self.buffer.len() - HEADER_BYTES_MAX);
        let start = HEADER_BYTES_MAX - used;
        self.buffer[start..HEADER_BYTES_MAX].copy_from_slice(&header[..used]);
        let frame = Bytes::from(self.buffer).slice(start..);
        let attachments = if attachments.is_empty() { None } else { Some(attachments.into()) };
        Outgoing { frame, text_start: used + 1, attachments, contiguous: None }
    }
}
