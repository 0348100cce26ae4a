//! The real binary over HTTP: both protocols, keys, secrets, limits, and the end.

mod support;

use serde_json::{Value, json};
use support::{Answer, Worker};

fn cube() -> Value {
    json!({ "points": [[0,0,0],[1,0,0],[0,1,0],[1,1,0],[0,0,1],[1,0,1],[0,1,1],[1,1,1]] })
}

/// A task that takes longer than an answer waits for it, even on a fast machine: where the code is optimised, the slowest
/// that is accepted.
fn slow(salt: usize) -> Value {
    let side = if cfg!(debug_assertions) { 400 } else { 1024 };
    let mut rows: Vec<String> = (0..side).map(|_| ".".repeat(side)).collect();
    // The goal is walled in, so everything else is looked at first.
    rows[side - 2].replace_range(side - 2.., "##");
    rows[side - 1].replace_range(side - 2.., "#.");
    rows[0].replace_range(1 + salt..2 + salt, "2");
    json!({ "rows": rows, "start": [0, 0], "goal": [side - 1, side - 1], "diagonal": true })
}

#[test]
fn health_says_what_there_is() {
    let worker = Worker::start(&["--secret", "hunter2"]);
    let answer = worker.get("/health");
    assert_eq!(answer.status, 200, "no secret is needed for it");
    assert_eq!(answer.json()["tasks"], json!(["collision-detection", "convex-hull", "path"]));
}

#[test]
fn small_tasks_are_answered_at_once_and_can_be_fetched_again() {
    let worker = Worker::start(&[]);
    let bodies = json!([
        { "shape": "sphere", "position": [0, 0, 0], "radius": 1 },
        { "shape": "box", "position": { "x": 1.5, "y": 0, "z": 0 }, "halfExtents": [1, 1, 1] },
    ]);
    let tasks = [
        ("convex-hull", cube(), "/vertices/7", true),
        ("collision-detection", json!({ "bodies": bodies }), "/pairs/0/depth", true),
        ("path", json!({ "rows": ["..", "#."], "start": [0, 0], "goal": [1, 1] }), "/path/2", true),
        ("path", json!({ "rows": [".#."], "start": [0, 0], "goal": [2, 0] }), "/path/0", false),
    ];
    for (name, payload, pointer, is_there) in tasks {
        let answer = worker.post("/tasks", &[], &json!({ "type": name, "payload": payload }));
        let told = answer.json();
        let done = worker.result(&told["id"]);
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(done["result"].pointer(pointer).is_some(), is_there, "{done}");
        let older = worker.post("/execute", &[], &json!({ "task": name, "data": payload }));
        assert_eq!((older.status, older.json()), (200, done["result"].clone()));
    }
    assert_eq!(worker.get("/tasks/nobody").status, 404);
    let metrics = worker.get("/metrics").body;
    assert!(metrics.contains(r#"copresence_tasks_total{task="path",outcome="completed"} 4"#), "{metrics}");
}

#[test]
fn long_tasks_are_pending_and_fetched() {
    let worker = Worker::start(&["--threads", "1"]);
    let ids: Vec<Value> = (0..3)
        .map(|salt| {
            let answer = worker.post("/tasks", &[], &json!({ "type": "path", "payload": slow(salt) }));
            assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
            answer.json()["id"].clone()
        })
        .collect();
    for id in ids {
        let done = worker.result(&id);
        assert_eq!(
            (&done["status"], &done["result"]["found"]),
            (&json!("completed"), &json!(false)),
            "{done}"
        );
    }
}

#[test]
fn the_same_key_runs_once_in_either_protocol() {
    let worker = Worker::start(&[]);
    let key = [("Idempotency-Key", "k-1")];
    let order = json!({ "type": "convex-hull", "payload": cube() });
    let first = worker.post("/tasks", &key, &order).json();
    let again = worker.post("/tasks", &key, &order).json();
    assert_eq!(first["id"], again["id"]);
    let older = worker.post("/execute", &key, &json!({ "task": "convex-hull", "data": cube() }));
    assert_eq!(older.json(), worker.result(&first["id"])["result"]);
    let other = worker.post("/tasks", &key, &json!({ "type": "convex-hull", "payload": { "points": [] } }));
    assert_eq!(other.status, 422, "{}", other.body);
    let anew = worker.post("/tasks", &[("Idempotency-Key", "k-2")], &order).json();
    assert_ne!(first["id"], anew["id"]);
    let metrics = worker.get("/metrics").body;
    let runs = r#"tasks_total{task="convex-hull",outcome="completed"} 2"#;
    worker.result(&anew["id"]);
    assert!(worker.get("/metrics").body.contains(runs), "{metrics}");
    let long = "k".repeat(129);
    assert_eq!(worker.post("/tasks", &[("Idempotency-Key", &long)], &order).status, 400);
}

#[test]
fn only_who_knows_the_secret_gets_in() {
    let worker = Worker::start(&["--secret", "hunter2"]);
    let order = json!({ "type": "convex-hull", "payload": cube() });
    for headers in [&[][..], &[("Authorization", "Bearer hunter3")], &[("Authorization", "hunter2")]] {
        let answer = worker.post("/tasks", headers, &order);
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
    }
    assert_eq!(worker.get("/tasks/0").status, 401);
    assert_eq!(worker.get("/metrics").status, 401);
    let admitted = worker.post("/tasks", &[("Authorization", "Bearer hunter2")], &order);
    assert!(matches!(admitted.status, 200 | 202), "{}", admitted.body);
}

#[test]
fn wrong_requests_get_clear_errors() {
    let worker = Worker::start(&[]);
    let error = |answer: &Answer| answer.json()["error"].as_str().expect("errors are JSON").to_owned();
    let cases = [
        ("not JSON", 400, "not a task"),
        ("[]", 400, "not a task"),
        (r#"{"payload":{}}"#, 400, "missing field `type`"),
        (r#"{"type":"path"}"#, 400, "missing field `payload`"),
        (r#"{"type":"paint","payload":{}}"#, 400, "no task of type"),
        (
            r#"{"type":"convex-hull","payload":{"points":[[0,0,0],[1,0,0],[0,1,0],[1,1,0]]}}"#,
            400,
            "in a plane",
        ),
        (r#"{"type":"convex-hull","payload":{"points":[[0,0,1e999]]}}"#, 400, "out of range"),
        (r#"{"type":"path","payload":{"rows":["."],"start":[0,0],"goal":[0,9]}}"#, 400, "payload.goal"),
    ];
    for (body, status, part) in cases {
        for path in ["/tasks", "/execute"] {
            let answer = worker.send("POST", path, &[], body);
            assert_eq!(answer.status, status, "{body}: {}", answer.body);
            assert!(error(&answer).contains(part), "{body}: {}", answer.body);
        }
    }
    let long =
        worker.send("POST", "/tasks", &[], &format!(r#"{{"type":"{}","payload":0}}"#, "é".repeat(9999)));
    assert!(long.status == 400 && long.body.len() < 400, "{}", long.body);
    let announced = worker.send("POST", "/tasks", &[("Content-Length", "99999999")], "");
    assert_eq!(announced.status, 413, "{}", announced.body);
    assert_eq!(worker.send("PUT", "/tasks", &[], "").status, 405);
    assert_eq!(worker.get("/execute").status, 405);
    assert_eq!(worker.get("/elsewhere").status, 404);
}

#[test]
fn what_only_the_work_can_show_is_a_failed_task() {
    let worker = Worker::start(&[]);
    let body = json!({ "shape": "sphere", "position": [0, 0, 0], "radius": 1 });
    let heap = json!({ "bodies": vec![body; 10_000] });
    let told = worker.post("/tasks", &[], &json!({ "type": "collision-detection", "payload": heap })).json();
    let done = worker.result(&told["id"]);
    assert_eq!(done["status"], "failed", "{done}");
    assert!(done["error"].as_str().is_some_and(|error| error.contains("bounding boxes")), "{done}");
    let older = worker.post("/execute", &[], &json!({ "task": "collision-detection", "data": heap }));
    assert_eq!((older.status, &older.json()["error"]), (422, &done["error"]));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let worker = Worker::start(&["--threads", "1"]);
    // Sixty-four may wait and one may run. Many come at once, each held for the inline wait.
    let statuses: Vec<Answer> = std::thread::scope(|scope| {
        let worker = &worker;
        let senders: Vec<_> = (0..90)
            .map(|salt| {
                scope.spawn(move || {
                    worker.post("/tasks", &[], &json!({ "type": "path", "payload": slow(salt) }))
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("it was answered")).collect()
    });
    let refused: Vec<_> = statuses.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty(), "none of 90 was refused");
    assert!(
        refused.iter().all(|answer| answer.head.to_lowercase().contains("retry-after: 1")),
        "{}",
        refused[0].head
    );
    assert!(statuses.iter().all(|answer| matches!(answer.status, 200 | 202 | 503)));
    assert_eq!(worker.get("/health").status, 200, "busy is not ill");
}

#[test]
fn asked_to_end_it_finishes_what_it_has_accepted() {
    let mut worker = Worker::start(&["--threads", "1", "--drain-ms", "60000"]);
    // The first at least is not done when its answer comes, so it is still to be fetched when the signal comes.
    let ids: Vec<_> = (0..4)
        .map(|salt| {
            worker.post("/tasks", &[], &json!({ "type": "path", "payload": slow(salt) })).json()["id"].clone()
        })
        .collect();
    worker.terminate();
    worker.wait_for("asked to end");
    let refused = worker.post("/tasks", &[], &json!({ "type": "convex-hull", "payload": cube() }));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(worker.get("/health").status, 503);
    // Each is asked for all the time: it does not wait for askers that seem to have gone.
    std::thread::scope(|scope| {
        for id in &ids {
            let worker = &worker;
            scope.spawn(move || assert_eq!(worker.result(id)["status"], "completed"));
        }
    });
    assert!(worker.exit().success());
}

#[test]
fn settings_are_taken_from_the_environment_and_checked() {
    let worker = Worker::start_with(&[], &[("WORKER_SECRET", "hunter2"), ("THREADS", "1")]);
    assert_eq!(worker.get("/tasks/0").status, 401);
    let open = Worker::start_with(&[], &[("WORKER_SECRET", "")]);
    assert_eq!(open.get("/tasks/0").status, 404, "an empty secret is none");
    let output = support::command().args(["--threads", "0"]).output().expect("it starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 to 64"));
}
