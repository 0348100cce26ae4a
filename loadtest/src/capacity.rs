//! How many users a server carries before an objective breaks: coarse steps up, then halves between the last that held and
//! the first that did not.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::html::Page;
use crate::live::Live;
use crate::options::{CapacityOptions, LoadOptions};
use crate::output::Findings;
use crate::report::Report;
use crate::stamp::SENDERS_MAX;
use crate::steady::{self, Run};

/// Steps of one search, whatever the server does.
const STEPS_MAX: usize = 40;
/// Where two numbers of users are near enough to call the lower one the limit, as a share of it.
const PRECISION: f64 = 0.05;
/// Between two steps, so that the server has put away what the last one left.
const REST: Duration = Duration::from_secs(1);

/// One step of the search.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    users: u32,
    holds: bool,
    /// What broke, each in a few words.
    broken: Vec<String>,
    /// Whether the load generator itself was at its limit.
    load_is_the_limit: bool,
    pose_age_near_p99_ms: Option<f64>,
    update_gap_near_max_ms: Option<f64>,
    disconnects: u32,
    kib_per_user_s: Option<f64>,
    server_cores: Option<f64>,
    load_cores: Option<f64>,
}

/// What the search has found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Capacity {
    url: String,
    objective: String,
    /// The most users with whom the objective held; `None` if it never did.
    pub(crate) limit: Option<u32>,
    /// The fewest with whom it broke; `None` if the search ended before.
    broken_at: Option<u32>,
    pub(crate) steps: Vec<Step>,
}

/// Searches. `run` says all but how many users there are.
///
/// # Errors
/// If the first step cannot be completed.
pub(crate) fn run(run: &Run<'_>, options: &CapacityOptions, live: &Live) -> Result<Capacity> {
    ensure!(run.judged, "only poses that are judged have an age");
    let mut steps: Vec<Step> = Vec::new();
    let least = 2 * run.load.rooms;
    let mut attempt = |users: u32| {
        if !steps.is_empty() {
            std::thread::sleep(REST);
        }
        let load = LoadOptions { users, ..run.load.clone() };
        let report = steady::run(&Run { load: &load, ..*run }, live);
        let step = match report {
            Ok(report) => Step::new(&report, options),
            // A server that cannot be reached at all is no finding.
            Err(error) if steps.is_empty() => return Err(error),
            Err(error) => Step::incomplete(users, format!("{error:#}")),
        };
        let holds = step.holds;
        steps.push(step);
        Ok(holds)
    };
    let search = Search { most: options.most, ..Search::new(options.from.max(least), least) };
    let (limit, broken_at) = search.run(&mut attempt)?;
    let objective = format!(
        "p99 age of poses of those near by at most {:?}, no update of theirs later than {:?}, nobody disconnected",
        options.p99, options.max_gap
    );
    Ok(Capacity { url: run.url.to_owned(), objective, limit, broken_at, steps })
}

/// A search for the largest number that holds and the smallest that does not.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// The largest that is known to hold, and the smallest that is known not to.
    pub(crate) good: Option<u32>,
    pub(crate) bad: Option<u32>,
    /// What is tried if nothing is known.
    pub(crate) from: u32,
    pub(crate) least: u32,
    pub(crate) most: u32,
    /// Where the two are near enough to call the lower one the limit, as a share of it.
    pub(crate) precision: f64,
    /// How many are tried.
    pub(crate) steps_max: usize,
}

impl Search {
    /// A search that begins with `from` and knows nothing yet.
    pub(crate) fn new(from: u32, least: u32) -> Self {
        let (precision, steps_max) = (PRECISION, STEPS_MAX);
        Self { good: None, bad: None, from, least, most: SENDERS_MAX, precision, steps_max }
    }

    /// Tries until the two are near enough: the largest number that holds, and the smallest that does not.
    ///
    /// # Errors
    /// If one cannot be tried.
    pub(crate) fn run(
        mut self,
        holds: &mut impl FnMut(u32) -> Result<bool>,
    ) -> Result<(Option<u32>, Option<u32>)> {
        for _ in 0..self.steps_max {
            let Some(users) = self.next() else { break };
            *(if holds(users)? { &mut self.good } else { &mut self.bad }) = Some(users);
        }
        Ok((self.good, self.bad))
    }

    /// How far apart the two are: as many times the one is the other. Without end if one of them is not known.
    pub(crate) fn width(&self) -> f64 {
        let known = self.good.zip(self.bad);
        known.map_or(f64::INFINITY, |(good, bad)| f64::from(bad) / f64::from(good))
    }

    /// What to try next; `None` if there is nothing more to learn.
    pub(crate) fn next(&self) -> Option<u32> {
        let most = self.most.min(SENDERS_MAX).max(self.least);
        match (self.good, self.bad) {
            (None, None) => Some(self.from.clamp(self.least, most)),
            (Some(good), None) => (good < most).then(|| (2 * good).min(most)),
            (None, Some(bad)) => (bad > self.least).then(|| (bad / 2).max(self.least)),
            (Some(good), Some(bad)) => {
                let near_enough = (f64::from(good) * self.precision).max(1.0);
                (f64::from(bad.saturating_sub(good)) > near_enough).then(|| between(good, bad))
            }
        }
    }
}

/// Halfway between the two as people see sizes: as many times the one as it is times less than the other. With two digits
/// if that is still between them.
fn between(good: u32, bad: u32) -> u32 {
    // The root of a product is not above the larger factor, but rounding down may lead back to the smaller one.
    let middle = (u64::from(good) * u64::from(bad)).isqrt().max(u64::from(good) + 1) as u32;
    let unit = 10_u32.pow(middle.ilog10().saturating_sub(1));
    let round = middle / unit * unit;
    if round > good { round } else { middle }
}

/// What is wrong with a run: ages or silences of those near by above what is asked for, and all its faults.
pub(crate) fn broken(report: &Report, p99: Duration, max_gap: Duration) -> Vec<String> {
    let poses = report.poses.as_ref();
    let found_p99 = poses.map(|poses| poses.pose_age_near_ms.p99);
    let found_gap = poses.map(|poses| poses.update_gap_near_ms.max);
    let mut broken = Vec::new();
    for (what, found, limit) in [("p99", found_p99, p99), ("gap", found_gap, max_gap)] {
        if let Some(found) = found.filter(|found| *found > limit.as_secs_f64() * 1_000.0) {
            broken.push(format!("{what} {found:.0} ms"));
        }
    }
    broken.extend(report.faults());
    broken
}

impl Step {
    fn new(report: &Report, options: &CapacityOptions) -> Self {
        let poses = report.poses.as_ref();
        let broken = broken(report, options.p99, options.max_gap);
        Self {
            users: report.users,
            holds: broken.is_empty(),
            broken,
            load_is_the_limit: report.load_is_the_limit(),
            pose_age_near_p99_ms: poses.map(|poses| poses.pose_age_near_ms.p99),
            update_gap_near_max_ms: poses.map(|poses| poses.update_gap_near_ms.max),
            disconnects: report.disconnects.values().sum(),
            kib_per_user_s: Some(report.bytes_per_user_s / 1_024.0),
            server_cores: report.server.as_ref().map(|cost| cost.cores),
            load_cores: Some(report.load_cores),
        }
    }

    fn incomplete(users: u32, reason: String) -> Self {
        Self {
            users,
            holds: false,
            broken: vec![reason],
            load_is_the_limit: false,
            pose_age_near_p99_ms: None,
            update_gap_near_max_ms: None,
            disconnects: 0,
            kib_per_user_s: None,
            server_cores: None,
            load_cores: None,
        }
    }
}

impl Findings for Capacity {
    fn faults(&self) -> Vec<String> {
        let fewest = self.steps.iter().map(|step| step.users).min().unwrap_or_default();
        let none = || format!("the objective does not even hold with {fewest} users");
        self.limit.is_none().then(none).into_iter().collect()
    }

    fn figure(&self, name: &str) -> Option<f64> {
        (name == "capacity").then_some(self.limit?.into())
    }

    fn page(&self) -> Page<'_> {
        let title = format!("capacity of {}", self.url);
        // Its table says all: no two steps are seconds of one run.
        Page { title, text: self.to_string(), what: "", timeline: &[], curve: &[] }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "capacity of {}: {}", self.url, self.objective)?;
        writeln!(
            f,
            "   users  holds  p99 near ms  gap near ms  ended  KiB/s each  server cores  load cores"
        )?;
        for step in &self.steps {
            let figure = |value: Option<f64>, decimals: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            write!(
                f,
                "  {:>6}  {:<5}  {:>11}  {:>11}  {:>5}  {:>10}  {:>12}  {:>10}",
                step.users,
                if step.holds { "yes" } else { "NO" },
                figure(step.pose_age_near_p99_ms, 1),
                figure(step.update_gap_near_max_ms, 0),
                step.disconnects,
                figure(step.kib_per_user_s, 1),
                figure(step.server_cores, 2),
                figure(step.load_cores, 2)
            )?;
            let own = if step.load_is_the_limit { " (the load was at its own limit)" } else { "" };
            writeln!(f, "  {}{own}", step.broken.join("; "))?;
        }
        match (self.limit, self.broken_at) {
            (Some(limit), Some(broken)) => writeln!(f, "  limit: {limit} users; it breaks with {broken}"),
            (Some(limit), None) => writeln!(f, "  limit: at least {limit} users, the most that were tried"),
            (None, _) => self.faults().iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found_from_wherever_one_starts() {
        for limit in [2, 3, 37, 100, 999, 1_000, 6_000] {
            for from in [2, 100, 5_000] {
                let mut tried = 0;
                let mut holds = |users| {
                    tried += 1;
                    Ok(users <= limit)
                };
                let (good, bad) = Search::new(from, 2).run(&mut holds).unwrap();
                let (good, bad) = (good.unwrap(), bad.unwrap());
                assert!(good <= limit && limit < bad, "{good} {limit} {bad}");
                assert!(f64::from(bad - good) <= (f64::from(good) * PRECISION).max(1.0), "{good} {bad}");
                assert!(tried < 25, "{tried}");
            }
        }
    }

    #[test]
    fn the_search_ends_where_there_is_nothing_more_to_try() {
        let search = Search { most: 3_000, ..Search::new(100, 4) };
        assert_eq!(search.clone().run(&mut |_| Ok(true)).unwrap(), (Some(3_000), None));
        assert_eq!(search.run(&mut |_| Ok(false)).unwrap(), (None, Some(4)));
    }

    #[test]
    fn a_search_goes_on_from_what_is_known() {
        let known = Search { good: Some(200), bad: Some(400), steps_max: 2, ..Search::new(2, 2) };
        let mut tried = Vec::new();
        let mut holds = |users| {
            tried.push(users);
            Ok(users <= 320)
        };
        assert_eq!(known.run(&mut holds).unwrap(), (Some(280), Some(330)));
        assert_eq!(tried, [280, 330]);
    }

    #[test]
    fn what_is_tried_is_always_between_the_two() {
        for (good, bad, expected) in
            [(1, 3, 2), (2, 4, 3), (25, 100, 50), (99, 101, 100), (100, 109, 104), (2_000, 4_000, 2_800)]
        {
            assert_eq!(between(good, bad), expected, "{good} {bad}");
        }
        assert!(
            (2..500).all(
                |good| (2..500).all(|more| (good + 1..good + more).contains(&between(good, good + more)))
            )
        );
    }
}
