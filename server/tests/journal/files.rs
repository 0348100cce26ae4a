//! Through the lanes, the thread and the files, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use engine::journal::Journal as _;
use replay::{Record, RecordId, decode};
use server::journal::backend::{Backend as _, Condition as _};
use server::journal::folder::{Folder, HOUR_MS, Hour};
use server::journal::hours::HoursSettings;
use server::journal::leftovers::{self, LOOK_EVERY};
use server::journal::table::Table;
use server::replay::recordings::Recordings as _;
use server::replay::sqlite::{SqliteRecordings, import_path, make_import_folder};
use tempfile::tempdir;
use tokio::runtime::Handle;

use crate::common::{
    ALL, HOUR, PATIENCE, Standing, close, entry, event, on_files, open_hours, poses, read_all, record,
};

fn decoded(recordings: &SqliteRecordings, room: &str, bytes_max: usize) -> Vec<Record> {
    let records = read_all(recordings, room, bytes_max);
    records.iter().map(|record| decode(record.kind, &record.payload).unwrap()).collect()
}

fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("replay")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_recorded_is_read_back_over_hours_and_restarts() {
    let data = tempdir().unwrap();
    let recordings = SqliteRecordings::in_data_dir(data.path());
    assert_eq!(recordings.span("a").unwrap(), None, "there is not even a folder");
    let mut told: BTreeMap<&str, Vec<Record>> = BTreeMap::new();
    for (process, room) in ["a", "b", "'; --"].into_iter().cycle().take(6).enumerate() {
        let start = HOUR + process as u64 * HOUR_MS * 2 / 3;
        let journal = on_files(data.path(), start);
        for second in 0..40 {
            let at_ms = start + second * 60_000;
            let records = [event(at_ms, &second.to_string()), poses(at_ms + 1, 300), event(at_ms + 1, "ü")];
            for record in records {
                journal.try_record(&room.into(), record.clone(), None).unwrap();
                told.entry(room).or_default().push(record);
            }
        }
        record(&journal, room, event(start + HOUR_MS, "last")).await;
        told.entry(room).or_default().push(event(start + HOUR_MS, "last"));
        let beside = SqliteRecordings::in_data_dir(data.path());
        assert_eq!(decoded(&beside, room, 2_000), told[room], "while it is open");
        drop(beside);
        close(&journal).await;
    }
    drop(open_hours(data.path(), ALL, HOUR));
    assert!(names(data.path()).iter().all(|name| name.ends_with(".db") && name.len() == 13));
    for (room, records) in &told {
        for bytes_max in [1, 1_000, usize::MAX] {
            assert_eq!(&decoded(&recordings, room, bytes_max), records);
        }
        let span = recordings.span(room).unwrap().unwrap();
        assert_eq!(span.first.ms, records[0].at_ms);
        assert_eq!(span.last.ms, records.last().unwrap().at_ms);
        let middle = records.len() / 2;
        let (from, until) = (records[middle].at_ms, records[middle + 9].at_ms);
        let page = recordings.page(room, RecordId::at(from), until, usize::MAX).unwrap();
        let expected = records.iter().filter(|record| (from..=until).contains(&record.at_ms)).count();
        assert_eq!(page.len(), expected);
    }
    assert_eq!(recordings.span("nowhere").unwrap(), None);
    assert!(recordings.page("nowhere", RecordId::default(), u64::MAX, 100).unwrap().is_empty());
}

#[tokio::test]
async fn ids_grow_though_the_clock_was_set_back() {
    let data = tempdir().unwrap();
    let ahead = HOUR + 3 * HOUR_MS;
    for now_ms in [ahead, HOUR, HOUR + 500, ahead + 1] {
        let journal = on_files(data.path(), now_ms);
        record(&journal, "a", event(now_ms, "one")).await;
        record(&journal, "a", event(now_ms, "two")).await;
        close(&journal).await;
    }
    let recordings = SqliteRecordings::in_data_dir(data.path());
    let ids: Vec<_> = read_all(&recordings, "a", 1).iter().map(|record| record.id).collect();
    let expected: Vec<_> = (0..6).map(|seq| (ahead, seq)).chain([(ahead + 1, 0), (ahead + 1, 1)]).collect();
    assert_eq!(ids, expected.iter().map(|(ms, seq)| RecordId { ms: *ms, seq: *seq }).collect::<Vec<_>>());
}

#[test]
fn keyframes_are_found_backwards_through_the_hours() {
    let data = tempdir().unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    // Of three in a row the last is a keyframe.
    let entries: Vec<_> = (0..5_u64)
        .flat_map(|hour| (0..3).map(move |seq| entry("a", HOUR + hour * HOUR_MS + 10, seq, vec![hour as u8])))
        .filter(|entry| entry.id.ms < HOUR + HOUR_MS || entry.id.seq < 2 || entry.id.ms > HOUR + 3 * HOUR_MS)
        .collect();
    hours.write(&entries).unwrap();
    hours.write(&entries).expect("the same once more does no harm");
    let recordings = SqliteRecordings::new(hours.folder());
    let before = |at_ms| {
        recordings.keyframe_before("a", at_ms).unwrap().map(|record| (record.id.seq, record.payload[0]))
    };
    assert_eq!(before(HOUR + 9), None);
    assert_eq!(before(HOUR + 10), Some((2, 0)));
    assert_eq!(before(HOUR + 2 * HOUR_MS + 500), Some((2, 0)), "two hours have none");
    assert_eq!(before(HOUR + 3 * HOUR_MS + 10), Some((2, 3)));
    assert_eq!(before(u64::MAX), Some((2, 4)));
    assert_eq!(recordings.keyframe_before("b", u64::MAX).unwrap(), None);
    assert_eq!(read_all(&recordings, "a", 100).len(), entries.len());
}

#[test]
fn an_hour_goes_when_it_is_too_old_and_whoever_reads_it_may_go_on() {
    let data = tempdir().unwrap();
    let settings = HoursSettings { ttl_ms: 2 * HOUR_MS, bytes_max: u64::MAX };
    let mut hours = open_hours(data.path(), settings, HOUR);
    for hour in 0..4 {
        hours.write(&[entry("a", HOUR + hour * HOUR_MS, 0, vec![0; 100])]).unwrap();
    }
    let folder = hours.folder();
    let first = Table::open_to_read(&folder.file(Hour::of(HOUR))).unwrap();
    let recordings = SqliteRecordings::new(folder.clone());
    assert_eq!(read_all(&recordings, "a", 100).len(), 4);
    hours.tend(HOUR + 3 * HOUR_MS - 1);
    assert_eq!(folder.hours().unwrap().len(), 4, "all of it is to be kept for so long");
    hours.tend(HOUR + 3 * HOUR_MS);
    assert!(
        names(data.path()).iter().all(|name| !name.starts_with("2023111423")),
        "{:?}",
        names(data.path())
    );
    assert_eq!(first.page("a", RecordId::default(), u64::MAX, 1_000).unwrap().records.len(), 1);
    assert_eq!(recordings.span("a").unwrap().unwrap().first, RecordId::at(HOUR + HOUR_MS));
    hours.tend(HOUR + 100 * HOUR_MS);
    assert_eq!(recordings.span("a").unwrap(), None);
    assert_eq!(names(data.path()), Vec::<String>::new());
    hours.write(&[entry("a", HOUR + 100 * HOUR_MS, 0, vec![0; 100])]).unwrap();
    drop(first);
    assert_eq!(read_all(&recordings, "a", 100).len(), 1);
}

#[test]
fn too_much_drops_the_oldest_hours_and_says_so() {
    let data = tempdir().unwrap();
    let settings = HoursSettings { ttl_ms: u64::MAX, bytes_max: 3_000_000 };
    let mut hours = open_hours(data.path(), settings, HOUR);
    let condition = hours.condition();
    for hour in 0..5 {
        hours.write(&[entry("a", HOUR + hour * HOUR_MS, 0, vec![hour as u8; 1_000_000])]).unwrap();
        hours.tend(HOUR + hour * HOUR_MS);
    }
    let left: Vec<_> = hours.folder().hours().unwrap().into_iter().collect();
    let newest = Hour::of(HOUR + 4 * HOUR_MS);
    assert_eq!(left, [newest.before(), newest], "a third would be too much");
    assert_eq!(condition.describe()["hoursDroppedForSize"], 3);
    assert_eq!(condition.describe()["hours"], 2);
    hours.write(&[entry("a", HOUR + 4 * HOUR_MS, 1, vec![0; 4_000_000])]).unwrap();
    hours.tend(HOUR + 4 * HOUR_MS);
    assert_eq!(hours.folder().hours().unwrap().into_iter().collect::<Vec<_>>(), [newest]);
    assert_eq!(condition.describe()["isOverLimit"], true, "the newest stays whatever it takes");
    let recordings = SqliteRecordings::new(hours.folder());
    assert_eq!(read_all(&recordings, "a", 1).len(), 2);
}

#[test]
fn an_imported_recording_is_read_like_any_other_and_with_it() {
    let data = tempdir().unwrap();
    make_import_folder(data.path()).unwrap();
    let mut imported = Table::open(&import_path(data.path(), "a")).unwrap();
    let even: Vec<_> = (0..50).map(|index| entry("a", HOUR + index * 2, 0, vec![0; 700])).collect();
    imported.insert(&even).unwrap();
    imported.checkpoint().unwrap();
    drop(imported);
    let mut hours = open_hours(data.path(), HoursSettings { ttl_ms: HOUR_MS, bytes_max: 1 }, HOUR);
    let recordings = SqliteRecordings::in_data_dir(data.path());
    assert_eq!(read_all(&recordings, "a", 2_000).len(), 50);
    let odd: Vec<_> = (0..30).map(|index| entry("a", HOUR + index * 2 + 1, 0, vec![1; 100])).collect();
    hours.write(&odd).unwrap();
    for bytes_max in [1, 2_000, usize::MAX] {
        let records = read_all(&recordings, "a", bytes_max);
        assert_eq!(records.len(), 80);
        assert!(records[..60].iter().all(|record| u64::from(record.payload[0]) == (record.id.ms - HOUR) % 2));
    }
    let span = recordings.span("a").unwrap().unwrap();
    assert_eq!((span.first.ms, span.last.ms), (HOUR, HOUR + 98));
    hours.tend(HOUR + 50 * HOUR_MS);
    assert_eq!(read_all(&recordings, "a", 2_000).len(), 50, "imports are kept");
    assert_eq!(Folder::in_data_dir(data.path()).hours().unwrap().len(), 0);
}

#[test]
fn a_page_leaves_nothing_out_that_does_not_fit() {
    let data = tempdir().unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    let sizes = [(0, 100), (1, 5_000), (HOUR_MS, 100), (HOUR_MS + 1, 800), (2 * HOUR_MS, 200)];
    let entries: Vec<_> = sizes.iter().map(|(ms, bytes)| entry("a", HOUR + ms, 0, vec![0; *bytes])).collect();
    hours.write(&entries).unwrap();
    let recordings = SqliteRecordings::new(hours.folder());
    for (bytes_max, first) in [(1, 1), (1_000, 1), (5_100, 2), (5_200, 3), (5_999, 3), (6_000, 4), (9_000, 5)]
    {
        let page = recordings.page("a", RecordId::default(), u64::MAX, bytes_max).unwrap();
        assert_eq!(page.len(), first, "{bytes_max}");
        assert_eq!(read_all(&recordings, "a", bytes_max).len(), 5, "{bytes_max}");
    }
}

#[test]
fn who_reads_is_not_disturbed_by_who_writes_and_unlinks() {
    let data = tempdir().unwrap();
    let settings = HoursSettings { ttl_ms: HOUR_MS, bytes_max: u64::MAX };
    let mut hours = open_hours(data.path(), settings, HOUR);
    let (recordings, is_done) = (&SqliteRecordings::new(hours.folder()), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let mut last = RecordId::default();
                while !is_done.load(Ordering::Relaxed) {
                    let records = read_all(recordings, "a", 20_000);
                    let newest = records.last().map_or(last, |record| record.id);
                    assert!(newest >= last, "what was there is not taken back");
                    last = newest;
                    let _ = recordings.keyframe_before("a", u64::MAX).unwrap();
                    let _ = recordings.span("a").unwrap();
                }
            });
        }
        for batch in 0..100 {
            let ms = HOUR + batch * HOUR_MS / 10;
            let entries: Vec<_> = (0..20).map(|seq| entry("a", ms, seq, vec![0; 3_000])).collect();
            hours.write(&entries).unwrap();
            hours.tend(ms);
        }
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(hours.folder().hours().unwrap().len(), 2);
        assert_eq!(read_all(recordings, "a", 50_000).len(), 400, "the last hour, and the one before");
    });
    assert!(hours.condition().describe()["corruptMovedTo"].is_null());
}

#[tokio::test(start_paused = true)]
async fn hours_that_nobody_writes_any_more_go_in_their_time_and_imports_stay() {
    let data = tempdir().unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    for hour in [0, 1, 3] {
        hours.write(&[entry("a", HOUR + hour * HOUR_MS, 0, vec![0; 100])]).unwrap();
    }
    drop(hours);
    let folder = Arc::new(Folder::in_data_dir(data.path()));
    let first = folder.file(Hour::of(HOUR));
    for end in ["db-wal", "db.corrupt-5", "db.corrupt-5-wal", "db.new", "db.unfinished"] {
        fs::write(first.with_extension(end), "something").unwrap();
    }
    make_import_folder(data.path()).unwrap();
    Table::open(&import_path(data.path(), "b")).unwrap().insert(&[entry("b", 5, 0, vec![0; 100])]).unwrap();

    let recordings = SqliteRecordings::new(folder.clone());
    let left = || {
        let names = names(data.path()).into_iter();
        // Reading puts something beside them.
        let hours: BTreeSet<_> =
            names.filter_map(|name| name.split_once(".db").map(|(hour, _)| hour.to_owned())).collect();
        (read_all(&recordings, "a", 10_000).len(), hours.len())
    };
    let clock = Standing::at(HOUR + 2 * HOUR_MS);
    leftovers::start(folder.clone(), HOUR_MS, clock.clone(), &Handle::current());
    assert_eq!(left(), (2, 2), "at the start");
    clock.0.store(HOUR + 3 * HOUR_MS, Ordering::Relaxed);
    let began = Instant::now();
    while left().0 > 1 {
        assert!(began.elapsed() < PATIENCE, "now and then");
        tokio::time::advance(LOOK_EVERY).await;
    }
    assert_eq!(left(), (1, 1));
    leftovers::start(folder.clone(), 0, clock, &Handle::current());
    assert_eq!(left(), (0, 0), "if nothing is kept, not even the present hour");
    assert_eq!(read_all(&recordings, "b", 10_000).len(), 1, "it was imported");
}
