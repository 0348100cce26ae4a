use std::net::TcpListener;
use std::time::Duration;

use super::super::breaker::BreakerState;
use super::super::limits::Times;
use super::super::settings::{Origin, WorkerSettings};
use super::*;

/// A pool with one worker, which has one task at once and is well. It takes connections and says nothing.
fn pool(times: Times) -> (Arc<Pool>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let worker = WorkerSettings { name: "one".to_owned(), origin, secret: None, timeout: None };
    let settings = BridgeSettings { workers: vec![worker], concurrency: 1, times, authorities: None };
    let pool = Arc::new(Pool::new(settings, Metrics::new(&mut Registry::default())).unwrap());
    pool.looked(0, Ok(()));
    (pool, listener)
}

fn task() -> Task {
    Task::new("ada", "echo", None).unwrap()
}

/// A job that has until `deadline`, where its answer comes, and its asker's ticket.
fn job(pool: &Pool, deadline: Instant) -> (Job, oneshot::Receiver<Outcome>, Ticket) {
    let (ticket, gone) = Ticket::issue();
    let (sender, receiver) = oneshot::channel();
    let now = Instant::now();
    let job = Job {
        task: task(),
        deadline,
        asked: now,
        gone,
        reply: Reply::new(move |outcome| sender.send(outcome).unwrap()),
        share: Share::take(&Arc::default(), 1, &pool.metrics).unwrap(),
        _place: Arc::<Quota>::default().take("ada", now).unwrap(),
    };
    (job, receiver, ticket)
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_is_over_at_its_deadline_though_no_place_ever_is_free() {
    let (pool, _listener) = pool(Times::default());
    let held = pool.acquire(0).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let (job, receiver, _ticket) = job(&pool, deadline);
    let under_way = tokio::spawn(carry_out(pool.clone(), job));
    tokio::task::yield_now().await;
    assert_eq!(pool.waiting(), 1);
    // All that happens is that the time passes.
    assert_eq!(receiver.await.unwrap().unwrap_err(), TaskError::Late);
    assert!(deadline.elapsed() < Duration::from_secs(1), "by a clock that stands still otherwise");
    under_way.await.unwrap();
    assert_eq!((pool.waiting(), pool.with_seat(0, |seat| seat.in_flight())), (0, 1));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_those_who_wait_and_go() {
    let (pool, _listener) = pool(Times::default());
    let held = pool.acquire(0).await.unwrap();
    for _ in 0..10 {
        let (job, receiver, ticket) = job(&pool, Instant::now() + Duration::from_secs(30));
        let under_way = tokio::spawn(carry_out(pool.clone(), job));
        tokio::task::yield_now().await;
        assert_eq!(pool.waiting(), 1);
        drop(ticket);
        under_way.await.unwrap();
        assert_eq!(pool.waiting(), 0);
        assert!(receiver.await.is_err(), "nobody is told anything");
    }
    drop(held);
    let next = timeout_at(Instant::now() + Duration::from_secs(1), pool.acquire(0)).await;
    assert!(next.expect("its place is free again").is_some());
}

#[tokio::test]
async fn a_task_that_comes_with_little_time_left_is_no_witness() {
    let short = Duration::from_millis(50);
    for (task_time, state) in [(Duration::from_secs(600), BreakerState::Closed), (short, BreakerState::Open)]
    {
        let (pool, _listener) = pool(Times { task: task_time, ..Times::default() });
        let (job, receiver, _ticket) = job(&pool, Instant::now() + short);
        carry_out(pool.clone(), job).await;
        assert_eq!(receiver.await.unwrap().unwrap_err(), TaskError::Late);
        assert_eq!(pool.with_seat(0, |seat| seat.state()), state, "{task_time:?}");
    }
}
