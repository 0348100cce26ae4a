//! WebSocket frames from a client (RFC 6455), read in place.
//!
//! A [`Reader`] is given what has come, takes one frame off its front and says what it means. It unmasks in the
//! caller's buffer and copies only what comes in fragments. No extension is ever negotiated, so none is known.

use crate::outgoing::OPCODE_BINARY;

/// Opcodes of RFC 6455, besides text and binary.
const OPCODE_CONTINUATION: u8 = 0x0;
const OPCODE_TEXT: u8 = crate::outgoing::OPCODE_TEXT;
/// Opcode of a close frame.
pub const OPCODE_CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const OPCODE_PING: u8 = 0x9;
/// Opcode of a pong.
pub const OPCODE_PONG: u8 = 0xA;

/// The most that a control frame may carry.
pub const MAX_CONTROL_BYTES: usize = 125;

/// A frame's mask.
const MASK_BYTES: usize = 4;

/// Fragments of one message. More: the message is refused, for nobody cuts a megabyte that small for a reason.
const MAX_FRAGMENTS: u32 = 4_096;

/// What has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, whole.
    Text(&'a str),
    /// A binary message, whole.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or none to anything.
    Pong(&'a [u8]),
    /// The client wants to close, for this reason if it gives one. To be answered by a close frame; nothing comes
    /// after it.
    Close(Option<u16>),
}

/// One step through the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The next frame is not complete. It needs this many bytes from its beginning, as far as can be told.
    Incomplete(usize),
    /// A frame of this many bytes was taken. A fragment in the middle of a message is no message yet.
    Frame(usize, Option<Message<'a>>),
}

/// What breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A frame that may not be.
    #[error("bad frame: {0}")]
    Protocol(&'static str),
    /// A text, or a close frame's reason, that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message beyond the limit.
    #[error("message too long")]
    TooLong,
}

impl ReadError {
    /// The code to close the connection with.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

/// Reads one connection's frames.
#[derive(Debug)]
pub struct Reader {
    message_bytes_max: usize,
    /// A message in fragments. Boxed, because most connections never see one.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    opcode: u8,
    payload: Vec<u8>,
    count: u32,
    /// The message has been handed out; it goes with the next step.
    finished: bool,
}

struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; MASK_BYTES],
    start: usize,
    end: usize,
}

impl Reader {
    /// A reader that takes messages of up to `message_bytes_max` bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, fragments: None }
    }

    /// Takes the frame at the front of `input`, if it is all there.
    ///
    /// # Errors
    /// [`ReadError`]; the connection is to be closed, and nothing more to be read.
    pub fn step<'a>(&'a mut self, input: &'a mut [u8]) -> Result<Step<'a>, ReadError> {
        if self.fragments.as_ref().is_some_and(|fragments| fragments.finished) {
            self.fragments = None;
        }
        let header = match self.header(input)? {
            Ok(header) => header,
            Err(needed) => return Ok(Step::Incomplete(needed)),
        };
        let Some(payload) = input.get_mut(header.start..header.end) else {
            return Ok(Step::Incomplete(header.end));
        };
        unmask(payload, header.mask);
        let message = match header.opcode {
            OPCODE_PING => Some(Message::Ping(payload)),
            OPCODE_PONG => Some(Message::Pong(payload)),
            OPCODE_CLOSE => Some(Message::Close(close_code(payload)?)),
            OPCODE_CONTINUATION => self.continuation(header.fin, payload)?,
            opcode if header.fin => Some(whole(opcode, payload)?),
            opcode => {
                let payload = payload.to_vec();
                self.fragments = Some(Box::new(Fragments { opcode, payload, count: 1, finished: false }));
                None
            }
        };
        Ok(Step::Frame(header.end, message))
    }

    /// The header at the front of `input`, or how many bytes are needed to know it. Everything that can be judged
    /// is judged before the payload has come.
    fn header(&self, input: &[u8]) -> Result<Result<Header, usize>, ReadError> {
        let &[first, second, ..] = input else { return Ok(Err(2)) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(ReadError::Protocol("a reserved bit is set"));
        }
        if second & 0x80 == 0 {
            return Err(ReadError::Protocol("a client's frame must be masked"));
        }
        self.check_opcode(fin, opcode, second & 0x7f)?;
        let (length, at) = match second & 0x7f {
            126 => match input.get(2..4) {
                Some(bytes) => (u64::from(u16::from_be_bytes([bytes[0], bytes[1]])), 4),
                None => return Ok(Err(4)),
            },
            127 => match input.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(Err(10)),
            },
            short => (u64::from(short), 2),
        };
        if (at == 4 && length < 126) || (at == 10 && length <= 0xffff) {
            return Err(ReadError::Protocol("a length must be written as short as it can be"));
        }
        let before = match &self.fragments {
            Some(fragments) if opcode == OPCODE_CONTINUATION => fragments.payload.len(),
            _ => 0,
        };
        if length > (self.message_bytes_max - before) as u64 {
            return Err(ReadError::TooLong);
        }
        let Some(mask) = input.get(at..at + MASK_BYTES).and_then(|bytes| bytes.try_into().ok()) else {
            return Ok(Err(at + MASK_BYTES));
        };
        let start = at + MASK_BYTES;
        Ok(Ok(Header { fin, opcode, mask, start, end: start + length as usize }))
    }

    fn check_opcode(&self, fin: bool, opcode: u8, short_length: u8) -> Result<(), ReadError> {
        match opcode {
            OPCODE_TEXT | OPCODE_BINARY if self.fragments.is_some() => {
                Err(ReadError::Protocol("a new message between the fragments of another"))
            }
            OPCODE_CONTINUATION if self.fragments.is_none() => {
                Err(ReadError::Protocol("a continuation of nothing"))
            }
            OPCODE_TEXT | OPCODE_BINARY | OPCODE_CONTINUATION => Ok(()),
            OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG if !fin => {
                Err(ReadError::Protocol("a control frame in fragments"))
            }
            OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG if usize::from(short_length) > MAX_CONTROL_BYTES => {
                Err(ReadError::Protocol("a control frame is at most 125 bytes"))
            }
            OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG => Ok(()),
            _ => Err(ReadError::Protocol("an unknown opcode")),
        }
    }

    fn continuation(&mut self, fin: bool, payload: &[u8]) -> Result<Option<Message<'_>>, ReadError> {
        let Some(fragments) = &mut self.fragments else {
            return Err(ReadError::Protocol("a continuation of nothing"));
        };
        fragments.count += 1;
        if fragments.count > MAX_FRAGMENTS {
            return Err(ReadError::TooLong);
        }
        fragments.payload.extend_from_slice(payload);
        fragments.finished = fin;
        if fin { whole(fragments.opcode, &fragments.payload).map(Some) } else { Ok(None) }
    }
}

fn whole(opcode: u8, payload: &[u8]) -> Result<Message<'_>, ReadError> {
    if opcode == OPCODE_TEXT {
        std::str::from_utf8(payload).map(Message::Text).map_err(|_| ReadError::NotUtf8)
    } else {
        Ok(Message::Binary(payload))
    }
}

/// The code in a close frame.
fn close_code(payload: &[u8]) -> Result<Option<u16>, ReadError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ReadError::Protocol("a close code is two bytes")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // Those that may be sent: RFC 6455 section 7.4 and the codes registered since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ReadError::Protocol("a close code that may not be sent"));
    }
    std::str::from_utf8(reason).map_err(|_| ReadError::NotUtf8)?;
    Ok(Some(code))
}

/// Takes the mask off, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // Eight is a multiple of the mask's length, so the rest begins with its first byte.
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A close frame for this code, ready to be sent.
pub fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | OPCODE_CLOSE, 2, high, low]
}
