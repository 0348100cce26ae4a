//! Socket.IO v5 packets as they arrive, read in place.
//!
//! [`Packet::decode_header`] and [`Packet::event`] borrow from the text and allocate nothing (an event
//! name with escapes in it is the one exception), because they run for every pose that comes in.
//! [`Packet::decode`] also checks the payload; everything that is stored or relayed goes through it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::limits::{MAX_ATTACHMENTS, MAX_JSON_DEPTH, MAX_PACKET_BYTES};

mod json;

use json::{JSON_SPACE, first_value, take_value};
pub use json::{RawArgs, check_depth};

/// Event names that Socket.IO keeps to itself; a peer that sends one is broken or hostile.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// What a packet is for. The discriminants are the digits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketKind {
    /// Asks to join a namespace, or grants it.
    Connect = 0,
    /// Leaves a namespace.
    Disconnect = 1,
    /// A named message.
    Event = 2,
    /// The answer to an event that carried an id.
    Ack = 3,
    /// Refuses a [`PacketKind::Connect`].
    ConnectError = 4,
    /// An event with binary attachments.
    BinaryEvent = 5,
    /// An ack with binary attachments.
    BinaryAck = 6,
}

impl PacketKind {
    /// The kind that a digit on the wire stands for.
    pub const fn from_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Ack,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAck,
            _ => return None,
        })
    }

    /// The digit that stands for this kind on the wire.
    pub const fn digit(self) -> u8 {
        b'0' + self as u8
    }

    /// Whether binary attachments follow the packet's text.
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }

    const fn is_event(self) -> bool {
        matches!(self, Self::Event | Self::BinaryEvent)
    }

    const fn is_ack(self) -> bool {
        matches!(self, Self::Ack | Self::BinaryAck)
    }
}

/// Why a packet was refused. Small, so that refusing is as cheap as accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The text is empty.
    #[error("empty packet")]
    Empty,
    /// The text is longer than [`MAX_PACKET_BYTES`].
    #[error("packet longer than {MAX_PACKET_BYTES} bytes")]
    TooLong,
    /// The first character is not a packet type.
    #[error("unknown packet type")]
    UnknownKind,
    /// A binary packet does not say how many attachments follow.
    #[error("invalid attachment count")]
    InvalidAttachmentCount,
    /// A binary packet announces more than [`MAX_ATTACHMENTS`].
    #[error("more than {MAX_ATTACHMENTS} attachments")]
    TooManyAttachments,
    /// The ack id does not fit in 64 bits.
    #[error("ack id out of range")]
    InvalidId,
    /// An event or an ack without arguments' array.
    #[error("payload missing")]
    MissingPayload,
    /// The payload is JSON, but not of the shape that this kind of packet has.
    #[error("payload of the wrong shape")]
    InvalidPayload,
    /// The payload is not JSON.
    #[error("payload is not JSON")]
    InvalidJson,
    /// The payload is nested deeper than [`MAX_JSON_DEPTH`].
    #[error("payload nested deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
    /// The event's name is not a usable string.
    #[error("invalid event name")]
    InvalidEventName,
    /// The event's name is one that Socket.IO keeps to itself.
    #[error("reserved event name")]
    ReservedEventName,
    /// [`Packet::event`] was called on a packet that is no event.
    #[error("not an event")]
    NotAnEvent,
    /// An argument is not of the type that was asked for.
    #[error("argument of the wrong type")]
    InvalidArgument,
}

/// One Socket.IO packet, borrowed from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the packet is for.
    pub kind: PacketKind,
    /// How many binary attachments follow; 0 for kinds that have none, at most [`MAX_ATTACHMENTS`].
    pub attachments: usize,
    /// `/` when the text names none; a query part (`?…`) is cut off.
    pub namespace: &'a str,
    /// The ack id.
    pub id: Option<u64>,
    /// The payload's JSON text, `None` if absent.
    pub data: Option<&'a str>,
}

impl<'a> Packet<'a> {
    /// Reads type, attachment count, namespace and ack id. The JSON is not looked at.
    ///
    /// # Errors
    /// When the header is malformed, or the text longer than [`MAX_PACKET_BYTES`].
    pub fn decode_header(text: &'a str) -> Result<Self, DecodeError> {
        if text.len() > MAX_PACKET_BYTES {
            return Err(DecodeError::TooLong);
        }
        let bytes = text.as_bytes();
        let first = *bytes.first().ok_or(DecodeError::Empty)?;
        let kind = PacketKind::from_digit(first).ok_or(DecodeError::UnknownKind)?;
        // All that is cut off in front is ASCII up to here, so every index below is a character boundary.
        let mut at = 1;
        let mut attachments = 0;
        if kind.is_binary() {
            (attachments, at) = read_attachments(bytes, at)?;
        }
        let mut namespace = "/";
        if bytes.get(at) == Some(&b'/') {
            let rest = &text[at..];
            let (full, used) = rest.split_once(',').map_or((rest, rest.len()), |(ns, _)| (ns, ns.len() + 1));
            namespace = full.split_once('?').map_or(full, |(path, _)| path);
            at += used;
        }
        let (id, at) = read_id(bytes, at)?;
        let data = if at < bytes.len() { Some(&text[at..]) } else { None };
        Ok(Self { kind, attachments, namespace, id, data })
    }

    /// Reads the header and checks the payload: JSON syntax, nesting, and the shape that the kind demands.
    ///
    /// # Errors
    /// When any of these is wrong.
    pub fn decode(text: &'a str) -> Result<Self, DecodeError> {
        let packet = Self::decode_header(text)?;
        packet.check_payload()?;
        Ok(packet)
    }

    /// The event's name and the text of its arguments.
    ///
    /// After [`Packet::decode_header`] only the name and the enclosing brackets have been checked; the
    /// methods of [`Event`] check the arguments as they read them.
    ///
    /// # Errors
    /// When the packet is no event, or its payload does not begin with a permitted name.
    pub fn event(&self) -> Result<Event<'a>, DecodeError> {
        if !self.kind.is_event() {
            return Err(DecodeError::NotAnEvent);
        }
        let inside = inside_array(self.data.ok_or(DecodeError::MissingPayload)?)?;
        let (name, rest) = read_name(inside)?;
        if RESERVED_EVENTS.contains(&&*name) {
            return Err(DecodeError::ReservedEventName);
        }
        let args = match rest.as_bytes().first() {
            None => "",
            Some(b',') => match rest[1..].trim_matches(JSON_SPACE) {
                "" => return Err(DecodeError::InvalidJson),
                args => args,
            },
            Some(_) => return Err(DecodeError::InvalidJson),
        };
        Ok(Event { name, args })
    }

    /// The text of an ack's arguments: what stands between the array's brackets, trimmed.
    ///
    /// # Errors
    /// When the packet is no ack, or its payload no array.
    pub fn ack_args(&self) -> Result<&'a str, DecodeError> {
        if !self.kind.is_ack() {
            return Err(DecodeError::InvalidPayload);
        }
        inside_array(self.data.ok_or(DecodeError::MissingPayload)?)
    }

    fn check_payload(&self) -> Result<(), DecodeError> {
        let Some(data) = self.data else {
            let required = self.kind.is_event() || self.kind.is_ack();
            return if required { Err(DecodeError::MissingPayload) } else { Ok(()) };
        };
        check_depth(data, MAX_JSON_DEPTH)?;
        serde_json::from_str::<IgnoredAny>(data).map_err(|_| DecodeError::InvalidJson)?;
        let first = data.trim_start_matches(JSON_SPACE).as_bytes().first().copied();
        let fits = match self.kind {
            PacketKind::Connect => first == Some(b'{'),
            PacketKind::Disconnect => false,
            PacketKind::Event | PacketKind::BinaryEvent => return self.event().map(|_| ()),
            PacketKind::Ack | PacketKind::BinaryAck => first == Some(b'['),
            PacketKind::ConnectError => matches!(first, Some(b'{' | b'"')),
        };
        if fits { Ok(()) } else { Err(DecodeError::InvalidPayload) }
    }
}

/// A named message, borrowed from its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's name; owned only when the sender wrote it with escapes.
    pub name: Cow<'a, str>,
    /// The JSON text of the arguments, comma-separated, without the brackets; empty if there are none.
    pub args: &'a str,
}

impl<'a> Event<'a> {
    /// The first argument as a `T`, `None` if there are no arguments. The others are only checked to be JSON.
    ///
    /// For a `T` that takes JSON apart no further (a `RawValue`), [`Event::first_raw`] is cheaper. Nesting is
    /// not checked here: use [`Packet::decode`] for what is kept or passed on as text.
    ///
    /// # Errors
    /// When the first argument is no `T`, or what follows it is not JSON.
    pub fn first_arg<T: Deserialize<'a>>(&self) -> Result<Option<T>, DecodeError> {
        if self.args.is_empty() {
            return Ok(None);
        }
        let (value, mut rest) = take_value::<T>(self.args)?;
        while !rest.is_empty() {
            (_, rest) = take_value::<IgnoredAny>(rest)?;
        }
        Ok(Some(value))
    }

    /// The JSON text of the first argument, empty if there are no arguments. It is found by brackets, quotes
    /// and commas alone, in one pass without allocating, so it may turn out not to be JSON: whoever reads it
    /// finds out. What follows it is not looked at.
    pub fn first_raw(&self) -> &'a str {
        first_value(self.args)
    }

    /// How many arguments there are.
    ///
    /// # Errors
    /// When the arguments are not JSON.
    pub fn args_count(&self) -> Result<usize, DecodeError> {
        self.raw_args().try_fold(0, |count, arg| arg.map(|_| count + 1))
    }

    /// The JSON text of each argument. After an error the iterator is at its end.
    pub fn raw_args(&self) -> RawArgs<'a> {
        RawArgs::new(self.args)
    }
}

/// `digits '-'`, at `at`; gives the count and the index after the dash.
fn read_attachments(bytes: &[u8], at: usize) -> Result<(usize, usize), DecodeError> {
    let digits = digits_at(bytes, at);
    let end = at + digits.len();
    if digits.is_empty() || bytes.get(end) != Some(&b'-') {
        return Err(DecodeError::InvalidAttachmentCount);
    }
    let count = parse_u64(digits).filter(|count| *count <= MAX_ATTACHMENTS as u64);
    let count = count.ok_or(DecodeError::TooManyAttachments)?;
    Ok((count as usize, end + 1))
}

/// The ack id at `at`, if there is one, and the index after it.
fn read_id(bytes: &[u8], at: usize) -> Result<(Option<u64>, usize), DecodeError> {
    let digits = digits_at(bytes, at);
    if digits.is_empty() {
        return Ok((None, at));
    }
    let id = parse_u64(digits).ok_or(DecodeError::InvalidId)?;
    Ok((Some(id), at + digits.len()))
}

fn digits_at(bytes: &[u8], at: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &rest[..count]
}

fn parse_u64(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// What stands between an array's brackets, trimmed. The inside is not checked.
fn inside_array(data: &str) -> Result<&str, DecodeError> {
    let inside = data.trim_matches(JSON_SPACE).strip_prefix('[').ok_or(DecodeError::InvalidPayload)?;
    let inside = inside.strip_suffix(']').ok_or(DecodeError::InvalidJson)?;
    Ok(inside.trim_matches(JSON_SPACE))
}

/// The string that `inside` begins with, and what follows it, trimmed in front.
fn read_name(inside: &str) -> Result<(Cow<'_, str>, &str), DecodeError> {
    let quoted = inside.strip_prefix('"').ok_or(DecodeError::InvalidEventName)?;
    let special = quoted.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ');
    match special.map(|at| (at, quoted.as_bytes()[at])) {
        Some((at, b'"')) => {
            Ok((Cow::Borrowed(&quoted[..at]), quoted[at + 1..].trim_start_matches(JSON_SPACE)))
        }
        Some((_, b'\\')) => {
            let mut stream = serde_json::Deserializer::from_str(inside).into_iter::<String>();
            let name = stream.next().and_then(Result::ok).ok_or(DecodeError::InvalidEventName)?;
            Ok((Cow::Owned(name), inside[stream.byte_offset()..].trim_start_matches(JSON_SPACE)))
        }
        _ => Err(DecodeError::InvalidEventName),
    }
}
