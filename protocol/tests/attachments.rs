//! Binary packets put together: order, limits, and what a hostile peer may try.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use bytes::Bytes;
use proptest::prelude::*;
use protocol::attachments::{AssembleError, AssembleLimits, Assembler, Begin, placeholders_valid};
use protocol::limits::{ATTACHMENT_TIMEOUT_MS, MAX_ATTACHMENT_BYTES};
use protocol::{DecodeError, Packet};

const ONE: &str = r#"51-["a",{"_placeholder":true,"num":0}]"#;
const TWO: &str = r#"52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

fn waiting(text: &str, now_ms: u64) -> Assembler {
    let mut assembler = Assembler::default();
    assert!(matches!(assembler.begin(text, now_ms), Ok(Begin::Waiting(_))), "{text}");
    assert!(assembler.is_waiting());
    assembler
}

#[test]
fn a_packet_is_complete_with_its_last_attachment() {
    let mut assembler = waiting(TWO, 5);
    assert_eq!(assembler.deadline_ms(), Some(5 + ATTACHMENT_TIMEOUT_MS));
    assert_eq!(assembler.push(Bytes::from_static(b"first"), 6), Ok(None));
    let packet = assembler.push(Bytes::from_static(b"second"), 7).unwrap().unwrap();
    assert_eq!(
        (packet.text.as_str(), packet.attachments),
        (TWO, vec![Bytes::from("first"), Bytes::from("second")])
    );
    assert!(!assembler.is_waiting());
    assert_eq!(assembler.deadline_ms(), None);
    // And again: nothing is left of the first.
    assert_eq!(assembler.begin(ONE, 8), Ok(Begin::Waiting(1)));
    assert!(assembler.push(Bytes::new(), 8).unwrap().is_some());
}

#[test]
fn a_packet_without_attachments_is_complete_at_once() {
    let mut assembler = Assembler::default();
    for text in [r#"2["a"]"#, r#"50-["a"]"#, "0"] {
        assert_eq!(assembler.begin(text, 0), Ok(Begin::Complete(Packet::decode(text).unwrap())));
        assert!(!assembler.is_waiting());
    }
}

#[test]
fn messages_out_of_turn_are_refused_and_nothing_is_kept() {
    assert_eq!(Assembler::default().push(Bytes::new(), 0), Err(AssembleError::UnexpectedBinary));
    let mut assembler = waiting(TWO, 0);
    assert_eq!(assembler.begin(r#"2["a"]"#, 0), Err(AssembleError::UnexpectedText));
    assert!(!assembler.is_waiting());
    assert_eq!(assembler.push(Bytes::new(), 0), Err(AssembleError::UnexpectedBinary));
}

#[test]
fn a_bad_text_is_refused_before_its_attachments_come() {
    for (text, error) in [
        (r#"51-["a""#, AssembleError::Decode(DecodeError::InvalidJson)),
        (r#"51-"#, AssembleError::Decode(DecodeError::MissingPayload)),
        (r#"511-["a"]"#, AssembleError::Decode(DecodeError::TooManyAttachments)),
        (r#"51-["a",{"_placeholder":true,"num":1}]"#, AssembleError::InvalidPlaceholder),
        (r#"61-1[{"_placeholder":true,"num":1}]"#, AssembleError::InvalidPlaceholder),
    ] {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.begin(text, 0), Err(error), "{text}");
        assert!(!assembler.is_waiting());
    }
}

#[test]
fn limits_are_kept() {
    let mut assembler = waiting(TWO, 0);
    assert_eq!(assembler.push(Bytes::from(vec![0; MAX_ATTACHMENT_BYTES]), 0), Ok(None));
    assert_eq!(assembler.push(Bytes::from_static(b"x"), 0), Err(AssembleError::TooLong));
    assert!(!assembler.is_waiting());

    let mut assembler = waiting(ONE, 0);
    assert!(assembler.push(Bytes::from(vec![0; MAX_ATTACHMENT_BYTES]), 0).unwrap().is_some());

    let limits = AssembleLimits { attachments_max: 1, ..AssembleLimits::default() };
    let mut assembler = Assembler::new(limits);
    assert_eq!(assembler.begin(TWO, 0), Err(AssembleError::TooManyAttachments));
    assert_eq!(assembler.begin(ONE, 0), Ok(Begin::Waiting(1)));
}

#[test]
fn a_packet_expires() {
    let mut assembler = waiting(ONE, 100);
    assert!(!assembler.expire(100 + ATTACHMENT_TIMEOUT_MS - 1));
    assert!(assembler.expire(100 + ATTACHMENT_TIMEOUT_MS));
    assert!(!assembler.expire(u64::MAX), "only once");
    assert!(!assembler.is_waiting());

    let mut assembler = waiting(ONE, 100);
    let late = assembler.push(Bytes::new(), 100 + ATTACHMENT_TIMEOUT_MS);
    assert_eq!(late, Err(AssembleError::TimedOut));
    let mut assembler = waiting(ONE, 100);
    assert!(assembler.push(Bytes::new(), 99 + ATTACHMENT_TIMEOUT_MS).unwrap().is_some());
}

#[test]
fn placeholders() {
    for (args, attachments, valid) in [
        ("", 0, true),
        ("1,[2,{\"a\":null}],\"x\"", 0, true),
        (r#"{"_placeholder":true,"num":0}"#, 0, false),
        (r#"{"_placeholder":true,"num":0}"#, 1, true),
        (r#"1,[{"x":{"_placeholder":true,"num":2}}]"#, 2, false),
        (r#"1,[{"x":{"_placeholder":true,"num":2}}]"#, 3, true),
        (r#"{"num":1,"_placeholder":true}"#, 2, true),
        (r#"{"num":1e0,"_placeholder":true}"#, 2, true),
        (r#"{"num":1.5,"_placeholder":true}"#, 2, false),
        (r#"{"num":-1,"_placeholder":true}"#, 2, false),
        (r#"{"num":"1","_placeholder":true}"#, 2, false),
        (r#"{"num":null,"_placeholder":true}"#, 2, false),
        (r#"{"_placeholder":true}"#, 2, false),
        (r#"{"_placeholder":"true","num":7}"#, 2, true),
        (r#"{"_placeholder":false,"num":7}"#, 2, true),
        (r#"{"_placeholder":1,"num":7}"#, 2, true),
        (r#"{"\u005fplaceholder":true,"num":7}"#, 2, false),
        (r#"{"_placeholder":true,"_placeholder":false,"num":7}"#, 2, true),
        (r#"{"_placeholder":false,"_placeholder":true,"num":7}"#, 2, false),
        (r#"{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":9}}"#, 1, true),
        (r#"{"_placeholder":{"_placeholder":true,"num":9}}"#, 1, false),
        ("{", 1, false),
        ("1,", 1, false),
    ] {
        assert_eq!(placeholders_valid(args, attachments), valid, "{args} with {attachments}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!placeholders_valid(&deep, 1), "too deep, and no stack overflow");
}

proptest! {
    /// Whatever comes in whatever order, what is held stays within the limits.
    #[test]
    fn nothing_grows_beyond_its_limits(messages in prop::collection::vec((0..4_u8, 0..64_usize, 0..40_u64), 1..60)) {
        let limits = AssembleLimits { attachments_max: 2, bytes_max: 100, age_ms_max: 50 };
        let mut assembler = Assembler::new(limits);
        let (mut now_ms, mut started_ms, mut expected, mut held) = (0, 0, 0, Vec::new());
        for (choice, len, later_ms) in messages {
            now_ms += later_ms;
            let alive = expected > held.len() && now_ms - started_ms < limits.age_ms_max;
            if choice < 2 {
                let text = if choice == 0 { ONE } else { TWO };
                let was_waiting = expected > held.len();
                let got = assembler.begin(text, now_ms);
                (started_ms, held) = (now_ms, Vec::new());
                expected = if was_waiting { 0 } else { usize::from(choice) + 1 };
                prop_assert_eq!(got, if was_waiting { Err(AssembleError::UnexpectedText) } else { Ok(Begin::Waiting(expected)) });
                continue;
            }
            let was_waiting = expected > held.len();
            held.push(len);
            let fits = held.iter().sum::<usize>() <= limits.bytes_max;
            match assembler.push(Bytes::from(vec![0; len]), now_ms) {
                Ok(Some(packet)) => {
                    prop_assert!(alive && fits);
                    prop_assert_eq!(packet.attachments.iter().map(Bytes::len).collect::<Vec<_>>(), held.clone());
                    prop_assert_eq!(held.len(), expected);
                }
                Ok(None) => {
                    prop_assert!(alive && fits && held.len() < expected);
                    continue;
                }
                Err(AssembleError::TimedOut) => prop_assert!(was_waiting && !alive),
                Err(AssembleError::TooLong) => prop_assert!(alive && !fits),
                Err(error) => prop_assert!(error == AssembleError::UnexpectedBinary && !was_waiting),
            }
            (expected, held) = (0, Vec::new());
            prop_assert!(!assembler.is_waiting());
        }
    }
}
