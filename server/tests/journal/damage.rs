//! Files that are cut off, overwritten or taken away.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use server::journal::backend::{Backend as _, Condition as _, Entry};
use server::journal::folder::{HOUR_MS, Hour};
use server::replay::recordings::Recordings as _;
use server::replay::sqlite::SqliteRecordings;
use tempfile::{TempDir, tempdir};

use crate::common::{ALL, HOUR, entry, open_hours, read_all};

const PAGE: usize = 4_096;
const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Records as rooms make them: many small ones, and large ones that go on over pages.
fn entries(count: u64, random: &mut StdRng) -> Vec<Entry> {
    let make = |index: u64| {
        let mut payload =
            vec![0; if index.is_multiple_of(10) { random.random_range(2_000..40_000) } else { 300 }];
        random.fill_bytes(&mut payload);
        entry(ROOMS[index as usize % ROOMS.len()], HOUR + index * 20, (index % 3) as u32, payload)
    };
    (0..count).map(make).collect()
}

/// An hour with `entries` in it, written in batches of 20. `log`: what is in the log stays there, as after a crash.
fn hour_of(entries: &[Entry], log: bool) -> TempDir {
    let data = tempdir().unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    entries.chunks(20).for_each(|batch| hours.write(batch).unwrap());
    if !log {
        drop(hours);
        return data;
    }
    let copy = tempdir().unwrap();
    fs::create_dir(copy.path().join("replay")).unwrap();
    for file in fs::read_dir(data.path().join("replay")).unwrap().map(|file| file.unwrap()) {
        if !file.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(file.path(), copy.path().join("replay").join(file.file_name())).unwrap();
        }
    }
    copy
}

fn file(data: &Path, end: &str) -> std::path::PathBuf {
    let entries = fs::read_dir(data.join("replay")).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.to_str().unwrap().ends_with(end)).expect("the file")
}

fn copy_of(data: &Path) -> TempDir {
    let copy = tempdir().unwrap();
    fs::create_dir(copy.path().join("replay")).unwrap();
    for file in fs::read_dir(data.join("replay")).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), copy.path().join("replay").join(file.file_name())).unwrap();
    }
    copy
}

/// What is read after the server has come up and looked after its files, by payload. All of it is as it was written.
fn survivors(data: &Path, written: &[Entry]) -> BTreeMap<(String, u64), usize> {
    let mut hours = open_hours(data, ALL, HOUR);
    let recordings = SqliteRecordings::new(hours.folder());
    let by_id: HashMap<_, _> = written.iter().map(|entry| ((&*entry.room, entry.id), entry)).collect();
    // What is found to be damaged while reading is put right by the journal, at the latest then.
    for room in ROOMS {
        read_all(&recordings, room, 30_000);
    }
    hours.tend(HOUR);
    let mut found = BTreeMap::new();
    for room in ROOMS {
        for record in read_all(&recordings, room, 30_000) {
            if record.payload.is_empty() {
                // What is told to be missing. It was written some time, so its place is among the others.
                assert!(record.id.ms <= HOUR + 3_000_000);
                continue;
            }
            let original = by_id.get(&(room, record.id)).expect("it was written");
            assert!((original.kind, &original.payload) == (record.kind, &record.payload), "not as it was");
            *found.entry((room.to_owned(), record.id.ms)).or_default() += 1;
        }
        let _ = recordings.keyframe_before(room, u64::MAX).unwrap();
        let _ = recordings.span(room).unwrap();
    }
    // And it goes on.
    hours.write(&[entry("a", HOUR + 3_000_000, 0, vec![7; 9_000])]).unwrap();
    let last = recordings.span("a").unwrap().unwrap().last;
    assert_eq!(last.ms, HOUR + 3_000_000);
    found
}

/// For each entry the last byte of the file that it has anything in, as far as it can be found by its content.
fn extents(path: &Path, entries: &[Entry]) -> Vec<usize> {
    let image = fs::read(path).unwrap();
    let mut windows: HashMap<[u8; 16], usize> = HashMap::new();
    for at in 0..image.len() - 16 {
        windows.insert(image[at..at + 16].try_into().unwrap(), at);
    }
    let extent = |entry: &Entry| {
        let pieces = entry.payload.chunks_exact(16).filter_map(|piece| {
            // Some pieces lie across the end of a page.
            windows.get::<[u8; 16]>(piece.try_into().unwrap())
        });
        let last = pieces.max().expect("it is in the file");
        (last / PAGE + 1) * PAGE
    };
    entries.iter().map(extent).collect()
}

fn run(cases: u32, test: impl Fn(u64) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new(config).run(&any::<u64>(), test).unwrap();
}

#[test]
fn of_a_file_that_is_cut_off_everything_before_the_cut_is_read() {
    let entries = entries(1_500, &mut StdRng::seed_from_u64(1));
    let whole = hour_of(&entries, false);
    let path = file(whole.path(), ".db");
    let extents = extents(&path, &entries);
    let length = fs::metadata(&path).unwrap().len() as usize;
    assert_eq!(survivors(copy_of(whole.path()).path(), &entries).len(), entries.len());
    run(10, |seed| {
        let cut = StdRng::seed_from_u64(seed).random_range(0..length);
        let data = copy_of(whole.path());
        let path = file(data.path(), ".db");
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
        let found = survivors(data.path(), &entries);
        for (entry, extent) in entries.iter().zip(&extents) {
            // The rooms' names are on the file's first pages.
            let is_there = *extent <= cut && cut > 16 * PAGE;
            let is_found = found.contains_key(&(entry.room.to_string(), entry.id.ms));
            prop_assert!(is_found || !is_there, "cut at {cut} of {length}, {extent} is before it");
        }
        let files = fs::read_dir(data.path().join("replay")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let aside: Vec<_> = names
            .filter(|name| name.contains(".corrupt-") && !name.contains("-wal") && !name.contains("-shm"))
            .collect();
        // Of the last page alone it is a record that is damaged, and not the file.
        let is_noticed = (1..=length - PAGE).contains(&cut);
        prop_assert!(!is_noticed || aside.len() == 1, "cut at {cut} of {length}, aside: {aside:?}");
        Ok(())
    });
}

#[test]
fn of_a_log_that_is_cut_off_whole_batches_up_to_the_cut_are_read() {
    let entries = entries(400, &mut StdRng::seed_from_u64(2));
    let whole = hour_of(&entries, true);
    let length = fs::metadata(file(whole.path(), ".db-wal")).unwrap().len();
    assert!(length > 1_000_000);
    let count = |cut: u64| {
        let data = copy_of(whole.path());
        let log = OpenOptions::new().write(true).open(file(data.path(), ".db-wal")).unwrap();
        log.set_len(cut).unwrap();
        let found = survivors(data.path(), &entries);
        let is_first = entries.iter().map(|entry| found.contains_key(&(entry.room.to_string(), entry.id.ms)));
        assert!(is_first.is_sorted_by(|a, b| a >= b), "the first ones, without a gap");
        found.len()
    };
    assert_eq!(count(length), entries.len(), "a crash loses nothing");
    run(8, |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let (a, b) = (random.random_range(0..length), random.random_range(0..length));
        let (less, more) = (count(a.min(b)), count(a.max(b)));
        prop_assert!(less <= more && less % 20 == 0 && more % 20 == 0, "{less} {more}");
        Ok(())
    });
}

#[test]
fn a_file_whose_beginning_is_gone_is_read_from_its_log() {
    let entries = entries(100, &mut StdRng::seed_from_u64(3));
    for cut in [0, 1, 100, 4_095] {
        let data = hour_of(&entries, true);
        OpenOptions::new().write(true).open(file(data.path(), ".db")).unwrap().set_len(cut).unwrap();
        assert_eq!(survivors(data.path(), &entries).len(), entries.len(), "cut to {cut}");
    }
}

#[test]
fn bytes_that_are_changed_are_noticed_and_the_rest_is_read() {
    let entries = entries(1_500, &mut StdRng::seed_from_u64(4));
    let whole = hour_of(&entries, false);
    let length = fs::metadata(file(whole.path(), ".db")).unwrap().len();
    run(12, |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let data = copy_of(whole.path());
        let file = OpenOptions::new().read(true).write(true).open(file(data.path(), ".db")).unwrap();
        let flips = random.random_range(1..20);
        for _ in 0..flips {
            // Pages of the structure are few: some of the changes go there on purpose.
            let last = if random.random_bool(0.3) { length.min(10 * PAGE as u64) } else { length };
            let (at, mut byte) = (random.random_range(0..last), [0]);
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ random.random_range(1..=255)], at).unwrap();
        }
        drop(file);
        survivors(data.path(), &entries);
        Ok(())
    });
}

#[test]
fn an_hour_whose_columns_are_called_otherwise_is_read_all_the_same() {
    let entries = entries(100, &mut StdRng::seed_from_u64(7));
    let data = hour_of(&entries, false);
    let path = file(data.path(), ".db");
    let mut bytes = fs::read(&path).unwrap();
    let column = b"checksum INTEGER";
    let at = bytes.windows(column.len()).position(|window| window == column).unwrap();
    bytes[at] = b'k';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(survivors(data.path(), &entries).len(), entries.len());
}

#[test]
fn a_damaged_hour_is_moved_aside_told_and_unlinked_in_its_time() {
    let entries = entries(200, &mut StdRng::seed_from_u64(5));
    let data = hour_of(&entries, false);
    let path = file(data.path(), ".db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..100].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    assert_eq!(hours.losses(), 1, "what was referred to may not be there any more");
    let told = hours.condition().describe();
    let name = told["corruptMovedTo"][0].as_str().unwrap().to_owned();
    assert!(name.starts_with(path.file_name().unwrap().to_str().unwrap()) && name.contains(".corrupt-"));
    assert_eq!(fs::read(path.with_file_name(&name)).unwrap(), bytes, "nothing of the old one is lost");
    let recordings = SqliteRecordings::new(hours.folder());
    let read: usize = ROOMS.iter().map(|room| read_all(&recordings, room, 10_000).len()).sum();
    assert_eq!(read, entries.len(), "without its first bytes SQLite reads nothing, but all is there");
    hours.write(&entries[..10]).expect("the same once more does no harm");
    drop(hours);

    let settings = server::journal::hours::HoursSettings { ttl_ms: 0, ..ALL };
    let now_ms = Hour::of(HOUR).end_ms();
    let hours = open_hours(data.path(), settings, now_ms);
    assert!(hours.condition().describe()["corruptMovedTo"].is_null(), "once only");
    assert_eq!(fs::read_dir(data.path().join("replay")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_database_or_of_a_newer_format_does_not_keep_the_server_down() {
    for newer in [false, true] {
        let data = hour_of(&entries(10, &mut StdRng::seed_from_u64(6)), false);
        let path = file(data.path(), ".db");
        if newer {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.pragma_update(None, "user_version", 99).unwrap();
        } else {
            fs::write(&path, "nonsense ".repeat(1_000)).unwrap();
        }
        let mut hours = open_hours(data.path(), ALL, HOUR);
        assert!(hours.condition().describe()["corruptMovedTo"].is_array());
        hours.write(&[entry("a", HOUR + 3_000_000, 0, vec![1])]).unwrap();
        let recordings = SqliteRecordings::new(hours.folder());
        assert_eq!(recordings.span("a").unwrap().unwrap().last.ms, HOUR + 3_000_000);
    }
}

#[test]
fn what_is_missing_is_told_in_its_place_and_hides_nothing() {
    let data = tempdir().unwrap();
    let mut hours = open_hours(data.path(), ALL, HOUR);
    let entries: Vec<_> = (0..9).map(|index| entry("a", HOUR + index, 0, vec![0; 100])).collect();
    hours.write(&entries).unwrap();
    hours.write(&[entry("a", HOUR + HOUR_MS, 0, vec![0; 100])]).unwrap();
    let connection = rusqlite::Connection::open(hours.folder().file(Hour::of(HOUR))).unwrap();
    // Of two the content, of one the time, which would send whoever goes on from it past everything else.
    for sql in [
        "UPDATE records SET payload = x'00' WHERE row IN (3, 4)",
        "UPDATE records SET ms = 5000000000000 WHERE row = 6",
    ] {
        connection.execute(sql, []).unwrap();
    }
    let recordings = SqliteRecordings::new(hours.folder());
    for bytes_max in [1, 250, 10_000] {
        let records = read_all(&recordings, "a", bytes_max);
        let told: Vec<_> =
            records.iter().map(|record| (record.id.ms - HOUR, record.payload.is_empty())).collect();
        let whole = |ms| (ms, false);
        let expected = [whole(0), whole(1), (2, true), (3, true), whole(4), whole(6), whole(7), whole(8)];
        assert_eq!(told, [&expected[..], &[(8, true), whole(HOUR_MS)]].concat(), "{bytes_max}");
    }
}

#[test]
fn what_was_put_together_takes_its_place_though_the_process_ended_before() {
    let entries = entries(100, &mut StdRng::seed_from_u64(8));
    for is_gone in [false, true] {
        // Most of it is in its log, which has been moved away already.
        let data = hour_of(&entries, true);
        let path = file(data.path(), ".db");
        fs::remove_file(file(data.path(), "-wal")).unwrap();
        let whole = hour_of(&entries, false);
        fs::copy(file(whole.path(), ".db"), path.with_extension("db.new")).unwrap();
        if is_gone {
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(survivors(data.path(), &entries).len(), entries.len(), "{is_gone}");
        let names = names(data.path());
        assert!(!names.iter().any(|name| name.ends_with(".new")), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.contains(".corrupt-")).count(), usize::from(!is_gone));
    }
}

#[test]
fn what_was_not_put_together_to_its_end_goes() {
    let entries = entries(100, &mut StdRng::seed_from_u64(9));
    let data = hour_of(&entries, false);
    let path = file(data.path(), ".db");
    for end in ["db.unfinished", "db.unfinished-wal"] {
        fs::write(path.with_extension(end), "a part").unwrap();
        // Of another hour, which has nothing else any more.
        fs::write(path.with_file_name("2023111500").with_extension(end), "a part").unwrap();
    }
    assert_eq!(survivors(data.path(), &entries).len(), entries.len());
    assert_eq!(names(data.path()).len(), 1, "{:?}", names(data.path()));
}

fn names(data: &Path) -> Vec<String> {
    let files = fs::read_dir(data.join("replay")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}
