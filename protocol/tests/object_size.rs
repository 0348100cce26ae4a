//! A payload that makes or changes an object is measured before it is read.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use protocol::ClientEvent;
use protocol::error::ErrorCode;
use protocol::limits::MAX_OBJECT_BYTES;

#[test]
fn a_change_of_an_object_is_measured_before_it_is_read() {
    for name in ["object-create", "object-update"] {
        let object = r#"{"id":"a"}"#;
        let within = format!("{object}{}", " ".repeat(MAX_OBJECT_BYTES - object.len()));
        assert!(ClientEvent::parse(name, &within).unwrap().is_some(), "{name}");
        // One byte more, and no JSON: who looks at the size first does not see that.
        let error = ClientEvent::parse(name, &(within + "x")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Limit, "{name}");
    }
}
