//! Tests of the events.

use super::*;

fn code(name: &str, payload: &str) -> ErrorCode {
    ClientEvent::parse(name, payload).unwrap_err().code
}

#[test]
fn a_seed_join_has_only_a_room() {
    let Ok(Some(ClientEvent::JoinRoom(join))) = ClientEvent::parse("join-room", r#"{"roomId":"lobby"}"#)
    else {
        panic!("not a join")
    };
    assert_eq!(join.room_id, "lobby");
    assert!(join.password.is_none() && join.encoding.is_none() && join.view.is_none());
}

#[test]
fn a_join_may_say_more() {
    let json =
        r#"{"roomId":"caf\u00e9","password":"x","encoding":"batch","view":{"position":{"x":1,"y":2,"z":3}}}"#;
    let Ok(Some(ClientEvent::JoinRoom(join))) = ClientEvent::parse("join-room", json) else {
        panic!("not a join")
    };
    assert_eq!(join.room_id, "café");
    assert_eq!(join.encoding, Some(Encoding::Batch));
    assert_eq!(join.view.and_then(|view| view.position).unwrap().z, 3.0);
}

#[test]
fn bad_payloads_are_refused_with_a_code() {
    let long = format!(r#"{{"roomId":"{}"}}"#, "x".repeat(MAX_ROOM_ID_BYTES + 1));
    for (name, payload) in [
        ("join-room", ""),
        ("join-room", "{}"),
        ("join-room", r#"{"roomId":""}"#),
        ("join-room", r#"{"roomId":7}"#),
        ("join-room", r#"{"roomId":"a\u0000b"}"#),
        ("join-room", r#"{"roomId":"a","encoding":"morse"}"#),
        ("join-room", r#"{"roomId":"a","view":{"radius":-1}}"#),
        ("join-room", long.as_str()),
        ("object-create", "[]"),
        ("object-update", r#"{"version":1}"#),
        ("object-update", r#"{"id":"a","version":-1}"#),
        ("object-update", r#"{"id":{}}"#),
        ("object-delete", r#"{"id":""}"#),
        ("user-update", "{}"),
        ("user-update", r#"{"id":"somebody else"}"#),
        ("user-update", r#"{"username":5}"#),
        ("room-message", r#"{"data":1}"#),
        ("signal", r#"{"data":1}"#),
        ("view", r#"{"position":{"x":1e30,"y":0,"z":0}}"#),
        ("worker-task", r#"{"task":"x"}"#),
    ] {
        assert_eq!(code(name, payload), ErrorCode::BadRequest, "{name} {payload}");
    }
    let big = format!(r#"{{"type":"x","data":"{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(code("room-message", &big), ErrorCode::Limit);
}

#[test]
fn a_name_that_the_contract_does_not_know_is_no_error() {
    assert!(matches!(ClientEvent::parse("no-such-event", "nonsense"), Ok(None)));
    assert!(!ClientEvent::is_known("no-such-event"));
    for name in NAMES {
        assert!(!matches!(ClientEvent::parse(name, "{}"), Ok(None)), "{name}");
    }
}

#[test]
fn what_only_the_server_sets_is_taken_out_of_a_user_update() {
    let json = r##"{"id":"x","slot":1,"colour":"#fff","position":{}}"##;
    let Ok(Some(ClientEvent::UserUpdate(changes))) = ClientEvent::parse("user-update", json) else {
        panic!("not a user-update")
    };
    assert_eq!(serde_json::to_string(&changes).unwrap(), r##"{"colour":"#fff"}"##);
}

#[test]
fn an_update_is_split_into_id_version_and_changes() {
    let json = r#"{"colour":"red","id":5,"version":3}"#;
    let Ok(Some(ClientEvent::ObjectUpdate(update))) = ClientEvent::parse("object-update", json) else {
        panic!("not an update")
    };
    assert_eq!((update.id.as_str(), update.version), ("5", Some(3)));
    assert_eq!(serde_json::to_string(&update.changes).unwrap(), r#"{"colour":"red"}"#);
}

#[test]
fn whole_numbers_are_the_same_id_however_they_are_written() {
    let id = |id: &str| {
        let members = serde_json::from_str(&format!(r#"{{"id":{id}}}"#)).unwrap();
        object_id(&members).unwrap().unwrap()
    };
    for (written, expected) in [
        ("7", "7"),
        ("7.0", "7"),
        ("7e0", "7"),
        ("\"7\"", "7"),
        ("-3.0", "-3"),
        ("-0.0", "0"),
        ("1.5", "1.5"),
        ("18446744073709551615", "18446744073709551615"),
        ("1e300", "1e+300"),
    ] {
        assert_eq!(id(written), expected, "{written}");
    }
}
