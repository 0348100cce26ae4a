//! What a run looks like second by second, and how often what was exceeded.

use serde::Serialize;

use crate::tally::Durations;

/// Seconds that are kept of a run; of a longer one those at the end are left out of the charts.
const SECONDS_MAX: u32 = 24 * 3_600;

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Second {
    /// Seconds since the measuring began, at its end.
    pub(crate) at_s: u32,
    /// What was timed in this second: pose ages, or what the scenario is about.
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// What each user got, on average.
    pub(crate) bytes_per_user: Option<f64>,
    /// `None` if the server's process is not known.
    pub(crate) server_cores: Option<f64>,
    pub(crate) server_rss_mib: Option<f64>,
    pub(crate) load_cores: Option<f64>,
}

impl Second {
    /// The second that ends at `at_s`, with what was timed in it.
    pub(crate) fn timed(at_s: u32, durations: &Durations) -> Self {
        let [p50_ms, p90_ms, p99_ms] = [0.5, 0.9, 0.99].map(|quantile| durations.quantile_ms(quantile));
        let (count, max_ms) = (durations.count(), durations.max_ms());
        Self { at_s, count, p50_ms, p90_ms, p99_ms, max_ms, ..Self::default() }
    }
}

/// Durations sorted into seconds as they come.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) seconds: Vec<Second>,
    current: Option<(u32, Durations)>,
}

impl Timeline {
    /// Takes note of something that ended `at_s` seconds after the beginning.
    pub(crate) fn record(&mut self, at_s: u32, duration: std::time::Duration) {
        if self.current.as_ref().is_none_or(|(second, _)| *second < at_s) {
            self.close();
            self.current = Some((at_s, Durations::new()));
        }
        if let Some((_, durations)) = &mut self.current {
            durations.record(duration);
        }
    }

    fn close(&mut self) {
        if let Some((second, durations)) = self.current.take().filter(|(second, _)| *second < SECONDS_MAX) {
            self.seconds.push(Second::timed(second + 1, &durations));
        }
    }

    /// All seconds in which something was timed.
    pub(crate) fn finish(mut self) -> Vec<Second> {
        self.close();
        self.seconds
    }
}

/// One point of a percentile curve: that share of all took at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct CurvePoint {
    pub(crate) quantile: f64,
    pub(crate) ms: f64,
}

/// The percentile curve, as far as there are durations to tell it: five points for each further nine.
pub(crate) fn curve(durations: &Durations) -> Vec<CurvePoint> {
    if durations.count() == 0 {
        return Vec::new();
    }
    let nines = (durations.count() as f64).log10();
    let steps = (nines * 5.0).floor() as i32;
    (0..=steps)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 5.0))
        .map(|quantile| CurvePoint { quantile, ms: durations.quantile_ms(quantile) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_timed_is_sorted_into_seconds() {
        let mut timeline = Timeline::default();
        for (second, ms) in [(0, 10), (0, 30), (3, 20), (2, 40)] {
            timeline.record(second, Duration::from_millis(ms));
        }
        let seconds = timeline.finish();
        let found: Vec<_> = seconds.iter().map(|second| (second.at_s, second.count)).collect();
        assert_eq!(found, [(1, 2), (4, 2)], "what comes late goes into the latest");
    }

    #[test]
    fn a_curve_goes_as_far_as_there_are_durations() {
        let mut durations = Durations::new();
        assert!(curve(&durations).is_empty());
        (1..=1_000).for_each(|ms| durations.record(Duration::from_millis(ms)));
        let curve = curve(&durations);
        let last = curve.last().unwrap();
        assert!((last.quantile - 0.999).abs() < 1e-9 && (998.0..1_001.0).contains(&last.ms), "{last:?}");
        assert!(curve.is_sorted_by(|a, b| a.ms <= b.ms));
    }
}
