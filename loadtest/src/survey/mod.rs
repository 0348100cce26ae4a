//! Servers of several kinds with more and more users in one room, one after the other on the same core, and what they
//! are found to do as tables and charts in the documents.

mod chart;
mod document;
mod entrants;
mod findings;
mod table;

use std::fs;
use std::io::{Write, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::capacity::{Search, broken};
use crate::compare::contender::{Contender, Kind};
use crate::compare::{Cores, measure, running};
use crate::options::{LoadOptions, SurveyOptions};
use crate::report::Report;
use crate::walk::SIDE_M;

use findings::{Cell, Figures, Missing, Room, Row, Survey};

/// What one run may take besides what it measures: starting, coming in, what is on its way at the end.
const PATIENCE: Duration = Duration::from_secs(40);

/// Surveys, or takes an earlier survey, and writes down what has been found. `false` if the server itself has failed;
/// that others have is a finding.
///
/// # Errors
/// If it makes no sense, or if something cannot be written.
pub(crate) fn run(options: &SurveyOptions) -> Result<bool> {
    let survey = match &options.from {
        Some(file) => {
            let json = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            serde_json::from_str(&json).with_context(|| format!("{} is no survey", file.display()))?
        }
        None => Surveyor::new(options)?.survey()?,
    };
    if let Some(file) = &options.json {
        write(file, &(serde_json::to_string_pretty(&survey)? + "\n"))?;
    }
    if let Some(folder) = &options.charts {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for chart in chart::all(&survey) {
            write(&folder.join(chart.file), &chart.draw()?)?;
        }
    }
    let text = table::write(&survey);
    if let Some(file) = &options.document {
        let document = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let changed = document::replace(&document, &text).with_context(|| file.display().to_string())?;
        write(file, &changed)?;
    } else {
        say(&text);
    }
    let shortfalls = survey.shortfalls();
    shortfalls.iter().for_each(|shortfall| say(&format!("FAILED: {shortfall}")));
    Ok(shortfalls.is_empty())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// There is nobody to tell if this fails.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// One of those who take part, and what is known of it so far.
struct Entrant {
    contender: Contender,
    /// By size, the runs that could be completed.
    runs: Vec<Vec<Figures>>,
    missing: Vec<Option<Missing>>,
    /// Why no more users are tried.
    given_up: Option<String>,
    search: Search,
    /// The fewest users at which the load itself could do no more.
    load_limit: Option<u32>,
}

/// Somebody who takes part, one number of users, and what came of it.
struct Surveyor<'a> {
    options: &'a SurveyOptions,
    entrants: Vec<Entrant>,
    begun: Instant,
}

impl<'a> Surveyor<'a> {
    fn new(options: &'a SurveyOptions) -> Result<Self> {
        ensure!(options.server_core != options.load_core, "the server and the load need a core each");
        let least = options.sizes.first().copied().context("no numbers of users")?;
        let entrant = |contender| Entrant {
            contender,
            runs: vec![Vec::new(); options.sizes.len()],
            missing: vec![None; options.sizes.len()],
            given_up: None,
            search: Search { precision: options.precision, most: options.most, ..Search::new(least, 2) },
            load_limit: None,
        };
        let entrants = entrants::all(options)?.into_iter().map(entrant).collect();
        Ok(Self { options, entrants, begun: Instant::now() })
    }

    fn survey(mut self) -> Result<Survey> {
        running::end_with_this_process()?;
        for _ in 0..self.options.rounds {
            for (at, users) in self.options.sizes.iter().copied().enumerate() {
                self.turn(at, users);
            }
        }
        self.find_rooms();
        let SurveyOptions { load, sizes, rounds, left_out, fact, p99, server_core, load_core, .. } =
            self.options;
        let rows = self.entrants.into_iter().map(|entrant| entrant.row(sizes, *server_core, *load_core));
        Ok(Survey {
            sizes: sizes.clone(),
            rounds: *rounds,
            hz: load.hz,
            area_m: load.area.unwrap_or(SIDE_M),
            warmup_s: load.warmup.as_secs_f64(),
            window_s: load.duration.as_secs_f64(),
            p99_ms: p99.as_secs_f64() * 1e3,
            rows: rows.collect(),
            left_out: left_out.clone(),
            facts: fact.clone(),
        })
    }

    /// Everybody with so many users, one after the other.
    fn turn(&mut self, at: usize, users: u32) {
        let mut served = None;
        for number in 0..self.entrants.len() {
            let entrant = &self.entrants[number];
            let bare_of_nothing = entrant.contender.kind == Kind::Bare && served.is_none();
            let skipped = if let Some(why) = &entrant.given_up {
                Some(why.clone())
            } else if self.is_over() {
                Some("not measured: the time was up".to_owned())
            } else {
                bare_of_nothing.then(|| "the server's bytes are not known".to_owned())
            };
            if let Some(why) = skipped {
                self.entrants[number].missing[at] = Some(Missing { why, failed: false });
                continue;
            }
            let outcome = self.measure(number, users, served.as_ref());
            let is_binary_server = number == 0;
            let entrant = &mut self.entrants[number];
            match outcome {
                Ok(report) => {
                    entrant.note(at, &report, self.options);
                    if is_binary_server {
                        served = Some(report);
                    }
                }
                Err(error) => {
                    let why = format!("failed with {users}: {error:#}");
                    entrant.search.bad = entrant.search.bad.or(Some(users));
                    entrant.missing[at] = Some(Missing { why: why.clone(), failed: true });
                    entrant.given_up = Some(why);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.options.within.is_some_and(|within| self.begun.elapsed() > within)
    }

    /// One run of one of them, and says how it went.
    fn measure(&self, number: usize, users: u32, served: Option<&Report>) -> Result<Report> {
        let SurveyOptions { server_core, load_core, load, .. } = self.options;
        let contender = &self.entrants[number].contender;
        let load_now = LoadOptions { users, ..contender.load.clone() };
        let contender = Contender { load: load_now, ..contender.clone() };
        let patience = PATIENCE + load.warmup + load.duration;
        let cores = Cores { server: *server_core, load: *load_core };
        let outcome = measure(&contender, cores, served, Some(patience));
        let told = match &outcome {
            Ok(report) => match Figures::of(report) {
                Some(f) => format!(
                    "p99 {} ms, {:.1} µs per user-tick, {:.2} cores, {:.1} KiB/s, load {:.2} cores{}",
                    f.p99_ms.map_or("-".to_owned(), |ms| format!("{ms:.1}")),
                    f.cpu_us_per_user_tick,
                    f.cores,
                    f.kib_per_user_s,
                    report.load_cores,
                    f.faults.iter().map(|fault| format!("; {fault}")).collect::<String>()
                ),
                None => "its process could not be measured".to_owned(),
            },
            Err(error) => format!("{error:#}"),
        };
        let at_s = self.begun.elapsed().as_secs();
        say(&format!("{at_s:>5} s  {:<26} {users:>6} users  {told}", contender.name));
        outcome
    }

    /// Goes on from what the sizes have shown, in turns, so that nobody is left out if the time runs out.
    fn find_rooms(&mut self) {
        for _ in 0..self.options.steps {
            for number in 0..self.entrants.len() {
                let entrant = &self.entrants[number];
                let is_bare = entrant.contender.kind == Kind::Bare;
                let next = entrant.search.next().filter(|_| !is_bare && !entrant.never_ran());
                let Some(users) = next.filter(|_| !self.is_over()) else { continue };
                let outcome = self.measure(number, users, None);
                let search = &mut self.entrants[number].search;
                if outcome.as_ref().is_ok_and(|report| holds(report, self.options)) {
                    search.good = Some(users);
                    continue;
                }
                search.bad = Some(users);
                let figures = outcome.ok().and_then(|report| Figures::of(&report));
                if figures.is_some_and(|figures| figures.load_is_the_limit) {
                    self.entrants[number].load_limit = Some(users);
                }
            }
        }
    }
}

/// Whether all is well: p99 age of all poses and of those near by, silences, faults.
fn holds(report: &Report, options: &SurveyOptions) -> bool {
    let p99_ms = report.poses.as_ref().map(|poses| poses.pose_age_ms.p99);
    // Without a single pose the p99 is 0, and the run has a fault.
    let in_time = p99_ms.is_some_and(|ms| ms <= options.p99.as_secs_f64() * 1e3);
    in_time && broken(report, options.p99, options.max_gap).is_empty()
}

impl Entrant {
    /// Takes in a run with the size at `at`.
    fn note(&mut self, at: usize, report: &Report, options: &SurveyOptions) {
        let users = report.users;
        let Some(figures) = Figures::of(report) else { return };
        if self.contender.kind != Kind::Bare {
            let bad = self.search.bad.unwrap_or(u32::MAX);
            if !holds(report, options) {
                self.search.bad = Some(bad.min(users));
                if figures.load_is_the_limit && users <= bad {
                    self.load_limit = Some(users);
                }
                // What holds now and then does not hold.
                self.search.good = self.search.good.filter(|good| *good < users);
            } else if users < bad {
                self.search.good = self.search.good.max(Some(users));
            }
        }
        let hopeless_ms = options.hopeless.as_secs_f64() * 1e3;
        if let Some(p99_ms) = figures.p99_ms.filter(|p99_ms| *p99_ms > hopeless_ms) {
            self.given_up = Some(format!("not measured: p99 {:.1} s with {users}", p99_ms / 1e3));
        }
        if figures.arrived == Some(0.0) {
            self.given_up = Some(format!("not measured: nothing arrived with {users}"));
        }
        self.runs[at].push(figures);
    }

    /// Whether it failed before there was anything to measure.
    fn never_ran(&self) -> bool {
        self.search.good.is_none() && self.runs.iter().all(Vec::is_empty)
    }

    fn row(self, sizes: &[u32], server_core: usize, load_core: usize) -> Row {
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
            load_is_the_limit: self.load_limit.is_some() && self.load_limit == bad,
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
