//! The rules of RFC 6455 that a server must hold its clients to.

use proptest::prelude::*;
use protocol::websocket::{Message, ReadError, Reader, Step};

const LIMIT: usize = 100_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame with this first byte (FIN, reserved bits, opcode).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Everything that the reader makes of `input`, given to it in pieces of `piece` bytes.
fn read_in_pieces(input: &[u8], piece: usize) -> Result<Vec<String>, ReadError> {
    let mut reader = Reader::new(LIMIT);
    let (mut buffer, mut said) = (Vec::new(), Vec::new());
    for part in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match reader.step(&mut buffer)? {
                Step::Incomplete(needed) => {
                    assert!(needed > buffer.len(), "says that it needs what it has");
                    break;
                }
                Step::Frame(taken, message) => {
                    said.extend(message.map(|message| format!("{message:?}")));
                    buffer.drain(..taken);
                }
            }
        }
    }
    Ok(said)
}

fn read(input: &[u8]) -> Result<Vec<String>, ReadError> {
    let whole = read_in_pieces(input, input.len());
    assert_eq!(whole, read_in_pieces(input, 1), "it matters how the input is cut");
    whole
}

fn check(frames: &[Vec<u8>], expected: &[Message<'_>]) {
    let expected: Vec<String> = expected.iter().map(|message| format!("{message:?}")).collect();
    assert_eq!(read(&frames.concat()).expect("these keep the rules"), expected);
}

fn refused(frames: &[Vec<u8>], code: u16) {
    let error = read(&frames.concat()).expect_err("these break the rules");
    assert_eq!(error.close_code(), code, "{error}");
}

#[test]
fn whole_messages_of_every_length_class() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT] {
        let text = "x".repeat(length);
        check(&[frame(0x81, text.as_bytes())], &[Message::Text(&text)]);
        check(&[frame(0x82, text.as_bytes())], &[Message::Binary(text.as_bytes())]);
    }
    check(
        &[frame(0x81, b"a"), frame(0x82, b"b"), frame(0x81, b"c")],
        &[Message::Text("a"), Message::Binary(b"b"), Message::Text("c")],
    );
}

#[test]
fn fragments_are_put_together_and_control_frames_may_come_between() {
    check(
        &[frame(0x01, b"Hel"), frame(0x89, b"?"), frame(0x00, b"l"), frame(0x8a, b"!"), frame(0x80, b"o")],
        &[Message::Ping(b"?"), Message::Pong(b"!"), Message::Text("Hello")],
    );
    check(
        &[frame(0x02, b""), frame(0x80, b""), frame(0x81, b"x")],
        &[Message::Binary(b""), Message::Text("x")],
    );
    let euro = "€".as_bytes();
    check(&[frame(0x01, &euro[..1]), frame(0x80, &euro[1..])], &[Message::Text("€")]);
}

#[test]
fn close_frames_give_their_code() {
    check(&[frame(0x88, b"")], &[Message::Close(None)]);
    for code in [1000u16, 1001, 1003, 1007, 1011, 3000, 4999] {
        let payload = [&code.to_be_bytes()[..], b"bye"].concat();
        check(&[frame(0x88, &payload)], &[Message::Close(Some(code))]);
    }
}

#[test]
fn what_breaks_the_rules_is_refused() {
    refused(&[vec![0x81, 0x01, b'x']], 1002);
    for reserved in [0xc1, 0xa1, 0x91] {
        refused(&[frame(reserved, b"x")], 1002);
    }
    for opcode in [0x83, 0x87, 0x8b, 0x8f] {
        refused(&[frame(opcode, b"")], 1002);
    }
    refused(&[frame(0x09, b"")], 1002);
    refused(&[frame(0x89, &[0; 126])], 1002);
    refused(&[frame(0x80, b"of nothing")], 1002);
    refused(&[frame(0x01, b"a"), frame(0x81, b"b")], 1002);
    refused(&[frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")], 1002);
    refused(&[frame(0x88, b"x")], 1002);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        refused(&[frame(0x88, &code.to_be_bytes())], 1002);
    }
    refused(&[vec![0x82, 0x80 | 126, 0, 125]], 1002);
    refused(&[vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]], 1002);
}

#[test]
fn texts_must_be_utf8() {
    refused(&[frame(0x81, &[0xff])], 1007);
    refused(&[frame(0x01, &[0xe2]), frame(0x80, &[0x28])], 1007);
    refused(&[frame(0x88, &[0x03, 0xe8, 0xff])], 1007);
}

#[test]
fn a_message_beyond_the_limit_is_refused_before_it_has_come() {
    let header = &frame(0x82, &vec![0; LIMIT + 1])[..10];
    assert_eq!(read_in_pieces(header, 10).unwrap_err(), ReadError::TooLong);
    refused(&[vec![0x82, 0x80 | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], 1009);
    refused(&[frame(0x02, &vec![0; LIMIT]), frame(0x80, b"x")], 1009);
    let mut many = vec![frame(0x02, b"")];
    many.extend(std::iter::repeat_n(frame(0x00, b""), 5_000));
    assert_eq!(read_in_pieces(&many.concat(), 65_536).unwrap_err(), ReadError::TooLong);
}

proptest! {
    #[test]
    fn any_messages_come_out_as_they_went_in(
        messages in prop::collection::vec((any::<bool>(), ".{0,200}", 1usize..40), 1..8),
        piece in 1usize..300,
    ) {
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for (is_text, content, fragment) in &messages {
            let bytes = content.as_bytes();
            let opcode = if *is_text { 1 } else { 2 };
            let parts: Vec<&[u8]> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(*fragment).collect() };
            for (index, part) in parts.iter().enumerate() {
                let fin = if index + 1 == parts.len() { 0x80 } else { 0 };
                input.extend(frame(fin | if index == 0 { opcode } else { 0 }, part));
            }
            let message = if *is_text { Message::Text(content) } else { Message::Binary(bytes) };
            expected.push(format!("{message:?}"));
        }
        prop_assert_eq!(read_in_pieces(&input, piece).unwrap(), expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..64) {
        let _ = read_in_pieces(&input, piece);
    }
}
