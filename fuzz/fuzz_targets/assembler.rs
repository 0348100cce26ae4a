//! A connection's messages in any order: what is held stays within its limits, and a packet that comes out has
//! valid placeholders and exactly the attachments that went in.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::Packet;
use protocol::attachments::{AssembleError, AssembleLimits, Assembler, Begin, placeholders_valid};
use serde_json::Value;

const LIMITS: AssembleLimits = AssembleLimits { attachments_max: 4, bytes_max: 64, age_ms_max: 100 };

/// What the assembler should be holding.
#[derive(Default)]
struct Model {
    text: String,
    missing: usize,
    attachments: Vec<Bytes>,
    started_ms: u64,
}

fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::new(LIMITS);
    let mut model = Model::default();
    let mut now_ms = 0;
    // A line is one message: its first byte says how much later it comes and whether it is binary.
    for line in data.split(|byte| *byte == b'\n') {
        let Some((first, message)) = line.split_first() else { continue };
        now_ms += u64::from(first >> 1 & 31);
        match std::str::from_utf8(message) {
            Ok(text) if first & 1 == 0 => begin(&mut assembler, &mut model, text, now_ms),
            _ => push(&mut assembler, &mut model, Bytes::copy_from_slice(message), now_ms),
        }
        assert_eq!(assembler.is_waiting(), model.missing > 0);
        assert_eq!(
            assembler.deadline_ms(),
            (model.missing > 0).then_some(model.started_ms + LIMITS.age_ms_max)
        );
    }
});

fn begin(assembler: &mut Assembler, model: &mut Model, text: &str, now_ms: u64) {
    let was_waiting = model.missing > 0;
    *model = Model::default();
    match assembler.begin(text, now_ms) {
        Err(error) => assert_eq!(was_waiting, error == AssembleError::UnexpectedText),
        Ok(Begin::Complete(packet)) => assert_eq!((was_waiting, packet.attachments), (false, 0)),
        Ok(Begin::Waiting(missing)) => {
            let packet = Packet::decode(text).expect("only valid packets are held");
            assert!(!was_waiting && packet.attachments == missing && missing <= LIMITS.attachments_max);
            *model = Model { text: text.to_owned(), missing, attachments: Vec::new(), started_ms: now_ms };
        }
    }
}

fn push(assembler: &mut Assembler, model: &mut Model, attachment: Bytes, now_ms: u64) {
    let late = now_ms - model.started_ms >= LIMITS.age_ms_max;
    let result = assembler.push(attachment.clone(), now_ms);
    if model.missing == 0 {
        assert_eq!(result, Err(AssembleError::UnexpectedBinary));
        return;
    }
    model.attachments.push(attachment);
    let too_long = model.attachments.iter().map(Bytes::len).sum::<usize>() > LIMITS.bytes_max;
    model.missing -= 1;
    match result {
        Ok(None) => {
            assert!(!late && !too_long && model.missing > 0);
            return;
        }
        Ok(Some(packet)) => {
            assert!(!late && !too_long && model.missing == 0);
            assert_eq!((&packet.text, &packet.attachments), (&model.text, &model.attachments));
            check_placeholders(&packet.text, packet.attachments.len());
        }
        Err(error) => assert_eq!(error, if late { AssembleError::TimedOut } else { AssembleError::TooLong }),
    }
    *model = Model::default();
}

/// The same search as the stock JavaScript receiver's, over a tree.
fn check_placeholders(text: &str, attachments: usize) {
    let packet = Packet::decode(text).expect("a packet that came out is valid");
    let args = packet.event().map(|event| event.args).or_else(|_| packet.ack_args()).expect("has arguments");
    assert!(placeholders_valid(args, attachments));
    let tree: Value = serde_json::from_str(packet.data.expect("has data")).expect("is JSON");
    assert!(receiver_takes(&tree, attachments), "a stock receiver would drop its connection");
}

fn receiver_takes(value: &Value, attachments: usize) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| receiver_takes(item, attachments)),
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = members.get("num").and_then(Value::as_f64);
            number.is_some_and(|number| number >= 0.0 && number < attachments as f64)
        }
        Value::Object(members) => members.values().all(|member| receiver_takes(member, attachments)),
        _ => true,
    }
}
