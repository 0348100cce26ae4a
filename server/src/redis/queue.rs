//! What waits in memory for Redis: all poses, and the newest of what the spool has on disk.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::journal::backend::Entry;

/// Bytes of poses that wait. Half full: fewer poses are taken. Full: the oldest are dropped, and counted.
pub const POSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of reliable records that are kept at hand besides on the disk. Full: the oldest are read from there.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that an entry takes besides its payload, near enough for a limit.
const ENTRY_BYTES: usize = 128;

/// Between the journal's thread, which writes, and the one that ships.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) more: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Everything up to this row of the spool may be shipped.
    head: i64,
    recent: Lane,
    poses: Lane,
    /// Counts the poses that were ever taken in, to tell those that are shipped from later ones.
    count: u64,
}

#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    bytes: usize,
}

/// A record that is to be shipped.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its row in the spool; for poses that of the last one before.
    pub(super) row: i64,
    /// Only poses have one.
    number: u64,
    pub(super) entry: Entry,
}

impl Item {
    pub(super) fn spooled(row: i64, entry: Entry) -> Self {
        Self { row, number: 0, entry }
    }

    pub(super) fn is_pose(&self) -> bool {
        !self.entry.kind.is_reliable()
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> usize {
        self.entry.payload.len() + ENTRY_BYTES
    }
}

impl Lane {
    fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }
}

/// Several records in their order, and what is known when they are shipped.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Everything up to this row of the spool is in it or was before.
    pub(super) until: i64,
}

impl Batch {
    /// The number of the last of its poses.
    pub(super) fn last_pose(&self) -> u64 {
        self.items.iter().map(|item| item.number).max().unwrap_or(0)
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was written, `rows` of which went to the spool and are known by their rows; `head` is its last
    /// row. How many poses had to go.
    pub(super) fn push(&self, entries: &[Entry], rows: Option<i64>, head: i64) -> u64 {
        let mut dropped = 0;
        let mut state = self.state();
        let state = &mut *state;
        let mut row = rows.unwrap_or(head);
        for entry in entries {
            if entry.kind.is_reliable() {
                if rows.is_some() {
                    row += 1;
                    state.recent.push(Item::spooled(row, entry.clone()));
                }
            } else {
                state.count += 1;
                state.poses.push(Item { row, number: state.count, entry: entry.clone() });
            }
        }
        while state.recent.bytes > RECENT_BYTES_MAX {
            state.recent.pop();
        }
        while state.poses.bytes > POSE_BYTES_MAX {
            dropped += u64::from(state.poses.pop().is_some());
        }
        state.head = head;
        self.more.notify_one();
        dropped
    }

    /// The spool is another one, and its last row is that one.
    pub(super) fn begin_anew(&self, head: i64) {
        let mut state = self.state();
        state.recent = Lane::default();
        for item in &mut state.poses.items {
            item.row = 0;
        }
        state.head = head;
    }

    /// The spool has nothing up to that row any more, so it is not shipped from here either.
    pub(super) fn drop_through(&self, row: i64) {
        let mut state = self.state();
        while state.recent.items.front().is_some_and(|item| item.row <= row) {
            state.recent.pop();
        }
    }

    pub(super) fn head(&self) -> i64 {
        self.state().head
    }

    pub(super) fn is_behind(&self) -> bool {
        self.state().poses.bytes * 2 >= POSE_BYTES_MAX
    }

    /// Whether nothing is left to ship after the row `after`.
    pub(super) fn is_empty(&self, after: i64) -> bool {
        let state = self.state();
        state.head <= after && state.poses.items.is_empty()
    }

    /// What is reliable and comes right after the row `after`, if that is at hand; otherwise the spool has to be read.
    pub(super) fn recent(&self, after: i64) -> Option<Vec<Item>> {
        let mut state = self.state();
        while state.recent.items.front().is_some_and(|item| item.row <= after) {
            state.recent.pop();
        }
        let at_hand = match state.recent.items.front() {
            Some(first) => first.row == after + 1,
            None => state.head <= after,
        };
        // After a write that was tried twice, some rows are in the spool only.
        let in_a_row = state.recent.items.iter().zip(after + 1..).take_while(|(item, row)| item.row == *row);
        at_hand.then(|| in_a_row.map(|(item, _)| item.clone()).collect())
    }

    /// Puts the poses that wait between `reliable` records, up to about `bytes_max` bytes. `reliable` holds everything
    /// after the row `after` up to `until`.
    pub(super) fn merge(&self, after: i64, reliable: Vec<Item>, until: i64, bytes_max: usize) -> Batch {
        let state = self.state();
        let mut reliable = reliable.into_iter().peekable();
        let mut poses = state.poses.items.iter().peekable();
        let mut batch = Batch { items: Vec::new(), until: after };
        let mut bytes = 0;
        loop {
            // Poses of a row come after it.
            let next_row = reliable.peek().map(|item| item.row);
            let pose_first = poses
                .peek()
                .is_some_and(|pose| pose.row <= until && next_row.is_none_or(|row| pose.row < row));
            let item = if pose_first { poses.next().cloned() } else { reliable.next() };
            let Some(item) = item else {
                batch.until = until;
                return batch;
            };
            bytes += item.bytes();
            if bytes > bytes_max && !batch.items.is_empty() {
                return batch;
            }
            batch.until = batch.until.max(item.row);
            batch.items.push(item);
        }
    }

    /// `batch` is shipped, or its poses never will be. What is wanted again is read from the spool.
    pub(super) fn remove(&self, batch: &Batch) {
        let last = batch.last_pose();
        self.drop_through(batch.until);
        let mut state = self.state();
        while state.poses.items.front().is_some_and(|item| item.number <= last) {
            state.poses.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use replay::{RecordId, RecordKind};

    use super::*;

    fn entry(ms: u64, kind: RecordKind, bytes: usize) -> Entry {
        Entry { room: "a".into(), id: RecordId::at(ms), kind, payload: Bytes::from(vec![0; bytes]) }
    }

    fn times(batch: &Batch) -> Vec<u64> {
        batch.items.iter().map(|item| item.entry.id.ms).collect()
    }

    #[test]
    fn both_lanes_leave_in_the_order_in_which_they_came() {
        use RecordKind::{Event, Poses};
        let queue = Queue::default();
        let entries: Vec<_> =
            [(1, Poses), (2, Event), (3, Poses), (4, Poses), (5, Event), (6, Event), (7, Poses)]
                .map(|(ms, kind)| entry(ms, kind, 10))
                .to_vec();
        assert_eq!(queue.push(&entries, Some(10), 13), 0);
        let reliable = queue.recent(10).unwrap();
        let batch = queue.merge(10, reliable.clone(), 13, usize::MAX);
        assert_eq!((times(&batch), batch.until), (vec![1, 2, 3, 4, 5, 6, 7], 13));
        // Cut anywhere, the rest is what follows.
        let first = queue.merge(10, reliable, 13, 3 * (10 + ENTRY_BYTES));
        assert_eq!((times(&first), first.until), (vec![1, 2, 3], 11));
        queue.remove(&first);
        let rest = queue.merge(first.until, queue.recent(first.until).unwrap(), 13, usize::MAX);
        assert_eq!(times(&rest), [4, 5, 6, 7]);
        assert!(queue.recent(9).is_none(), "what is no longer at hand is read from the spool");
        queue.remove(&rest);
        assert!(queue.is_empty(13) && !queue.is_empty(12));
        assert!(queue.recent(12).is_none(), "nothing is kept for a second time");
    }

    #[test]
    fn poses_wait_up_to_a_limit() {
        let queue = Queue::default();
        let large = |ms| entry(ms, RecordKind::Poses, POSE_BYTES_MAX / 4);
        assert_eq!(queue.push(&[large(1)], Some(0), 0), 0);
        assert!(!queue.is_behind());
        assert_eq!(queue.push(&[large(2)], Some(0), 0), 0);
        assert!(queue.is_behind());
        assert_eq!(queue.push(&[large(3), large(4), large(5)], Some(0), 0), 2);
        assert_eq!(times(&queue.merge(0, Vec::new(), 0, usize::MAX)), [3, 4, 5]);
    }
}
