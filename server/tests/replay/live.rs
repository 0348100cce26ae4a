//! A recording that is read while it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use replay::{RecordId, StoredRecord};
use server::replay::query::{Cursor, Query};
use server::replay::recordings::{ReadError, Recordings, Span};
use server::replay::walk::{Form, Progress, Walk};

use crate::naive::{Wish, told};
use crate::room::{Room, START_MS};

/// A recording in memory, of which there is as much as has been written down by now.
struct Live {
    records: Vec<StoredRecord>,
    now_ms: Arc<AtomicU64>,
}

impl Live {
    fn written(&self) -> &[StoredRecord] {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        &self.records[..self.records.partition_point(|record| record.id.ms <= now_ms)]
    }
}

impl Recordings for Live {
    fn span(&self, _: &str) -> Result<Option<Span>, ReadError> {
        let written = self.written();
        let ends = written.first().zip(written.last());
        Ok(ends.map(|(first, last)| Span { first: first.id, last: last.id }))
    }

    /// A few seconds in each.
    fn page(&self, _: &str, from: RecordId, until_ms: u64, _: usize) -> Result<Vec<StoredRecord>, ReadError> {
        let is_wanted = |record: &&StoredRecord| record.id >= from && record.id.ms <= until_ms;
        Ok(self.written().iter().filter(is_wanted).take(15).cloned().collect())
    }

    fn keyframe_before(&self, _: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        let mut before = self.written().iter().rev().filter(|record| record.id.ms <= at_ms);
        Ok(before.find(|record| record.kind as u8 >= 3).cloned())
    }
}

/// Reads at most `limit` lines after `after`; `pause` comes after the first step.
fn read(live: &Arc<Live>, after: Cursor, limit: u64, pause: impl Fn()) -> (Vec<String>, Progress) {
    let (mut lines, clock) = (Vec::new(), live.now_ms.clone());
    let query = Query { limit: Some(limit), after: Some(after), ..Query::default() };
    let now = move || clock.load(Ordering::Relaxed);
    let begun = Walk::begin(live.clone(), "hall".into(), &query, Form::Lines, usize::MAX, now);
    let mut walk = begun.unwrap().unwrap();
    loop {
        let mut text = Vec::new();
        let progress = walk.step(&mut text).unwrap();
        lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
        if progress != Progress::More {
            return (lines, progress);
        }
        pause();
    }
}

#[test]
fn a_slow_reader_misses_nothing_that_is_written_down_meanwhile() {
    for seed in 0..10 {
        let mut room = Room::open(seed, START_MS);
        room.live(10);
        // The reading begins while nothing happens for a while.
        let begun_ms = room.now_ms + 10_000;
        room.now_ms += 20_000;
        room.live(40);
        let expected = told(&room.records, &Wish::default());
        // Amid a second, the poses of which are written down at its end only.
        let (later_ms, end_ms) = (room.now_ms - 15_400, room.now_ms + 1_000);
        let live = Arc::new(Live { records: room.records, now_ms: Arc::default() });
        live.now_ms.store(later_ms, Ordering::Relaxed);
        let visible = told(live.written(), &Wish::default()).len() as u64;
        for limit in visible - 10..visible {
            live.now_ms.store(begun_ms, Ordering::Relaxed);
            let go_on = || live.now_ms.store(later_ms, Ordering::Relaxed);
            let (mut lines, progress) = read(&live, Cursor::default(), limit, go_on);
            let Progress::Cut(cursor) = progress else { panic!("{limit} of {visible}: {progress:?}") };
            live.now_ms.store(end_ms, Ordering::Relaxed);
            let (rest, progress) = read(&live, cursor, u64::MAX, || {});
            assert_eq!(progress, Progress::Whole);
            lines.extend(rest);
            assert!(lines == expected, "seed {seed}, {limit} of {visible}");
        }
    }
}
