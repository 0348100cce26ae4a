//! What goes out: texts, WebSocket frames, and many of them in one buffer.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use bytes::Bytes;
use proptest::prelude::*;
use protocol::Outgoing;
use protocol::outgoing::{AttachmentEvents, FrameSpan, OPCODE_BINARY, OPCODE_TEXT, TextFrames, frame_header};
use serde_json::json;

/// Reads one unmasked frame as RFC 6455 lays it out: opcode, payload, and what follows.
fn read_frame(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    assert_eq!(bytes[0] & 0xf0, 0x80, "final, no extension bits");
    let (len, header) = match bytes[1] {
        short @ 0..=125 => (usize::from(short), 2),
        126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
        masked => panic!("masked or unknown length {masked}"),
    };
    let (payload, rest) = bytes[header..].split_at(len);
    (bytes[0] & 0x0f, payload, rest)
}

#[track_caller]
fn check(outgoing: &Outgoing, text: &str) {
    assert_eq!(outgoing.text(), text);
    assert_eq!(outgoing.text_bytes(), text);
    let frame = outgoing.frame();
    let (opcode, payload, rest) = read_frame(&frame);
    assert_eq!(
        (opcode, &payload[..1], &payload[1..], rest),
        (OPCODE_TEXT, &b"4"[..], text.as_bytes(), &[][..])
    );
    let mut wire_bytes = frame.len();
    for (attachment, attachment_frame) in outgoing.attachments().iter().zip(outgoing.attachment_frames()) {
        let whole = [attachment_frame.header(), &attachment_frame.payload[..]].concat();
        assert_eq!(read_frame(&whole), (OPCODE_BINARY, &attachment[..], &[][..]));
        wire_bytes += whole.len();
    }
    assert_eq!(outgoing.wire_bytes(), wire_bytes);
}

/// All of a packet's WebSocket frames, got one by one and put together.
fn concatenated(outgoing: &Outgoing) -> Vec<u8> {
    let mut bytes = outgoing.frame().to_vec();
    for frame in outgoing.attachment_frames() {
        bytes.extend_from_slice(frame.header());
        bytes.extend_from_slice(frame.payload);
    }
    bytes
}

#[test]
fn every_kind_has_its_text() {
    check(&Outgoing::connect("/", "abc"), r#"0{"sid":"abc"}"#);
    check(&Outgoing::connect("/custom", "a\"b"), r#"0/custom,{"sid":"a\"b"}"#);
    check(&Outgoing::connect_error("/", "Invalid token"), r#"4{"message":"Invalid token"}"#);
    check(&Outgoing::disconnect("/"), "1");
    check(&Outgoing::disconnect("/custom"), "1/custom,");
    check(&Outgoing::event("user-left", "user_1"), r#"2["user-left","user_1"]"#);
    check(&Outgoing::event_in("/custom", "a\n", &json!({"b": 1.1})), r#"2/custom,["a\n",{"b":1.1}]"#);
    check(&Outgoing::event_raw("a", ""), r#"2["a"]"#);
    check(&Outgoing::event_raw("a", r#"{"b":1},2"#), r#"2["a",{"b":1},2]"#);
    check(&Outgoing::ack("/", 7, &json!({"ok": true})), r#"37[{"ok":true}]"#);
    check(&Outgoing::ack_raw("/custom", u64::MAX, "1,2", Vec::new()), "3/custom,18446744073709551615[1,2]");
    check(&Outgoing::ack_raw("/", 0, "", Vec::new()), "30[]");
}

#[test]
fn attachments_make_a_packet_binary() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let attachments = vec![Bytes::from(vec![9; 70_000])];
    let event = Outgoing::binary_event_raw("a", placeholder, attachments.clone());
    check(&event, &format!(r#"51-["a",{placeholder}]"#));
    assert_eq!(event.attachments(), attachments);
    check(&Outgoing::ack_raw("/x", 3, placeholder, attachments), &format!("61-/x,3[{placeholder}]"));
    check(&Outgoing::binary_event_raw("a", "1", Vec::new()), r#"2["a",1]"#);
}

#[test]
fn an_attachment_written_in_place_goes_out_like_any_other() {
    // Around the borders of the header's lengths, and guesses that need not be right.
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537] {
        for hint in [0, len, 2 * len + 1] {
            let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let in_place = AttachmentEvents::new("pose-frame").event(hint, |out| out.extend(&payload));
            let args = r#"{"_placeholder":true,"num":0}"#;
            let apart = Outgoing::binary_event_raw("pose-frame", args, vec![payload.clone().into()]);
            check(&in_place, &format!(r#"51-["pose-frame",{args}]"#));
            assert_eq!(in_place.text(), apart.text());
            assert_eq!(in_place.frame(), apart.frame());
            assert_eq!(in_place.attachments(), [payload], "{len}");
            assert_eq!(in_place.wire_bytes(), apart.wire_bytes());
            assert_eq!(concatenated(&in_place), concatenated(&apart), "{len}");
            let contiguous = in_place.contiguous().expect("it was written in place");
            assert_eq!(contiguous, &concatenated(&apart), "{len}");
            assert_eq!(contiguous.as_ptr(), in_place.frame().as_ptr(), "nothing was copied");
            assert_eq!(apart.contiguous(), None);
        }
    }
}

#[test]
fn what_was_written_before_stays_in_front_of_an_attachment() {
    // Names of all lengths, so that the text's own header has each of its lengths too.
    for name_len in [1, 80, 81, 82, 83, 125, 126, 65_490, 65_500, 65_536] {
        let name = "x".repeat(name_len);
        let event = AttachmentEvents::new(&name).event(0, |out| out.extend([1, 2, 3]));
        check(&event, &format!(r#"51-["{name}",{{"_placeholder":true,"num":0}}]"#));
        assert_eq!(event.contiguous().unwrap(), &concatenated(&event), "{name_len}");
    }
}

#[test]
fn a_packet_without_attachments_is_contiguous() {
    for packet in [Outgoing::event_raw("a", "1"), Outgoing::message("hello"), Outgoing::disconnect("/")] {
        assert_eq!(packet.contiguous(), Some(&packet.frame()));
    }
    assert_eq!(Outgoing::binary_message(Bytes::from_static(b"ab")).contiguous(), None);
}

#[test]
fn a_clone_shares_the_bytes() {
    let event = Outgoing::event_raw("a", "1");
    let clone = event.clone();
    assert_eq!(event.frame().as_ptr(), clone.frame().as_ptr());
    assert_eq!(event.text_bytes().as_ptr(), clone.text().as_ptr());
}

#[test]
fn headers_at_the_borders_of_their_lengths() {
    for (len, header_bytes) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1_000_000, 10)] {
        let (header, used) = frame_header(OPCODE_BINARY, len);
        assert_eq!(used, header_bytes, "{len}");
        let whole = [&header[..used], &vec![0; len]].concat();
        assert_eq!(read_frame(&whole).1.len(), len);
    }
    // The text's own header counts Engine.IO's type too.
    for len in
        [110, 111, 112, 113, 114, 115, 116, 117, 65_520, 65_521, 65_522, 65_523, 65_524, 65_525, 65_526]
    {
        let text = format!(r#"2["a","{}"]"#, "x".repeat(len));
        check(&Outgoing::event("a", &"x".repeat(len)), &text);
    }
}

#[test]
#[should_panic(expected = "11 attachments")]
fn more_attachments_than_a_client_takes_are_a_bug() {
    let _ = Outgoing::binary_event_raw("a", "1", vec![Bytes::new(); 11]);
}

#[test]
#[should_panic(expected = "has not been ended")]
fn a_frame_within_a_frame_is_a_bug() {
    let mut frames = TextFrames::default();
    frames.begin(1);
    frames.begin(1);
}

#[test]
fn a_right_guess_moves_nothing() {
    let mut frames = TextFrames::with_capacity(1024);
    let text = "x".repeat(300);
    let buffer = frames.begin(200);
    let written_at = buffer.len();
    buffer.extend_from_slice(text.as_bytes());
    assert_eq!(frames.end(), FrameSpan { start: 0, end: 305, text_start: written_at as u32 });
}

proptest! {
    #[test]
    fn text_frames_are_contiguous_and_hold_their_texts(
        // Lengths around the borders, guesses that need not be right.
        lengths in prop::collection::vec((prop_oneof![0..300_usize, 65_400..65_700_usize], prop_oneof![
            Just(0_usize), Just(124), Just(125), Just(65_534), Just(65_535), Just(usize::MAX)
        ]), 0..8)
    ) {
        let mut frames = TextFrames::default();
        let mut spans = Vec::new();
        for (at, (len, guess)) in lengths.iter().enumerate() {
            frames.begin(*guess).extend(std::iter::repeat_n(b'a' + at as u8, *len));
            spans.push(frames.end());
        }
        prop_assert_eq!(frames.is_empty(), lengths.is_empty());
        let bytes = frames.finish();
        let mut rest = &bytes[..];
        for (at, (span, (len, _))) in spans.iter().zip(&lengths).enumerate() {
            let text = vec![b'a' + at as u8; *len];
            prop_assert_eq!(&bytes[span.text()], &text[..]);
            prop_assert_eq!(bytes.len() - rest.len(), span.start as usize);
            let (opcode, payload, following) = read_frame(rest);
            prop_assert_eq!(opcode, OPCODE_TEXT);
            prop_assert_eq!(payload[0], b'4');
            prop_assert_eq!(&payload[1..], &text[..]);
            rest = following;
            prop_assert_eq!(bytes.len() - rest.len(), span.frame().end);
        }
        prop_assert!(rest.is_empty());
    }
}
