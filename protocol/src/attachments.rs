//! Binary packets: a text that announces attachments, then the attachments, each a message of its own.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::limits::{ATTACHMENT_TIMEOUT_MS, MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS};
use crate::packet::{DecodeError, Packet, RawArgs};

/// What one connection may have waiting for its missing attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssembleLimits {
    /// Attachments of one packet. Never more than [`MAX_ATTACHMENTS`], whatever is said here.
    pub attachments_max: usize,
    /// Bytes of one packet's attachments together.
    pub bytes_max: usize,
    /// How long a packet may stay incomplete.
    pub age_ms_max: u64,
}

impl Default for AssembleLimits {
    fn default() -> Self {
        Self {
            attachments_max: MAX_ATTACHMENTS,
            bytes_max: MAX_ATTACHMENT_BYTES,
            age_ms_max: ATTACHMENT_TIMEOUT_MS,
        }
    }
}

/// Why a binary packet was refused. Whatever the reason, nothing of it is kept, and the two sides no longer
/// agree on what the next message is: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssembleError {
    /// The text is no valid packet.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A text came while attachments were due.
    #[error("text while attachments were due")]
    UnexpectedText,
    /// A binary message came while none was due.
    #[error("binary message without a packet that announces it")]
    UnexpectedBinary,
    /// The packet announces more attachments than are allowed.
    #[error("too many attachments")]
    TooManyAttachments,
    /// The attachments are longer than is allowed.
    #[error("attachments too long")]
    TooLong,
    /// The attachments did not come in time.
    #[error("attachments did not come in time")]
    TimedOut,
    /// A placeholder points to no attachment.
    #[error("placeholder without an attachment")]
    InvalidPlaceholder,
}

/// What a text turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin<'a> {
    /// A packet without attachments. Only its header has been read, as by [`Packet::decode_header`].
    Complete(Packet<'a>),
    /// A packet that is held until so many binary messages have come.
    Waiting(usize),
}

/// A binary packet, complete. Its text is valid as by [`Packet::decode`], its placeholders are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryPacket {
    /// The Socket.IO packet's text.
    pub text: String,
    /// The attachments in order; some may be longer than others, any may be empty.
    pub attachments: Vec<Bytes>,
}

#[derive(Debug)]
struct Pending {
    packet: BinaryPacket,
    missing: usize,
    bytes: usize,
    started_ms: u64,
}

/// Puts one connection's binary packets together. Holds at most one packet, bounded by its limits.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: AssembleLimits,
    // Boxed, because most connections never send an attachment and all of them have an assembler.
    pending: Option<Box<Pending>>,
}

impl Assembler {
    /// An assembler that holds nothing yet.
    pub fn new(limits: AssembleLimits) -> Self {
        Self { limits, pending: None }
    }

    /// Takes a text message. Copies it only if attachments are to follow.
    ///
    /// # Errors
    /// When attachments were due, or the packet is refused.
    pub fn begin<'a>(&mut self, text: &'a str, now_ms: u64) -> Result<Begin<'a>, AssembleError> {
        if self.pending.take().is_some() {
            return Err(AssembleError::UnexpectedText);
        }
        let header = Packet::decode_header(text)?;
        if header.attachments == 0 {
            return Ok(Begin::Complete(header));
        }
        if header.attachments > self.limits.attachments_max {
            return Err(AssembleError::TooManyAttachments);
        }
        let packet = Packet::decode(text)?;
        let args = packet.event().map(|event| event.args).or_else(|_| packet.ack_args())?;
        if !placeholders_valid(args, packet.attachments) {
            return Err(AssembleError::InvalidPlaceholder);
        }
        let missing = packet.attachments;
        let packet = BinaryPacket { text: text.to_owned(), attachments: Vec::with_capacity(missing) };
        self.pending = Some(Box::new(Pending { packet, missing, bytes: 0, started_ms: now_ms }));
        Ok(Begin::Waiting(missing))
    }

    /// Takes a binary message; gives the packet that it completes.
    ///
    /// # Errors
    /// When none was due, it came too late, or the packet has grown too long.
    pub fn push(&mut self, attachment: Bytes, now_ms: u64) -> Result<Option<BinaryPacket>, AssembleError> {
        if self.expire(now_ms) {
            return Err(AssembleError::TimedOut);
        }
        let Some(mut pending) = self.pending.take() else {
            return Err(AssembleError::UnexpectedBinary);
        };
        pending.bytes = pending.bytes.saturating_add(attachment.len());
        if pending.bytes > self.limits.bytes_max {
            return Err(AssembleError::TooLong);
        }
        pending.packet.attachments.push(attachment);
        pending.missing -= 1;
        if pending.missing == 0 {
            return Ok(Some(pending.packet));
        }
        self.pending = Some(pending);
        Ok(None)
    }

    /// Whether attachments are due.
    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// When the packet that is held expires.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.started_ms.saturating_add(self.limits.age_ms_max))
    }

    /// Drops a packet that has waited too long; says whether there was one.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let expired = self.deadline_ms().is_some_and(|deadline_ms| now_ms >= deadline_ms);
        if expired {
            self.pending = None;
        }
        expired
    }
}

/// Whether every placeholder (`{"_placeholder": true, "num": n}`, at any depth) in the comma-separated
/// arguments points to one of `attachments`. A stock JavaScript receiver throws on one that does not, and
/// drops its connection: nobody may do that to others by sending it through us.
///
/// Also false for what is not JSON, for numbers beyond the range of a double, and for strings with half a
/// surrogate pair in them, which no Rust string can hold.
pub fn placeholders_valid(args_json: &str, attachments: usize) -> bool {
    RawArgs::new(args_json).all(|arg| arg.is_ok_and(|json| value_valid(json, attachments)))
}

fn value_valid(json: &str, attachments: usize) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    // serde_json bounds the recursion.
    let verdict = Check { attachments }.deserialize(&mut deserializer);
    verdict.is_ok_and(|verdict| !matches!(verdict, Verdict::Broken))
}

/// What a value means to an object around it.
#[derive(Clone, Copy)]
enum Verdict {
    True,
    Number(f64),
    Other,
    Broken,
}

#[derive(Clone, Copy)]
struct Check {
    attachments: usize,
}

impl Check {
    fn points_somewhere(self, number: Verdict) -> bool {
        match number {
            Verdict::Number(n) => n >= 0.0 && n < self.attachments as f64 && n.fract() == 0.0,
            _ => false,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = Verdict;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Verdict, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = Verdict;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Verdict, E> {
        Ok(if value { Verdict::True } else { Verdict::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Verdict, E> {
        Ok(Verdict::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Verdict, E> {
        Ok(Verdict::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Verdict, E> {
        Ok(Verdict::Number(value))
    }

    fn visit_str<E>(self, _: &str) -> Result<Verdict, E> {
        Ok(Verdict::Other)
    }

    fn visit_unit<E>(self) -> Result<Verdict, E> {
        Ok(Verdict::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Verdict, A::Error> {
        let mut broken = false;
        while let Some(verdict) = seq.next_element_seed(self)? {
            broken |= matches!(verdict, Verdict::Broken);
        }
        Ok(if broken { Verdict::Broken } else { Verdict::Other })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Verdict, A::Error> {
        let mut broken = false;
        let mut is_placeholder = false;
        let mut number = Verdict::Other;
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let verdict = map.next_value_seed(self)?;
            broken |= matches!(verdict, Verdict::Broken);
            // Of a repeated key the last counts, as in JSON.parse.
            match key {
                Key::Placeholder => is_placeholder = matches!(verdict, Verdict::True),
                Key::Number => number = verdict,
                Key::Other => {}
            }
        }
        // A placeholder is replaced whole, so nobody looks at what else is in it.
        let valid = if is_placeholder { self.points_somewhere(number) } else { !broken };
        Ok(if valid { Verdict::Other } else { Verdict::Broken })
    }
}

enum Key {
    Placeholder,
    Number,
    Other,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object's key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match key {
            "_placeholder" => Key::Placeholder,
            "num" => Key::Number,
            _ => Key::Other,
        })
    }
}
