//! What is known so far of one of those who take part.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Error;

use crate::capacity::{Search, broken};
use crate::compare::contender::{Contender, Kind};
use crate::options::SurveyOptions;
use crate::report::Report;

use super::entrants;
use super::findings::{Cell, End, Figures, Missing, Room, Row};

/// One of those who take part.
pub(super) struct Entrant {
    pub(super) contender: Contender,
    /// By size, the runs that could be completed.
    runs: Vec<Vec<Figures>>,
    missing: Vec<Option<Missing>>,
    /// From how many users on no more are tried, and why.
    given_up: Option<(u32, String)>,
    pub(super) search: Search,
    /// Numbers of users that have held, some of which may not have held at another time.
    held: BTreeSet<u32>,
    /// Why it does not hold with as many as the search calls bad.
    broken: Option<Broken>,
    /// How the search has ended.
    pub(super) end: Option<End>,
}

/// Why a number of users does not hold.
#[derive(Debug, Clone)]
struct Broken {
    why: String,
    load_is_the_limit: bool,
}

impl Broken {
    /// What is wrong with a run, if anything is: the p99 age of all poses or of those near by, a silence, a fault.
    fn by(report: &Report, options: &SurveyOptions) -> Option<Self> {
        let p99_ms = report.poses.as_ref().map(|poses| poses.pose_age_ms.p99);
        let late =
            p99_ms.filter(|p99_ms| *p99_ms > ms(options.p99)).map(|p99_ms| format!("p99 {p99_ms:.0} ms"));
        let why = late.or_else(|| broken(report, options.p99, options.max_gap).into_iter().next())?;
        let load_is_the_limit = Figures::of(report).is_some_and(|figures| figures.load_is_the_limit);
        Some(Self { why, load_is_the_limit })
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Entrant {
    /// Somebody of whom nothing is known yet.
    pub(super) fn new(contender: Contender, search: Search, sizes: usize) -> Self {
        let (runs, missing) = (vec![Vec::new(); sizes], vec![None; sizes]);
        Self {
            contender,
            runs,
            missing,
            given_up: None,
            search,
            held: BTreeSet::new(),
            broken: None,
            end: None,
        }
    }

    /// Why it is not tried with so many, if it is not.
    pub(super) fn spared(&self, users: u32) -> Option<String> {
        self.given_up.as_ref().filter(|(from, _)| users >= *from).map(|(_, why)| why.clone())
    }

    /// Takes in that it was not tried with the size at `at`.
    pub(super) fn note_skipped(&mut self, at: usize, why: String) {
        // What has failed in an earlier round has failed.
        if !self.missing[at].as_ref().is_some_and(|missing| missing.failed) {
            self.missing[at] = Some(Missing { why, failed: false });
        }
    }

    /// Takes in that a run with the size at `at` could not be completed.
    pub(super) fn note_failed(&mut self, at: usize, users: u32, error: &Error) {
        let why = format!("failed with {users}: {error:#}");
        self.note_error(users, error);
        self.given_up = Some((users, why.clone()));
        // The first failure is the one that is told.
        if !self.missing[at].as_ref().is_some_and(|missing| missing.failed) {
            self.missing[at] = Some(Missing { why, failed: true });
        }
    }

    /// Takes in a run with the size at `at`.
    pub(super) fn note(&mut self, at: usize, report: &Report, options: &SurveyOptions) {
        let users = report.users;
        let Some(figures) = Figures::of(report) else { return };
        self.judge(report, options);
        if let Some(p99_ms) = figures.p99_ms.filter(|p99_ms| *p99_ms > ms(options.hopeless)) {
            self.given_up = Some((users, format!("not measured: p99 {:.1} s with {users}", p99_ms / 1e3)));
        }
        if figures.arrived == Some(0.0) {
            self.given_up = Some((users, format!("not measured: nothing arrived with {users}")));
        }
        self.runs[at].push(figures);
    }

    /// Takes in whether so many hold.
    pub(super) fn judge(&mut self, report: &Report, options: &SurveyOptions) {
        if self.contender.kind == Kind::Bare {
            return;
        }
        match Broken::by(report, options) {
            Some(broken) => self.note_bad(report.users, broken),
            None => {
                self.held.insert(report.users);
                self.note_good();
            }
        }
    }

    /// What holds now and then does not hold, and nothing above it does.
    fn note_good(&mut self) {
        self.search.good = self.held.range(..self.search.bad.unwrap_or(u32::MAX)).next_back().copied();
    }

    /// Takes in that a run could not be completed, which is not the same as one that was too slow.
    pub(super) fn note_error(&mut self, users: u32, error: &Error) {
        let why = format!("the run failed: {}", error.root_cause());
        self.note_bad(users, Broken { why, load_is_the_limit: false });
    }

    fn note_bad(&mut self, users: u32, broken: Broken) {
        let is_news = match (self.search.bad, &self.broken) {
            // Of two rounds, one in which the load could do more says more about the server.
            (Some(bad), Some(before)) if users == bad => {
                before.load_is_the_limit && !broken.load_is_the_limit
            }
            (Some(bad), _) => users < bad,
            (None, _) => true,
        };
        if is_news {
            (self.search.bad, self.broken) = (Some(users), Some(broken));
        }
        self.note_good();
    }

    /// Whether there is anything more to try.
    pub(super) fn next(&self) -> Option<u32> {
        self.search.next().filter(|_| self.contender.kind != Kind::Bare && !self.never_ran())
    }

    /// Whether it failed before there was anything to measure.
    fn never_ran(&self) -> bool {
        self.search.good.is_none() && self.runs.iter().all(Vec::is_empty)
    }

    pub(super) fn row(self, sizes: &[u32], server_core: usize, load_core: usize) -> Row {
        let never_ran = self.never_ran();
        let cells = sizes.iter().zip(self.runs.iter().zip(self.missing)).map(|(users, (runs, missing))| {
            let figures = Figures::medians(runs);
            let missing = missing.filter(|missing| figures.is_none() || missing.failed);
            Cell { users: *users, figures, missing }
        });
        let Search { good, bad, .. } = self.search;
        let room = (self.contender.kind != Kind::Bare && !never_ran).then(|| Room {
            limit: good,
            broken_at: bad,
            load_is_the_limit: self.broken.as_ref().is_some_and(|broken| broken.load_is_the_limit),
            why: self.broken.map(|broken| broken.why),
            end: self.end,
        });
        Row {
            name: self.contender.name.clone(),
            kind: self.contender.kind,
            encoding: self.contender.encoding().to_owned(),
            command: entrants::command(&self.contender, server_core),
            load: entrants::load(&self.contender, load_core),
            cells: cells.collect(),
            room,
        }
    }
}
