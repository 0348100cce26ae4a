//! The judge judged: servers whose behaviour is known, and what `loadtest` says of them.

#[path = "../examples/naive_relay/relay.rs"]
mod relay;
mod scripted;

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::Duration;

use scripted::{Behaviour, Scripted};
use serde_json::Value;
use tokio::net::TcpListener;

const USERS: u64 = 6;
const HZ: u64 = 10;
/// Ten poses of each user count.
const POSES: u64 = 10;

fn loadtest(port: u16, more: &[&str]) -> Output {
    let url = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
    let users = USERS.to_string();
    let hz = HZ.to_string();
    let fixed = [
        "--url",
        &url,
        "--users",
        &users,
        "--hz",
        &hz,
        "--duration",
        "1s",
        "--warmup",
        "200ms",
        "--auth",
        "none",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(fixed).arg("--json").args(more).output().expect("loadtest runs")
}

/// Runs `loadtest` against a server on a thread of its own and gives its exit status and report.
async fn judged(port: u16, more: &'static [&'static str]) -> (Option<i32>, Value) {
    let output = tokio::task::spawn_blocking(move || loadtest(port, more)).await.expect("loadtest ends");
    let report = serde_json::from_slice(&output.stdout);
    let report =
        report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

async fn scripted(behaviour: Behaviour) -> (Option<i32>, Value) {
    let (listener, port) = listener().await;
    tokio::spawn(Scripted::new(behaviour).serve(listener));
    judged(port, &[]).await
}

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
async fn nobody_there_is_told_by_another_exit_status() {
    let (listener, port) = listener().await;
    drop(listener);
    let output = tokio::task::spawn_blocking(move || loadtest(port, &[])).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
}
