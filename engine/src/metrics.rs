//! What the engine counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::pace::RateReason;

/// Why a pose that came in is not seen by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PoseDropped {
    /// Its sender is in no room.
    NotInRoom,
    /// Its sender was writing another one at the same moment, or had just left.
    Refused,
}

/// Why a command was refused before a room saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum CommandRefused {
    /// The session sends more than it may.
    RateLimited,
    /// The shard's mailbox is full.
    Overloaded,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoseDroppedLabel {
    reason: PoseDropped,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandRefusedLabel {
    reason: CommandRefused,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CoreLabel {
    core: u32,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedLabel {
    reason: &'static str,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabel {
    lane: &'static str,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RateLabel {
    reason: &'static str,
}

/// One core's own counters. What happens for every pose is counted here, where no other core writes.
#[derive(Debug, Clone)]
pub struct CoreMetrics {
    /// Poses stored into their slots.
    pub poses: Counter,
    /// Ticks of rooms.
    pub ticks: Counter,
    /// Ticks that were left out because the one before took too long.
    pub ticks_missed: Counter,
    /// Poses taken from their slots and encoded, each once per tick however many see it.
    pub poses_encoded: Counter,
    /// Ticks that went to a viewer.
    pub views_sent: Counter,
    /// Ticks that a viewer skipped because it was behind.
    pub views_skipped: Counter,
    /// Volatile messages that a viewer missed because it was behind.
    pub messages_skipped: Counter,
    /// Reliable packets handed to sessions.
    pub packets_sent: Counter,
    /// Commands that rooms carried out.
    pub commands: Counter,
}

/// All of the engine's counters.
#[derive(Debug)]
pub struct EngineMetrics {
    cores: Vec<CoreMetrics>,
    /// How late ticks begin, in seconds.
    pub tick_lateness: Histogram,
    /// How long a room's part of a tick takes, in seconds, without the fan-out.
    pub tick_duration: Histogram,
    poses_dropped: Family<PoseDroppedLabel, Counter>,
    commands_refused: Family<CommandRefusedLabel, Counter>,
    sessions_closed: Family<ClosedLabel, Counter>,
    rate_changes: Family<RateLabel, Counter>,
    /// Sessions that are connected.
    pub sessions: Gauge,
    /// Writes that the store could not take.
    pub store_failures: Counter,
    records_refused: Family<LaneLabel, Counter>,
    /// Acks and welcomes that the journal has not let go in time.
    pub late_acks: Counter,
}

impl EngineMetrics {
    /// Counters for `cores` cores, made known to `registry`.
    pub fn new(cores: usize, registry: &mut Registry) -> Self {
        // 0.1 ms to 1.6 s.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 15));
        let metrics = Self {
            cores: register_cores(cores, registry),
            tick_lateness: seconds(),
            tick_duration: seconds(),
            poses_dropped: Family::default(),
            commands_refused: Family::default(),
            sessions_closed: Family::default(),
            rate_changes: Family::default(),
            sessions: Gauge::default(),
            store_failures: Counter::default(),
            records_refused: Family::default(),
            late_acks: Counter::default(),
        };
        let histogram = metrics.tick_lateness.clone();
        registry.register_with_unit("tick_lateness", "How late ticks begin", Unit::Seconds, histogram);
        let histogram = metrics.tick_duration.clone();
        registry.register_with_unit("tick_duration", "A room's part of a tick", Unit::Seconds, histogram);
        registry.register("poses_dropped", "Poses that nobody sees", metrics.poses_dropped.clone());
        registry.register("commands_refused", "Commands refused", metrics.commands_refused.clone());
        registry.register("sessions_closed", "Sessions ended by the server", metrics.sessions_closed.clone());
        registry.register("rate_changes", "Changes of rooms' tick rates", metrics.rate_changes.clone());
        registry.register("sessions", "Sessions connected", metrics.sessions.clone());
        registry.register(
            "store_failures",
            "Writes the store could not take",
            metrics.store_failures.clone(),
        );
        let refused = metrics.records_refused.clone();
        registry.register("records_refused", "Records the journal did not take", refused);
        registry.register("late_acks", "Acks that the journal held up or failed", metrics.late_acks.clone());
        metrics
    }

    /// The counters of one core.
    pub fn core(&self, core: usize) -> &CoreMetrics {
        &self.cores[core % self.cores.len()]
    }

    /// Counts a pose that nobody will see.
    pub fn pose_dropped(&self, reason: PoseDropped) {
        self.poses_dropped.get_or_create(&PoseDroppedLabel { reason }).inc();
    }

    /// Counts a command that no room saw.
    pub fn command_refused(&self, reason: CommandRefused) {
        self.commands_refused.get_or_create(&CommandRefusedLabel { reason }).inc();
    }

    /// Counts a change of a room's rate.
    pub fn rate_changed(&self, reason: RateReason) {
        self.rate_changes.get_or_create(&RateLabel { reason: reason.as_str() }).inc();
    }

    /// Counts a record that the journal did not take.
    pub fn record_refused(&self, is_reliable: bool) {
        let lane = if is_reliable { "reliable" } else { "lossy" };
        self.records_refused.get_or_create(&LaneLabel { lane }).inc();
    }

    /// Counts a session that the server ended.
    pub fn session_closed(&self, reason: &'static str) {
        self.sessions_closed.get_or_create(&ClosedLabel { reason }).inc();
    }
}

fn register_cores(cores: usize, registry: &mut Registry) -> Vec<CoreMetrics> {
    let mut family = |name: &str, help: &str| {
        let family = Family::<CoreLabel, Counter<u64, AtomicU64>>::default();
        registry.register(name, help, family.clone());
        move |core: usize| family.get_or_create(&CoreLabel { core: core as u32 }).clone()
    };
    let poses = family("poses", "Poses stored");
    let ticks = family("ticks", "Ticks of rooms");
    let ticks_missed = family("ticks_missed", "Ticks left out because the one before took too long");
    let poses_encoded = family("poses_encoded", "Poses encoded, once per tick");
    let views_sent = family("views_sent", "Ticks sent to viewers");
    let views_skipped = family("views_skipped", "Ticks that viewers skipped because they were behind");
    let messages_skipped = family("messages_skipped", "Volatile messages missed by viewers that were behind");
    let packets_sent = family("packets_sent", "Reliable packets handed to sessions");
    let commands = family("commands", "Commands that rooms carried out");
    (0..cores)
        .map(|core| CoreMetrics {
            poses: poses(core),
            ticks: ticks(core),
            ticks_missed: ticks_missed(core),
            poses_encoded: poses_encoded(core),
            views_sent: views_sent(core),
            views_skipped: views_skipped(core),
            messages_skipped: messages_skipped(core),
            packets_sent: packets_sent(core),
            commands: commands(core),
        })
        .collect()
}
