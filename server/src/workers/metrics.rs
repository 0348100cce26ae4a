//! What the bridge counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::breaker::BreakerState;
use super::client::Fault;
use super::task::Outcome;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabel {
    worker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabel {
    worker: String,
    fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    tasks: Family<OutcomeLabel, Counter>,
    duration: Histogram,
    retries: Counter,
    cancelled: Counter,
    under_way: Gauge,
    in_flight: Family<WorkerLabel, Gauge>,
    healthy: Family<WorkerLabel, Gauge>,
    faults: Family<FaultLabel, Counter>,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            tasks: Family::default(),
            // 1 ms to 32 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            retries: Counter::default(),
            cancelled: Counter::default(),
            under_way: Gauge::default(),
            in_flight: Family::default(),
            healthy: Family::default(),
            faults: Family::default(),
        };
        registry.register("worker_tasks", "Tasks for workers, by what came of them", metrics.tasks.clone());
        registry.register_with_unit(
            "worker_task",
            "From when a task was asked for until its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register("worker_retries", "Tasks that went on to another worker", metrics.retries.clone());
        registry.register(
            "worker_tasks_cancelled",
            "Tasks given up because their asker had gone",
            metrics.cancelled.clone(),
        );
        registry.register(
            "worker_tasks_under_way",
            "Tasks that wait or are being done",
            metrics.under_way.clone(),
        );
        registry.register("worker_in_flight", "Tasks that a worker has", metrics.in_flight.clone());
        registry.register(
            "worker_healthy",
            "1 for a worker that is given tasks freely, else 0",
            metrics.healthy.clone(),
        );
        registry.register("worker_faults", "What was wrong with workers", metrics.faults.clone());
        metrics
    }

    pub(super) fn over(&self, outcome: &Outcome, took: Duration) {
        self.refused_or_over(outcome);
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn refused_or_over(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Ok(_) => "completed",
            Err(error) => error.as_str(),
        };
        self.tasks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn retried(&self) {
        self.retries.inc();
    }

    pub(super) fn cancelled(&self) {
        self.cancelled.inc();
    }

    pub(super) fn under_way(&self, tasks: usize) {
        self.under_way.set(tasks as i64);
    }

    pub(super) fn show(&self, worker: &str, state: BreakerState, in_flight: usize) {
        let label = WorkerLabel { worker: worker.to_owned() };
        self.in_flight.get_or_create(&label).set(in_flight as i64);
        let healthy = i64::from(state == BreakerState::Closed);
        self.healthy.get_or_create(&label).set(healthy);
    }

    pub(super) fn fault(&self, worker: &str, fault: Fault) {
        let label = FaultLabel { worker: worker.to_owned(), fault: fault.kind() };
        self.faults.get_or_create(&label).inc();
    }
}
