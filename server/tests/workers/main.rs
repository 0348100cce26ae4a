//! The bridge, with workers that fail in every way.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod balance;
mod drain;
mod faults;
mod limits;
mod logs;
mod protocol;
mod tls;
mod worker;

use std::future::Future;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::Value;
use serde_json::value::RawValue;
use server::workers::limits::Times;
use server::workers::{BridgeSettings, Origin, Task, TaskError, WorkerSettings, WorkerStatus, Workers};

use worker::Worker;

/// How long to wait for anything at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge, and what it counts.
pub(crate) struct Site {
    pub(crate) workers: Workers,
    pub(crate) registry: Registry,
}

/// Less patience than with workers across the internet, and enough for a busy machine.
pub(crate) fn times() -> Times {
    Times {
        task: Duration::from_secs(20),
        connect: Duration::from_secs(5),
        accept: Duration::from_secs(2),
        poll: Duration::from_secs(2),
        health: Duration::from_secs(5),
        health_interval: Duration::from_secs(600),
        rest: Duration::from_millis(50),
        rest_max: Duration::from_millis(200),
        poll_pause: Duration::from_millis(5),
        poll_pause_max: Duration::from_millis(50),
    }
}

pub(crate) fn settings(workers: &[&Worker]) -> BridgeSettings {
    let one = |(index, worker): (usize, &&Worker)| WorkerSettings {
        name: format!("w{index}"),
        origin: Origin::parse(&worker.url).unwrap(),
        secret: None,
        timeout: None,
    };
    let workers = workers.iter().enumerate().map(one).collect();
    BridgeSettings { workers, concurrency: 32, times: times(), authorities: None }
}

impl Site {
    /// A bridge to `workers`, which have all been found well.
    pub(crate) async fn new(workers: &[&Worker]) -> Self {
        Self::with(settings(workers)).await
    }

    pub(crate) async fn with(settings: BridgeSettings) -> Self {
        let site = Self::cold(settings);
        let count = site.workers.status().len();
        site.until("all are well", |site| site.workers.healthy() == count).await;
        site
    }

    pub(crate) fn cold(settings: BridgeSettings) -> Self {
        let mut registry = Registry::default();
        let workers = Workers::start(settings, &mut registry).unwrap();
        Self { workers, registry }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let wait = async {
            while !is_so(self) {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain until {what}: {:?}", self.workers.status());
        }
    }

    pub(crate) async fn run(&self, user: &str, payload: Value) -> Result<Value, TaskError> {
        let outcome = within(self.workers.run(task(user, &payload))).await;
        outcome.map(|result| serde_json::from_str(result.get()).unwrap())
    }

    pub(crate) fn status(&self, worker: usize) -> WorkerStatus {
        self.workers.status().swap_remove(worker)
    }

    /// The value of a line of `/metrics`, 0 if there is none yet.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

pub(crate) fn task(user: &str, payload: &Value) -> Task {
    let payload = RawValue::from_string(payload.to_string()).unwrap();
    Task::new(user, "echo", Some(&payload)).unwrap()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}
