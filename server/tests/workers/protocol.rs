//! What is said to workers, and when.

use std::time::Duration;

use serde_json::json;
use server::config::Secret;
use server::workers::TaskError;

use crate::worker::{Mode, Worker};
use crate::{Site, settings};

#[tokio::test]
async fn a_task_is_posted_and_asked_for_until_it_is_done() {
    let worker = Worker::start(Mode::AfterPolls(3));
    let site = Site::new(&[&worker]).await;
    assert_eq!(site.run("ada", json!({"a": [1.5]})).await, Ok(json!({"a": [1.5]})));
    let expected = json!({"type": "echo", "payload": {"a": [1.5]}});
    {
        let mut seen = worker.seen();
        assert!(seen.calls.contains(&("POST /tasks".to_owned(), expected)), "{seen:?}");
        let polls = seen.calls.iter().filter(|(call, _)| call == "GET /tasks/task%201%2F2").count();
        assert_eq!((polls, seen.keys.len()), (3, 1));
        assert!(seen.keys[0].len() == 32 && seen.tokens.iter().all(Option::is_none));
        seen.calls.clear();
    }
    let status = site.status(0);
    assert_eq!((status.completed, status.failed, status.call, status.last_error), (1, 0, "/tasks", None));
    assert!(status.latency_ms.unwrap().max > 0.0);
    assert_eq!(site.metric(r#"worker_tasks_total{outcome="completed"}"#), 1.0);
    assert_eq!(site.metric(r#"worker_healthy{worker="w0"}"#), 1.0);
    worker.set(Mode::Echo);
    assert_eq!(site.run("ada", json!(null)).await, Ok(json!(null)));
    assert_eq!(worker.count("GET /tasks"), 0, "it was done at once");
}

#[tokio::test]
async fn an_older_worker_gets_the_older_call() {
    let worker = Worker::start(Mode::Older);
    let site = Site::new(&[&worker]).await;
    for number in 0..3 {
        assert_eq!(site.run("ada", json!({ "n": number })).await, Ok(json!({ "n": number })));
    }
    assert_eq!((worker.count("POST /tasks"), worker.count("POST /execute")), (1, 3), "it is asked once only");
    let expected = json!({"task": "echo", "data": {"n": 2}});
    assert_eq!(worker.seen().calls.last().unwrap(), &("POST /execute".to_owned(), expected));
    assert_eq!(site.status(0).call, "/execute");
    worker.set(Mode::Say(404, "Cannot POST"));
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NotTaken), "it knows neither");
    worker.set(Mode::Echo);
    assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)), "something newer is there");
    assert_eq!(site.status(0).call, "/tasks");
}

#[tokio::test]
async fn a_task_that_a_worker_does_not_know_is_not_the_workers_fault() {
    let worker = Worker::start(Mode::Echo);
    let site = Site::new(&[&worker]).await;
    assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
    worker.set(Mode::Say(404, r#"{"error":"no task of that name"}"#));
    for _ in 0..10 {
        let told = Err(TaskError::Failed("no task of that name".to_owned()));
        assert_eq!(site.run("ada", json!(1)).await, told);
    }
    assert_eq!((worker.count("POST /execute"), site.status(0).healthy), (0, true));
    worker.set(Mode::Older);
    assert_eq!(site.run("ada", json!(2)).await, Ok(json!(2)), "it was put back to what it was before");
}

#[tokio::test]
async fn a_retry_has_the_key_of_the_first_attempt() {
    let (busy, other) = (Worker::start(Mode::Say(503, "")), Worker::start(Mode::Echo));
    let site = Site::new(&[&busy, &other]).await;
    while busy.count("POST") == 0 {
        assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
    }
    let (first, second) = (busy.seen().keys.clone(), other.seen().keys.clone());
    assert_eq!(first[0], *second.last().unwrap());
    let distinct: std::collections::HashSet<_> = second.iter().collect();
    assert_eq!(distinct.len(), second.len(), "each task has its own");
    assert_eq!(site.metric("worker_retries_total"), 1.0);
}

#[tokio::test]
async fn each_worker_is_shown_its_own_secret_only() {
    let (first, second) = (Worker::start(Mode::Echo), Worker::start(Mode::Echo));
    let mut settings = settings(&[&first, &second]);
    settings.workers[0].secret = Some(Secret::new("hunter2"));
    let site = Site::with(settings).await;
    while first.count("POST") == 0 || second.count("POST") == 0 {
        site.run("ada", json!(1)).await.unwrap();
    }
    assert!(first.seen().tokens.iter().all(|token| token.as_deref() == Some("Bearer hunter2")));
    assert!(second.seen().tokens.iter().all(Option::is_none));
    assert!(!format!("{:?}", site.workers).contains("hunter2"));
}

#[tokio::test]
async fn a_worker_may_have_less_time_than_others() {
    let worker = Worker::start(Mode::NeverFinish);
    let mut settings = settings(&[&worker]);
    settings.workers[0].timeout = Some(Duration::from_millis(100));
    settings.times.task = Duration::from_secs(600);
    let site = Site::with(settings).await;
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::Late));
    assert_eq!(site.status(0).last_error.unwrap().message, "did not finish a task in time");
}

#[tokio::test]
async fn results_of_a_mebibyte_come_whole() {
    let worker = Worker::start(Mode::Echo);
    let site = Site::new(&[&worker]).await;
    let largest = json!("a".repeat(1024 * 1024 - 2));
    assert_eq!(site.run("ada", largest.clone()).await, Ok(largest));
    let larger = json!("a".repeat(1024 * 1024 - 1));
    assert_eq!(site.run("ada", larger).await, Err(TaskError::TooLarge));
}
