//! What a run has found, for people and for programs.

mod text;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::crowd::Crowd;
use crate::meter::Usage;
use crate::options::{Encoding, Protocol};
use crate::schedule::Schedule;
use crate::steady::Run;
use crate::tally::{Durations, Reasons, Tally};
use crate::timeline::{CurvePoint, Second, curve};

/// Above this share of its cores the load generator itself delays poses, and the figures say little.
const LOAD_CPU_SHARE_MAX: f64 = 0.8;

/// Above this lateness of sending, in ms, the ages are the load generator's own.
const LATENESS_P99_MAX_MS: f64 = 10.0;

/// Above this share of the time spent waiting for a core, the server has not shown what it can do.
const WAITING_SHARE_MAX: f64 = 0.1;

/// Quantiles of durations, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl From<&Durations> for Quantiles {
    fn from(durations: &Durations) -> Self {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| durations.quantile_ms(quantile));
        Self { p50, p90, p99, p999, max: durations.max_ms() }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, max, .. } = self;
        write!(f, "p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}

/// What the load has cost the server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cost {
    /// CPU seconds during the window, of all threads, kernel included.
    pub(crate) cpu_s: f64,
    /// The same as a share of one core.
    pub(crate) cores: f64,
    /// For how long its threads were ready and had to wait for a core, as a share of the window. Whatever else runs
    /// on its core makes it wait, and so do more threads than cores. `None` where only its `/metrics` are read.
    pub(crate) waiting_share: Option<f64>,
    /// Resident memory at the window's end.
    pub(crate) rss_mib: f64,
    /// How much more that is for each client than before they came.
    pub(crate) rss_kib_per_client: f64,
    /// Poses that arrived somewhere, per CPU second; `None` if poses were not judged.
    pub(crate) poses_per_cpu_s: Option<f64>,
    /// CPU microseconds for one user and one tick: one update in, all others' poses out. Counted by the updates sent.
    pub(crate) cpu_us_per_user_tick: f64,
    /// The same, counted by the ticks that arrived at users: a server that leaves out ticks does not gain by it.
    /// `None` if ticks cannot be told apart.
    pub(crate) cpu_us_per_delivered_tick: Option<f64>,
}

impl Cost {
    pub(crate) fn new(
        run: &Run<'_>,
        tally: &Tally,
        [before, after]: [Usage; 2],
        elapsed: Duration,
        bytes_per_client: f64,
    ) -> Self {
        let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let waiting = before.waiting.zip(after.waiting).map(|(before, after)| after.saturating_sub(before));
        Self {
            cpu_s,
            cores: cpu_s / elapsed.as_secs_f64(),
            waiting_share: waiting.map(|waiting| waiting.as_secs_f64() / elapsed.as_secs_f64()),
            rss_mib: after.resident_bytes as f64 / 1_048_576.0,
            rss_kib_per_client: bytes_per_client / 1024.0,
            poses_per_cpu_s: run.judged.then(|| ratio(tally.delivered(), cpu_s)),
            cpu_us_per_user_tick: ratio(cpu_s * 1e6, tally.sent as f64),
            cpu_us_per_delivered_tick: tells_ticks(run).then(|| ratio(cpu_s * 1e6, tally.ticks as f64)),
        }
    }
}

/// Whether a server sends one message per tick, so that ticks can be counted: not one per pose.
fn tells_ticks(run: &Run<'_>) -> bool {
    run.protocol == Protocol::Colyseus || run.load.encoding != Encoding::Json
}

/// What has become of poses.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Poses {
    /// How many receivers were judged pose by pose: what follows of poses is about them, up to their ages.
    pub(crate) judged: u64,
    /// Arrivals if every pose reached everybody else in its room.
    pub(crate) poses_expected: u64,
    pub(crate) poses_received: u64,
    /// Poses that arrived again.
    pub(crate) poses_repeated: u64,
    /// Poses that arrived after a later one of the same user.
    pub(crate) poses_behind: u64,
    /// The longest run of one user's poses that another did not get.
    pub(crate) longest_gap: u32,
    /// Poses that one user got per tick: on average, and who got fewest and most.
    pub(crate) received_per_user_tick: [f64; 3],
    pub(crate) pose_age_ms: Quantiles,
    /// Up to how many metres away somebody is near, and the ages of the poses of those who are and are not.
    pub(crate) near_m: f32,
    pub(crate) pose_age_near_ms: Quantiles,
    pub(crate) pose_age_far_ms: Quantiles,
    pub(crate) poses_near: u64,
    /// From one update of a member to the next at the same receiver: while the two are near, and of all.
    pub(crate) update_gap_near_ms: Quantiles,
    pub(crate) update_gap_ms: Quantiles,
    /// Poses that arrived at anybody, per second.
    pub(crate) poses_delivered_per_s: f64,
    /// Poses that came back to their sender.
    pub(crate) poses_own: u64,
    /// Poses that came from another room.
    pub(crate) poses_stray: u64,
    /// Poses whose stamp could not be read.
    pub(crate) poses_unreadable: u64,
    /// Poses that were not where their sender can have been.
    pub(crate) poses_misplaced: u64,
}

/// What has become of questions that want an answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Acks {
    pub(crate) acks_asked: u64,
    pub(crate) acks_answered: u64,
    /// Those that never came. Their waiting is in the times all the same.
    pub(crate) acks_missing: u64,
    /// Answers that nobody had asked for, or that came twice.
    pub(crate) acks_unasked: u64,
    /// From when the question was due.
    pub(crate) ack_ms: Quantiles,
}

impl Acks {
    /// `None` if nothing was asked, or the server has answered nothing at all: it knows no acks.
    fn new(tally: &Tally) -> Option<Self> {
        let knows_acks = tally.acks_answered + tally.acks_unasked > 0;
        (tally.acks_asked > 0 && knows_acks).then(|| Self {
            acks_asked: tally.acks_asked,
            acks_answered: tally.acks_answered,
            acks_missing: tally.acks_missing,
            acks_unasked: tally.acks_unasked,
            ack_ms: (&tally.acks).into(),
        })
    }
}

/// What a steady run has found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) users: u32,
    pub(crate) rooms: u32,
    pub(crate) hz: u32,
    pub(crate) protocol: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) encoding: &'static str,
    pub(crate) window_s: f64,
    pub(crate) connect_ms: Quantiles,
    pub(crate) join_ms: Quantiles,
    pub(crate) poses_sent: u64,
    /// The same, with those of the warm-up and after the window.
    pub(crate) poses_sent_in_all: u64,
    /// Poses that were due but that a connection did not take.
    pub(crate) poses_not_sent: u64,
    /// `None` if poses were not judged.
    #[serde(flatten)]
    pub(crate) poses: Option<Poses>,
    /// `None` if no answers came.
    #[serde(flatten)]
    pub(crate) acks: Option<Acks>,
    /// How late poses were sent: the load generator's own part of their age.
    pub(crate) send_lateness_ms: Quantiles,
    /// Ticks that arrived: on average, and who got fewest. `None` if they cannot be told apart.
    pub(crate) ticks_per_user_s: Option<f64>,
    pub(crate) ticks_per_user_s_fewest: Option<f64>,
    pub(crate) frames_per_user_s: f64,
    /// WebSocket frames with their headers, without those of TCP: on average, and who got most.
    pub(crate) bytes_per_user_s: f64,
    pub(crate) frames_per_user_s_most: f64,
    pub(crate) bytes_per_user_s_most: f64,
    /// Pose frames that could not be read, and those whose tick went back.
    pub(crate) frames_unreadable: u64,
    pub(crate) frames_back: u64,
    /// How often a client was told a new rate of its room, and the lowest such rate.
    pub(crate) room_rates: u64,
    pub(crate) lowest_rate_hz: Option<f64>,
    pub(crate) disconnects: Reasons,
    pub(crate) errors: Reasons,
    pub(crate) server: Option<Cost>,
    /// CPU of the load generator, in cores, and how many it has been given.
    pub(crate) load_cores: f64,
    pub(crate) load_cores_given: usize,
    /// How old poses were, as a percentile curve.
    pub(crate) pose_age_curve: Vec<CurvePoint>,
    /// The window, second by second.
    pub(crate) timeline: Vec<Second>,
}

impl Poses {
    fn new(near_m: f32, crowd: &Crowd, schedule: &Schedule, tally: &Tally) -> Self {
        let ticks = f64::from(schedule.poses_counted());
        let (start, end) = schedule.window();
        let (fewest, most) = tally.per_receiver.unwrap_or_default();
        Self {
            judged: tally.judged,
            poses_expected: crowd.deliveries() * u64::from(schedule.poses_counted()),
            poses_received: tally.received,
            poses_repeated: tally.repeated,
            poses_behind: tally.behind,
            longest_gap: tally.longest_gap,
            received_per_user_tick: [
                ratio(tally.received as f64, tally.judged as f64),
                fewest as f64,
                most as f64,
            ]
            .map(|n| n / ticks),
            pose_age_ms: (&tally.age()).into(),
            near_m,
            pose_age_near_ms: (&tally.age_near).into(),
            pose_age_far_ms: (&tally.age_far).into(),
            poses_near: tally.age_near.count(),
            update_gap_near_ms: (&tally.gaps_near).into(),
            update_gap_ms: (&tally.gaps).into(),
            poses_delivered_per_s: tally.delivered() / (end - start).as_secs_f64(),
            poses_own: tally.own,
            poses_stray: tally.strays,
            poses_unreadable: tally.unreadable,
            poses_misplaced: tally.misplaced,
        }
    }
}

impl Report {
    pub(crate) fn new(
        run: &Run<'_>,
        crowd: &Crowd,
        schedule: &Schedule,
        tally: &Tally,
        server: Option<Cost>,
        load_cores: f64,
    ) -> Self {
        let (start, end) = schedule.window();
        let window_s = (end - start).as_secs_f64();
        let users = f64::from(crowd.users);
        let per_user_s = |count: u64| count as f64 / users / window_s;
        let fewest = tally.ticks_fewest.unwrap_or_default() as f64;
        Self {
            url: run.url.to_owned(),
            users: crowd.users,
            rooms: crowd.rooms,
            hz: run.load.hz,
            protocol: run.protocol.as_str(),
            transport: run.load.transport.as_str(),
            encoding: match run.protocol {
                Protocol::Socketio => run.load.encoding.as_str(),
                Protocol::Colyseus => Protocol::SCHEMA,
            },
            window_s,
            connect_ms: (&tally.connect).into(),
            join_ms: (&tally.join).into(),
            poses_sent: tally.sent,
            poses_sent_in_all: tally.sent_in_all,
            poses_not_sent: tally.not_sent,
            poses: run.judged.then(|| Poses::new(run.load.near, crowd, schedule, tally)),
            acks: Acks::new(tally),
            send_lateness_ms: (&tally.lateness).into(),
            ticks_per_user_s: tells_ticks(run).then(|| per_user_s(tally.ticks)),
            ticks_per_user_s_fewest: tells_ticks(run).then_some(fewest / window_s),
            frames_per_user_s: per_user_s(tally.frames),
            bytes_per_user_s: per_user_s(tally.bytes),
            frames_per_user_s_most: tally.frames_most as f64 / window_s,
            bytes_per_user_s_most: tally.bytes_most as f64 / window_s,
            frames_unreadable: tally.frames_unreadable,
            frames_back: tally.frames_back,
            room_rates: tally.room_rates,
            lowest_rate_hz: tally.lowest_rate_hz,
            disconnects: tally.disconnects.clone(),
            errors: tally.errors.clone(),
            server,
            load_cores,
            load_cores_given: run.cores.len().max(1),
            pose_age_curve: curve(&tally.age()),
            timeline: Vec::new(),
        }
    }

    /// What is wrong with the server, each in a sentence; empty if nothing is.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match &self.poses {
            Some(poses) if poses.poses_received == 0 => {
                faults.push("no pose of the window arrived in time".to_owned());
            }
            None if self.ticks_per_user_s.unwrap_or(self.frames_per_user_s) == 0.0 => {
                faults.push("nothing arrived".to_owned());
            }
            _ => {}
        }
        for (reasons, what) in [(&self.disconnects, "sessions ended"), (&self.errors, "errors")] {
            faults.extend(reasons.iter().map(|(reason, count)| format!("{count} {what}: {reason}")));
        }
        // One pose frame or patch is for all in the room, so it may hold one's own.
        let own_allowed = [Encoding::Binary.as_str(), Protocol::SCHEMA].contains(&self.encoding);
        let of_poses = self.poses.as_ref().map(|poses| {
            [
                (if own_allowed { 0 } else { poses.poses_own }, "poses came back to their sender"),
                (poses.poses_stray, "poses came from another room"),
                (poses.poses_behind, "poses came after a later one of the same user"),
                (poses.poses_unreadable, "poses had no readable stamp"),
                (poses.poses_misplaced, "poses were where their sender cannot have been"),
            ]
        });
        let of_acks = self.acks.as_ref().map(|acks| {
            [(acks.acks_missing, "answers never came"), (acks.acks_unasked, "answers came unasked")]
        });
        for (count, what) in of_poses.into_iter().flatten().chain(of_acks.into_iter().flatten()).chain([
            (self.frames_unreadable, "pose frames could not be read"),
            (self.frames_back, "pose frames had a tick before the last"),
        ]) {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        faults
    }

    /// Whether the load generator was itself at its limit, so that the figures say little of the server.
    pub(crate) fn load_is_the_limit(&self) -> bool {
        self.load_cores > LOAD_CPU_SHARE_MAX * self.load_cores_given as f64
            || self.send_lateness_ms.p99 > LATENESS_P99_MAX_MS
    }

    /// What makes the figures doubtful, though the server may be right.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.load_cores > LOAD_CPU_SHARE_MAX * self.load_cores_given as f64 {
            doubts.push(format!(
                "the load generator used {:.2} cores: it may itself be the limit",
                self.load_cores
            ));
        }
        if self.send_lateness_ms.p99 > LATENESS_P99_MAX_MS {
            doubts.push(
                "many poses left late: the load generator did not get its core when it wanted it".into(),
            );
        }
        let waited = self.server.as_ref().and_then(|cost| cost.waiting_share).unwrap_or_default();
        if waited > WAITING_SHARE_MAX {
            doubts.push(format!(
                "the server waited for its core {:.0} % of the time: something else runs there",
                100.0 * waited
            ));
        }
        if self.poses_not_sent > 0 {
            doubts.push(format!("{} poses could not be sent: the server did not read", self.poses_not_sent));
        }
        doubts
    }
}

/// `a / b`, and 0 where that means nothing.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
