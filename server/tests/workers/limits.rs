//! What is refused, and what is given up.

use std::time::Duration;

use serde_json::json;
use server::workers::limits::{MAX_TASK_BYTES, MAX_TASKS, MAX_TASKS_OF_USER};
use server::workers::{TaskError, Ticket};
use tokio::sync::oneshot;

use crate::worker::{Mode, Worker};
use crate::{Site, settings, task, within};

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let worker = Worker::start(Mode::NeverFinish);
    let mut settings = settings(&[&worker]);
    (settings.concurrency, settings.times.task) = (1, Duration::from_secs(600));
    let site = Site::with(settings).await;
    let mut tickets = Vec::new();
    let mut submit = |index: usize| {
        let (ticket, gone) = Ticket::issue();
        tickets.push(ticket);
        let user = format!("user {}", index / MAX_TASKS_OF_USER as usize);
        site.workers.submit(task(&user, &json!(index)), gone, |_| {})
    };
    for index in 0..MAX_TASKS {
        assert_eq!(submit(index), Ok(()), "{index}");
    }
    assert_eq!(submit(MAX_TASKS), Err(TaskError::Busy));
    site.until("they wait", |site| site.workers.waiting() == MAX_TASKS - 1).await;
    assert_eq!((site.status(0).in_flight, worker.count("POST")), (1, 1));
    drop(tickets);
    site.until("all is given up", |site| site.metric("worker_tasks_under_way") == 0.0).await;
    worker.set(Mode::Echo);
    assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
}

#[tokio::test]
async fn payloads_that_wait_have_a_size() {
    let worker = Worker::start(Mode::NeverFinish);
    let mut settings = settings(&[&worker]);
    (settings.concurrency, settings.times.task) = (1, Duration::from_secs(600));
    let site = Site::with(settings).await;
    let payload = json!("a".repeat(999_000));
    let mut tickets = Vec::new();
    let refused = (0..MAX_TASK_BYTES / 999_000 + 1).find(|index| {
        let (ticket, gone) = Ticket::issue();
        tickets.push(ticket);
        site.workers.submit(task(&format!("user {index}"), &payload), gone, |_| {}).is_err()
    });
    assert_eq!(refused, Some(MAX_TASK_BYTES / 999_000), "as many as fit");
}

#[tokio::test]
async fn one_user_has_so_many_tasks_at_once() {
    let worker = Worker::start(Mode::NeverFinish);
    let site = Site::new(&[&worker]).await;
    let mut tickets = Vec::new();
    for _ in 0..MAX_TASKS_OF_USER {
        let (ticket, gone) = Ticket::issue();
        tickets.push(ticket);
        site.workers.submit(task("ada", &json!(1)), gone, |_| {}).unwrap();
    }
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::TooManyAtOnce));
    worker.set(Mode::Echo);
    assert_eq!(site.run("bob", json!(1)).await, Ok(json!(1)));
    assert_eq!(site.metric(r#"worker_tasks_total{outcome="too_many_at_once"}"#), 1.0);
}

#[tokio::test]
async fn a_task_whose_asker_has_gone_is_given_up() {
    let worker = Worker::start(Mode::Hang);
    let mut settings = settings(&[&worker]);
    (settings.concurrency, settings.times.accept) = (1, Duration::from_secs(600));
    let site = Site::with(settings).await;
    let (first, first_gone) = Ticket::issue();
    let (second, second_gone) = Ticket::issue();
    let (sender, answered) = oneshot::channel();
    site.workers.submit(task("ada", &json!(1)), first_gone, |_| panic!("nobody wants it")).unwrap();
    site.until("it is there", |_| worker.count("POST") == 1).await;
    site.workers
        .submit(task("ada", &json!(2)), second_gone, |outcome| {
            let _ = sender.send(outcome.map(|result| result.get().to_owned()));
        })
        .unwrap();
    site.until("the second waits", |site| site.workers.waiting() == 1).await;
    worker.set(Mode::Echo);
    drop(first);
    assert_eq!(within(answered).await.unwrap(), Ok("2".to_owned()), "its place is free again");
    assert_eq!(site.metric("worker_tasks_cancelled_total"), 1.0);
    assert!(site.status(0).healthy, "that the asker went is not the worker's fault");
    drop(second);
}

#[tokio::test]
async fn whoever_waits_too_long_is_told() {
    let worker = Worker::start(Mode::NeverFinish);
    let mut settings = settings(&[&worker]);
    (settings.concurrency, settings.times.task) = (1, Duration::from_millis(300));
    let site = Site::with(settings).await;
    let (first, second) = tokio::join!(site.run("ada", json!(1)), site.run("bob", json!(1)));
    assert_eq!((first, second), (Err(TaskError::Late), Err(TaskError::Late)));
    assert_eq!(worker.count("POST"), 1);
}
