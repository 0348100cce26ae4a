//! Scenarios judged: against a room that keeps the contract, and against the same room with one fault that each must find.

mod double;

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::Duration;

use double::{Double, Faults, listener};
use serde_json::Value;

/// Runs a scenario against a room with these faults, and gives its exit status and report.
async fn play(faults: Faults, line: &str) -> (Option<i32>, Value) {
    let (listener, port) = listener().await;
    tokio::spawn(Double::new(faults).serve(listener));
    played(port, line).await
}

async fn played(port: u16, line: &str) -> (Option<i32>, Value) {
    let line = format!("{line} --auth none --json --url http://{}:{port}", Ipv4Addr::LOCALHOST);
    let run = move || Command::new(env!("CARGO_BIN_EXE_loadtest")).args(line.split(' ')).output();
    let ran = tokio::task::spawn_blocking(run).await.expect("it does not panic");
    let Output { status, stdout, stderr } = ran.expect("loadtest runs");
    let report = serde_json::from_slice(&stdout);
    (status.code(), report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr))))
}

/// Plays it with nothing wrong, then with each of the faults, which must be found and told in these words.
async fn finds(line: &str, patient: &str, healthy: Faults, faulty: &[(Faults, &str)]) -> Value {
    let (status, healthy) = play(healthy, line).await;
    assert_eq!((status, &healthy["faults"]), (Some(0), &serde_json::json!([])), "{healthy:#}");
    for (faults, told) in faulty {
        let (status, report) = play(*faults, &format!("{line} {patient}")).await;
        assert_eq!(status, Some(1), "{told}: {report:#}");
        let all = report["faults"].to_string();
        assert!(all.contains(told), "{told} is not among {all}");
    }
    healthy
}

fn check<'a>(report: &'a Value, what: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a report has checks");
    checks.iter().find(|check| check["what"] == what).unwrap_or_else(|| panic!("no {what} in {report:#}"))
}

#[tokio::test]
async fn churn_finds_whoever_is_not_told_of() {
    let faults = Faults::default();
    let line = "churn --users 6 --duration 3s --rate 8 --hz 5 --check-every 1s";
    let found = [
        (Faults { lose_joined: Some(4), ..faults }, "user-joined at those who stayed"),
        (Faults { lose_left: Some(1), ..faults }, "user-left at those who stayed"),
        (Faults { twice_joined: Some(4), ..faults }, "user-joined of somebody who is there"),
        (Faults { lose_joined: Some(4), ..faults }, "views that agree with who is there"),
    ];
    let report = finds(line, "--patience 1s", faults, &found).await;
    let (joins, leaves) = (&report["counts"]["joins"], &report["counts"]["leaves"]);
    // Eight a second for three seconds, and nobody is left over.
    assert_eq!(joins.as_u64().unwrap() + leaves.as_u64().unwrap(), 24, "{report:#}");
    assert_eq!(check(&report, "user-joined at those who stayed")["found"], joins.as_u64().unwrap() * 3);
    assert!(report["durations_ms"]["presence"]["p50"].as_f64().is_some(), "{report:#}");
}

#[tokio::test]
async fn objects_finds_two_winners_and_states_that_differ() {
    let faults = Faults::default();
    let line = "objects --users 5 --objects 2 --duration 2s --rate 10";
    let found = [
        (Faults { grant_stale: Some(3), ..faults }, "two edits of one version were granted"),
        (Faults { lose_updated: Some(2), ..faults }, "edits heard by everybody"),
        (Faults { old_objects: true, ..faults }, "objects that a newcomer sees as they are: 0, not 2"),
        (Faults { delete_twice: true, ..faults }, "deletions granted"),
    ];
    let report = finds(line, "--patience 1s", faults, &found).await;
    let count = |what: &str| report["counts"][what].as_u64().unwrap();
    assert_eq!(count("sent"), 100, "{report:#}");
    assert_eq!(count("edits") + count("conflicts"), 100, "{report:#}");
    assert!(count("conflicts") > 0, "they are in each other's way: {report:#}");
    assert_eq!(check(&report, "object-deleted at the others")["found"], 2 * 4);
}

#[tokio::test]
async fn malformed_finds_what_is_passed_over_and_what_is_thrown_out_for_nothing() {
    let faults = Faults::default();
    let line = "malformed --users 4 --hz 5 --duration 4s --warmup 200ms --guests 3 --rate 20 --users-p99 60s --users-gap 60s";
    let found = [
        (Faults { tolerate: true, ..faults }, "the session was to be ended, and goes on"),
        (Faults { tolerate: true, ..faults }, "it was to be refused, and was not"),
        (Faults { end_always: true, ..faults }, "the session was to go on, and has ended"),
    ];
    let report = finds(line, "--patience 3s", faults, &found).await;
    assert!(report["counts"]["ended"].as_u64() > Some(5), "{report:#}");
    assert!(report["counts"]["refused"].as_u64() > Some(5), "{report:#}");
    assert_eq!(
        report["others"]["poses_received"],
        4 * 3 * 20,
        "the users get each other's poses: {report:#}"
    );
}

#[tokio::test]
async fn slow_readers_finds_whoever_keeps_them_or_waits_for_them() {
    let healthy = Faults { padding: 2_000, ..Faults::default() };
    let line = "slow-readers --users 4 --hz 20 --duration 5s --warmup 200ms --guests 2 --stopped 1 \
                --users-p99 60s --users-gap 60s";
    let found =
        [(Faults { keep_slow: true, ..healthy }, "guests who read nothing and were cut off: 0, not 2")];
    let report = finds(line, "--within 3s", healthy, &found).await;
    assert_eq!(report["counts"]["cut_off_count"], 2, "{report:#}");
    let waits = Faults { wait_for_slow: true, ..healthy };
    let strict = line.replace("--users-gap 60s", "--users-gap 1s --within 3s");
    let (status, report) = play(waits, &strict).await;
    assert_eq!(status, Some(1), "{report:#}");
    assert!(report["faults"].to_string().contains("the users noticed"), "{:#}", report["faults"]);
}

#[tokio::test]
async fn a_storm_finds_whoever_does_not_get_in() {
    let faults = Faults::default();
    let found = [
        (Faults { refuse: Some(7), ..faults }, "times: "),
        (Faults { lose_joined: Some(2), ..faults }, "see everybody"),
    ];
    let report = finds("storm --users 12", "--patience 1s", faults, &found).await;
    assert_eq!(check(&report, "people who are in")["found"], 12);
}

#[tokio::test]
async fn everybody_comes_back_after_a_restart() {
    let (listener, port) = listener().await;
    let double = Double::new(Faults::default());
    tokio::spawn(double.clone().serve(listener));
    // The file's end is the restart.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("running");
    std::fs::write(&file, "").expect("it can be written");
    let line = format!("storm --users 8 --restart-cmd rm\u{a0}{}", file.display());
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while file.exists() {
            looks.tick().await;
        }
        double.restart();
    });
    let (status, report) = restarted(port, &line).await;
    assert_eq!((status, &report["faults"]), (Some(0), &serde_json::json!([])), "{report:#}");
    assert_eq!(check(&report, "people who are back")["found"], 8, "{report:#}");
    // A stock client waits half a second at least.
    assert!(report["durations_ms"]["back"]["p50"].as_f64().unwrap() >= 450.0, "{report:#}");
}

/// [`played`] for a line with a command in it, whose spaces do not break.
async fn restarted(port: u16, line: &str) -> (Option<i32>, Value) {
    let url = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(line.split(' ').map(|word| word.replace('\u{a0}', " ")));
    command.args(["--auth", "none", "--json", "--url", &url]);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
    let Output { status, stdout, stderr } = ran.expect("loadtest runs");
    let report = serde_json::from_slice(&stdout);
    (status.code(), report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr))))
}

#[tokio::test]
async fn a_replay_finds_whoever_is_not_seen_where_the_recording_left_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording.ndjson");
    let mut lines = Vec::new();
    for bot in 0..3 {
        let event = |kind: &str, at: u64, more: Value| {
            let mut event =
                serde_json::json!({ "type": kind, "userId": format!("u{bot}"), "timestamp": 1_000_000 + at });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event.to_string()
        };
        lines.push(event("join", 10 * bot, serde_json::json!({})));
        for step in 0..20 {
            let place = serde_json::json!({ "x": bot, "y": 1.6, "z": step });
            let turn = serde_json::json!({ "x": 0, "y": 0, "z": 0 });
            lines.push(event(
                "move",
                100 + 50 * step,
                serde_json::json!({ "position": place, "rotation": turn }),
            ));
        }
        let object = serde_json::json!({ "object": { "id": format!("o{bot}") } });
        lines.push(event("object-create", 700, object));
        if bot == 2 {
            lines.push(event("leave", 1_500, serde_json::json!({})));
        }
    }
    std::fs::write(&file, lines.join("\n")).expect("it can be written");
    let line = format!("replay --recording {}", file.display());
    let faults = Faults::default();
    let found = [
        (Faults { lose_moves_from: Some(15), ..faults }, "bots seen last where they went last: 1, not 3"),
        (Faults { lose_left: Some(0), ..faults }, "user-left at the watcher: 0, not 1"),
        (Faults { lose_joined: Some(1), ..faults }, "user-joined at the watcher: 2, not 3"),
    ];
    let report = finds(&line, "--patience 1s", faults, &found).await;
    let count = |what: &str| report["counts"][what].as_u64().unwrap();
    assert_eq!((count("bots"), count("moves"), count("moves_seen"), count("events_seen")), (3, 60, 60, 3));
}
