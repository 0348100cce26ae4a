//! The rules for the source and the documents, as a test.
//!
//! Each rule is a pure function from a file's path and text to what it finds wrong, so that its own tests can
//! show it a violation. Paths are relative to the workspace and separated by `/` on every machine.

mod calls;
mod crates;
mod documents;
mod length;
mod tokens;

use std::fmt;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use crate::workspace::root;

/// Something wrong in a file, and what to do about it.
#[derive(Debug)]
struct Violation {
    path: String,
    /// Counted from 1; 1 as well when the whole file is meant.
    line: usize,
    message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A rule finds the violations in the file of this path and text.
type Rule = fn(&str, &str) -> Vec<Violation>;

const RULES: &[Rule] = &[
    length::files,
    length::functions,
    calls::banned,
    crates::directions,
    crates::members,
    documents::machine_paths,
    |path, text| documents::links(path, text, |target| root().join(target).exists()),
];

#[test]
fn tidy() {
    let files = source_files();
    // A walk that finds nothing would find nothing wrong.
    assert!(files.iter().any(|path| path == "xtask/src/tidy/mod.rs"), "the walk missed this file: {files:?}");
    let mut violations = Vec::new();
    for path in files {
        // What is not UTF-8 is no text, and no rule is about pictures.
        if let Ok(text) = std::fs::read_to_string(root().join(&path)) {
            violations.extend(RULES.iter().flat_map(|rule| rule(&path, &text)));
        }
    }
    let report: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "{} violations\n{}", report.len(), report.join("\n"));
}

/// The paths of all files that Git would keep.
fn source_files() -> Vec<String> {
    let is_kept = |entry: &DirEntry| entry.file_name() != ".git";
    let walk = WalkBuilder::new(root()).hidden(false).require_git(false).filter_entry(is_kept).build();
    let mut files: Vec<String> = walk
        .map(|entry| entry.expect("the workspace can be read"))
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(|entry| relative(entry.path()))
        .collect();
    files.sort();
    files
}

fn relative(path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root()).expect("the walk stays in the workspace").into();
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Checks that a rule finds just these violations: their lines and a part of what is said about each.
#[track_caller]
fn check(rule: impl Fn(&str, &str) -> Vec<Violation>, path: &str, text: &str, expected: &[(usize, &str)]) {
    let found = rule(path, text);
    let as_expected = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, (line, part))| found.line == *line && found.message.contains(part));
    assert!(as_expected, "{path}\n{text}\nfound {found:#?}\nexpected {expected:#?}");
}
