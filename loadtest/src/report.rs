//! What a run has found, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::stamp::Schedule;
use crate::steady::Run;
use crate::tally::{Durations, Reasons, Tally};
use crate::worker::Crowd;

/// Above this share of its cores the load generator itself delays poses, and the figures say little.
const LOAD_CPU_SHARE_MAX: f64 = 0.8;

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
    /// Resident memory at the window's end.
    pub(crate) rss_mib: f64,
    /// Poses that arrived somewhere, per CPU second.
    pub(crate) poses_per_cpu_s: f64,
    /// CPU microseconds for one user and one tick: one update in, all others' poses out.
    pub(crate) cpu_us_per_user_tick: f64,
}

impl Cost {
    pub(crate) fn new(tally: &Tally, cpu: Duration, elapsed: Duration, resident_bytes: u64) -> Self {
        let cpu_s = cpu.as_secs_f64();
        Self {
            cpu_s,
            cores: cpu_s / elapsed.as_secs_f64(),
            rss_mib: resident_bytes as f64 / 1_048_576.0,
            poses_per_cpu_s: ratio(tally.received as f64, cpu_s),
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
    /// How late poses were sent: the load generator's own part of their age.
    pub(crate) send_lateness_ms: Quantiles,
    pub(crate) frames_per_user_s: f64,
    pub(crate) bytes_per_user_s: f64,
    /// Poses that came back to their sender.
    pub(crate) poses_own: u64,
    /// Poses that came from another room.
    pub(crate) poses_stray: u64,
    /// Poses whose stamp could not be read.
    pub(crate) poses_unreadable: u64,
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
            poses_expected: crowd.deliveries() * u64::from(schedule.poses_counted()),
            poses_received: tally.received,
            poses_repeated: tally.repeated,
            longest_gap: tally.longest_gap,
            received_per_user_tick: [tally.received as f64 / users, fewest as f64, most as f64]
                .map(|n| n / ticks),
            pose_age_ms: (&tally.age).into(),
            send_lateness_ms: (&tally.lateness).into(),
            frames_per_user_s: tally.frames as f64 / users / window_s,
            bytes_per_user_s: tally.bytes as f64 / users / window_s,
            poses_own: tally.own,
            poses_stray: tally.strays,
            poses_unreadable: tally.unreadable,
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
        for (count, what) in [
            (self.poses_own, "poses came back to their sender"),
            (self.poses_stray, "poses came from another room"),
            (self.poses_unreadable, "poses had no readable stamp"),
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
        writeln!(f, "  connect       {}", self.connect_ms)?;
        writeln!(f, "  join          {}", self.join_ms)?;
        writeln!(f, "  pose age      {}", self.pose_age_ms)?;
        writeln!(f, "  of it sending {}", self.send_lateness_ms)?;
        let share = 100.0 * ratio(self.poses_received as f64, self.poses_expected as f64);
        writeln!(f, "  sent          {} poses ({} not taken)", self.poses_sent, self.poses_not_sent)?;
        writeln!(
            f,
            "  received      {} of {} poses ({share:.2} %), {} again, longest gap {}",
            self.poses_received, self.poses_expected, self.poses_repeated, self.longest_gap
        )?;
        let [mean, fewest, most] = self.received_per_user_tick;
        writeln!(f, "  per user      {mean:.2} poses per tick (fewest {fewest:.2}, most {most:.2})")?;
        let kib = self.bytes_per_user_s / 1024.0;
        writeln!(f, "                {:.1} frames/s, {kib:.1} KiB/s", self.frames_per_user_s)?;
        if let Some(Cost { cpu_s, cores, rss_mib, poses_per_cpu_s, cpu_us_per_user_tick }) = &self.server {
            writeln!(f, "  server        {cpu_s:.2} CPU s ({cores:.3} cores), {rss_mib:.1} MiB resident")?;
            writeln!(
                f,
                "                {poses_per_cpu_s:.0} poses per CPU s, {cpu_us_per_user_tick:.1} CPU µs per user-tick"
            )?;
        }
        writeln!(f, "  load          {:.3} cores of {}", self.load_cores, self.load_cores_given)?;
        self.doubts().iter().try_for_each(|doubt| writeln!(f, "  doubtful: {doubt}"))?;
        self.faults().iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}"))
    }
}

/// `a / b`, and 0 where that means nothing.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
