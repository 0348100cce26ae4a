//! The books of a scenario: what was timed, counted and compared, and what was wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures;
use crate::html::Page;
use crate::output::Findings;
use crate::report::{Quantiles, Report};
use crate::tally::{Durations, Reasons, count_reason};
use crate::timeline::{CurvePoint, Second, Timeline, curve};

/// Books that are open.
#[derive(Debug)]
pub(super) struct Ledger {
    scenario: &'static str,
    /// What the scenario is about: what the charts show.
    main: &'static str,
    started: Instant,
    durations: BTreeMap<&'static str, Durations>,
    counts: BTreeMap<&'static str, u64>,
    checks: Vec<Check>,
    faults: Reasons,
    timeline: Timeline,
}

/// A count that was compared with another.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    what: String,
    expected: u64,
    found: u64,
}

impl Ledger {
    /// Books of a scenario whose most important duration is `main`.
    pub(super) fn new(scenario: &'static str, main: &'static str) -> Self {
        Self {
            scenario,
            main,
            started: Instant::now(),
            durations: BTreeMap::new(),
            counts: BTreeMap::new(),
            checks: Vec::new(),
            faults: Reasons::new(),
            timeline: Timeline::default(),
        }
    }

    /// Something has taken from `since` until now.
    pub(super) fn time(&mut self, what: &'static str, since: Instant) {
        let now = Instant::now();
        let duration = now.saturating_duration_since(since);
        self.durations.entry(what).or_insert_with(Durations::new).record(duration);
        if what == self.main {
            let at_s = now.saturating_duration_since(self.started).as_secs();
            self.timeline.record(u32::try_from(at_s).unwrap_or(u32::MAX), duration);
        }
    }

    /// One more of these.
    pub(super) fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    /// So many more of these.
    pub(super) fn count_many(&mut self, what: &'static str, more: u64) {
        *self.counts.entry(what).or_default() += more;
    }

    /// How many of these there were.
    pub(super) fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Compares what was done with what was seen.
    pub(super) fn check(&mut self, what: impl Into<String>, expected: u64, found: u64) {
        self.checks.push(Check { what: what.into(), expected, found });
    }

    /// Takes note of something wrong.
    pub(super) fn blame(&mut self, fault: &str) {
        count_reason(&mut self.faults, fault);
    }

    /// A line for the terminal.
    pub(super) fn line(&self) -> String {
        let main = self.durations.get(self.main);
        let times = main.map_or_else(String::new, |durations| {
            let [p50, p99] = [0.5, 0.99].map(|quantile| durations.quantile_ms(quantile));
            format!("{} p50 {p50:.0}  p99 {p99:.0}  max {:.0} ms", self.main, durations.max_ms())
        });
        let faults: u32 = self.faults.values().sum();
        if faults > 0 { format!("{times}  {faults} FAULTS") } else { times }
    }

    /// Closes the books.
    pub(super) fn close(self, url: &str, users: u32, others: Option<Report>) -> ScenarioReport {
        let main = self.durations.get(self.main);
        ScenarioReport {
            scenario: self.scenario,
            url: url.to_owned(),
            users,
            lasted_s: self.started.elapsed().as_secs_f64(),
            main: self.main,
            curve: main.map(curve).unwrap_or_default(),
            durations_ms: self.durations.iter().map(|(what, times)| (*what, times.into())).collect(),
            counts: self.counts,
            checks: self.checks,
            others,
            wrong: self.faults,
            timeline: self.timeline.finish(),
        }
    }
}

/// What a scenario has found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ScenarioReport {
    pub(crate) scenario: &'static str,
    pub(crate) url: String,
    pub(crate) users: u32,
    lasted_s: f64,
    /// Which of the durations the charts are about.
    pub(crate) main: &'static str,
    pub(crate) curve: Vec<CurvePoint>,
    durations_ms: BTreeMap<&'static str, Quantiles>,
    counts: BTreeMap<&'static str, u64>,
    checks: Vec<Check>,
    /// Those who move beside whoever misbehaves.
    pub(crate) others: Option<Report>,
    /// What was wrong, and how often.
    wrong: Reasons,
    pub(crate) timeline: Vec<Second>,
}

impl Findings for ScenarioReport {
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.wrong.iter().map(|(reason, count)| format!("{count} times: {reason}")).collect();
        for Check { what, expected, found } in &self.checks {
            if expected != found {
                faults.push(format!("{what}: {found}, not {expected}"));
            }
        }
        let others = self.others.iter().flat_map(Report::faults);
        faults.extend(others.map(|fault| format!("beside them: {fault}")));
        faults
    }

    fn figure(&self, name: &str) -> Option<f64> {
        if let Some(count) = self.counts.get(name) {
            return Some(*count as f64);
        }
        let own = self.durations_ms.iter().find_map(|(base, quantiles)| {
            figures::quantile_of(name, base).map(|quantile| quantile(quantiles))
        });
        own.or_else(|| match name {
            "faults" => Some(self.faults().len() as f64),
            _ => self.others.as_ref().and_then(|others| figures::of_report(others, name)),
        })
    }

    fn page(&self) -> Page<'_> {
        let beside = self.others.as_ref();
        Page {
            title: format!("{}, {} users", self.scenario, self.users),
            text: self.to_string(),
            // Beside users who move, it is they who matter.
            what: if beside.is_some() { "pose age of the users" } else { self.main },
            timeline: beside.map_or(&self.timeline, |report| &report.timeline),
            curve: beside.map_or(&self.curve, |report| &report.pose_age_curve),
        }
    }
}

impl fmt::Display for ScenarioReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} users, {:.1} s at {}", self.scenario, self.users, self.lasted_s, self.url)?;
        for (what, quantiles) in &self.durations_ms {
            writeln!(f, "  {what:<13} {quantiles}")?;
        }
        for (what, count) in &self.counts {
            writeln!(f, "  {what:<13} {count}")?;
        }
        for Check { what, expected, found } in &self.checks {
            writeln!(f, "  checked       {what}: {found} of {expected}")?;
        }
        if let Some(others) = &self.others {
            write!(f, "beside them: {others}")?;
        }
        let own = self.faults().into_iter().filter(|fault| !fault.starts_with("beside them"));
        own.into_iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}"))
    }
}

/// Waits until then.
pub(super) async fn until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

/// The moments at which something is due: evenly spread from `start` on, whatever happens meanwhile.
pub(super) fn due(start: Instant, number: u32, per_second: u32) -> Instant {
    start + Duration::from_secs(1) * number / per_second
}
