//! Packets as client events: an event that is taken is within its limits, and a pose that is taken goes out
//! again as JSON and in binary without changing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::frame::{decode_pose, encode_pose};
use protocol::limits::{MAX_POSITION_M, MAX_ROOM_ID_BYTES};
use protocol::{ClientEvent, Packet, Pose, Rotation};

fuzz_target!(|text: &str| {
    // Poses take the short way, all else is checked whole first: both must hold up.
    let Ok(packet) = Packet::decode_header(text) else { return };
    let Ok(event) = packet.event() else { return };
    let Ok(Some(client_event)) = ClientEvent::parse(&event.name, event.first_raw()) else { return };
    match client_event {
        ClientEvent::UpdatePosition(pose) => check_pose(&pose),
        ClientEvent::JoinRoom(join) => {
            assert!(!join.room_id.is_empty() && join.room_id.len() <= MAX_ROOM_ID_BYTES);
        }
        _ => {}
    }
});

fn check_pose(pose: &Pose) {
    assert!(pose.validate().is_ok());
    let mut json = b"{".to_vec();
    pose.write_json_members(&mut json);
    json.push(b'}');
    let json = std::str::from_utf8(&json).expect("JSON is text");
    assert_eq!(Pose::from_json(json).as_ref(), Ok(pose), "float32 comes out as it went in");

    let mut bytes = Vec::new();
    encode_pose(pose, &mut bytes);
    let read = decode_pose(&bytes).expect("what we write can be read");
    assert_eq!(read.parts().count(), pose.parts().count());
    for part in read.parts() {
        assert!(part.position.iter().all(|c| c.abs() <= MAX_POSITION_M + 40.0));
        assert!(matches!(part.rotation, Rotation::Quaternion(_)));
    }
}
