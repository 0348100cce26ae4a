//! Answers, objectives and polling: servers whose behaviour is known, and what `loadtest` says of them.

mod judged;
#[path = "../examples/naive_relay/relay.rs"]
mod relay;
mod scripted;

use std::time::Duration;

use judged::{POSES, USERS, judged, listener, loadtest};
use scripted::{Behaviour, Scripted};
use serde_json::Value;

async fn scripted(behaviour: Behaviour, more: &'static [&'static str]) -> (Option<i32>, Value) {
    let (listener, port) = listener().await;
    tokio::spawn(Scripted::new(behaviour).serve(listener));
    judged(port, more).await
}

/// Everybody asks once with every second pose.
const ASKING: &[&str] = &["--ack-every", "200ms"];
const ASKED: u64 = USERS * POSES / 2;

#[tokio::test]
async fn a_delay_of_answers_shows_as_their_time() {
    let behaviour = Behaviour { answer_delay: Duration::from_millis(50), ..Behaviour::default() };
    for more in [ASKING, &["--ack-every", "200ms", "--encoding", "binary"]] {
        let (status, report) = scripted(behaviour, more).await;
        assert_eq!(status, Some(0), "{report}");
        assert_eq!(
            (&report["acks_asked"], &report["acks_answered"]),
            (&ASKED.into(), &ASKED.into()),
            "{report}"
        );
        let p50 = report["ack_ms"]["p50"].as_f64().unwrap();
        assert!(p50 >= 49.9, "{report}");
        // What is not the delay's is the load's own lateness, on however busy a machine.
        assert!(p50 < 100.0 + report["send_lateness_ms"]["max"].as_f64().unwrap(), "{report}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_fault_and_its_waiting_counts() {
    let behaviour = Behaviour { answers: |question| usize::from(question != 2), ..Behaviour::default() };
    let (status, report) = scripted(behaviour, ASKING).await;
    assert_eq!(status, Some(1), "{report}");
    assert_eq!((&report["acks_missing"], &report["acks_answered"]), (&USERS.into(), &(ASKED - USERS).into()));
    assert!(report["ack_ms"]["max"].as_f64().unwrap() >= 500.0, "it waits to the end: {report}");
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_a_fault() {
    let (status, report) = scripted(Behaviour { answers: |_| 2, ..Behaviour::default() }, ASKING).await;
    assert_eq!(status, Some(1), "{report}");
    assert!(report["acks_unasked"].as_u64().unwrap() >= ASKED, "{report}");
}

#[tokio::test]
async fn a_server_that_knows_no_acks_is_not_at_fault() {
    let (status, report) = scripted(Behaviour { answers: |_| 0, ..Behaviour::default() }, ASKING).await;
    assert_eq!((status, &report["ack_ms"]), (Some(0), &Value::Null), "{report}");
}

#[tokio::test]
async fn a_delay_of_50_ms_shows_as_50_ms() {
    let behaviour = Behaviour { delay: Duration::from_millis(50), ..Behaviour::default() };
    for more in [&[][..], &["--encoding", "binary"]] {
        let (status, report) = scripted(behaviour, more).await;
        assert_eq!(status, Some(0), "{report}");
        let p50 = report["pose_age_ms"]["p50"].as_f64().unwrap();
        assert!(p50 >= 49.9, "{report}");
        assert!(p50 < 100.0 + report["send_lateness_ms"]["max"].as_f64().unwrap(), "{report}");
        let timeline = report["timeline"].as_array().unwrap();
        assert_eq!(timeline.len(), 1, "{report}");
        assert!(timeline[0]["p50_ms"].as_f64().unwrap() >= 49.9, "{report}");
        let curve = report["pose_age_curve"].as_array().unwrap();
        assert!(curve.len() >= 10 && curve.iter().all(|point| point["ms"].as_f64().unwrap() >= 49.9));
    }
}

#[tokio::test]
async fn one_dropped_pose_is_a_gap_of_one() {
    // One in the middle of those that count.
    let behaviour = Behaviour { keep: |number| number != 6, ..Behaviour::default() };
    for more in [&[][..], &["--encoding", "binary"]] {
        let (status, report) = scripted(behaviour, more).await;
        assert_eq!((status, &report["longest_gap"]), (Some(0), &1.into()), "{report}");
        let missing = report["poses_expected"].as_u64().unwrap() - report["poses_received"].as_u64().unwrap();
        assert_eq!(missing, USERS * (USERS - 1), "{report}");
        assert!(report["update_gap_ms"]["max"].as_f64().unwrap() >= 150.0, "{report}");
    }
}

#[tokio::test]
async fn a_pose_that_is_held_until_after_the_next_is_behind_and_not_repeated() {
    // Three periods.
    let held: fn(u64) -> Duration = |number| Duration::from_millis(if number == 6 { 300 } else { 0 });
    for more in [&[][..], &["--encoding", "binary"]] {
        let (status, report) = scripted(Behaviour { held, ..Behaviour::default() }, more).await;
        assert_eq!(status, Some(1), "{report}");
        let behind = USERS * (USERS - 1);
        assert_eq!(
            (&report["poses_behind"], &report["poses_repeated"]),
            (&behind.into(), &0.into()),
            "{report}"
        );
        assert_eq!(report["longest_gap"], 1, "{report}");
    }
}

#[tokio::test]
async fn objectives_set_the_exit_status() {
    for (objectives, status, found) in [
        (&["--assert", "pose_age_p99<30s", "--assert", "disconnects==0"][..], 0, [true, true]),
        (&["--assert", "pose_age_p50<1us", "--assert", "poses_received_share==100%"], 1, [false, true]),
        (&["--assert", "ack_p99<30s", "--assert", "faults==0"], 1, [false, true]),
    ] {
        let (code, report) = scripted(Behaviour::default(), objectives).await;
        assert_eq!(code, Some(status), "{report}");
        let holds: Vec<_> =
            report["assertions"].as_array().unwrap().iter().map(|a| a["holds"].clone()).collect();
        assert_eq!(holds, found, "{report}");
        assert_eq!(report["faults"], serde_json::json!([]), "an objective is no fault of the server's");
    }
}

#[tokio::test]
async fn a_figure_that_does_not_exist_is_told_before_anything_begins() {
    let output = tokio::task::spawn_blocking(|| loadtest(9, &["--assert", "pose_age_p98<1s"])).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("no figure `pose_age_p98`") && told.contains("update_gap_near"), "{told}");
    // Another command measures that.
    let output = tokio::task::spawn_blocking(|| loadtest(9, &["--assert", "presence_p99<1s"])).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("steady does not measure `presence_p99`"), "{told}");
}

#[tokio::test]
async fn over_polling_every_pose_arrives_once_too() {
    let (listener, port) = listener().await;
    tokio::spawn(relay::serve(listener));
    let (status, report) = judged(port, &["--transport", "polling"]).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["poses_received"], USERS * (USERS - 1) * POSES, "{report}");
    assert_eq!((&report["transport"], &report["longest_gap"]), (&"polling".into(), &0.into()), "{report}");
}
