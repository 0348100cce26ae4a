//! Workers that fail, each in its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use server::workers::{TaskError, Ticket};
use tokio::sync::mpsc;

use crate::worker::{Mode, Worker};
use crate::{Site, settings, task, within};

const NO_REASON: &str = "The worker could not do the task";

/// Every fault, what the asker of a task is told when there is no other worker, and whether another one would get it.
fn faults() -> Vec<(Mode, TaskError, bool)> {
    use TaskError::{Broken, Failed, Late, Lost, NoWorkers, NotTaken, TooLarge};
    let failed = |text: &str| Failed(text.to_owned());
    vec![
        (Mode::Hang, NoWorkers, true),
        (Mode::HangUp, NoWorkers, true),
        (Mode::Say(502, "<html>"), NoWorkers, true),
        (Mode::Say(503, "<html>"), NotTaken, true),
        (Mode::Say(504, ""), NoWorkers, true),
        (Mode::Say(429, ""), NotTaken, true),
        (Mode::Say(401, r#"{"error":"the secret is hunter2"}"#), NoWorkers, true),
        (Mode::Say(403, ""), failed(NO_REASON), false),
        (Mode::Say(404, "<html>"), NotTaken, true),
        (Mode::Redirect("http://127.0.0.1:1/tasks".to_owned()), NoWorkers, true),
        (Mode::Say(500, r#"{"error":"at /app/secret.js"}"#), Broken, false),
        (Mode::Say(200, "<html>it works"), Broken, false),
        (Mode::Say(200, ""), Broken, false),
        (Mode::Say(200, r#"{"id":".."}"#), Broken, false),
        (Mode::Say(200, r#"{"status":"failed","error":"no points"}"#), failed("no points"), false),
        (Mode::Say(400, r#"{"error":"points required"}"#), failed("points required"), false),
        (Mode::Say(404, r#"{"error":"no such task"}"#), failed("no such task"), false),
        (Mode::Say(422, "<html>"), failed(NO_REASON), false),
        (Mode::Huge(100_000_000, true), TooLarge, false),
        (Mode::Huge(100_000_000, false), TooLarge, false),
        (Mode::Drip, Late, false),
        (Mode::Cut, Lost, false),
        (Mode::NeverFinish, Late, false),
        (Mode::DieAfterAccepting, Lost, false),
        (Mode::AcceptThenSay(404, r#"{"error":"no such task"}"#), Lost, false),
        (Mode::AcceptThenSay(500, ""), Broken, false),
        (Mode::AcceptThenSay(200, "{}"), Broken, false),
        (Mode::AcceptThenSay(200, "]["), Broken, false),
    ]
}

#[tokio::test]
async fn every_task_has_one_answer_whatever_the_worker_does() {
    for (mode, expected, _) in faults() {
        let worker = Worker::start(mode.clone());
        let mut settings = settings(&[&worker]);
        settings.times.accept = Duration::from_millis(700);
        settings.times.task = Duration::from_secs(2);
        let site = Site::with(settings).await;
        let answers = Arc::new(AtomicUsize::new(0));
        let (sender, mut receiver) = mpsc::channel(16);
        let mut tickets = Vec::new();
        for index in 0..5 {
            let (ticket, gone) = Ticket::issue();
            tickets.push(ticket);
            let (answers, sender) = (answers.clone(), sender.clone());
            let answer = move |outcome: Result<_, TaskError>| {
                answers.fetch_add(1, Ordering::SeqCst);
                sender.try_send(outcome.err()).unwrap();
            };
            // One that comes when the circuit is open is refused by an answer too.
            site.workers.submit(task(&format!("user {index}"), &json!(index)), gone, answer).unwrap();
        }
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(within(receiver.recv()).await.unwrap());
        }
        assert!(told.contains(&Some(expected.clone())), "{mode:?}: {told:?}");
        let legal = [Some(expected), Some(TaskError::NoWorkers), Some(TaskError::Lost)];
        assert!(told.iter().all(|error| legal.contains(error)), "{mode:?}: {told:?}");
        site.until("nothing is under way", |site| site.metric("worker_tasks_under_way") == 0.0).await;
        drop(tickets);
        assert_eq!(answers.load(Ordering::SeqCst), 5, "{mode:?}");
        assert_eq!(site.status(0).in_flight, 0, "{mode:?}");
        let last_error = site.status(0).last_error.map(|error| error.message).unwrap_or_default();
        assert!(!last_error.contains("hunter2") && !last_error.contains("app"), "{last_error}");
    }
}

#[tokio::test]
async fn what_may_be_done_elsewhere_is_and_nothing_else() {
    for (mode, expected, is_retried) in faults() {
        let (bad, good) = (Worker::start(mode.clone()), Worker::start(Mode::Echo));
        let mut settings = settings(&[&bad, &good]);
        settings.times.accept = Duration::from_millis(1_500);
        settings.times.task = Duration::from_secs(5);
        let site = Site::with(settings).await;
        let mut outcomes = Vec::new();
        // Which of the two gets a task is chance, but not for long.
        while bad.count("POST") == 0 {
            outcomes.push(site.run("ada", json!(7)).await);
        }
        let errors: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        match is_retried {
            true => assert!(errors.is_empty(), "{mode:?}: {errors:?}"),
            false => assert_eq!(errors, [&expected], "{mode:?}"),
        }
        let done = outcomes.len() - errors.len();
        assert_eq!(good.count("POST"), done, "{mode:?}: nothing is done twice at the good one");
    }
}

#[tokio::test]
async fn without_workers_the_answer_is_there_at_once() {
    let none = Site::cold(server::workers::BridgeSettings::default());
    assert_eq!(none.run("ada", json!(1)).await, Err(TaskError::NoWorkers));
    assert_eq!(TaskError::NoWorkers.to_string(), "No healthy workers available");
    assert_eq!((none.workers.status(), none.workers.healthy()), (Vec::new(), 0));
    let mut dead = Worker::start(Mode::Echo);
    dead.kill();
    let site = Site::cold(settings(&[&dead]));
    site.until("it is known to be dead", |site| site.status(0).last_error.is_some()).await;
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers));
    let status = site.status(0);
    assert_eq!((status.healthy, status.circuit, status.completed), (false, "open", 0));
    assert_eq!(status.last_error.unwrap().message, "cannot be reached");
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let trap = Worker::start(Mode::Echo);
    let sly = Worker::start(Mode::Redirect(format!("{}/tasks", trap.url)));
    let site = Site::new(&[&sly]).await;
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers));
    assert_eq!(trap.seen().calls.len(), 0);
    assert_eq!(site.status(0).last_error.unwrap().message, "answered 302");
}

#[tokio::test]
async fn a_worker_that_recovers_is_used_again() {
    let worker = Worker::start(Mode::HangUp);
    let site = Site::new(&[&worker]).await;
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers));
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers), "at once");
    assert_eq!(worker.count("POST"), 1, "a dead worker costs one task");
    site.until("it may be tried", |site| site.status(0).circuit == "half-open").await;
    assert_eq!(site.workers.healthy(), 0);
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers), "the trial");
    worker.set(Mode::Echo);
    site.until("it may be tried again", |site| site.status(0).circuit == "half-open").await;
    assert_eq!(site.run("ada", json!(5)).await, Ok(json!(5)));
    assert_eq!((site.status(0).circuit, site.workers.healthy()), ("closed", 1));
}

#[tokio::test]
async fn whoever_says_nothing_until_its_own_time_is_over_loses_the_task_to_another() {
    let (silent, good) = (Worker::start(Mode::Hang), Worker::start(Mode::Echo));
    let mut settings = settings(&[&silent, &good]);
    settings.workers[0].timeout = Some(Duration::from_millis(300));
    (settings.times.accept, settings.times.task) = (Duration::from_secs(600), Duration::from_secs(600));
    (settings.times.rest, settings.times.rest_max) = (Duration::from_secs(600), Duration::from_secs(600));
    let site = Site::with(settings).await;
    while silent.count("POST") == 0 {
        assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
    }
    let status = site.status(0);
    assert_eq!((status.failed, status.circuit), (1, "open"), "it costs one slow task");
    assert_eq!(status.last_error.unwrap().message, "did not answer in time");
}
