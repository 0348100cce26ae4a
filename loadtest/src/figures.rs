//! The figures that an objective may be about, with their names and units.

use std::fmt::Write;

use crate::report::{Quantiles, Report, ratio};

/// What a figure is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Bytes,
    /// From 0 to 1.
    Share,
    Cores,
    Count,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Share => "of 1",
            Self::Cores => "cores",
            Self::Count => "",
        }
    }

    /// How a limit is written.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::Milliseconds => "a time, in us, ms or s",
            Self::Bytes => "bytes, in B, KiB or MiB",
            Self::Share => "a share, as 0.99 or 99%",
            Self::Cores | Self::Count => "a number",
        }
    }
}

type Quantile = fn(&Quantiles) -> f64;

/// What a duration's name ends with.
const QUANTILES: [(&str, Quantile); 5] = [
    ("_p50", |quantiles| quantiles.p50),
    ("_p90", |quantiles| quantiles.p90),
    ("_p99", |quantiles| quantiles.p99),
    ("_p999", |quantiles| quantiles.p999),
    ("_max", |quantiles| quantiles.max),
];

type Durations = fn(&Report) -> Option<&Quantiles>;

/// Durations of a load that moves, each at several quantiles.
const DURATIONS: &[(&str, Durations, &str)] = &[
    ("pose_age", |r| r.poses.as_ref().map(|p| &p.pose_age_ms), "from when a pose was due to its arrival"),
    ("pose_age_near", |r| r.poses.as_ref().map(|p| &p.pose_age_near_ms), "the same, of those near by"),
    ("pose_age_far", |r| r.poses.as_ref().map(|p| &p.pose_age_far_ms), "the same, of all others"),
    ("update_gap", |r| r.poses.as_ref().map(|p| &p.update_gap_ms), "from one update of somebody to the next"),
    ("update_gap_near", |r| r.poses.as_ref().map(|p| &p.update_gap_near_ms), "the same, while near"),
    ("ack", |r| r.acks.as_ref().map(|acks| &acks.ack_ms), "from when a question was due to its answer"),
    ("connect", |r| Some(&r.connect_ms), "from TCP's first packet to Socket.IO's CONNECT"),
    ("join", |r| Some(&r.join_ms), "from `join-room` to `room-users`"),
    ("send_lateness", |r| Some(&r.send_lateness_ms), "how late the load itself sent"),
];

type Number = fn(&Report) -> Option<f64>;

/// Figures of a load that moves.
const NUMBERS: &[(&str, Unit, Number, &str)] = &[
    (
        "poses_received_share",
        Unit::Share,
        |r| r.poses.as_ref().map(|p| ratio(p.poses_received as f64, p.poses_expected as f64)),
        "poses that arrived, of all that could",
    ),
    (
        "longest_gap",
        Unit::Count,
        |r| r.poses.as_ref().map(|p| f64::from(p.longest_gap)),
        "the longest run of somebody's poses that somebody missed",
    ),
    ("disconnects", Unit::Count, |r| Some(r.disconnects.values().sum::<u32>().into()), "sessions that ended"),
    ("errors", Unit::Count, |r| Some(r.errors.values().sum::<u32>().into()), "`error` events"),
    ("faults", Unit::Count, |r| Some(r.faults().len() as f64), "kinds of faults found"),
    ("bytes_per_user_s", Unit::Bytes, |r| Some(r.bytes_per_user_s), "bytes per second and user"),
    ("bytes_per_user_s_most", Unit::Bytes, |r| Some(r.bytes_per_user_s_most), "the same, of who got most"),
    ("frames_per_user_s", Unit::Count, |r| Some(r.frames_per_user_s), "messages per second and user"),
    ("ticks_per_user_s", Unit::Count, |r| r.ticks_per_user_s, "ticks per second that arrived at a user"),
    ("server_cores", Unit::Cores, |r| r.server.as_ref().map(|cost| cost.cores), "the server's CPU"),
    (
        "server_rss",
        Unit::Bytes,
        |r| r.server.as_ref().map(|cost| cost.rss_mib * 1_048_576.0),
        "the server's resident memory",
    ),
    ("load_cores", Unit::Cores, |r| Some(r.load_cores), "the load's own CPU"),
];

/// Durations of scenarios, each at several quantiles.
pub(crate) const SCENARIO_DURATIONS: &[(&str, &str)] = &[
    ("presence", "churn: from when somebody was to join to when the others were told"),
    ("enter", "storm: from the beginning to when somebody was in"),
    ("back", "storm: from the restart to when somebody was in again"),
    ("cut_off", "slow-readers: from when somebody stopped reading to its end"),
    ("edit", "objects: from when an edit was due to its ack"),
    ("refusal", "malformed: from broken input to the server's answer"),
    ("move", "replay: from when a pose was due to its arrival at the watcher"),
];

/// Counts of scenarios.
pub(crate) const SCENARIO_COUNTS: &[(&str, &str)] = &[
    ("capacity", "--find-capacity: the most users with whom the objective holds"),
    ("joins", "churn: joins while others watched"),
    ("conflicts", "objects: edits refused as stale"),
    ("edits", "objects: edits granted"),
    ("attempts", "malformed: broken inputs sent"),
    ("cut_off_count", "slow-readers: sessions that the server ended"),
    ("bots", "replay: sessions driven by the recording"),
];

/// The unit of a figure; `None` if there is none of this name.
pub(crate) fn unit_of(name: &str) -> Option<Unit> {
    let scenario = SCENARIO_DURATIONS.iter().map(|(name, _)| *name);
    let mut durations = DURATIONS.iter().map(|(name, ..)| *name).chain(scenario);
    if durations.any(|base| quantile_of(name, base).is_some()) {
        return Some(Unit::Milliseconds);
    }
    let number = NUMBERS.iter().find(|(of, ..)| *of == name).map(|(_, unit, ..)| *unit);
    number.or_else(|| SCENARIO_COUNTS.iter().any(|(of, _)| *of == name).then_some(Unit::Count))
}

/// Whether `command` measures that figure. Users who move are there in a steady load, and beside guests.
pub(crate) fn is_measured_by(name: &str, command: &str) -> bool {
    let durations = SCENARIO_DURATIONS.iter().filter(|(base, _)| quantile_of(name, base).is_some());
    let counts = SCENARIO_COUNTS.iter().filter(|(count, _)| *count == name);
    match durations.chain(counts).next() {
        // What it is begins with whose it is.
        Some((_, what)) => what.split(':').next() == Some(command),
        None => name == "faults" || ["steady", "slow-readers", "malformed"].contains(&command),
    }
}

/// Which quantile of the durations `base` is called `name`.
pub(crate) fn quantile_of(name: &str, base: &str) -> Option<Quantile> {
    let suffix = name.strip_prefix(base)?;
    QUANTILES.iter().find(|(end, _)| *end == suffix).map(|(_, quantile)| *quantile)
}

/// The figure of that name in a report.
pub(crate) fn of_report(report: &Report, name: &str) -> Option<f64> {
    if let Some((_, _, number, _)) = NUMBERS.iter().find(|(of, ..)| *of == name).copied() {
        return number(report);
    }
    DURATIONS.iter().find_map(|(base, durations, _)| {
        let quantile = quantile_of(name, base)?;
        durations(report).map(quantile)
    })
}

/// All figures, a line each.
pub(crate) fn list() -> String {
    let mut list = String::new();
    let durations = DURATIONS.iter().map(|(name, _, what)| (*name, *what));
    for (name, what) in durations.chain(SCENARIO_DURATIONS.iter().copied()) {
        let _ = writeln!(list, "  {:<32} ms     {what}", format!("{name}_p50|p90|p99|p999|max"));
    }
    let numbers = NUMBERS.iter().map(|(name, unit, _, what)| (*name, *unit, *what));
    let counts = SCENARIO_COUNTS.iter().map(|(name, what)| (*name, Unit::Count, *what));
    for (name, unit, what) in numbers.chain(counts) {
        let _ = writeln!(list, "  {name:<32} {:<6} {what}", unit.as_str());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_figure_has_one_name_and_a_unit() {
        let durations =
            DURATIONS.iter().map(|(name, ..)| *name).chain(SCENARIO_DURATIONS.iter().map(|d| d.0));
        let all: Vec<String> = durations
            .flat_map(|name| QUANTILES.map(|(end, _)| format!("{name}{end}")))
            .chain(NUMBERS.iter().map(|(name, ..)| (*name).to_owned()))
            .chain(SCENARIO_COUNTS.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        all.iter().for_each(|name| assert!(unit_of(name).is_some(), "{name}"));
        assert_eq!(unit_of("pose_age_p98"), None);
    }

    #[test]
    fn every_figure_is_measured_by_those_who_have_it() {
        for (name, command, measured) in [
            ("pose_age_p99", "steady", true),
            ("pose_age_p99", "malformed", true),
            ("pose_age_p99", "churn", false),
            ("presence_max", "churn", true),
            ("presence_max", "steady", false),
            ("capacity", "--find-capacity", true),
            ("capacity", "steady", false),
            ("cut_off_count", "slow-readers", true),
            ("faults", "storm", true),
        ] {
            assert_eq!(is_measured_by(name, command), measured, "{name} by {command}");
        }
    }
}
