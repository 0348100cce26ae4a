//! How it goes with Redis, for everybody who wants to know.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::journal::table::TableError;

/// How it is with Redis at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisHealth {
    /// It answers and has everything that it should have, or gets it just now.
    pub connected: bool,
    /// Since when it does not, Unix ms.
    pub away_since_ms: Option<u64>,
    /// Why it does not.
    pub last_error: Option<String>,
    /// Records that it does not have yet.
    pub waiting_records: u64,
    /// Changes of rooms and objects that it does not have yet, at most.
    pub waiting_changes: u64,
    /// Bytes of the spool that are in use, those that Redis has as well included.
    pub spool_bytes: u64,
    /// Records that it will never get.
    pub dropped: u64,
    /// How often it was found without records that it had had.
    pub setbacks: u64,
}

/// Why a record does not get to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dropped {
    /// Poses: too many waited.
    QueueFull,
    /// Poses: a later record was there already.
    TooLate,
    /// The spool was full.
    SpoolFull,
    /// Somebody else has written later records to the same room.
    Conflict,
    /// The stream of the hour was full.
    StreamFull,
    /// It waited for longer than recordings are kept.
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl From<Dropped> for Reason {
    fn from(dropped: Dropped) -> Self {
        let reason = match dropped {
            Dropped::QueueFull => "queue_full",
            Dropped::TooLate => "too_late",
            Dropped::SpoolFull => "spool_full",
            Dropped::Conflict => "conflict",
            Dropped::StreamFull => "stream_full",
            Dropped::Expired => "expired",
        };
        Self { reason }
    }
}

/// How far the copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Redis answers, and has had everything that was there when it came.
    pub(super) is_healthy: bool,
    /// There was a first attempt, whatever came of it.
    pub(super) has_tried: bool,
    /// Which spool it is: counts those that were begun anew. A row means nothing without it.
    pub(super) spool: u64,
    /// Everything up to this row of the spool is there.
    pub(super) row: i64,
    /// Counts the times that some of that was sent once more, since Redis had lost it.
    pub(super) resent: u64,
    /// Everything that the store had changed when it had counted so many changes is there.
    pub(super) change: u64,
}

/// What all parts share.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) progress: watch::Sender<Progress>,
    /// The last row of the spool.
    pub(super) last_row: AtomicI64,
    /// Changes in the outbox that are not there yet, at most.
    pub(super) waiting_changes: AtomicU64,
    pub(super) spool_bytes: AtomicU64,
    /// What was found to be wrong with the spool by a reader of it.
    damage: Mutex<Option<TableError>>,
    /// No new id may be of an earlier time: Redis has later ones.
    pub(super) floor_ms: AtomicU64,
    away: Mutex<Away>,
    pub(super) shipped: Counter,
    pub(super) spooled: Counter,
    pub(super) retried: Counter,
    pub(super) reconnects: Counter,
    setbacks: Counter,
    dropped: Family<Reason, Counter>,
    connected: Gauge,
    waiting: Gauge,
}

#[derive(Debug, Default)]
struct Away {
    since_ms: Option<u64>,
    reason: Option<String>,
}

impl Status {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let status = Self {
            progress: watch::Sender::default(),
            last_row: AtomicI64::new(0),
            waiting_changes: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
            damage: Mutex::default(),
            floor_ms: AtomicU64::new(0),
            away: Mutex::new(Away { since_ms: Some(now_ms()), reason: None }),
            shipped: Counter::default(),
            spooled: Counter::default(),
            retried: Counter::default(),
            reconnects: Counter::default(),
            setbacks: Counter::default(),
            dropped: Family::default(),
            connected: Gauge::default(),
            waiting: Gauge::default(),
        };
        registry.register("redis_shipped_records", "Records that Redis has taken", status.shipped.clone());
        registry.register("redis_spooled_records", "Records kept on disk for Redis", status.spooled.clone());
        registry.register("redis_retries", "Attempts that came to nothing", status.retried.clone());
        registry.register("redis_reconnects", "Connections to Redis that came up", status.reconnects.clone());
        registry.register(
            "redis_setbacks",
            "Times that Redis was found without records that it had had",
            status.setbacks.clone(),
        );
        registry.register(
            "redis_dropped_records",
            "Records that Redis will never get",
            status.dropped.clone(),
        );
        registry.register("redis_connected", "Whether Redis is there", status.connected.clone());
        registry.register(
            "redis_waiting_records",
            "Records that Redis does not have yet",
            status.waiting.clone(),
        );
        status
    }

    /// Redis does not have any more what it had.
    pub(super) fn note_setback(&self) {
        self.setbacks.inc();
        tracing::error!(
            kept_s = super::KEPT_AFTER_SHIPPING.as_secs(),
            "Redis has lost records that it had taken; those that were kept here are sent again"
        );
    }

    /// How often that has happened.
    pub(super) fn setbacks(&self) -> u64 {
        self.setbacks.get()
    }

    pub(super) fn count_dropped(&self, why: Dropped, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&why.into()).inc_by(count);
        }
    }

    fn dropped(&self) -> u64 {
        use Dropped::{Conflict, Expired, QueueFull, SpoolFull, StreamFull, TooLate};
        let of = |why: Dropped| self.dropped.get_or_create(&why.into()).get();
        [QueueFull, TooLate, SpoolFull, Conflict, StreamFull, Expired].into_iter().map(of).sum()
    }

    /// Redis is there and has everything.
    pub(super) fn set_healthy(&self) {
        self.progress.send_modify(|progress| {
            progress.is_healthy = true;
            progress.has_tried = true;
        });
        self.connected.set(1);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since_ms) = away.since_ms.take() {
            let after_ms = now_ms().saturating_sub(since_ms);
            tracing::info!(after_ms, "Redis is there and has everything");
        }
        away.reason = None;
    }

    /// Redis is away, for that reason. Only a change is logged.
    pub(super) fn set_away(&self, reason: &str) {
        self.retried.inc();
        self.connected.set(0);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.since_ms.get_or_insert_with(now_ms);
        if away.reason.as_deref() != Some(reason) {
            tracing::error!(reason, "Redis is away; everything is kept on this machine's disk meanwhile");
            away.reason = Some(reason.to_owned());
        }
        drop(away);
        self.progress.send_modify(|progress| {
            progress.is_healthy = false;
            progress.has_tried = true;
        });
    }

    /// Which spool it is; see [`Progress`].
    pub(super) fn spool(&self) -> u64 {
        self.progress.borrow().spool
    }

    /// The spool is another one, with rows of its own up to `last_row`, of which Redis is not known to have any.
    pub(super) fn begin_spool(&self, last_row: i64) {
        self.last_row.store(last_row, Ordering::Relaxed);
        self.progress.send_modify(|progress| {
            progress.spool += 1;
            progress.row = 0;
        });
    }

    /// Redis has everything up to that row of that spool. It is no news if the spool is another one by now.
    pub(super) fn reach(&self, spool: u64, row: i64) {
        self.progress.send_if_modified(|progress| {
            let is_news = progress.spool == spool && progress.row < row;
            if is_news {
                progress.row = row;
            }
            is_news
        });
    }

    /// Some of what Redis had taken is about to be sent once more.
    pub(super) fn note_resent(&self) {
        self.progress.send_modify(|progress| progress.resent += 1);
    }

    /// Has the spool put together anew, if that is damage.
    pub(super) fn report(&self, error: TableError) {
        if error.is_damage() {
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    pub(super) fn take_damage(&self) -> Option<TableError> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn health(&self) -> RedisHealth {
        let progress = *self.progress.borrow();
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        RedisHealth {
            connected: progress.is_healthy,
            away_since_ms: away.since_ms,
            last_error: away.reason.clone(),
            waiting_records: self.waiting_records(progress.row),
            waiting_changes: self.waiting_changes.load(Ordering::Relaxed),
            spool_bytes: self.spool_bytes.load(Ordering::Relaxed),
            dropped: self.dropped(),
            setbacks: self.setbacks(),
        }
    }

    fn waiting_records(&self, row: i64) -> u64 {
        u64::try_from(self.last_row.load(Ordering::Relaxed) - row).unwrap_or(0)
    }

    pub(super) fn update_gauges(&self) {
        let waiting = self.waiting_records(self.progress.borrow().row);
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
