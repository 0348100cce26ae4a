//! How much of a room its members see.

use std::fmt::Display;
use std::ops::RangeInclusive;

use protocol::error::ClientError;
use protocol::limits::{MAX_POSITION_M, TICK_HZ_RANGE};
use serde::{Deserialize, Serialize};

use super::TickRate;

/// Rings around a viewpoint that may have a period of their own. All beyond them have none.
pub const MAX_VIEW_PERIODS: usize = 8;

/// Ticks that a ring may have to wait for its turn: at the fastest rate of all that is a second.
pub const VIEW_PERIOD_RANGE: RangeInclusive<u8> = 1..=90;

/// How far a room's members may be let see, in metres. Closer than the least, two who talk would not see each other.
pub const VIEW_RADIUS_RANGE_M: RangeInclusive<f32> = 1.0..=MAX_POSITION_M;

/// Bytes per second that a viewer may be let have. The least brings a hundred poses of people with both hands, the
/// most is what keeps one room from asking for a server of its own.
pub const VIEW_BUDGET_RANGE: RangeInclusive<u32> = 4_096..=1024 * 1024;

/// Bytes of a viewer's budget for one tick that a room must have at least: what goes around a frame takes a third of it.
pub const MIN_TICK_BYTES: u32 = 256;

/// What a room sends to a viewer if its creator does not say otherwise, in bytes per second: about half a megabit.
pub const DEFAULT_VIEW_BUDGET: u32 = 65_536;

const DEFAULT_PERIODS: [u8; 4] = [1, 2, 4, 8];

/// What each ring around a viewpoint must have, for whoever gave something else.
pub const VIEW_PERIODS_RULE: &str = "1 to 8 whole numbers of 1 to 90, none less than the one before it";

// As many ticks as the fastest room has in a second.
const _: () = assert!(*VIEW_PERIOD_RANGE.end() as u32 == *TICK_HZ_RANGE.end());
const _: () = assert!(DEFAULT_PERIODS.len() <= MAX_VIEW_PERIODS);

/// How much of a room its members see. It stays so for the room's life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ViewOptions {
    /// How far they see, in metres; without, as far as the room goes.
    pub radius_m: Option<f32>,
    /// How often they see whom, by distance.
    pub periods: ViewPeriods,
    /// Bytes per second for one viewer's poses, counted as binary frames whatever its encoding is.
    pub budget: u32,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { radius_m: None, periods: ViewPeriods::default(), budget: DEFAULT_VIEW_BUDGET }
    }
}

impl ViewOptions {
    /// Itself, if a room may have it. The periods are always such that it may.
    pub(crate) fn check(self, rate: TickRate) -> Result<Self, ClientError> {
        if self.radius_m.is_some_and(|radius| !VIEW_RADIUS_RANGE_M.contains(&radius)) {
            return Err(ClientError::bad_request(range("viewRadius", &VIEW_RADIUS_RANGE_M, "metres")));
        }
        if !VIEW_BUDGET_RANGE.contains(&self.budget) {
            return Err(ClientError::bad_request(range(
                "viewBudget",
                &VIEW_BUDGET_RANGE,
                "bytes per second",
            )));
        }
        if self.budget < rate.initial_hz() * MIN_TICK_BYTES {
            return Err(ClientError::bad_request(format!(
                "viewBudget must be at least {MIN_TICK_BYTES} bytes for each tick of a second"
            )));
        }
        Ok(self)
    }
}

fn range<T: Display>(member: &str, range: &RangeInclusive<T>, unit: &str) -> String {
    format!("{member} must be {} to {} {unit}", range.start(), range.end())
}

/// Every how many ticks a viewer sees who is in which ring around it, the nearest first: 1 to
/// [`MAX_VIEW_PERIODS`] numbers in [`VIEW_PERIOD_RANGE`], none less than the one before. As JSON: an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct ViewPeriods {
    /// Zero from `count` on, so that equal ones are equal.
    ticks: [u8; MAX_VIEW_PERIODS],
    count: u8,
}

/// What was given for a view's periods is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a view's periods must be {}", VIEW_PERIODS_RULE)]
pub struct InvalidPeriods;

impl ViewPeriods {
    /// These periods.
    ///
    /// # Errors
    /// [`InvalidPeriods`] if there are none or too many, if one is out of range, or less than the one before.
    pub fn new(periods: &[u8]) -> Result<Self, InvalidPeriods> {
        let is_valid = (1..=MAX_VIEW_PERIODS).contains(&periods.len())
            && periods.iter().all(|ticks| VIEW_PERIOD_RANGE.contains(ticks))
            && periods.is_sorted();
        if is_valid { Ok(Self::of(periods)) } else { Err(InvalidPeriods) }
    }

    /// The periods, the nearest ring's first.
    pub fn as_slice(&self) -> &[u8] {
        &self.ticks[..usize::from(self.count)]
    }

    fn of(periods: &[u8]) -> Self {
        let mut ticks = [0; MAX_VIEW_PERIODS];
        ticks[..periods.len()].copy_from_slice(periods);
        Self { ticks, count: periods.len() as u8 }
    }
}

impl Default for ViewPeriods {
    fn default() -> Self {
        Self::of(&DEFAULT_PERIODS)
    }
}

impl TryFrom<Vec<u8>> for ViewPeriods {
    type Error = InvalidPeriods;

    fn try_from(periods: Vec<u8>) -> Result<Self, InvalidPeriods> {
        Self::new(&periods)
    }
}

impl From<ViewPeriods> for Vec<u8> {
    fn from(periods: ViewPeriods) -> Self {
        periods.as_slice().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_grow_with_the_distance() {
        for periods in [&[1][..], &[90], &[1, 1, 1], &[1, 2, 3, 4, 5, 6, 7, 90]] {
            let valid = ViewPeriods::new(periods).unwrap();
            assert_eq!(valid.as_slice(), periods);
            let json = serde_json::to_string(&valid).unwrap();
            assert_eq!(serde_json::from_str::<ViewPeriods>(&json).unwrap(), valid);
        }
        for periods in [&[][..], &[0], &[91], &[2, 1], &[1; 9]] {
            assert_eq!(ViewPeriods::new(periods), Err(InvalidPeriods), "{periods:?}");
        }
        for json in ["[]", "[300]", "[-1]", "[1.5]", "[2,1]", "1", "null", "\"1\""] {
            serde_json::from_str::<ViewPeriods>(json).expect_err(json);
        }
        assert_eq!(ViewPeriods::default().as_slice(), [1, 2, 4, 8]);
        assert_eq!(ViewPeriods::new(&DEFAULT_PERIODS), Ok(ViewPeriods::default()));
    }

    #[test]
    fn what_is_not_stored_takes_the_default() {
        assert_eq!(serde_json::from_str::<ViewOptions>("{}").unwrap(), ViewOptions::default());
        let view = ViewOptions { radius_m: Some(12.5), budget: 5_000, ..ViewOptions::default() };
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(json, r#"{"radiusM":12.5,"periods":[1,2,4,8],"budget":5000}"#);
        assert_eq!(serde_json::from_str::<ViewOptions>(&json).unwrap(), view);
    }

    #[test]
    fn radius_and_budget_have_bounds() {
        let at = |hz, radius_m, budget| {
            ViewOptions { radius_m, budget, ..ViewOptions::default() }.check(TickRate::Fixed(hz))
        };
        let with = |radius_m, budget| at(16, radius_m, budget);
        for (radius_m, budget) in [(Some(1.0), 4_096), (Some(MAX_POSITION_M), 1 << 20), (None, 65_536)] {
            assert!(with(radius_m, budget).is_ok(), "{radius_m:?} {budget}");
        }
        let message = |radius_m, budget| with(radius_m, budget).unwrap_err().message.into_owned();
        for radius in [0.0, 0.99, -1.0, 1_000_001.0, f32::INFINITY, f32::NAN] {
            assert!(
                with(Some(radius), 65_536).unwrap_err().message.starts_with("viewRadius must"),
                "{radius}"
            );
        }
        for budget in [0, 4_095, (1 << 20) + 1] {
            assert_eq!(message(None, budget), "viewBudget must be 4096 to 1048576 bytes per second");
        }
        assert!(at(17, None, 4_096).unwrap_err().message.starts_with("viewBudget must be at least 256"));
        assert!(ViewOptions::default().check(TickRate::Auto).is_ok());
    }
}
