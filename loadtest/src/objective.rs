//! What must be true of a figure: `--assert 'pose_age_p99<100ms'`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::figures::{self, Unit};

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

/// In this order they are looked for, so that `<=` is not taken for `<`.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

/// Something that must be true of a figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objective {
    text: String,
    /// Which figure.
    pub(crate) name: String,
    comparison: Comparison,
    /// In the figure's own unit.
    limit: f64,
}

/// An objective, and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Assertion {
    pub(crate) objective: String,
    /// In the figure's own unit; `None` if it was not measured.
    pub(crate) found: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) holds: bool,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = COMPARISONS.iter().find_map(|(sign, comparison)| {
            text.split_once(sign).map(|(name, limit)| (name.trim(), *comparison, limit.trim()))
        });
        let (name, comparison, limit) =
            split.ok_or("an objective is a figure, one of < <= > >= ==, and a limit: pose_age_p99<100ms")?;
        let unit = figures::unit_of(name)
            .ok_or_else(|| format!("there is no figure `{name}`; there are:\n{}", figures::list()))?;
        let limit = in_unit(limit, unit)?;
        Ok(Self { text: text.to_owned(), name: name.to_owned(), comparison, limit })
    }
}

impl Objective {
    /// Whether it is true of what was `found`. What was not measured is not true.
    pub(crate) fn check(&self, found: Option<f64>) -> Assertion {
        let holds = found.is_some_and(|found| match self.comparison {
            Comparison::Less => found < self.limit,
            Comparison::AtMost => found <= self.limit,
            Comparison::More => found > self.limit,
            Comparison::AtLeast => found >= self.limit,
            Comparison::Equal => found == self.limit,
        });
        let unit = figures::unit_of(&self.name).map_or("", Unit::as_str);
        Assertion { objective: self.text.clone(), found, unit, holds }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "  holds:" } else { "  BROKEN:" };
        match self.found {
            Some(found) => write!(f, "{verdict} {} (found {found:.3} {})", self.objective, self.unit),
            None => write!(f, "{verdict} {} (not measured)", self.objective),
        }
    }
}

/// A number with a unit, in the figure's own unit.
fn in_unit(text: &str, unit: Unit) -> Result<f64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, given) = (&text[..digits], text[digits..].trim());
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no number"))?;
    let factor = match (unit, given) {
        (Unit::Milliseconds, "ms") | (Unit::Bytes, "B") | (Unit::Count | Unit::Cores | Unit::Share, "") => {
            1.0
        }
        (Unit::Milliseconds, "us" | "µs") => 0.001,
        (Unit::Milliseconds, "s") => 1_000.0,
        (Unit::Bytes, "KiB") => 1_024.0,
        (Unit::Bytes, "MiB") => 1_048_576.0,
        (Unit::Share, "%") => 0.01,
        _ => return Err(format!("`{text}`: this figure wants {}", unit.wanted())),
    };
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_with_their_units() {
        for (text, name, limit, holds_at, breaks_at) in [
            ("pose_age_p99<100ms", "pose_age_p99", 100.0, 99.9, 100.0),
            ("pose_age_p99 <= 0.1s", "pose_age_p99", 100.0, 100.0, 100.1),
            ("ack_max<1500us", "ack_max", 1.5, 1.4, 1.5),
            ("bytes_per_user_s<64KiB", "bytes_per_user_s", 65_536.0, 0.0, 65_536.0),
            ("poses_received_share>=99%", "poses_received_share", 0.99, 0.995, 0.98),
            ("disconnects==0", "disconnects", 0.0, 0.0, 1.0),
            ("server_cores>0.5", "server_cores", 0.5, 0.6, 0.5),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!((&*objective.name, objective.limit), (name, limit), "{text}");
            assert!(objective.check(Some(holds_at)).holds, "{text}");
            assert!(!objective.check(Some(breaks_at)).holds, "{text}");
            assert!(!objective.check(None).holds, "what was not measured is not true");
        }
    }

    #[test]
    fn what_is_wrong_with_an_objective_is_told() {
        for (text, told) in [
            ("pose_age_p98<100ms", "there is no figure `pose_age_p98`"),
            ("pose_age<100ms", "there is no figure"),
            ("pose_age_p99", "an objective is"),
            ("pose_age_p99<100", "wants a time"),
            ("disconnects<1s", "wants a number"),
            ("bytes_per_user_s<5%", "wants bytes"),
            ("pose_age_p99<fast", "no number"),
        ] {
            let error = text.parse::<Objective>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
