//! Who gets a task, and what happens when somebody falls.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use server::workers::TaskError;

use crate::worker::{Mode, Worker};
use crate::{Site, settings, task, within};

#[tokio::test]
async fn when_one_of_two_dies_no_task_is_lost_that_could_be_saved() {
    const TASKS: usize = 600;
    let (mut dies, stays) = (Worker::start(Mode::AfterPolls(2)), Worker::start(Mode::Echo));
    let site = Arc::new(Site::new(&[&dies, &stays]).await);
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        pace.tick().await;
        if number == TASKS / 3 {
            // A thread of its own waits for its end.
            dies = tokio::task::spawn_blocking(move || {
                dies.kill();
                dies
            })
            .await
            .unwrap();
        }
        let site = site.clone();
        let run = async move { site.run(&format!("user {}", number % 50), json!(number)).await };
        tasks.push(tokio::spawn(run));
    }
    let mut lost = HashSet::new();
    for (number, task) in tasks.into_iter().enumerate() {
        match within(task).await.unwrap() {
            Ok(result) => assert!(result.is_number(), "{result}"),
            Err(TaskError::Lost) => {
                lost.insert(number as u64);
            }
            Err(error) => panic!("task {number}: {error:?}"),
        }
    }
    let accepted: HashSet<_> =
        dies.seen().calls.iter().filter_map(|(_, body)| body["payload"].as_u64()).collect();
    assert!(lost.is_subset(&accepted), "{lost:?} of {accepted:?}: what it never had could be saved");
    assert!(lost.len() <= 32, "at most what it had in hand: {lost:?}");
    assert!(!site.status(0).healthy && site.status(1).healthy);
}

#[tokio::test]
async fn a_dead_worker_costs_one_failure() {
    let (mut dies, stays) = (Worker::start(Mode::Echo), Worker::start(Mode::Echo));
    let mut settings = settings(&[&dies, &stays]);
    settings.times.rest = Duration::from_secs(600);
    settings.times.rest_max = Duration::from_secs(600);
    let site = Site::with(settings).await;
    while dies.count("POST") == 0 {
        site.run("ada", json!(1)).await.unwrap();
    }
    dies.kill();
    for number in 0..60 {
        assert_eq!(site.run(&format!("user {number}"), json!(number)).await, Ok(json!(number)));
    }
    assert_eq!((site.status(0).failed, site.status(0).circuit), (1, "open"));
    assert_eq!(site.metric("worker_retries_total"), 1.0);
}

#[tokio::test]
async fn a_worker_that_is_started_again_is_found() {
    let (first, second) = (Worker::start(Mode::Echo), Worker::start(Mode::Echo));
    let site = Site::new(&[&first, &second]).await;
    let first = tokio::task::spawn_blocking(move || first.restarted(Mode::Echo)).await.unwrap();
    while first.count("POST") == 0 {
        assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
        tokio::task::yield_now().await;
    }
    site.until("both are well", |site| site.workers.healthy() == 2).await;
}

#[tokio::test]
async fn an_ill_worker_gets_nothing_until_it_is_well() {
    let worker = Worker::start(Mode::Echo);
    let mut settings = settings(&[&worker]);
    settings.times.health_interval = Duration::from_millis(20);
    let site = Site::with(settings).await;
    worker.set_health(500);
    site.until("it is ill", |site| site.workers.healthy() == 0).await;
    assert_eq!(site.status(0).last_error.unwrap().message, "answered 500");
    assert_eq!(site.run("ada", json!(1)).await, Err(TaskError::NoWorkers));
    worker.set_health(200);
    site.until("it is well", |site| site.workers.healthy() == 1).await;
    assert_eq!(site.run("ada", json!(1)).await, Ok(json!(1)));
    assert_eq!(worker.count("POST"), 1);
}

#[tokio::test]
async fn a_slow_worker_gets_less() {
    let (slow, quick) = (Worker::start(Mode::NeverFinish), Worker::start(Mode::Echo));
    let site = Arc::new(Site::new(&[&slow, &quick]).await);
    let mut waiting = Vec::new();
    // One after the other: the slow one keeps what it gets, and so gets no more while the other is free.
    for number in 0..100 {
        let user = format!("user {number}");
        let mut run = Box::pin({
            let site = site.clone();
            async move { site.workers.run(task(&user, &json!(number))).await }
        });
        tokio::select! {
            outcome = &mut run => assert!(outcome.is_ok()),
            () = site.until("the slow one has it", |_| slow.count("POST") > waiting.len()) => waiting.push(run),
        }
    }
    assert_eq!((waiting.len(), site.status(0).in_flight), (1, 1));
    drop(waiting);
    site.until("it is given up", |site| site.status(0).in_flight == 0).await;
}
