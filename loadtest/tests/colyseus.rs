//! What `loadtest` says of a room that speaks as Colyseus does.

mod judged;
mod room;

use judged::{POSES, USERS, judged, listener, loadtest};
use room::{Behaviour, PATCH_FRAME_BYTES, Patched, Room};
use serde_json::Value;

const COLYSEUS: &[&str] = &["--protocol", "colyseus"];

async fn in_room(behaviour: Behaviour) -> (Option<i32>, Value, Room) {
    let (listener, port) = listener().await;
    let room = Room::new(behaviour);
    tokio::spawn(room.clone().serve(listener));
    let (status, report) = judged(port, COLYSEUS).await;
    (status, report, room)
}

#[tokio::test]
async fn patches_and_bytes_are_counted_and_their_poses_judged() {
    let (status, report, room) = in_room(Behaviour::default()).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(room.faults(), [""; 0], "{report}");
    assert_eq!(report["poses_sent"], USERS * POSES, "{report}");
    let figure = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"));
    // What arrives just at the window's end may be in it or not; all of it is patches.
    let ticks = figure("ticks_per_user_s");
    assert!(ticks > 0.0 && figure("ticks_per_user_s_fewest") <= ticks, "{report}");
    assert!((figure("frames_per_user_s") - ticks).abs() < 1e-6, "{report}");
    assert!((figure("bytes_per_user_s") / ticks - PATCH_FRAME_BYTES).abs() < 1e-6, "{report}");
    // All hear of the first member's poses, and of nobody else's.
    assert_eq!(report["poses_received"], (USERS - 1) * POSES, "{report}");
    assert_eq!(report["poses_expected"], USERS * (USERS - 1) * POSES, "{report}");
    assert!(report["poses_own"].as_u64() >= Some(POSES) && report["longest_gap"] == POSES, "{report}");
    assert!(report["pose_age_ms"]["p50"].as_f64() > Some(0.0), "{report}");
}

#[tokio::test]
async fn patches_that_cannot_be_read_and_stamps_that_nobody_sent_are_faults() {
    for (patched, fault) in [
        (Patched::Wrongly, "poses had no readable stamp"),
        (Patched::Brokenly, "pose frames could not be read"),
    ] {
        let (status, report, _) = in_room(Behaviour { patched, ..Behaviour::default() }).await;
        assert_eq!((status, &report["poses_received"]), (Some(1), &0.into()), "{report}");
        assert!(report["faults"].to_string().contains(fault), "{report}");
    }
}

#[tokio::test]
async fn a_room_that_sends_no_patches_is_at_fault() {
    let (status, report, room) = in_room(Behaviour { patches: false, ..Behaviour::default() }).await;
    assert_eq!((status, &report["ticks_per_user_s"]), (Some(1), &0.0.into()), "{report}");
    assert_eq!(room.faults(), [""; 0]);
}

#[tokio::test]
async fn whoever_is_told_to_leave_is_a_session_that_ended() {
    let (status, report, _) = in_room(Behaviour { expel_after: Some(8), ..Behaviour::default() }).await;
    assert_eq!(status, Some(1), "{report}");
    let ended: u64 = report["disconnects"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(ended, USERS, "{report}");
    assert!(report["disconnects"].to_string().contains("refused"), "{report}");
}

#[tokio::test]
async fn a_room_without_seats_is_told_by_another_exit_status() {
    let (listener, port) = listener().await;
    tokio::spawn(Room::new(Behaviour { open: false, ..Behaviour::default() }).serve(listener));
    let output = tokio::task::spawn_blocking(move || loadtest(port, COLYSEUS)).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such room"));
}

#[tokio::test]
async fn what_colyseus_cannot_do_is_refused() {
    for more in [&["--rooms", "2"][..], &["--encoding", "binary"]] {
        let more = [COLYSEUS, more].concat();
        let output = tokio::task::spawn_blocking(move || loadtest(1, &more)).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
