//! Counting what somebody does within a time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use engine::Time;
use engine::tries::Count;

/// How much is allowed, and of how many it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// So often within [`Rule::within`].
    pub(crate) most: u32,
    /// Counted from the first time on. After that the count begins anew.
    pub(crate) within: Duration,
    /// Whose counts there are at once. Full: the one whose count is the oldest is forgotten.
    pub(crate) names_max: usize,
}

/// How often each of many has done something of late.
#[derive(Debug)]
pub(crate) struct Windows {
    rule: Rule,
    by_name: HashMap<String, Count>,
    /// When counts began, in that order, and of whom. What is not in `by_name` with the same time is of no interest.
    oldest: VecDeque<(Time, String)>,
}

impl Windows {
    pub(crate) fn new(rule: Rule) -> Self {
        Self { rule, by_name: HashMap::new(), oldest: VecDeque::new() }
    }

    /// Counts one more of `name`.
    ///
    /// # Errors
    /// How long it has to wait if it has come as often as it may.
    pub(crate) fn take(&mut self, name: &str, now: Time) -> Result<(), Duration> {
        self.forget(now, usize::MAX);
        if let Some(count) = self.by_name.get_mut(name) {
            return count.take(self.rule.most, self.rule.within, now);
        }
        // Only now: whoever is known already must not take a place, its own least of all.
        self.forget(now, self.rule.names_max);
        self.by_name.insert(name.to_owned(), Count::begin(now));
        self.oldest.push_back((now, name.to_owned()));
        Ok(())
    }

    /// One that was counted is not to count after all. Who has none left is forgotten, so that what does not count
    /// takes nobody's place.
    pub(crate) fn give_back(&mut self, name: &str) {
        if self.by_name.get_mut(name).is_some_and(|count| !count.give_back()) {
            self.by_name.remove(name);
        }
    }

    /// Whether there is a count of `name`.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Forgets whose time is over, and the oldest until there are fewer than `names_max`.
    fn forget(&mut self, now: Time, names_max: usize) {
        let Self { rule, by_name, oldest } = self;
        while let Some((since, name)) = oldest.front() {
            let is_counted = by_name.get(name).is_some_and(|count| count.since() == *since);
            if is_counted && now.since(*since) < rule.within && by_name.len() < names_max {
                break;
            }
            if is_counted {
                by_name.remove(name);
            }
            oldest.pop_front();
        }
        // Those that were given back, behind one that was not.
        if oldest.len() >= 2 * rule.names_max {
            oldest.retain(|(since, name)| by_name.get(name).is_some_and(|count| count.since() == *since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_000_000);
    const RULE: Rule = Rule { most: 3, within: Duration::from_secs(60), names_max: 5 };

    fn take_all(windows: &mut Windows, name: &str) {
        assert!((0..RULE.most).all(|_| windows.take(name, NOW).is_ok()));
    }

    #[test]
    fn so_often_and_then_one_waits() {
        let mut windows = Windows::new(RULE);
        take_all(&mut windows, "ada");
        let later = NOW + RULE.within / 4;
        assert_eq!(windows.take("ada", later), Err(RULE.within * 3 / 4));
        assert!(windows.take("bob", later).is_ok(), "somebody else");
        windows.give_back("ada");
        assert!(windows.take("ada", later).is_ok() && windows.take("ada", later).is_err());
        assert!(windows.take("ada", NOW + RULE.within).is_ok());
        assert_eq!(windows.by_name.len(), 2, "bob's time is not over");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut windows = Windows::new(RULE);
        take_all(&mut windows, "ada");
        for index in 1..RULE.names_max {
            assert!(windows.take(&index.to_string(), NOW).is_ok());
        }
        assert!(windows.take("ada", NOW).is_err(), "whoever is known does not make room for itself");
        assert!(windows.take("new", NOW).is_ok());
        assert!(windows.take("ada", NOW).is_ok(), "the oldest of so many is forgotten");
        assert_eq!((windows.by_name.len(), windows.oldest.len()), (RULE.names_max, RULE.names_max));
    }

    #[test]
    fn what_was_given_back_takes_nobodys_place() {
        let mut windows = Windows::new(RULE);
        take_all(&mut windows, "ada");
        for index in 0..u64::from(RULE.most) * 100 {
            let name = index.to_string();
            let now = NOW + Duration::from_millis(index);
            assert!(windows.take(&name, now).is_ok());
            windows.give_back(&name);
            assert!(windows.oldest.len() <= 2 * RULE.names_max, "{}", windows.oldest.len());
        }
        assert!(windows.take("ada", NOW).is_err());
        assert_eq!(windows.by_name.len(), 1);
    }
}
