//! WebSocket frames as a client sees them, read in place.
//!
//! A load generator has to be far cheaper than what it measures. This reads a whole buffer's frames without
//! copying or allocating; a general WebSocket library hands out each message as a value of its own. It takes
//! what servers of this field send: whole, unmasked frames without extensions. Anything else is an error that
//! ends the session and is reported.

/// Frame types (RFC 6455, section 5.2).
pub(crate) mod opcode {
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xA;
}

/// The longest frame that is taken, in bytes. A session that gets a longer one ends.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One whole frame at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// How much of the buffer it takes, its header included.
    pub(crate) bytes: usize,
}

/// Reads the frame at the start of `buffer`; `None` if not all of it is there.
///
/// # Errors
/// What is wrong with it.
#[inline]
pub(crate) fn read_frame(buffer: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let [first, second, ..] = buffer else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err("frame with reserved bits");
    }
    if first & 0x80 == 0 || first & 0x0F == 0 {
        return Err("fragmented message");
    }
    if second & 0x80 != 0 {
        return Err("masked frame from a server");
    }
    let Some((header, length)) = lengths(buffer) else { return Ok(None) };
    if length > FRAME_BYTES_MAX {
        return Err("frame longer than 16 MiB");
    }
    Ok(buffer.get(header..header + length).map(|payload| Frame {
        opcode: first & 0x0F,
        payload,
        bytes: header + length,
    }))
}

/// How long the frame at the start of `buffer` is with its header; `None` if too little of it is there to tell.
pub(crate) fn frame_bytes(buffer: &[u8]) -> Option<usize> {
    lengths(buffer).map(|(header, payload)| header.saturating_add(payload))
}

/// Bytes of the header and of the payload of the frame at the start of `buffer`.
#[inline]
fn lengths(buffer: &[u8]) -> Option<(usize, usize)> {
    let [_, second, rest @ ..] = buffer else { return None };
    match second & 0x7F {
        126 => rest.first_chunk::<2>().map(|bytes| (4, usize::from(u16::from_be_bytes(*bytes)))),
        127 => rest
            .first_chunk::<8>()
            .map(|bytes| (10, usize::try_from(u64::from_be_bytes(*bytes)).unwrap_or(usize::MAX))),
        short => Some((2, usize::from(short))),
    }
}

/// Appends a masked frame to `out`.
pub(crate) fn write_frame(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    // Four bytes at a time: this runs twice for every pose that is sent.
    let mut words = out[start..].chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(mask).for_each(|(byte, key)| *byte ^= key);
    }
    words.into_remainder().iter_mut().zip(mask).for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send: the frame of `write_frame` unmasked.
    fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let (header, used) = protocol::outgoing::frame_header(opcode, payload.len());
        [&header[..used], payload].concat()
    }

    #[test]
    fn frames_of_every_length_are_read_and_the_rest_is_left() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut buffer = served(opcode::TEXT, &payload);
            let whole = buffer.len();
            for cut in [0, 1, 2, 3, 9, whole - 1] {
                let part = &buffer[..cut.min(whole - 1)];
                assert_eq!(read_frame(part), Ok(None), "{length} bytes cut at {cut}");
            }
            assert_eq!(frame_bytes(&buffer[..10.min(whole)]), Some(whole));
            buffer.extend_from_slice(b"next");
            let frame = Frame { opcode: opcode::TEXT, payload: &payload, bytes: whole };
            assert_eq!(read_frame(&buffer), Ok(Some(frame)));
        }
    }

    #[test]
    fn what_no_server_should_send_is_refused() {
        for bytes in [[0x01, 0], [0x80, 0], [0xC1, 0], [0x81, 0x80]] {
            assert!(read_frame(&bytes).is_err(), "{bytes:x?}");
        }
        let huge = [0x81, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(read_frame(&huge).is_err());
    }

    #[test]
    fn a_masked_frame_unmasks_to_what_was_sent() {
        for length in [0, 3, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let mask = [0x12, 0x34, 0x56, 0x78];
            let mut sent = Vec::new();
            write_frame(opcode::TEXT, &payload, mask, &mut sent);
            let plain = served(opcode::TEXT, &payload);
            let header = plain.len() - payload.len();
            assert_eq!(sent[0], plain[0]);
            assert_eq!(sent[1], plain[1] | 0x80);
            assert_eq!(sent[2..header], plain[2..header]);
            assert_eq!(sent[header..header + 4], mask);
            let unmasked: Vec<u8> =
                sent[header + 4..].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            assert_eq!(unmasked, payload);
        }
    }
}
