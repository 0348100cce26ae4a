//! Packets read in place: arguments, and properties that hold for any text.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use proptest::prelude::*;
use protocol::limits::{MAX_JSON_DEPTH, MAX_PACKET_BYTES};
use protocol::packet::check_depth;
use protocol::{DecodeError, Outgoing, Packet};
use serde_json::Value;
use serde_json::value::RawValue;

fn event(text: &str) -> protocol::Event<'_> {
    Packet::decode_header(text).unwrap().event().unwrap()
}

#[test]
fn arguments_are_read_as_types() {
    let text = r#"2["a" , {"x":1} , [2,"]"],null ]"#;
    let event = event(text);
    assert_eq!(event.name, "a");
    assert_eq!(event.args, r#"{"x":1} , [2,"]"],null"#);
    assert_eq!(event.args_count(), Ok(3));
    let raw: Result<Vec<&str>, _> = event.raw_args().collect();
    assert_eq!(raw, Ok(vec![r#"{"x":1}"#, r#"[2,"]"]"#, "null"]));
    assert_eq!(event.first_arg::<Value>(), Ok(Some(serde_json::json!({"x": 1}))));
    assert_eq!(event.first_arg::<&RawValue>().unwrap().unwrap().get(), r#"{"x":1}"#);
    assert_eq!(event.first_raw(), r#"{"x":1}"#);
    assert_eq!(event.first_arg::<u32>(), Err(DecodeError::InvalidArgument));
}

#[test]
fn an_event_may_have_no_arguments() {
    for text in [r#"2["a"]"#, r#"2[ "a" ]"#] {
        let event = event(text);
        assert_eq!((event.args, event.args_count()), ("", Ok(0)));
        assert_eq!((event.first_arg::<Value>(), event.first_raw()), (Ok(None), ""));
    }
}

#[test]
fn the_first_arguments_text_ends_at_its_own_comma() {
    for (args, first) in [
        ("1", "1"),
        (" 1 , 2", "1"),
        ("[1,2],3", "[1,2]"),
        (r#"{"a":"},\"","b":[1,2]} ,[3]"#, r#"{"a":"},\"","b":[1,2]}"#),
        (r#""a,\",b",1"#, r#""a,\",b""#),
        ("{}}},1", "{}}}"),
        ("{,1", "{,1"),
        ("\"ü,", "\"ü,"),
        ("ü,1", "ü"),
    ] {
        let text = format!("2[\"a\",{args}]");
        assert_eq!(event(&text).first_raw(), first, "{args}");
    }
}

#[test]
fn what_follows_the_first_argument_must_be_json_too() {
    for text in
        ["2[\"a\",1,]", "2[\"a\",1 2]", "2[\"a\",1,x]", "2[\"a\",1]]", "2[\"a\",1,\"]", "2[\"a\",tru]"]
    {
        let event = event(text);
        assert_eq!(event.first_arg::<Value>(), Err(DecodeError::InvalidJson), "{text}");
        assert_eq!(event.args_count(), Err(DecodeError::InvalidJson), "{text}");
        assert_eq!(event.raw_args().take(9).filter(Result::is_err).count(), 1, "{text}: the iterator ends");
    }
}

#[test]
fn a_comma_promises_an_argument() {
    for text in ["2[\"a\",]", "2[\"a\", ]", "2[\"a\"1]"] {
        let event = Packet::decode_header(text).unwrap().event();
        assert_eq!(event, Err(DecodeError::InvalidJson), "{text}");
    }
}

#[test]
fn names_are_borrowed_unless_escaped() {
    use std::borrow::Cow;
    assert!(matches!(event(r#"2["größe",1]"#).name, Cow::Borrowed("größe")));
    let escaped = event(r#"2["\u0061\"",1]"#);
    assert!(matches!(&escaped.name, Cow::Owned(name) if name == "a\""));
    assert_eq!(escaped.args, "1");
}

#[test]
fn only_events_have_names_and_only_acks_have_ack_arguments() {
    assert_eq!(Packet::decode("31[1]").unwrap().event(), Err(DecodeError::NotAnEvent));
    assert_eq!(Packet::decode("31[ 1 ]").unwrap().ack_args(), Ok("1"));
    assert_eq!(Packet::decode(r#"2["a"]"#).unwrap().ack_args(), Err(DecodeError::InvalidPayload));
}

#[test]
fn lengths_and_depths_at_their_limits() {
    let text = |len: usize| format!(r#"2["{}"]"#, "x".repeat(len - 5));
    assert!(Packet::decode(&text(MAX_PACKET_BYTES)).is_ok());
    assert_eq!(Packet::decode(&text(MAX_PACKET_BYTES + 1)), Err(DecodeError::TooLong));
    assert_eq!(Packet::decode_header(&text(MAX_PACKET_BYTES + 1)), Err(DecodeError::TooLong));

    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(check_depth(&nested(MAX_JSON_DEPTH), MAX_JSON_DEPTH), Ok(()));
    assert_eq!(check_depth(&nested(MAX_JSON_DEPTH + 1), MAX_JSON_DEPTH), Err(DecodeError::TooDeep));
    assert_eq!(check_depth(r#"["[[[[","\"[[[","{"]"#, 1), Ok(()), "brackets in strings do not count");
    assert_eq!(check_depth(&"[]".repeat(1000), 1), Ok(()), "width is not depth");
    let hostile = format!("2[\"a\",{}", "[".repeat(900_000));
    assert_eq!(Packet::decode(&hostile), Err(DecodeError::TooDeep));
}

/// JSON as a client may send it, a few levels deep.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| Value::from(f64::from(f))),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Texts near enough to packets to reach beyond the first check.
fn packet_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("\"a\"".to_owned()),
        Just(",".to_owned()),
        Just("{\"_placeholder\":true,\"num\":0}".to_owned()),
        Just("\\".to_owned()),
        Just("\"".to_owned()),
        Just("/x".to_owned()),
        Just("?".to_owned()),
        Just("1".to_owned()),
        Just("-".to_owned()),
        Just(" ".to_owned()),
        Just("{}".to_owned()),
        Just("\u{c}".to_owned()),
        Just("ü".to_owned()),
        ".{0,3}",
    ];
    ("[0-7]?(1-)?(/[a-z]*,)?[0-9]{0,2}(\\[\"[a-z]\")?", prop::collection::vec(part, 0..8), "\\]?")
        .prop_map(|(head, parts, tail)| head + &parts.concat() + &tail)
}

/// What must hold for any text whatever.
fn check_any(text: &str) -> Result<(), TestCaseError> {
    let header = Packet::decode_header(text);
    let whole = Packet::decode(text);
    if let Ok(packet) = whole {
        prop_assert_eq!(header, Ok(packet), "the two decoders read the same header");
    }
    let Ok(packet) = header else { return Ok(()) };
    // Reading an event step by step accepts what checking it whole accepts, depth apart.
    let stepwise = packet.event().and_then(|event| {
        let args: Result<Vec<&str>, _> = event.raw_args().collect();
        Ok((event, args?))
    });
    if let Ok((event, args)) = &stepwise {
        prop_assert!(matches!(whole, Ok(_) | Err(DecodeError::TooDeep)), "{:?}", whole);
        let array: Vec<Value> = serde_json::from_str::<Vec<&RawValue>>(packet.data.unwrap())
            .unwrap()
            .iter()
            .map(|raw| Value::from(raw.get()))
            .collect();
        let read: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
        prop_assert_eq!(&array[1..], &read[..]);
        prop_assert_eq!(event.args_count(), Ok(read.len()));
        prop_assert_eq!(event.first_raw(), args.first().copied().unwrap_or_default());
    } else if packet.event() != Err(DecodeError::NotAnEvent) {
        prop_assert!(whole.is_err(), "refused in steps, but accepted whole: {:?}", text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_any(&text)?;
    }

    #[test]
    fn texts_like_packets_are_read_or_refused(text in packet_like()) {
        check_any(&text)?;
    }

    #[test]
    fn a_packet_cut_or_changed_is_read_or_refused(
        payload in json(), at in any::<prop::sample::Index>(), change in any::<char>(), cut in any::<bool>()
    ) {
        let text = Outgoing::event("name", &payload).text().to_owned();
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        if cut { chars.truncate(at) } else { chars[at] = change }
        check_any(&chars.into_iter().collect::<String>())?;
    }

    #[test]
    fn events_round_trip(namespace in "/[a-zäö0-9]{0,8}", name in ".{0,12}", args in prop::collection::vec(json(), 0..4)) {
        let array = Value::from(args.clone()).to_string();
        let outgoing = Outgoing::event_raw_in(&namespace, &name, &array[1..array.len() - 1], Vec::new());
        let packet = Packet::decode(outgoing.text()).unwrap();
        prop_assert_eq!(packet.namespace, namespace);
        prop_assert_eq!(packet.id, None);
        let event = packet.event().unwrap();
        prop_assert_eq!(&event.name, &name);
        let read: Vec<&str> = event.raw_args().map(Result::unwrap).collect();
        let sent: Vec<String> = args.iter().map(Value::to_string).collect();
        prop_assert_eq!(read, sent);
        check_any(outgoing.text())?;
    }

    #[test]
    fn acks_round_trip(namespace in "/[a-z]{0,8}", id in any::<u64>(), payload in json()) {
        let outgoing = Outgoing::ack(&namespace, id, &payload);
        let packet = Packet::decode(outgoing.text()).unwrap();
        prop_assert_eq!((packet.namespace, packet.id), (&*namespace, Some(id)));
        prop_assert_eq!(packet.ack_args().unwrap(), payload.to_string());
    }
}
