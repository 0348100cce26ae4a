//! What the journal counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The two ways into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Lane {
    /// What must not be lost.
    Reliable,
    /// Poses.
    Lossy,
}

/// Why a record was not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Dropped {
    /// Its lane was full.
    Full,
    /// It is larger than a record may be.
    TooLarge,
    /// The journal was closing, or there was no time left to write it.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: Lane,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabel {
    lane: Lane,
    reason: Dropped,
}

#[derive(Debug)]
pub(super) struct Counts {
    /// By lane. They are set for every record, so they are at hand.
    waiting: [Gauge; 2],
    dropped: Family<DroppedLabel, Counter<u64, AtomicU64>>,
    written: Family<LaneLabel, Counter<u64, AtomicU64>>,
    /// Bytes of what was written, encoded.
    pub(super) bytes: Counter,
    /// Writes that failed, each try of them.
    pub(super) failures: Counter,
    /// How long the backend takes for a batch, in seconds.
    pub(super) commit: Histogram,
    /// Samples of poses that are asked for.
    pub(super) pose_hz: Gauge,
}

const LANES: [Lane; 2] = [Lane::Reliable, Lane::Lossy];
const REASONS: [Dropped; 3] = [Dropped::Full, Dropped::TooLarge, Dropped::Closed];

impl Counts {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let waiting = Family::<LaneLabel, Gauge>::default();
        let counts = Self {
            waiting: LANES.map(|lane| waiting.get_or_create(&LaneLabel { lane }).clone()),
            dropped: Family::default(),
            written: Family::default(),
            bytes: Counter::default(),
            failures: Counter::default(),
            // 0.1 ms to 3.3 s.
            commit: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            pose_hz: Gauge::default(),
        };
        registry.register_with_unit("journal_waiting", "What waits in each lane", Unit::Bytes, waiting);
        registry.register("journal_dropped", "Records not written down", counts.dropped.clone());
        registry.register("journal_records", "Records written down", counts.written.clone());
        let bytes = counts.bytes.clone();
        registry.register_with_unit("journal_written", "What was written, encoded", Unit::Bytes, bytes);
        registry.register("journal_failures", "Writes of the journal that failed", counts.failures.clone());
        let commit = counts.commit.clone();
        registry.register_with_unit("journal_commit", "How long a batch takes", Unit::Seconds, commit);
        registry.register("journal_pose_hz", "Samples of poses asked for a second", counts.pose_hz.clone());
        // Counters that are there from the start can be watched for their first step.
        for lane in LANES {
            counts.write(lane, 0);
            for reason in REASONS {
                counts.drop(lane, reason, 0);
            }
        }
        counts
    }

    pub(super) fn set_waiting(&self, lane: Lane, bytes: usize) {
        self.waiting[lane as usize].set(bytes as i64);
    }

    pub(super) fn waiting(&self, lane: Lane) -> i64 {
        self.waiting[lane as usize].get()
    }

    pub(super) fn drop(&self, lane: Lane, reason: Dropped, count: usize) {
        self.dropped.get_or_create(&DroppedLabel { lane, reason }).inc_by(count as u64);
    }

    /// Records of that lane that were not written down, for whatever reason.
    pub(super) fn dropped(&self, lane: Lane) -> u64 {
        REASONS
            .iter()
            .map(|reason| self.dropped.get_or_create(&DroppedLabel { lane, reason: *reason }).get())
            .sum()
    }

    pub(super) fn write(&self, lane: Lane, count: usize) {
        self.written.get_or_create(&LaneLabel { lane }).inc_by(count as u64);
    }
}
