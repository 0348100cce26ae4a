//! How often a room ticks.

use std::fmt;
use std::str::FromStr;

use protocol::limits::TICK_HZ_RANGE;
use serde::{Deserialize, Serialize};

/// The rates of a room that follows its number of members, in Hz, fastest first. The last one holds for any
/// number, however large. Apart from the fastest each is at most a quarter slower than the one before, so that a
/// step is hardly seen.
pub const AUTO_STEPS: [u32; 8] = [90, 72, 60, 45, 36, 30, 24, 20];

/// Sends per second, ticks times members, that such a room keeps to as long as [`AUTO_STEPS`] has a slower step:
/// what a room of 85 at 20 Hz costs. At each step, what so many with both hands
/// tracked take fits into the default budget whole.
pub const AUTO_SENDS_PER_SECOND: usize = 1_700;

/// What a tick rate must be, for whoever gave another one.
pub const TICK_RATE_RULE: &str = r#"1 to 90 or "auto""#;

// As the rule says.
const _: () = assert!(*TICK_HZ_RANGE.start() == 1 && *TICK_HZ_RANGE.end() == 90);

/// Ticks per second as they are chosen for a room. As JSON: the number, or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Chosen", into = "Chosen")]
pub enum TickRate {
    /// Always so many, unless the server is overloaded.
    Fixed(u32),
    /// The fewer members, the more; see [`AUTO_STEPS`].
    Auto,
}

impl TickRate {
    /// The rate that `text` names.
    ///
    /// # Errors
    /// [`InvalidTickRate`] unless it is `auto` or a whole number in [`TICK_HZ_RANGE`].
    pub fn parse(text: &str) -> Result<Self, InvalidTickRate> {
        let rate =
            if text == "auto" { Self::Auto } else { Self::Fixed(text.parse().map_err(|_| InvalidTickRate)?) };
        rate.check()
    }

    /// Hz of a room that has just been made and whose first member comes in.
    pub fn initial_hz(&self) -> u32 {
        self.hz_for(1)
    }

    /// Hz that a room with this rate has when `members` are in it and nothing is overloaded.
    pub fn hz_for(&self, members: usize) -> u32 {
        let Self::Fixed(hz) = self else { return auto_hz(members) };
        *hz
    }

    /// Itself, if it is one that a room may have.
    pub(crate) fn check(self) -> Result<Self, InvalidTickRate> {
        match self {
            Self::Fixed(hz) if !TICK_HZ_RANGE.contains(&hz) => Err(InvalidTickRate),
            rate => Ok(rate),
        }
    }
}

fn auto_hz(members: usize) -> u32 {
    let fits = |hz: &&u32| members.saturating_mul(**hz as usize) <= AUTO_SENDS_PER_SECOND;
    AUTO_STEPS.iter().find(fits).copied().unwrap_or(AUTO_STEPS[AUTO_STEPS.len() - 1])
}

/// What was given for a tick rate is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tick rate must be {}", TICK_RATE_RULE)]
pub struct InvalidTickRate;

impl FromStr for TickRate {
    type Err = InvalidTickRate;

    fn from_str(text: &str) -> Result<Self, InvalidTickRate> {
        Self::parse(text)
    }
}

impl fmt::Display for TickRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(hz) => hz.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The same as it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Chosen {
    Number(u32),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Auto,
}

impl TryFrom<Chosen> for TickRate {
    type Error = InvalidTickRate;

    fn try_from(chosen: Chosen) -> Result<Self, InvalidTickRate> {
        match chosen {
            Chosen::Number(hz) => Self::Fixed(hz).check(),
            Chosen::Word(Word::Auto) => Ok(Self::Auto),
        }
    }
}

impl From<TickRate> for Chosen {
    fn from(rate: TickRate) -> Self {
        match rate {
            TickRate::Fixed(hz) => Self::Number(hz),
            TickRate::Auto => Self::Word(Word::Auto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_members_have_more_ticks() {
        let expected =
            [(0, 90), (1, 90), (18, 90), (19, 72), (23, 72), (24, 60), (28, 60), (29, 45), (37, 45)];
        for (members, hz) in expected {
            assert_eq!(TickRate::Auto.hz_for(members), hz, "{members}");
        }
        for (members, hz) in [(38, 36), (47, 36), (48, 30), (56, 30), (57, 24), (70, 24), (71, 20), (85, 20)]
        {
            assert_eq!(TickRate::Auto.hz_for(members), hz, "{members}");
        }
        assert_eq!((TickRate::Auto.hz_for(86), TickRate::Auto.hz_for(usize::MAX)), (20, 20), "never slower");
        assert_eq!((TickRate::Auto.initial_hz(), TickRate::Fixed(7).initial_hz()), (90, 7));
        assert_eq!(TickRate::Fixed(7).hz_for(10_000), 7);
        assert!(
            AUTO_STEPS.iter().all(|hz| TICK_HZ_RANGE.contains(hz)) && AUTO_STEPS.is_sorted_by(|a, b| a > b)
        );
    }

    #[test]
    fn as_json_it_is_a_number_or_auto() {
        for (rate, json) in
            [(TickRate::Fixed(1), "1"), (TickRate::Fixed(90), "90"), (TickRate::Auto, "\"auto\"")]
        {
            assert_eq!(serde_json::to_string(&rate).unwrap(), json);
            assert_eq!(serde_json::from_str::<TickRate>(json).unwrap(), rate);
            assert_eq!(json.trim_matches('"').parse(), Ok(rate));
            assert_eq!(rate.to_string(), json.trim_matches('"'));
        }
        for json in ["0", "91", "-1", "20.5", "\"20\"", "\"Auto\"", "null", "{}"] {
            serde_json::from_str::<TickRate>(json).expect_err(json);
        }
        for text in ["", "0", "91", "-1", "AUTO", "20 "] {
            assert_eq!(text.parse::<TickRate>(), Err(InvalidTickRate), "{text:?}");
        }
    }
}
