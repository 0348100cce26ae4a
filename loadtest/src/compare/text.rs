//! A comparison for people.

use std::fmt;

use super::{Comparison, Medians, Ratio, Round, TICKS_PER_S_MIN};
use crate::report::{Cost, ratio};

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        write!(f, "{:<12}", self.server)?;
        if let Some(cost) = &report.server {
            let Cost { cores, rss_mib, poses_per_cpu_s, cpu_us_per_user_tick, .. } = cost;
            match poses_per_cpu_s {
                Some(poses) => write!(f, "{poses:>9.0} poses/CPU s  ")?,
                None => write!(f, "{:>23}", "")?,
            }
            write!(f, "{cpu_us_per_user_tick:>6.1} µs/user-tick  {cores:.3} cores  {rss_mib:>5.1} MiB  ")?;
        }
        write!(f, "{:.1} KiB/s  ", report.bytes_per_user_s / 1024.0)?;
        if let Some(ticks) = report.ticks_per_user_s {
            write!(f, "{ticks:.1} ticks/s  ")?;
        }
        match &report.poses {
            Some(poses) => {
                let share = 100.0 * ratio(poses.poses_received as f64, poses.poses_expected as f64);
                let age = &poses.pose_age_ms;
                write!(f, "age p50 {:.1} p99 {:.1} ms  arrived {share:.1} %  ", age.p50, age.p99)?;
            }
            None => write!(f, "poses not judged  ")?,
        }
        write!(f, "load {:.2} cores", report.load_cores)?;
        report.doubts().iter().try_for_each(|doubt| write!(f, "\n  doubtful: {doubt}"))
    }
}

/// A row of the table: what it is, its figure, and after the point how many digits.
type Row = (&'static str, fn(&Medians) -> Option<f64>, usize);

const ROWS: [Row; 10] = [
    ("poses per CPU second", |medians| medians.poses_per_cpu_s, 0),
    ("CPU µs per user-tick", |medians| medians.cpu_us_per_user_tick, 1),
    ("  times the server's", |medians| middle(medians.cpu_ratio.as_ref()), 2),
    ("  per delivered one", |medians| medians.cpu_us_per_delivered_tick, 1),
    ("  times the server's", |medians| middle(medians.delivered_cpu_ratio.as_ref()), 2),
    ("KiB/s per user", |medians| medians.kib_per_user_s, 1),
    ("  times the server's", |medians| middle(medians.bytes_ratio.as_ref()), 2),
    ("ticks/s per user", |medians| medians.ticks_per_user_s, 1),
    ("p99 pose age, ms", |medians| medians.p99_ms, 1),
    ("resident, MiB", |medians| medians.rss_mib, 1),
];

fn middle(ratio: Option<&Ratio>) -> Option<f64> {
    ratio.map(|ratio| ratio.median)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds: Vec<String> = self.rounds.iter().map(|ratio| format!("{ratio:.2}")).collect();
        write!(f, "{:.2} (rounds: {})", self.median, rounds.join(", "))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.len().checked_div(self.medians.len()).unwrap_or_default();
        writeln!(f, "medians of {rounds} rounds")?;
        for medians in &self.medians {
            writeln!(f, "  {:<10}{}, {}", medians.name, medians.program, medians.encoding)?;
        }
        write!(f, "  {:<22}", "")?;
        for medians in &self.medians {
            let mark = if medians.misses_ticks { "*" } else { "" };
            write!(f, "{:>12}", format!("{}{mark}", medians.name))?;
        }
        for (name, figure, digits) in ROWS {
            write!(f, "\n  {name:<22}")?;
            for medians in &self.medians {
                match figure(medians) {
                    Some(figure) => write!(f, "{figure:>12.digits$}")?,
                    None => write!(f, "{:>12}", "-")?,
                }
            }
        }
        writeln!(f)?;
        for medians in self.medians.iter().filter(|medians| medians.misses_ticks) {
            writeln!(
                f,
                "  * {} falls short of {TICKS_PER_S_MIN} ticks per second: compare what is delivered",
                medians.name
            )?;
        }
        for medians in self.medians.iter().skip(1) {
            medians.write_ratios(f)?;
        }
        if self.shortfalls.is_empty() {
            return writeln!(f, "  all that was asked for is reached");
        }
        self.shortfalls.iter().try_for_each(|shortfall| writeln!(f, "  NOT REACHED: {shortfall}"))
    }
}

impl Medians {
    /// How this one and the server compare, round by round.
    fn write_ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        for (what, ratio) in [
            ("poses per CPU second, server to", &self.poses_ratio),
            ("CPU µs per user-tick, server to", &self.bare_ratio),
        ] {
            if let Some(ratio) = ratio {
                writeln!(f, "  {what} {name}: {ratio}")?;
            }
        }
        // The bare loop has been told above.
        let cpu = self.cpu_ratio.as_ref().filter(|_| self.bare_ratio.is_none());
        for (what, ratio) in [("CPU µs per user-tick", cpu), ("KiB/s per user", self.bytes_ratio.as_ref())] {
            if let Some(ratio) = ratio {
                writeln!(f, "  {what}, {name} to server: {ratio}")?;
            }
        }
        Ok(())
    }
}
