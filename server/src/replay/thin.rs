//! Fewer moves than were recorded.

use std::collections::{BTreeMap, HashMap, VecDeque};

use replay::{Action, MemberId, Moment, What};

use super::query::Rate;

/// Leaves of each member's moves the last of every interval: the last, and not the first, so that whoever stops is
/// seen where it stopped.
///
/// What it holds back is one interval: a move for each member, and what else happened meanwhile.
#[derive(Debug)]
pub(super) struct Thin {
    rate: Rate,
    interval: u64,
    /// The present interval, by the order in which it came.
    held: BTreeMap<u64, Moment>,
    /// Which of these is the last move of a member.
    last_moves: HashMap<MemberId, u64>,
    count: u64,
    ready: VecDeque<Moment>,
}

impl Thin {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            interval: 0,
            held: BTreeMap::new(),
            last_moves: HashMap::new(),
            count: 0,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next moment.
    pub(super) fn push(&mut self, moment: Moment) {
        let interval = self.rate.interval(moment.at_ms);
        if interval != self.interval {
            self.finish();
            self.interval = interval;
        }
        match &moment.what {
            What::Move { member, .. } => {
                if let Some(earlier) = self.last_moves.insert(*member, self.count) {
                    self.held.remove(&earlier);
                }
            }
            // A name may be given anew after a restart: what is of the one who left stays.
            What::Event { member, action: Action::Leave, .. } => {
                self.last_moves.remove(member);
            }
            _ => {}
        }
        self.held.insert(self.count, moment);
        self.count += 1;
    }

    /// There will be no more in this interval.
    pub(super) fn finish(&mut self) {
        self.last_moves.clear();
        self.ready.extend(std::mem::take(&mut self.held).into_values());
    }

    /// The next moment that stays.
    pub(super) fn pop(&mut self) -> Option<Moment> {
        self.ready.pop_front()
    }
}
