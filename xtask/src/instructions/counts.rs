//! Counts of instructions: how they are written down, and what two sets of them say of each other.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use anyhow::{Context, Result, bail, ensure};

/// By how many percent a count may differ from the one in the file, either way.
const TOLERANCE_PERCENT: u128 = 5;

/// What all lines about programs begin with.
const WITH: &str = "with";

const HEADING: &str = "\
# Instructions that each part takes, counted by callgrind; docs/PERFORMANCE.md says what the parts are. The tests fail when
# one of them differs by more than 5 %. `cargo xtask instructions --accept` writes this file.
";

/// Instructions by part, and what they were counted with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    /// What counts depend on besides the source: the platform, compilers and valgrind.
    pub(super) with: BTreeMap<String, String>,
    /// Instructions of one call.
    pub(super) parts: BTreeMap<String, u64>,
}

/// What became of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Within the tolerance.
    Same,
    Grown,
    Shrunk,
    /// Not in the file.
    New,
    /// In the file, but not counted any more.
    Gone,
}

/// One part, then and now.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) name: String,
    before: Option<u64>,
    now: Option<u64>,
    pub(super) change: Change,
}

impl Counts {
    /// The platform, without which there is nothing to compare.
    pub(super) const HOST: &'static str = "host";

    /// Reads what [`Counts::to_text`] has written.
    ///
    /// # Errors
    /// If a line cannot be read or is there twice, or none names the platform.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut counts = Self::default();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let what = || format!("`{line}` is neither `{WITH} program version` nor `part count`");
            let (first, rest) = line.split_once(char::is_whitespace).with_context(what)?;
            let is_new = if first == WITH {
                let (program, version) = rest.trim().split_once(' ').with_context(what)?;
                counts.with.insert(program.to_owned(), version.trim().to_owned()).is_none()
            } else {
                let count = rest.trim().parse().with_context(what)?;
                counts.parts.insert(first.to_owned(), count).is_none()
            };
            if !is_new {
                bail!("`{line}` is there twice");
            }
        }
        // Without it nothing would ever be compared, and nobody would notice.
        ensure!(counts.with.contains_key(Self::HOST), "no line says `{WITH} {} platform`", Self::HOST);
        Ok(counts)
    }

    /// As a file that people can read and compare.
    pub(super) fn to_text(&self) -> String {
        let mut text = HEADING.to_owned();
        for (program, version) in &self.with {
            let _ = writeln!(text, "{WITH} {program} {version}");
        }
        for (part, count) in &self.parts {
            let _ = writeln!(text, "{part:<16} {count:>12}");
        }
        text
    }

    /// What `now` differs from these in besides counts, as sentences.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let unknown = "an unknown one".to_owned();
        now.with
            .iter()
            .map(|(program, version)| (program, self.with.get(program).unwrap_or(&unknown), version))
            .filter(|(_, before, now)| before != now)
            .map(|(program, before, now)| format!("{program} is {now}; the file's is {before}"))
            .collect()
    }

    /// Whether counts of both can be compared: they come from one kind of processor and system.
    pub(super) fn is_comparable(&self, now: &Self) -> bool {
        self.with.get(Self::HOST) == now.with.get(Self::HOST)
    }
}

/// What became of each part between the file's counts and those of now.
pub(super) fn compare(before: &Counts, now: &Counts) -> Vec<Verdict> {
    let gone = before.parts.keys().filter(|name| !now.parts.contains_key(*name));
    now.parts
        .keys()
        .chain(gone)
        .map(|name| {
            let (before, now) = (before.parts.get(name).copied(), now.parts.get(name).copied());
            Verdict { name: name.clone(), before, now, change: change(before, now) }
        })
        .collect()
}

fn change(before: Option<u64>, now: Option<u64>) -> Change {
    match (before, now) {
        (None, _) => Change::New,
        (_, None) => Change::Gone,
        // In whole numbers, so that exactly the tolerance is within it.
        (Some(before), Some(now)) => match (100 * u128::from(before), 100 * u128::from(now)) {
            (hundred, now) if now > hundred + TOLERANCE_PERCENT * u128::from(before) => Change::Grown,
            (hundred, now) if now + TOLERANCE_PERCENT * u128::from(before) < hundred => Change::Shrunk,
            _ => Change::Same,
        },
    }
}

/// By how many percent `now` is more than `before`.
fn percent(before: u64, now: u64) -> f64 {
    if before == now { 0.0 } else { (now as f64 / before as f64 - 1.0) * 100.0 }
}

impl Verdict {
    /// Whether the file has to be changed.
    pub(super) fn is_bad(&self) -> bool {
        self.change != Change::Same
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}", self.name)?;
        for count in [self.before, self.now] {
            match count {
                Some(count) => write!(f, " {count:>12}")?,
                None => write!(f, " {:>12}", "-")?,
            }
        }
        if let (Some(before), Some(now)) = (self.before, self.now) {
            write!(f, " {:>+8.2} %", percent(before, now))?;
        }
        f.write_str(match self.change {
            Change::Same => "",
            Change::Grown => "  GROWN",
            Change::Shrunk => "  SHRUNK",
            Change::New => "  NEW",
            Change::Gone => "  GONE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(parts: &[(&str, u64)]) -> Counts {
        let with = [(Counts::HOST, "x86_64-unknown-linux-gnu"), ("rustc", "1.95.0 (59807616e 2026-04-14)")];
        Counts {
            with: with.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
            parts: parts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        }
    }

    fn changes(before: &[(&str, u64)], now: &[(&str, u64)]) -> Vec<(String, Change)> {
        let verdicts = compare(&counts(before), &counts(now));
        verdicts.into_iter().map(|verdict| (verdict.name, verdict.change)).collect()
    }

    #[test]
    fn more_than_five_percent_either_way_is_told() {
        for (now, expected) in [
            (1_000, Change::Same),
            (1_050, Change::Same),
            (1_051, Change::Grown),
            (2_000, Change::Grown),
            (950, Change::Same),
            (949, Change::Shrunk),
            (0, Change::Shrunk),
        ] {
            assert_eq!(
                changes(&[("tick", 1_000)], &[("tick", now)]),
                [("tick".to_owned(), expected)],
                "{now}"
            );
        }
        assert_eq!(changes(&[("tick", 0)], &[("tick", 1)]), [("tick".to_owned(), Change::Grown)]);
    }

    #[test]
    fn parts_that_come_and_go_are_told() {
        let found = changes(&[("old", 1), ("tick", 7)], &[("new", 2), ("tick", 7)]);
        let expected = [("new", Change::New), ("tick", Change::Same), ("old", Change::Gone)];
        assert_eq!(found, expected.map(|(name, change)| (name.to_owned(), change)));
        assert!(compare(&counts(&[]), &counts(&[("new", 2)]))[0].is_bad());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let counts = counts(&[("tick/1000", 2_255_265), ("a-part-with-a-long-name", 1)]);
        assert_eq!(Counts::parse(&counts.to_text()).unwrap(), counts);
        for broken in ["tick", "tick many", "with rustc", "tick 1\ntick 1"] {
            assert!(Counts::parse(&format!("with host h\n{broken}")).is_err(), "{broken}");
        }
    }

    #[test]
    fn counts_of_no_platform_are_refused() {
        assert!(Counts::parse("with host h\nwith rustc 1\ntick 1").is_ok());
        for no_host in ["", "with rustc 1\ntick 1"] {
            let error = Counts::parse(no_host).unwrap_err().to_string();
            assert!(error.contains("with host"), "{no_host}: {error}");
        }
    }

    #[test]
    fn another_compiler_is_told_and_another_platform_is_not_compared() {
        let (file, mut now) = (counts(&[]), counts(&[]));
        assert_eq!(file.differences(&now), [""; 0]);
        now.with.insert("rustc".into(), "1.96.0".into());
        now.with.insert("cc".into(), "12".into());
        let expected = [
            "cc is 12; the file's is an unknown one",
            "rustc is 1.96.0; the file's is 1.95.0 (59807616e 2026-04-14)",
        ];
        assert_eq!(file.differences(&now), expected);
        assert!(file.is_comparable(&now));
        now.with.insert(Counts::HOST.into(), "aarch64-unknown-linux-gnu".into());
        assert!(!file.is_comparable(&now));
    }

    #[test]
    fn a_line_says_both_counts_and_by_how_much_they_differ() {
        let verdicts = compare(&counts(&[("tick", 1_000)]), &counts(&[("tick", 1_100)]));
        assert_eq!(verdicts[0].to_string(), "tick                     1000         1100   +10.00 %  GROWN");
    }
}
