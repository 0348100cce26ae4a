//! Records survive being written and read, and damage is told.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use replay::{
    Action, Content, Damaged, Event, Keyframe, MemberId, Objects, Record, RecordKind, decode, encode,
};

/// An event of the version that is written now.
const EVENT: &str = "010188cec905fbd095ffbc31ac0206757365725f31027331050137";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn action() -> impl Strategy<Value = Action> {
    let text = || "\\PC{0,40}";
    prop_oneof![
        text().prop_map(|user| Action::Join { user }),
        Just(Action::Leave),
        (text(), any::<u64>()).prop_map(|(object, version)| Action::ObjectCreate { object, version }),
        text().prop_map(|update| Action::ObjectUpdate { update }),
        text().prop_map(|id| Action::ObjectDelete { id }),
        text().prop_map(|update| Action::UserUpdate { update }),
        (text(), vec(vec(any::<u8>(), 0..300).prop_map(Bytes::from), 0..4))
            .prop_map(|(message, attachments)| Action::Message { message, attachments }),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let event = (any::<u64>(), "\\PC{0,20}", "\\PC{0,20}", action()).prop_map(
        |(member, user_id, socket_id, action)| {
            Content::Event(Event {
                member: MemberId(member),
                user_id: user_id.into(),
                socket_id: socket_id.into(),
                action,
            })
        },
    );
    let objects =
        prop_oneof!["\\PC{0,400}".prop_map(Objects::All), any::<u64>().prop_map(Objects::UnchangedSince)];
    let members = vec((any::<u64>().prop_map(MemberId), "\\PC{0,80}"), 0..9);
    let keyframe =
        (any::<bool>(), any::<u32>(), members, objects).prop_map(|(opens, max_users, members, objects)| {
            Content::Keyframe(Keyframe { opens, max_users, members, objects })
        });
    prop_oneof![event, keyframe]
}

const KINDS: [RecordKind; 4] =
    [RecordKind::Event, RecordKind::Poses, RecordKind::Keyframe, RecordKind::KeyframeUnchanged];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_and_keyframes_are_read_as_they_were_written(at_ms in any::<u64>(), content in content()) {
        let record = Record { at_ms, content };
        let payload = encode(&record).expect("small enough");
        let kind = record.content.kind();
        prop_assert_eq!(decode(kind, &payload), Ok(record));
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            prop_assert_eq!(decode(other, &payload), Err(Damaged));
        }
    }

    #[test]
    fn a_flipped_byte_a_cut_and_an_addition_are_told(
        content in content(), at in any::<prop::sample::Index>(), flip in 1..=255u8
    ) {
        let record = Record { at_ms: 1_700_000_000_000, content };
        let kind = record.content.kind();
        let payload = encode(&record).expect("small enough");
        let at = at.index(payload.len());
        let mut flipped = payload.to_vec();
        flipped[at] ^= flip;
        prop_assert_eq!(decode(kind, &flipped), Err(Damaged));
        prop_assert_eq!(decode(kind, &payload[..at]), Err(Damaged));
        prop_assert_eq!(decode(kind, &[&payload[..], &[flip]].concat()), Err(Damaged));
    }

    #[test]
    fn garbage_is_told(bytes in vec(any::<u8>(), 0..400), kind in prop::sample::select(&KINDS)) {
        prop_assert_eq!(decode(kind, &bytes), Err(Damaged));
    }
}

#[test]
fn long_texts_are_compressed() {
    let user = r#"{"id":"user_1","position":{"x":1,"y":2,"z":3}}"#.to_owned();
    let members = (0..500).map(|member| (MemberId(member), user.clone())).collect();
    let objects = Objects::All("[]".to_owned());
    let keyframe = Keyframe { opens: false, max_users: 500, members, objects };
    let record = Record { at_ms: 5, content: Content::Keyframe(keyframe) };
    let payload = encode(&record).expect("small enough");
    assert!(payload.len() < 5_000, "{} bytes", payload.len());
    assert_eq!(decode(RecordKind::Keyframe, &payload), Ok(record));
}

#[test]
fn one_kind_is_not_taken_for_another() {
    // Its body would pass for one of the other kind.
    let objects = Objects::All(String::new());
    let keyframe = Keyframe { opens: false, max_users: 1, members: Vec::new(), objects };
    let payload = encode(&Record { at_ms: 1, content: Content::Keyframe(keyframe) }).expect("small enough");
    assert!(decode(RecordKind::Keyframe, &payload).is_ok());
    assert_eq!(decode(RecordKind::KeyframeUnchanged, &payload), Err(Damaged));
}

#[test]
fn the_layout_stays_as_it_is() {
    let event = Event {
        member: MemberId(300),
        user_id: "user_1".into(),
        socket_id: "s1".into(),
        action: Action::ObjectDelete { id: "7".into() },
    };
    let record = Record { at_ms: 1_700_000_000_123, content: Content::Event(event) };
    let payload = encode(&record).expect("small enough");
    assert_eq!(hex(&payload), EVENT);
}
