//! How many samples of poses a second are asked for.

/// The least time between two halvings. Poses come once a second, so that is how long one takes to show.
const HALVE_MS: u64 = 1_000;

/// How long there must be room before more are asked for again.
const PATIENCE_MS: u64 = 10_000;

/// Halves at once when the journal is behind, and recovers slowly.
#[derive(Debug)]
pub(super) struct Pace {
    hz_max: u32,
    hz: u32,
    halved_ms: Option<u64>,
    calm_since_ms: Option<u64>,
}

impl Pace {
    pub(super) fn new(hz_max: u32) -> Self {
        Self { hz_max, hz: hz_max, halved_ms: None, calm_since_ms: None }
    }

    /// Poses have come in at that time. Answers how many a second are wanted from now on.
    pub(super) fn note(&mut self, now_ms: u64, is_behind: bool) -> u32 {
        if is_behind {
            self.calm_since_ms = None;
            if self.halved_ms.is_none_or(|last| now_ms.saturating_sub(last) >= HALVE_MS) {
                self.hz = (self.hz / 2).max(self.hz_max.min(1));
                self.halved_ms = Some(now_ms);
            }
            return self.hz;
        }
        let since = *self.calm_since_ms.get_or_insert(now_ms);
        if self.hz < self.hz_max && now_ms.saturating_sub(since) >= PATIENCE_MS {
            self.hz = (self.hz * 2).min(self.hz_max);
            self.calm_since_ms = Some(now_ms);
        }
        self.hz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_each_second_and_recovers_each_ten() {
        let mut pace = Pace::new(10);
        assert_eq!(pace.note(0, false), 10);
        let behind: Vec<_> = (0..8).map(|half| pace.note(100 + half * 500, true)).collect();
        assert_eq!(behind, [5, 5, 2, 2, 1, 1, 1, 1]);
        let calm: Vec<_> = (0..6).map(|step| pace.note(5_000 + step * 9_999, false)).collect();
        assert_eq!(calm, [1, 1, 2, 2, 4, 4]);
        assert_eq!(pace.note(100_000, false), 8);
        assert_eq!(pace.note(105_000, true), 4, "no patience with trouble");
        assert_eq!(pace.note(105_001, false), 4);
        assert_eq!(pace.note(115_000, false), 4, "the ten seconds begin anew");
        assert_eq!((pace.note(115_001, false), pace.note(125_001, false)), (8, 10));
    }

    #[test]
    fn none_stays_none() {
        let mut pace = Pace::new(0);
        assert_eq!((pace.note(0, true), pace.note(50_000, false)), (0, 0));
    }
}
