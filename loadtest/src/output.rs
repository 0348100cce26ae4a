//! Where findings go: to standard output, and into files.

use std::fmt::Display;
use std::fs;
use std::io::{Write, stdout};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::figures;
use crate::html::Page;
use crate::objective::{Assertion, Objective};
use crate::options::OutputOptions;
use crate::report::Report;

/// What has been found, as far as it can be written down in several ways.
pub(crate) trait Findings: Display + Serialize {
    /// What is wrong with the server, each in a sentence; empty if nothing is.
    fn faults(&self) -> Vec<String>;

    /// The figure of this name, if it was measured.
    fn figure(&self, name: &str) -> Option<f64>;

    /// As a page with charts.
    fn page(&self) -> Page<'_>;
}

impl Findings for Report {
    fn faults(&self) -> Vec<String> {
        Self::faults(self)
    }

    fn figure(&self, name: &str) -> Option<f64> {
        figures::of_report(self, name)
    }

    fn page(&self) -> Page<'_> {
        Page {
            title: format!(
                "{} users in {} rooms at {} Hz, {}",
                self.users, self.rooms, self.hz, self.encoding
            ),
            text: self.to_string(),
            what: "pose age",
            timeline: &self.timeline,
            curve: &self.pose_age_curve,
        }
    }
}

/// Findings and what was demanded of them.
#[derive(Serialize)]
struct Judged<'a, F> {
    #[serde(flatten)]
    findings: &'a F,
    faults: Vec<String>,
    assertions: Vec<Assertion>,
}

/// Whether `command` measures all that is demanded.
///
/// # Errors
/// What it does not measure.
pub(crate) fn check(output: &OutputOptions, command: &str) -> Result<()> {
    for Objective { name, .. } in &output.objectives {
        ensure!(figures::is_measured_by(name, command), "{command} does not measure `{name}`");
    }
    Ok(())
}

/// Writes the findings to wherever was asked for; `false` if the server has a fault or an objective is broken.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn deliver<F: Findings>(findings: &F, output: &OutputOptions) -> Result<bool> {
    let assertions: Vec<Assertion> =
        output.objectives.iter().map(|objective| objective.check(findings.figure(&objective.name))).collect();
    let judged = Judged { findings, faults: findings.faults(), assertions };
    let all_is_well = judged.faults.is_empty() && judged.assertions.iter().all(|assertion| assertion.holds);
    if let Some(file) = &output.json {
        let json = serde_json::to_string_pretty(&judged)? + "\n";
        if output.json_instead() {
            stdout().write_all(json.as_bytes())?;
        } else {
            fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    if let Some(file) = &output.html {
        let html = findings.page().render(&judged.faults, &judged.assertions)?;
        fs::write(file, html).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !output.json_instead() {
        write!(stdout(), "{findings}")?;
        judged.assertions.iter().try_for_each(|assertion| writeln!(stdout(), "{assertion}"))?;
    }
    Ok(all_is_well)
}
