//! The judge judged: servers whose behaviour is known, and what `loadtest` says of them.

mod judged;
#[path = "../examples/naive_relay/relay.rs"]
mod relay;
mod scripted;

use std::time::Duration;

use judged::{POSES, USERS, judged, listener, loadtest};
use scripted::{Behaviour, Scripted};
use serde_json::Value;

async fn scripted(behaviour: Behaviour) -> (Option<i32>, Value) {
    scripted_with(behaviour, &[]).await
}

async fn scripted_with(behaviour: Behaviour, more: &'static [&'static str]) -> (Option<i32>, Value) {
    let (listener, port) = listener().await;
    tokio::spawn(Scripted::new(behaviour).serve(listener));
    judged(port, more).await
}

/// Everybody is near: the square's diagonal is 7 m.
const BINARY: &[&str] = &["--encoding", "binary", "--area", "5", "--hands", "0.5"];

#[tokio::test]
async fn through_a_naive_relay_every_pose_arrives_once_at_everybody_else() {
    let (listener, port) = listener().await;
    tokio::spawn(relay::serve(listener));
    for (rooms, more) in [(1, &[][..]), (2, &["--rooms", "2", "--pin", "0,0"])] {
        let (status, report) = judged(port, more).await;
        assert_eq!(status, Some(0), "{report}");
        let expected = USERS * (USERS / rooms - 1) * POSES;
        assert_eq!(report["poses_sent"], USERS * POSES, "{report}");
        assert_eq!(report["poses_expected"], expected, "{report}");
        assert_eq!(report["poses_received"], expected, "{report}");
        assert_eq!((&report["poses_repeated"], &report["longest_gap"]), (&0.into(), &0.into()), "{report}");
    }
}

#[tokio::test]
async fn a_delay_shows_as_age() {
    let delay = Duration::from_millis(300);
    let (status, report) = scripted(Behaviour { delay, ..Behaviour::default() }).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], report["poses_expected"], "{report}");
    // The histogram's buckets are a thousandth wide.
    assert!(report["pose_age_ms"]["p50"].as_f64().unwrap() >= 299.0, "{report}");
}

#[tokio::test]
async fn lost_poses_show_as_a_gap() {
    // Three in a row of every five are lost.
    let (status, report) =
        scripted(Behaviour { keep: |number| number % 5 < 2, ..Behaviour::default() }).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], USERS * (USERS - 1) * POSES * 2 / 5, "{report}");
    assert_eq!(report["longest_gap"], 3, "{report}");
}

#[tokio::test]
async fn repeated_poses_are_not_counted_twice() {
    let (status, report) = scripted(Behaviour { copies: 2, ..Behaviour::default() }).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], report["poses_expected"], "{report}");
    assert_eq!(report["poses_repeated"], report["poses_expected"], "{report}");
}

#[tokio::test]
async fn poses_that_come_back_to_their_sender_are_a_fault() {
    let (status, report) = scripted(Behaviour { to_sender: true, ..Behaviour::default() }).await;
    assert_eq!(status, Some(1), "{report}");
    assert!(report["poses_own"].as_u64().unwrap() >= USERS * POSES, "{report}");
    assert_eq!(report["poses_received"], report["poses_expected"], "{report}");
}

#[tokio::test]
async fn a_server_that_sends_nothing_is_at_fault() {
    let (status, report) = scripted(Behaviour { keep: |_| false, ..Behaviour::default() }).await;
    assert_eq!(status, Some(1), "{report}");
    assert_eq!(report["poses_received"], 0);
}

#[tokio::test]
async fn a_server_that_hangs_up_is_at_fault() {
    let (status, report) = scripted(Behaviour { hang_up_after: Some(8), ..Behaviour::default() }).await;
    assert_eq!(status, Some(1), "{report}");
    let ended: u64 = report["disconnects"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(ended, USERS, "{report}");
}

#[tokio::test]
async fn in_binary_every_pose_arrives_once_at_everybody_else() {
    let rate = Behaviour { rate_hz: Some(10), ..Behaviour::default() };
    for more in [BINARY, &["--encoding", "binary", "--pin", "0,0"]] {
        let (status, report) = scripted_with(rate, more).await;
        assert_eq!(status, Some(0), "{report}");
        assert_eq!(report["poses_received"], USERS * (USERS - 1) * POSES, "{report}");
        assert_eq!((&report["poses_repeated"], &report["longest_gap"]), (&0.into(), &0.into()), "{report}");
        assert_eq!(report["poses_delivered_per_s"], (USERS * (USERS - 1) * POSES) as f64, "{report}");
        assert_eq!((&report["room_rates"], &report["lowest_rate_hz"]), (&USERS.into(), &10.0.into()));
    }
}

#[tokio::test]
async fn in_binary_a_delay_shows_as_age_of_those_near_or_far() {
    let delay = Duration::from_millis(300);
    let behaviour = Behaviour { delay, ..Behaviour::default() };
    let far = &["--encoding", "binary", "--near", "0"][..];
    for (more, there, not_there) in
        [(BINARY, "pose_age_near_ms", "pose_age_far_ms"), (far, "pose_age_far_ms", "pose_age_near_ms")]
    {
        let (status, report) = scripted_with(behaviour, more).await;
        assert_eq!(status, Some(0), "{report}");
        assert!(report[there]["p50"].as_f64().unwrap() >= 299.0, "{report}");
        assert_eq!(report[not_there]["max"], 0.0, "{report}");
    }
}

#[tokio::test]
async fn in_binary_lost_frames_show_as_a_gap() {
    // Three in a row of every five are lost: four periods of 100 ms from one that arrives to the next.
    let behaviour = Behaviour { keep: |number| number % 5 < 2, ..Behaviour::default() };
    let (status, report) = scripted_with(behaviour, BINARY).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], USERS * (USERS - 1) * POSES * 2 / 5, "{report}");
    assert_eq!(report["longest_gap"], 3, "{report}");
    for gap in ["update_gap_near_ms", "update_gap_ms"] {
        // At the window's ends only what is within it is known, and the load may send a little late.
        assert!(report[gap]["max"].as_f64().unwrap() >= 300.0, "{report}");
    }
}

#[tokio::test]
async fn in_binary_ones_own_pose_is_no_fault_and_no_news() {
    let behaviour = Behaviour { to_sender: true, copies: 2, ..Behaviour::default() };
    let (status, report) = scripted_with(behaviour, BINARY).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], report["poses_expected"], "{report}");
    assert_eq!(report["poses_repeated"], report["poses_expected"], "{report}");
    assert!(report["poses_own"].as_u64().unwrap() >= 2 * USERS * POSES, "{report}");
}

#[tokio::test]
async fn those_who_are_not_judged_count_by_their_bytes() {
    let (status, report) =
        scripted_with(Behaviour::default(), &["--encoding", "binary", "--judges", "2"]).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(
        (&report["judged"], &report["poses_received"]),
        (&2.into(), &(2 * (USERS - 1) * POSES).into())
    );
    let delivered = report["poses_delivered_per_s"].as_f64().unwrap();
    let expected = (USERS * (USERS - 1) * POSES) as f64;
    assert!((delivered / expected - 1.0).abs() < 0.1, "{delivered} of {expected}: {report}");
}

#[tokio::test]
async fn a_pose_under_anothers_slot_is_a_fault() {
    // The first two to come are taken for each other.
    let swap = |slot| {
        if slot == 40_000 {
            39_993
        } else if slot == 39_993 {
            40_000
        } else {
            slot
        }
    };
    let behaviour = Behaviour { slot: swap, ..Behaviour::default() };
    let (status, report) = scripted_with(behaviour, &["--encoding", "binary"]).await;
    assert_eq!(status, Some(1), "{report}");
    assert!(report["poses_misplaced"].as_u64().unwrap() > 0, "{report}");
    let (status, report) = scripted_with(Behaviour { slot: |_| 3, ..behaviour }, BINARY).await;
    assert_eq!((status, &report["poses_received"]), (Some(1), &0.into()), "nobody has that slot: {report}");
}

#[tokio::test]
async fn a_pose_frame_that_is_wrong_is_a_fault_to_whoever_gets_it() {
    let header: fn(&mut Vec<u8>) = |frame| frame[0] = 2;
    let end: fn(&mut Vec<u8>) = |frame| frame.push(0);
    // Only the header is everybody's to check.
    for (spoil, judges, bad) in [(header, "0", USERS), (end, "1", 1), (end, "0", 0)] {
        let more: &'static [&'static str] = match judges {
            "0" => &["--encoding", "binary", "--judges", "0"],
            _ => &["--encoding", "binary", "--judges", "1"],
        };
        let (status, report) = scripted_with(Behaviour { spoil, ..Behaviour::default() }, more).await;
        assert_eq!(status, Some(1), "{report}");
        let unreadable = report["frames_unreadable"].as_u64().unwrap();
        assert!(
            (bad * POSES * (USERS - 1)..=4 * bad * POSES * (USERS - 1)).contains(&unreadable),
            "{report}"
        );
    }
    let back: fn(&mut Vec<u8>) = |frame| {
        let tick = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        frame[4..8].copy_from_slice(&(1_000 - tick).to_le_bytes());
    };
    let (status, report) = scripted_with(Behaviour { spoil: back, ..Behaviour::default() }, BINARY).await;
    assert_eq!(status, Some(1), "{report}");
    assert!(report["frames_back"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test]
async fn on_a_ramp_whoever_is_in_moves_while_others_arrive() {
    for more in [&["--ramp", "1s"][..], &["--ramp", "1s", "--encoding", "binary"]] {
        let (listener, port) = listener().await;
        let server = Scripted::new(Behaviour::default());
        tokio::spawn(server.clone().serve(listener));
        let (status, report) = judged(port, more).await;
        assert_eq!(status, Some(0), "{report}");
        assert!(server.poses_before_last_join() > 0, "{report}");
        assert_eq!(report["poses_sent"], USERS * POSES, "{report}");
        assert_eq!(report["poses_received"], report["poses_expected"], "{report}");
        assert_eq!(report["longest_gap"], 0, "{report}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_by_another_exit_status() {
    let (listener, port) = listener().await;
    drop(listener);
    let output = tokio::task::spawn_blocking(move || loadtest(port, &[])).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
}
