//! Moments as the JSON that the replay call answers with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::{Part, Pose, Rotation};

use crate::{Action, Moment, Types, What, Who};

/// Decimals of a position: it was rounded to millimetres.
const POSITION_DECIMALS: usize = 3;
/// Decimals of an angle and of a quaternion's component: finer than what was written down.
const ROTATION_DECIMALS: usize = 4;

/// Appends a moment as one JSON object, without a line break. Every one has `type` and `timestamp` (Unix ms); all but
/// `objects` and `gap`, which stands for a record that cannot be read, have `userId` and `socketId`.
pub fn write(moment: &Moment, out: &mut Vec<u8>) {
    match &moment.what {
        What::Move { who, pose, .. } => {
            open(Types::MOVE.name(), who, moment.at_ms, out);
            out.push(b',');
            write_pose(pose, out);
        }
        What::Event { who, action, .. } => {
            open(Types::of(action).name(), who, moment.at_ms, out);
            write_action(action, out);
        }
        What::Objects(objects) => {
            out.extend_from_slice(b"{\"type\":\"objects\",\"timestamp\":");
            write_integer(moment.at_ms, out);
            out.extend_from_slice(b",\"objects\":");
            write_on_one_line(objects, out);
        }
        What::Gap => {
            out.extend_from_slice(b"{\"type\":\"gap\",\"timestamp\":");
            write_integer(moment.at_ms, out);
        }
    }
    out.push(b'}');
}

fn open(kind: &str, who: &Who, at_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"userId\":");
    out.extend_from_slice(who.user_json.as_bytes());
    out.extend_from_slice(b",\"timestamp\":");
    write_integer(at_ms, out);
    out.extend_from_slice(b",\"socketId\":");
    out.extend_from_slice(who.socket_json.as_bytes());
}

fn write_action(action: &Action, out: &mut Vec<u8>) {
    let (name, json) = match action {
        Action::Leave => return,
        Action::Join { user } => ("user", user),
        Action::ObjectCreate { object, .. } => ("object", object),
        Action::ObjectUpdate { update } | Action::UserUpdate { update } => ("update", update),
        Action::ObjectDelete { id } => ("id", id),
        Action::Message { message, .. } => ("message", message),
    };
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write_on_one_line(json, out);
    match action {
        Action::ObjectCreate { version, .. } => {
            out.extend_from_slice(b",\"version\":");
            write_integer(*version, out);
        }
        Action::Message { attachments, .. } if !attachments.is_empty() => {
            out.extend_from_slice(b",\"attachments\":");
            for (at, attachment) in attachments.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"[\"" } else { b",\"" });
                out.extend_from_slice(STANDARD.encode(attachment).as_bytes());
                out.push(b'"');
            }
            out.push(b']');
        }
        _ => {}
    }
}

/// Appends JSON as a client has written it, but for its line breaks: whoever reads line by line would take what follows
/// one for a line of ours. In strings they are escaped, so these can only be space between tokens.
fn write_on_one_line(json: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[begin..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends `"position":{…},"rotation":{…}` and the tracked hands, without braces around them.
pub(crate) fn write_pose(pose: &Pose, out: &mut Vec<u8>) {
    write_part(&pose.head, out);
    for (name, hand) in [(&b",\"leftHand\":{"[..], &pose.left_hand), (b",\"rightHand\":{", &pose.right_hand)]
    {
        if let Some(hand) = hand {
            out.extend_from_slice(name);
            write_part(hand, out);
            out.push(b'}');
        }
    }
}

fn write_part(part: &Part, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"position\":");
    write_components(&part.position, POSITION_DECIMALS, out);
    out.extend_from_slice(b",\"rotation\":");
    match &part.rotation {
        Rotation::Euler(angles) => write_components(angles, ROTATION_DECIMALS, out),
        Rotation::Quaternion(q) => write_components(q, ROTATION_DECIMALS, out),
    }
}

fn write_components(components: &[f32], decimals: usize, out: &mut Vec<u8>) {
    const NAMES: [&[u8]; 4] = [b"{\"x\":", b",\"y\":", b",\"z\":", b",\"w\":"];
    for (name, value) in NAMES.iter().zip(components) {
        out.extend_from_slice(name);
        write_decimal(*value, decimals, out);
    }
    out.push(b'}');
}

/// Appends a number rounded to so many decimals, without zeros at its end.
fn write_decimal(value: f32, decimals: usize, out: &mut Vec<u8>) {
    let scale = 10u64.pow(decimals as u32);
    // The cast makes 0 of NaN, and saturates.
    let scaled = (f64::from(value) * scale as f64).round() as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.unsigned_abs();
    write_integer(scaled / scale, out);
    let mut fraction = scaled % scale;
    if fraction == 0 {
        return;
    }
    let mut digits = [b'0'; 8];
    for digit in digits[..decimals].iter_mut().rev() {
        *digit += (fraction % 10) as u8;
        fraction /= 10;
    }
    let used = digits[..decimals].iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..used]);
}

fn write_integer(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::MemberId;

    fn json(what: What) -> String {
        let mut out = Vec::new();
        write(&Moment { at_ms: 1_700_000_000_123, what }, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn event(action: Action) -> String {
        let who = Arc::new(Who::new("user_1", "s\"1"));
        let text = json(What::Event { member: MemberId(1), who, action });
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        text.replace(r#","userId":"user_1","timestamp":1700000000123,"socketId":"s\"1""#, "")
    }

    #[test]
    fn numbers_are_rounded_and_have_no_needless_digits() {
        let text = |value, decimals| {
            let mut out = Vec::new();
            write_decimal(value, decimals, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-0.000_1, "0"),
            (1.6, "1.6"),
            (-0.25, "-0.25"),
            (0.001, "0.001"),
            (-12.05, "-12.05"),
            (1_000_000.0, "1000000"),
            (19.999_9, "20"),
            (f32::NAN, "0"),
        ] {
            assert_eq!(text(value, 3), expected);
        }
        assert_eq!(text(0.707_106_77, 4), "0.7071");
    }

    #[test]
    fn a_move_has_the_form_of_the_seed() {
        let pose = Pose::from_json(
            r#"{"position":{"x":1.5,"y":1.6,"z":-2},"rotation":{"x":0,"y":3.1,"z":0},
                "rightHand":{"position":{"x":1,"y":1,"z":0},"rotation":{"x":0,"y":0,"z":0,"w":1}}}"#,
        )
        .unwrap();
        let who = Arc::new(Who::new("user_1", "abc"));
        assert_eq!(
            json(What::Move { member: MemberId(1), who, pose }),
            r#"{"type":"move","userId":"user_1","timestamp":1700000000123,"socketId":"abc","position":{"x":1.5,"y":1.6,"z":-2},"rotation":{"x":0,"y":3.1,"z":0},"rightHand":{"position":{"x":1,"y":1,"z":0},"rotation":{"x":0,"y":0,"z":0,"w":1}}}"#
        );
    }

    #[test]
    fn events_carry_what_was_told() {
        let user = r#"{"id":"user_1"}"#.to_owned();
        assert_eq!(event(Action::Join { user }), r#"{"type":"join","user":{"id":"user_1"}}"#);
        assert_eq!(event(Action::Leave), r#"{"type":"leave"}"#);
        let object = r#"{"id":7,"type":"cube"}"#.to_owned();
        assert_eq!(
            event(Action::ObjectCreate { object, version: 2 }),
            r#"{"type":"object-create","object":{"id":7,"type":"cube"},"version":2}"#
        );
        let update = r#"{"id":7,"version":3,"a":1}"#.to_owned();
        assert_eq!(
            event(Action::ObjectUpdate { update }),
            r#"{"type":"object-update","update":{"id":7,"version":3,"a":1}}"#
        );
        assert_eq!(event(Action::ObjectDelete { id: "7".into() }), r#"{"type":"object-delete","id":7}"#);
        let update = r#"{"id":"user_1","a":1}"#.to_owned();
        assert_eq!(
            event(Action::UserUpdate { update }),
            r#"{"type":"user-update","update":{"id":"user_1","a":1}}"#
        );
        let message = r#"{"type":"chat","data":1}"#.to_owned();
        let attachments = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"\xff")];
        assert_eq!(
            event(Action::Message { message, attachments }),
            r#"{"type":"message","message":{"type":"chat","data":1},"attachments":["YWJj","/w=="]}"#
        );
        let objects = What::Objects("[{\"id\":7,\n\"version\":1}]".into());
        assert_eq!(
            json(objects),
            r#"{"type":"objects","timestamp":1700000000123,"objects":[{"id":7, "version":1}]}"#
        );
        assert_eq!(json(What::Gap), r#"{"type":"gap","timestamp":1700000000123}"#);
    }

    #[test]
    fn nothing_that_a_client_has_written_breaks_a_line() {
        let broken = "{\"id\":\"x\",\"a\":[\n{\"type\":\"leave\",\"said\":\"\\n\"}\r\n]}".to_owned();
        let whole = r#"{"id":"x","a":[ {"type":"leave","said":"\n"}  ]}"#;
        for action in [
            Action::Join { user: broken.clone() },
            Action::ObjectCreate { object: broken.clone(), version: 1 },
            Action::ObjectUpdate { update: broken.clone() },
            Action::UserUpdate { update: broken.clone() },
            Action::Message { message: broken.clone(), attachments: Vec::new() },
        ] {
            let text = event(action);
            assert!(text.contains(whole) && !text.contains(['\n', '\r']), "{text}");
        }
    }
}
