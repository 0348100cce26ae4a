//! What a run has found, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::crowd::Crowd;
use crate::options::Encoding;
use crate::schedule::Schedule;
use crate::steady::Run;
use crate::tally::{Durations, Reasons, Tally};

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
    pub(crate) max: f64,
}

impl From<&Durations> for Quantiles {
    fn from(durations: &Durations) -> Self {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|quantile| durations.quantile_ms(quantile));
        Self { p50, p90, p99, max: durations.max_ms() }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, max } = self;
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
    /// on its core makes it wait, and so do more threads than cores.
    pub(crate) waiting_share: f64,
    /// Resident memory at the window's end.
    pub(crate) rss_mib: f64,
    /// How much more that is for each client than before they came.
    pub(crate) rss_kib_per_client: f64,
    /// Poses that arrived somewhere, per CPU second.
    pub(crate) poses_per_cpu_s: f64,
    /// CPU microseconds for one user and one tick: one update in, all others' poses out.
    pub(crate) cpu_us_per_user_tick: f64,
}

impl Cost {
    pub(crate) fn new(
        tally: &Tally,
        [cpu, waiting]: [Duration; 2],
        elapsed: Duration,
        resident_bytes: u64,
        bytes_per_client: f64,
    ) -> Self {
        let cpu_s = cpu.as_secs_f64();
        Self {
            cpu_s,
            cores: cpu_s / elapsed.as_secs_f64(),
            waiting_share: waiting.as_secs_f64() / elapsed.as_secs_f64(),
            rss_mib: resident_bytes as f64 / 1_048_576.0,
            rss_kib_per_client: bytes_per_client / 1024.0,
            poses_per_cpu_s: ratio(tally.delivered(), cpu_s),
            cpu_us_per_user_tick: ratio(cpu_s * 1e6, tally.sent as f64),
        }
    }
}

/// What a steady run has found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) users: u32,
    pub(crate) rooms: u32,
    pub(crate) hz: u32,
    pub(crate) encoding: &'static str,
    pub(crate) window_s: f64,
    pub(crate) connect_ms: Quantiles,
    pub(crate) join_ms: Quantiles,
    pub(crate) poses_sent: u64,
    /// Poses that were due but that a connection did not take.
    pub(crate) poses_not_sent: u64,
    /// How many receivers were judged pose by pose: what follows of poses is about them, up to their ages.
    pub(crate) judged: u64,
    /// Arrivals if every pose reached everybody else in its room.
    pub(crate) poses_expected: u64,
    pub(crate) poses_received: u64,
    /// Poses that arrived again.
    pub(crate) poses_repeated: u64,
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
    /// How late poses were sent: the load generator's own part of their age.
    pub(crate) send_lateness_ms: Quantiles,
    pub(crate) frames_per_user_s: f64,
    /// WebSocket frames with their headers, without those of TCP: on average, and who got most.
    pub(crate) bytes_per_user_s: f64,
    pub(crate) frames_per_user_s_most: f64,
    pub(crate) bytes_per_user_s_most: f64,
    /// Poses that came back to their sender.
    pub(crate) poses_own: u64,
    /// Poses that came from another room.
    pub(crate) poses_stray: u64,
    /// Poses whose stamp could not be read.
    pub(crate) poses_unreadable: u64,
    /// Poses that were not where their sender can have been.
    pub(crate) poses_misplaced: u64,
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
        let ticks = f64::from(schedule.poses_counted());
        let (start, end) = schedule.window();
        let window_s = (end - start).as_secs_f64();
        let users = f64::from(crowd.users);
        let (fewest, most) = tally.per_receiver.unwrap_or_default();
        Self {
            url: run.url.to_owned(),
            users: crowd.users,
            rooms: crowd.rooms,
            hz: run.load.hz,
            encoding: run.load.encoding.as_str(),
            window_s,
            connect_ms: (&tally.connect).into(),
            join_ms: (&tally.join).into(),
            poses_sent: tally.sent,
            poses_not_sent: tally.not_sent,
            judged: tally.judged,
            poses_expected: crowd.deliveries() * u64::from(schedule.poses_counted()),
            poses_received: tally.received,
            poses_repeated: tally.repeated,
            longest_gap: tally.longest_gap,
            received_per_user_tick: [
                ratio(tally.received as f64, tally.judged as f64),
                fewest as f64,
                most as f64,
            ]
            .map(|n| n / ticks),
            pose_age_ms: (&tally.age()).into(),
            near_m: run.load.near,
            pose_age_near_ms: (&tally.age_near).into(),
            pose_age_far_ms: (&tally.age_far).into(),
            poses_near: tally.age_near.count(),
            update_gap_near_ms: (&tally.gaps_near).into(),
            update_gap_ms: (&tally.gaps).into(),
            poses_delivered_per_s: tally.delivered() / window_s,
            send_lateness_ms: (&tally.lateness).into(),
            frames_per_user_s: tally.frames as f64 / users / window_s,
            bytes_per_user_s: tally.bytes as f64 / users / window_s,
            frames_per_user_s_most: tally.frames_most as f64 / window_s,
            bytes_per_user_s_most: tally.bytes_most as f64 / window_s,
            poses_own: tally.own,
            poses_stray: tally.strays,
            poses_unreadable: tally.unreadable,
            poses_misplaced: tally.misplaced,
            frames_unreadable: tally.frames_unreadable,
            frames_back: tally.frames_back,
            room_rates: tally.room_rates,
            lowest_rate_hz: tally.lowest_rate_hz,
            disconnects: tally.disconnects.clone(),
            errors: tally.errors.clone(),
            server,
            load_cores,
            load_cores_given: run.cores.len().max(1),
        }
    }

    /// What is wrong with the server, each in a sentence; empty if nothing is.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.poses_received == 0 {
            faults.push("not one pose arrived".to_owned());
        }
        for (reasons, what) in [(&self.disconnects, "sessions ended"), (&self.errors, "errors")] {
            faults.extend(reasons.iter().map(|(reason, count)| format!("{count} {what}: {reason}")));
        }
        // One pose frame is for all in the room, so it may hold one's own.
        let own = if self.encoding == Encoding::Binary.as_str() { 0 } else { self.poses_own };
        for (count, what) in [
            (own, "poses came back to their sender"),
            (self.poses_stray, "poses came from another room"),
            (self.poses_unreadable, "poses had no readable stamp"),
            (self.poses_misplaced, "poses were where their sender cannot have been"),
            (self.frames_unreadable, "pose frames could not be read"),
            (self.frames_back, "pose frames had a tick before the last"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        faults
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
        let waited = self.server.as_ref().map_or(0.0, |cost| cost.waiting_share);
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, rooms, hz, encoding, window_s, .. } = self;
        writeln!(
            f,
            "{users} users in {rooms} rooms at {hz} Hz, {encoding}, {window_s:.1} s at {}",
            self.url
        )?;
        self.write_ages(f)?;
        self.write_counts(f)?;
        if let Some(cost) = &self.server {
            let Cost { cpu_s, cores, rss_mib, rss_kib_per_client, poses_per_cpu_s, .. } = cost;
            let (waited, cpu_us_per_user_tick) = (100.0 * cost.waiting_share, cost.cpu_us_per_user_tick);
            writeln!(
                f,
                "  server        {cpu_s:.2} CPU s ({cores:.3} cores), waited for its core {waited:.1} % of the time"
            )?;
            writeln!(f, "                {rss_mib:.1} MiB resident, {rss_kib_per_client:.1} KiB per client")?;
            writeln!(
                f,
                "                {poses_per_cpu_s:.0} poses per CPU s, {cpu_us_per_user_tick:.1} CPU µs per user-tick"
            )?;
        }
        writeln!(
            f,
            "  load          {:.3} cores of {}, {:.1} CPU µs per user-tick",
            self.load_cores,
            self.load_cores_given,
            ratio(self.load_cores * self.window_s * 1e6, self.poses_sent as f64)
        )?;
        self.doubts().iter().try_for_each(|doubt| writeln!(f, "  doubtful: {doubt}"))?;
        self.faults().iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}"))
    }
}

impl Report {
    fn write_ages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  connect       {}", self.connect_ms)?;
        writeln!(f, "  join          {}", self.join_ms)?;
        writeln!(f, "  pose age      {}", self.pose_age_ms)?;
        let near = format!("near ({} m)", self.near_m);
        writeln!(f, "    {near:<12}{}", self.pose_age_near_ms)?;
        writeln!(f, "    far         {}", self.pose_age_far_ms)?;
        writeln!(f, "  of it sending {}", self.send_lateness_ms)?;
        writeln!(f, "  update gap    {}", self.update_gap_ms)?;
        writeln!(f, "    near        {}", self.update_gap_near_ms)
    }

    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * ratio(self.poses_received as f64, self.poses_expected as f64);
        writeln!(f, "  sent          {} poses ({} not taken)", self.poses_sent, self.poses_not_sent)?;
        if self.judged < u64::from(self.users) {
            writeln!(f, "  judged        {} of {} receivers", self.judged, self.users)?;
        }
        writeln!(
            f,
            "  received      {} of {} poses ({share:.2} %), {} of them near, {} again, longest gap {}",
            self.poses_received, self.poses_expected, self.poses_near, self.poses_repeated, self.longest_gap
        )?;
        writeln!(f, "  delivered     {:.0} poses/s to all", self.poses_delivered_per_s)?;
        let [mean, fewest, most] = self.received_per_user_tick;
        writeln!(f, "  per user      {mean:.2} poses per tick (fewest {fewest:.2}, most {most:.2})")?;
        let [mean, most] = [self.bytes_per_user_s, self.bytes_per_user_s_most].map(|bytes| bytes / 1024.0);
        let (frames, most_frames) = (self.frames_per_user_s, self.frames_per_user_s_most);
        write!(f, "                {frames:.1} frames/s (most {most_frames:.1}), ")?;
        writeln!(f, "{mean:.1} KiB/s (most {most:.1})")?;
        if let Some(hz) = self.lowest_rate_hz {
            writeln!(f, "  room rate     told {} times, lowest {hz} Hz", self.room_rates)?;
        }
        Ok(())
    }
}

/// `a / b`, and 0 where that means nothing.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
