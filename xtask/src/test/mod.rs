//! `cargo xtask test`: every check there is, as a list of steps that know what they need.

mod child;
mod fuzz;
mod steps;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xshell::Shell;

use crate::programs::{self, Program};
use crate::workspace::shell;
use steps::STEPS;

/// One check, or one piece of work that checks need.
struct Step {
    name: &'static str,
    /// What it does, for the list of steps.
    about: &'static str,
    /// Names of earlier steps whose results it uses.
    needs: &'static [&'static str],
    programs: &'static [&'static Program],
    run: fn(&Shell) -> Result<()>,
}

/// What became of a step.
#[derive(Debug, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    /// Not run, since what it names here failed or is missing.
    NotRun(String),
}

/// A step that is over.
struct Finished {
    name: &'static str,
    outcome: Outcome,
    duration: Duration,
    /// The last lines that it printed, if they say why it failed.
    tail: String,
}

/// Prints the steps, in their order.
pub(crate) fn list() {
    for Step { name, about, needs, .. } in STEPS {
        let needs = if needs.is_empty() { String::new() } else { format!(" [needs {}]", needs.join(", ")) };
        println!("{name:<16} {about}{needs}");
    }
}

/// Runs the steps named in `only` and those that they need, or all of them; a step that fails stops only the
/// steps that need it.
///
/// # Errors
/// When a name is unknown or a step did not pass.
pub(crate) fn test(only: &[String]) -> Result<()> {
    let shell = shell()?;
    let plan = plan(STEPS, only)?;
    let wanted = plan.iter().flat_map(|step| step.programs).copied().fold(Vec::new(), add_once);
    let installed = time("programs", || programs::install(&shell, &wanted).map_err(Failure::from));
    let lacks =
        |step: &Step| step.programs.iter().find(|program| !program.is_there(&shell)).map(|it| it.name);
    let mut finished = vec![installed];
    finished.extend(execute(&plan, lacks, |step| time(step.name, || child::run(step.name))));
    summarize(&finished)
}

/// Runs the one step of that name, without those that it needs: what [`child::run`] starts.
///
/// # Errors
/// When the name is unknown or the step did not pass.
pub(crate) fn step(name: &str) -> Result<()> {
    let shell = shell()?;
    match STEPS.iter().find(|step| step.name == name) {
        Some(step) => (step.run)(&shell),
        None => bail!("{}", unknown(name)),
    }
}

fn unknown(name: &str) -> String {
    format!("no step is called `{name}`; `cargo xtask test --list` lists them")
}

fn add_once(mut programs: Vec<&'static Program>, program: &'static Program) -> Vec<&'static Program> {
    if !programs.iter().any(|known| known.name == program.name) {
        programs.push(program);
    }
    programs
}

/// Chooses the steps to run, in the order of `steps`.
fn plan<'a>(steps: &'a [Step], only: &[String]) -> Result<Vec<&'a Step>> {
    if only.is_empty() {
        return Ok(steps.iter().collect());
    }
    if let Some(name) = only.iter().find(|name| !steps.iter().any(|step| step.name == **name)) {
        bail!("{}", unknown(name));
    }
    // From the last step to the first, since needs point to earlier ones.
    let mut wanted: Vec<&str> = only.iter().map(String::as_str).collect();
    for step in steps.iter().rev() {
        if wanted.contains(&step.name) {
            wanted.extend(step.needs);
        }
    }
    Ok(steps.iter().filter(|step| wanted.contains(&step.name)).collect())
}

/// Runs the steps of a plan in order, without those whose needs did not pass or whose program `lacks` names.
fn execute(
    plan: &[&Step],
    lacks: impl Fn(&Step) -> Option<&'static str>,
    mut run: impl FnMut(&Step) -> Finished,
) -> Vec<Finished> {
    let mut finished: Vec<Finished> = Vec::new();
    for step in plan {
        let has_passed =
            |need: &str| finished.iter().any(|past| past.name == need && past.outcome == Outcome::Passed);
        let unmet = step.needs.iter().copied().find(|need| !has_passed(need));
        let reason = unmet.map(|need| format!("{need} did not pass"));
        let reason = reason.or_else(|| lacks(step).map(|program| format!("{program} is missing")));
        finished.push(match reason {
            Some(reason) => {
                println!("\n== {}: not run, {reason}", step.name);
                let outcome = Outcome::NotRun(reason);
                Finished { name: step.name, outcome, duration: Duration::ZERO, tail: String::new() }
            }
            None => run(step),
        });
    }
    finished
}

/// Runs one piece of work between two lines that say what it is and how it went.
fn time(name: &'static str, work: impl FnOnce() -> Result<(), Failure>) -> Finished {
    println!("\n== {name}");
    let start = Instant::now();
    let (outcome, tail) = match work() {
        Ok(()) => (Outcome::Passed, String::new()),
        Err(Failure { error, tail }) => {
            println!("{error:#}");
            (Outcome::Failed, tail)
        }
    };
    let finished = Finished { name, outcome, duration: start.elapsed(), tail };
    println!("== {finished}");
    finished
}

/// Why a step failed, and what it printed last.
#[derive(Debug)]
struct Failure {
    error: anyhow::Error,
    tail: String,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), tail: String::new() }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        match &self.outcome {
            Outcome::Passed => write!(f, "{:<16} passed  {seconds:>7.1} s", self.name),
            Outcome::Failed => write!(f, "{:<16} FAILED  {seconds:>7.1} s", self.name),
            Outcome::NotRun(reason) => write!(f, "{:<16} not run: {reason}", self.name),
        }
    }
}

/// Prints how the steps that failed ended, since the rest of the output hides it, then all steps and their counts.
fn summarize(finished: &[Finished]) -> Result<()> {
    for Finished { name, tail, .. } in finished.iter().filter(|step| !step.tail.is_empty()) {
        println!("\n== {name} ended with:\n{tail}");
    }
    println!();
    finished.iter().for_each(|step| println!("{step}"));
    let count = |matches: fn(&Outcome) -> bool| finished.iter().filter(|it| matches(&it.outcome)).count();
    let passed = count(|outcome| *outcome == Outcome::Passed);
    let failed = count(|outcome| *outcome == Outcome::Failed);
    let not_run = finished.len() - passed - failed;
    let total_s = finished.iter().map(|step| step.duration).sum::<Duration>().as_secs();
    println!("\n{total_s} s");
    match not_run {
        0 => println!("{passed} passed, {failed} failed"),
        _ => println!("{passed} passed, {failed} failed, {not_run} not run"),
    }
    if passed < finished.len() {
        bail!("not every step passed");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
