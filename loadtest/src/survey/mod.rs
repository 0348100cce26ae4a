//! Servers of several kinds with more and more users in one room, one after the other on the same core, and what they
//! are found to do as tables and charts in the documents.

mod chart;
mod document;
mod entrants;
mod findings;
mod record;
mod table;

use std::fs;
use std::io::{Write, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::capacity::Search;
use crate::compare::contender::{Contender, Kind};
use crate::compare::{Cores, measure, running};
use crate::options::{LoadOptions, SurveyOptions};
use crate::report::Report;
use crate::walk::SIDE_M;

use findings::{End, Figures, Survey};
use record::Entrant;

/// What one run may take besides what it measures: starting, coming in, what is on its way at the end.
const PATIENCE: Duration = Duration::from_secs(40);

/// One who is seen, and one who sees.
const SMALLEST_ROOM: u32 = 2;

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
        None => {
            running::end_with_this_process()?;
            Surveyor::new(options, &measure)?.survey()
        }
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

/// What does a run: [`measure`], but for tests.
type Measure<'a> = dyn Fn(&Contender, Cores, Option<&Report>, Option<Duration>) -> Result<Report> + 'a;

/// All who take part, and what came of it so far.
struct Surveyor<'a> {
    options: &'a SurveyOptions,
    measure: &'a Measure<'a>,
    entrants: Vec<Entrant>,
    /// By size, the last run of the server in binary, whose bytes the bare loop sends.
    served: Vec<Option<Report>>,
    begun: Instant,
}

impl<'a> Surveyor<'a> {
    fn new(options: &'a SurveyOptions, measure: &'a Measure<'a>) -> Result<Self> {
        ensure!(options.server_core != options.load_core, "the server and the load need a core each");
        ensure!(
            options.load.duration > options.max_gap,
            "no silence can be longer than --max-gap if --duration is not"
        );
        let least = options.sizes.first().copied().context("no numbers of users")?;
        let sizes = options.sizes.len();
        let search =
            Search { precision: options.precision, most: options.most, ..Search::new(least, SMALLEST_ROOM) };
        let entrant = |contender| Entrant::new(contender, search.clone(), sizes);
        let entrants = entrants::all(options)?.into_iter().map(entrant).collect();
        Ok(Self { options, measure, entrants, served: vec![None; sizes], begun: Instant::now() })
    }

    fn survey(mut self) -> Survey {
        for _ in 0..self.options.rounds {
            for (at, users) in self.options.sizes.iter().copied().enumerate() {
                self.turn(at, users);
            }
        }
        self.find_rooms();
        let SurveyOptions {
            load, sizes, rounds, left_out, fact, p99, max_gap, server_core, load_core, ..
        } = self.options;
        let rows = self.entrants.into_iter().map(|entrant| entrant.row(sizes, *server_core, *load_core));
        Survey {
            sizes: sizes.clone(),
            rounds: *rounds,
            hz: load.hz,
            area_m: load.area.unwrap_or(SIDE_M),
            warmup_s: load.warmup.as_secs_f64(),
            window_s: load.duration.as_secs_f64(),
            p99_ms: p99.as_secs_f64() * 1e3,
            max_gap_ms: max_gap.as_secs_f64() * 1e3,
            rows: rows.collect(),
            left_out: left_out.clone(),
            facts: fact.clone(),
        }
    }

    /// Everybody with so many users, one after the other.
    fn turn(&mut self, at: usize, users: u32) {
        for number in 0..self.entrants.len() {
            let entrant = &self.entrants[number];
            let bare_of_nothing = entrant.contender.kind == Kind::Bare && self.served[at].is_none();
            let skipped = entrant
                .spared(users)
                .or_else(|| self.is_over().then(|| "not measured: the time was up".to_owned()))
                .or_else(|| bare_of_nothing.then(|| "the server's bytes are not known".to_owned()));
            if let Some(why) = skipped {
                self.entrants[number].note_skipped(at, why);
                continue;
            }
            let outcome = self.measure(number, users, self.served[at].as_ref());
            let entrant = &mut self.entrants[number];
            match outcome {
                Ok(report) => {
                    entrant.note(at, &report, self.options);
                    if number == 0 {
                        self.served[at] = Some(report);
                    }
                }
                Err(error) => entrant.note_failed(at, users, &error),
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
        let outcome = (self.measure)(&contender, cores, served, Some(patience));
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

    /// Goes on from what the sizes have shown, always with whom least is known of: so the time, if it runs out, has
    /// gone where it told most.
    fn find_rooms(&mut self) {
        let mut tries = vec![0; self.entrants.len()];
        while let Some((number, users)) = self.widest(&tries).filter(|_| !self.is_over()) {
            tries[number] += 1;
            let outcome = self.measure(number, users, None);
            let entrant = &mut self.entrants[number];
            match outcome {
                Ok(report) => entrant.judge(&report, self.options),
                Err(error) => entrant.note_error(users, &error),
            }
        }
        for (entrant, tries) in self.entrants.iter_mut().zip(tries) {
            entrant.end = Some(match entrant.next() {
                None => End::Found,
                Some(_) if tries >= self.options.steps => End::Steps,
                Some(_) => End::Time,
            });
        }
    }

    /// Whose bounds are widest apart, and what is to be tried next.
    fn widest(&self, tries: &[usize]) -> Option<(usize, u32)> {
        let open = self.entrants.iter().zip(tries).enumerate().filter_map(|(number, (entrant, tries))| {
            let users = entrant.next().filter(|_| *tries < self.options.steps)?;
            Some((number, users, entrant.search.width(), *tries))
        });
        let widest = open.min_by(|a, b| b.2.total_cmp(&a.2).then(a.3.cmp(&b.3)));
        widest.map(|(number, users, ..)| (number, users))
    }
}

#[cfg(test)]
mod tests;
