//! What holds in a room so small that everybody gets everything.

use std::ptr;

use engine::broadcast::TickPoses;
use engine::ports::TickView;
use protocol::Outgoing;
use protocol::event::Encoding;

use super::run::Hall;
use super::watch::{About, shown};

/// Everybody has moved, so that everybody is shown to everybody; and that by one frame, or from one buffer.
pub(crate) fn check_shared(hall: &Hall, poses: &TickPoses) {
    assert!(poses.is_for_all());
    let mut frame: Option<*const Outgoing> = None;
    let mut texts: Option<*const u8> = None;
    for viewer in hall.people.values() {
        let others = hall.people.values().filter(|other| other.session != viewer.session);
        let (seen, _) = shown(poses, viewer.slot, viewer.encoding);
        let is_seen = |about: About| seen.iter().any(|(seen, _)| *seen == about);
        match viewer.encoding {
            Encoding::Binary => {
                let packet: *const Outgoing = poses.binary(viewer.slot).expect("others have moved");
                assert!(ptr::eq(*frame.get_or_insert(packet), packet), "one frame for all");
                assert_eq!(seen.len(), hall.people.len(), "its own pose comes along");
                assert!(others.clone().all(|other| is_seen(About::Slot(other.slot))));
            }
            Encoding::Json | Encoding::Batch => {
                assert_eq!(seen.len(), hall.people.len() - 1);
                assert!(others.clone().all(|other| is_seen(About::Session(other.session))));
            }
        }
        if viewer.encoding == Encoding::Json {
            let Some(TickView::Packets { buffer, .. }) = poses.json(viewer.slot) else {
                panic!("one by one")
            };
            let start = buffer.as_ptr();
            assert!(ptr::eq(*texts.get_or_insert(start), start), "one buffer for all");
        }
    }
}
