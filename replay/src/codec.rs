//! Records as bytes.
//!
//! `docs/RECORDING.md` says what stands where. Every record carries its format's version and a checksum over all of
//! it, so that what a disk or a network has changed is reported and never passed off as what happened.

use bytes::Bytes;
use thiserror::Error;
use zstd::bulk::{Compressor, Decompressor};

use crate::limits::{CHUNK_BYTES_MAX, EVENT_BYTES_MAX, KEYFRAME_BYTES_MAX};
use crate::{Content, PoseSamples, Record, RecordKind, chunk};

mod event;
pub(crate) mod wire;

use self::wire::{Reader, put_varint};

/// The version of the layout, a record's first byte.
pub const FORMAT_VERSION: u8 = 1;

/// Bit of the second byte, beside the kind: the body is compressed.
const COMPRESSED: u8 = 0x80;
/// Bytes in front of what is told of a record: version, kind, checksum.
const HEADER_BYTES: usize = 6;
/// Bodies from here on are compressed, if that makes them smaller.
const COMPRESS_FROM_BYTES: usize = 192;
/// Further levels make chunks hardly smaller, and take longer.
const LEVEL: i32 = 1;

/// The bytes are not a record of that kind as it was written, or of a version that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a damaged record")]
pub struct Damaged;

/// A record is beyond [what can be encoded](crate::limits), or a chunk's instants are not in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a record is too large")]
pub struct TooLarge;

/// Encodes a record. Whoever encodes many has an [`Encoder`].
///
/// # Errors
/// [`TooLarge`]
pub fn encode(record: &Record) -> Result<Bytes, TooLarge> {
    Encoder::new().encode(record)
}

/// Decodes a record. Whoever decodes many has a [`Decoder`].
///
/// # Errors
/// [`Damaged`]
pub fn decode(kind: RecordKind, payload: &[u8]) -> Result<Record, Damaged> {
    Decoder::new().decode(kind, payload)
}

/// Encodes records, and keeps what it needs for that from one to the next.
#[derive(Default)]
pub struct Encoder {
    compressor: Option<Compressor<'static>>,
    body: Vec<u8>,
    compressed: Vec<u8>,
    chunk: chunk::Workspace,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record as bytes; its kind is that of its [content](Content::kind).
    ///
    /// # Errors
    /// [`TooLarge`]
    pub fn encode(&mut self, record: &Record) -> Result<Bytes, TooLarge> {
        let kind = record.content.kind();
        let mut out = vec![FORMAT_VERSION, kind as u8, 0, 0, 0, 0];
        put_varint(record.at_ms, &mut out);
        self.body.clear();
        match &record.content {
            Content::Event(event) => event::put_event(event, &mut self.body)?,
            Content::Keyframe(keyframe) => event::put_keyframe(keyframe, &mut self.body)?,
            Content::Poses(poses) => {
                put_varint(poses.first_ms(), &mut out);
                put_varint(poses.last_ms().saturating_sub(poses.first_ms()), &mut out);
                self.chunk.put(poses, &mut self.body)?;
            }
        }
        if self.body.len() > bytes_max(kind) {
            return Err(TooLarge);
        }
        self.put_body(&mut out);
        let crc = checksum(&out);
        out[2..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(out.into())
    }

    /// Appends the body, compressed if that makes it smaller.
    fn put_body(&mut self, out: &mut Vec<u8>) {
        let plain_from = out.len();
        if self.body.len() >= COMPRESS_FROM_BYTES {
            put_varint(self.body.len() as u64, out);
            if self.compress(out).is_some() && out.len() - plain_from < self.body.len() {
                out[1] |= COMPRESSED;
                return;
            }
            out.truncate(plain_from);
        }
        out.extend_from_slice(&self.body);
    }

    /// `None`: the library has no memory, or does not like it for another reason. Then it is written as it is.
    fn compress(&mut self, out: &mut Vec<u8>) -> Option<()> {
        if self.compressor.is_none() {
            self.compressor = Some(Compressor::new(LEVEL).ok()?);
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.body.len()));
        self.compressor.as_mut()?.compress_to_buffer(&self.body, &mut self.compressed).ok()?;
        out.extend_from_slice(&self.compressed);
        Some(())
    }
}

/// Decodes records, and keeps what it needs for that from one to the next.
#[derive(Default)]
pub struct Decoder {
    unpack: Unpack,
    chunk: chunk::Workspace,
}

impl Decoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record that the bytes are.
    ///
    /// # Errors
    /// [`Damaged`]
    pub fn decode(&mut self, kind: RecordKind, payload: &[u8]) -> Result<Record, Damaged> {
        let sealed = open(kind, payload)?;
        let content = match kind {
            RecordKind::Poses => Content::Poses(self.poses(&sealed, None)?),
            RecordKind::Event => Content::Event(event::read_event(self.unpack.body(&sealed)?)?),
            RecordKind::Keyframe | RecordKind::KeyframeUnchanged => {
                Content::Keyframe(event::read_keyframe(kind, self.unpack.body(&sealed)?)?)
            }
        };
        Ok(Record { at_ms: sealed.at_ms, content })
    }

    /// A chunk's poses; with `until_ms`, of each member only the last up to then.
    pub(crate) fn poses(
        &mut self,
        sealed: &Sealed<'_>,
        until_ms: Option<u64>,
    ) -> Result<PoseSamples, Damaged> {
        let body = self.unpack.body(sealed)?;
        let poses = self.chunk.read(sealed.first_ms, body, until_ms)?;
        let fits = poses.instants_ms.is_empty() || poses.last_ms() == sealed.last_ms;
        if fits { Ok(poses) } else { Err(Damaged) }
    }
}

/// Room for what is decompressed.
#[derive(Default)]
struct Unpack {
    decompressor: Option<Decompressor<'static>>,
    body: Vec<u8>,
}

impl Unpack {
    fn body<'a>(&'a mut self, sealed: &Sealed<'a>) -> Result<&'a [u8], Damaged> {
        match sealed.length {
            Some(length) => self.decompress(sealed.body, length),
            None => Ok(sealed.body),
        }
    }

    fn decompress(&mut self, compressed: &[u8], length: usize) -> Result<&[u8], Damaged> {
        if self.decompressor.is_none() {
            self.decompressor = Some(Decompressor::new().map_err(|_| Damaged)?);
        }
        let decompressor = self.decompressor.as_mut().ok_or(Damaged)?;
        self.body.clear();
        self.body.reserve(length);
        decompressor.decompress_to_buffer(compressed, &mut self.body).map_err(|_| Damaged)?;
        if self.body.len() == length { Ok(&self.body) } else { Err(Damaged) }
    }
}

/// A record of which the checksum is right, its body as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed<'a> {
    /// The record's time, Unix ms.
    pub(crate) at_ms: u64,
    /// A chunk's first instant; else the record's time.
    pub(crate) first_ms: u64,
    /// A chunk's last instant; else the record's time.
    pub(crate) last_ms: u64,
    /// How long the body is when it is decompressed, if it is to be.
    length: Option<usize>,
    body: &'a [u8],
}

/// Checks the bytes, and reads what can be read without decompressing them.
pub(crate) fn open(kind: RecordKind, payload: &[u8]) -> Result<Sealed<'_>, Damaged> {
    let (header, rest) = payload.split_first_chunk::<HEADER_BYTES>().ok_or(Damaged)?;
    let [version, kind_byte, crc @ ..] = *header;
    if version != FORMAT_VERSION || kind_byte & !COMPRESSED != kind as u8 {
        return Err(Damaged);
    }
    if checksum(payload) != u32::from_le_bytes(crc) {
        return Err(Damaged);
    }
    let mut reader = Reader::new(rest);
    let at_ms = reader.varint()?;
    let (mut first_ms, mut last_ms) = (at_ms, at_ms);
    if kind == RecordKind::Poses {
        first_ms = reader.varint()?;
        last_ms = first_ms.checked_add(reader.varint()?).ok_or(Damaged)?;
    }
    let is_compressed = kind_byte & COMPRESSED != 0;
    let length = is_compressed.then(|| reader.count(bytes_max(kind))).transpose()?;
    let body = reader.rest();
    if body.len() > bytes_max(kind) {
        return Err(Damaged);
    }
    Ok(Sealed { at_ms, first_ms, last_ms, length, body })
}

/// Over all but itself.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..2]);
    hasher.update(&payload[HEADER_BYTES..]);
    hasher.finalize()
}

fn bytes_max(kind: RecordKind) -> usize {
    match kind {
        RecordKind::Event => EVENT_BYTES_MAX,
        RecordKind::Poses => CHUNK_BYTES_MAX,
        RecordKind::Keyframe | RecordKind::KeyframeUnchanged => KEYFRAME_BYTES_MAX,
    }
}
