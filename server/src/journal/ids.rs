//! The ids that records get.

use std::collections::HashMap;
use std::sync::Arc;

use replay::RecordId;

/// The last ids of rooms, those that were silent for longest forgotten first.
#[derive(Debug)]
pub(super) struct Ids {
    last: HashMap<Arc<str>, Last>,
    capacity: usize,
    uses: u64,
}

#[derive(Debug)]
struct Last {
    id: Option<RecordId>,
    used: u64,
}

impl Ids {
    pub(super) fn new(capacity: usize) -> Self {
        Self { last: HashMap::new(), capacity, uses: 0 }
    }

    /// Whether the room's last id is known.
    pub(super) fn knows(&self, room: &str) -> bool {
        self.last.contains_key(room)
    }

    /// The room's ids go on from `id`.
    pub(super) fn learn(&mut self, room: Arc<str>, id: Option<RecordId>) {
        self.last.insert(room, Last { id, used: self.uses });
    }

    /// Forgets a half if there are too many. Only when all ids that were given are written: the backend knows them then.
    pub(super) fn forget(&mut self) {
        if self.last.len() < self.capacity {
            return;
        }
        let mut uses: Vec<_> = self.last.values().map(|last| last.used).collect();
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        let median = *median;
        self.last.retain(|_, last| last.used >= median);
        if self.last.len() >= self.capacity {
            // All are of one batch.
            self.last.clear();
        }
    }

    /// Begins a batch: what is used in it is remembered for longer.
    pub(super) fn begin(&mut self) {
        self.uses += 1;
    }

    /// The id of a record of that time: the time if it can be, else as little later as it can be.
    pub(super) fn next(&mut self, room: &Arc<str>, at_ms: u64) -> RecordId {
        let uses = self.uses;
        let last = self.last.entry(room.clone()).or_insert(Last { id: None, used: uses });
        let first = RecordId::at(at_ms);
        let id = last.id.map_or(first, |last| first.max(last.next()));
        *last = Last { id: Some(id), used: uses };
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut ids = Ids::new(8);
        let room: Arc<str> = "a".into();
        ids.learn(room.clone(), Some(RecordId { ms: 100, seq: 4 }));
        let given: Vec<_> = [90, 100, 101, 101, 50].map(|ms| ids.next(&room, ms).to_string()).into();
        assert_eq!(given, ["100-5", "100-6", "101-0", "101-1", "101-2"]);
    }

    #[test]
    fn rooms_that_are_silent_are_forgotten() {
        let mut ids = Ids::new(4);
        for round in 0..10_u64 {
            ids.begin();
            for room in ["busy".to_owned(), format!("room-{round}")] {
                ids.next(&room.into(), round);
            }
            ids.forget();
            assert!(ids.last.len() < 4 && ids.knows("busy"), "{ids:?}");
        }
        assert!(!ids.knows("room-0"));
    }
}
