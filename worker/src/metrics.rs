//! What `/metrics` shows. The server counts tasks too, as `copresence_worker_…`: no name may be both's.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    task: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    task: &'static str,
}

/// Counts tasks.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    ended: Family<Ended, Counter>,
    seconds: Family<OfType, Histogram>,
    /// Tasks refused because the queue was full.
    pub(crate) refused: Counter,
    /// Tasks that are queued or run.
    pub(crate) unfinished: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // From 0.1 ms to 26 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let seconds = Family::new_with_constructor(histogram);
        let mut metrics = Self {
            registry: Registry::with_prefix("copresence"),
            ended: Family::default(),
            seconds,
            refused: Counter::default(),
            unfinished: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("tasks", "Tasks that have ended, by how", metrics.ended.clone());
        registry.register("task_seconds", "How long tasks ran, without waiting", metrics.seconds.clone());
        registry.register(
            "tasks_refused",
            "Tasks refused because the queue was full",
            metrics.refused.clone(),
        );
        registry.register("tasks_unfinished", "Tasks that are queued or run", metrics.unfinished.clone());
        metrics
    }

    pub(crate) fn ended(&self, task: &'static str, is_success: bool, took: Duration) {
        let outcome = if is_success { "completed" } else { "failed" };
        self.ended.get_or_create(&Ended { task, outcome }).inc();
        self.seconds.get_or_create(&OfType { task }).observe(took.as_secs_f64());
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
