//! What is too old or too much goes; and how all that is told.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::Hours;
use crate::journal::backend::Condition;
use crate::journal::folder::{Hour, HourFile};
use crate::journal::salvage::Salvaged;

/// Names of damaged files that are told.
const TOLD_MAX: usize = 8;

/// Why an hour was unlinked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unlinked {
    reason: &'static str,
}

const TOO_OLD: Unlinked = Unlinked { reason: "age" };
const TOO_MUCH: Unlinked = Unlinked { reason: "size" };

/// How the hours are: for `/api/health` and `/metrics`.
#[derive(Debug)]
pub struct HoursCondition {
    bytes: Gauge<i64, AtomicI64>,
    hours: AtomicUsize,
    unlinked: Family<Unlinked, Counter<u64, AtomicU64>>,
    repairs: Counter,
    records_lost: Counter,
    /// Whether even the newest hour alone is larger than all may be.
    is_over: AtomicBool,
    /// The last thing that went wrong with the folder itself.
    problem: Mutex<Option<String>>,
    aside: Mutex<Vec<String>>,
}

impl HoursCondition {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let condition = Self {
            bytes: Gauge::default(),
            hours: AtomicUsize::default(),
            unlinked: Family::default(),
            repairs: Counter::default(),
            records_lost: Counter::default(),
            is_over: AtomicBool::default(),
            problem: Mutex::default(),
            aside: Mutex::default(),
        };
        let bytes = condition.bytes.clone();
        registry.register_with_unit("replay_files", "What the hours of replay take", Unit::Bytes, bytes);
        registry.register("replay_hours_unlinked", "Hours of replay unlinked", condition.unlinked.clone());
        registry.register(
            "replay_repairs",
            "Damaged hours of replay put together anew",
            condition.repairs.clone(),
        );
        registry.register(
            "replay_records_lost",
            "Records of damaged hours that could not be saved",
            condition.records_lost.clone(),
        );
        condition
    }

    pub(super) fn note_repair(&self, aside: &Path, salvaged: Salvaged) {
        self.repairs.inc();
        self.records_lost.inc_by(salvaged.lost as u64);
        let mut names = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        names.truncate(TOLD_MAX - 1);
        // Its name alone: where the folder is does not concern whoever reads this.
        names.insert(0, aside.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }

    fn note_problem(&self, problem: Option<String>) {
        let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != problem {
            if let Some(problem) = &problem {
                error!(problem, "the hours of replay cannot be looked after");
            }
            *last = problem;
        }
    }
}

impl Condition for HoursCondition {
    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn describe(&self) -> Value {
        let mut told = json!({
            "kind": "sqlite",
            "bytes": self.bytes.get(),
            "hours": self.hours.load(Ordering::Relaxed),
            "hoursDroppedForSize": self.unlinked.get_or_create(&TOO_MUCH).get(),
        });
        if self.is_over.load(Ordering::Relaxed) {
            told["isOverLimit"] = json!(true);
        }
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if !aside.is_empty() {
            told["corruptMovedTo"] = json!(*aside);
            told["recordsLost"] = json!(self.records_lost.get());
        }
        told
    }
}

impl Hours {
    /// Unlinks what is too old, then the oldest as long as there is too much.
    pub(super) fn clear_out(&mut self) {
        let files = match self.folder.files() {
            Ok(files) => files,
            Err(error) => return self.condition.note_problem(Some(error.to_string())),
        };
        let newest = files.iter().filter(|file| !file.is_aside).map(|file| file.hour).max();
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let mut hours = files.iter().filter(|file| !file.is_aside).count();
        let mut problem = None;
        for file in &files {
            let is_newest = !file.is_aside && Some(file.hour) == newest;
            let is_too_old = file.hour.is_too_old(self.settings.ttl_ms, self.now_ms);
            let reason = match (is_too_old, bytes > self.settings.bytes_max && !is_newest) {
                (true, _) => TOO_OLD,
                (false, true) => TOO_MUCH,
                (false, false) => continue,
            };
            match self.unlink(file) {
                Ok(()) => {
                    bytes -= file.bytes;
                    hours -= usize::from(!file.is_aside);
                    self.losses += u64::from(!file.is_aside && file.hour >= Hour::of(self.now_ms));
                    self.tell(file, &reason);
                    self.condition.unlinked.get_or_create(&reason).inc();
                }
                Err(error) => problem = Some(error.to_string()),
            }
        }
        self.condition.note_problem(problem);
        self.condition.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.condition.hours.store(hours, Ordering::Relaxed);
        let is_over = bytes > self.settings.bytes_max;
        if is_over && !self.condition.is_over.swap(is_over, Ordering::Relaxed) {
            warn!(bytes, limit = self.settings.bytes_max, "the newest hour alone is over REPLAY_MAX_BYTES");
        }
        self.condition.is_over.store(is_over, Ordering::Relaxed);
    }

    fn unlink(&mut self, file: &HourFile) -> std::io::Result<()> {
        if !file.is_aside {
            self.close(file.hour);
        }
        self.folder.unlink(&file.path)
    }

    fn tell(&self, file: &HourFile, reason: &Unlinked) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if *reason == TOO_MUCH {
            let limit = self.settings.bytes_max;
            warn!(%name, bytes = file.bytes, limit, "REPLAY_MAX_BYTES is reached: the oldest hour is unlinked");
        } else {
            info!(%name, bytes = file.bytes, "an hour of replay is too old and unlinked");
        }
    }
}
