//! Imports that are damaged.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use replay::{RecordId, StoredRecord};
use server::replay::recordings::Recordings as _;
use server::replay::sqlite::{SqliteRecordings, import_path};
use server::replay::transfer::{TransferError, export_to_file};
use tempfile::TempDir;

use crate::naive::{Wish, told};
use crate::rig::Rig;
use crate::room::{Room, START_MS, write};
use crate::transfer::imported;

const PAGE: usize = 4_096;

/// Where SQLite keeps the number of a file's format.
const FORMAT_AT: u64 = 60;

/// Records that one page may have at most, of the sizes that these have.
const RECORDS_PER_PAGE: usize = 64;

fn copy_of(directory: &TempDir) -> (TempDir, PathBuf) {
    let copy = tempfile::tempdir().unwrap();
    let path = import_path(copy.path(), "hall");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(import_path(directory.path(), "hall"), &path).unwrap();
    (copy, path)
}

/// All that is read of the room, in small pages.
fn all(data_dir: &Path) -> Vec<StoredRecord> {
    let recordings = SqliteRecordings::in_data_dir(data_dir);
    let (mut all, mut from) = (Vec::<StoredRecord>::new(), RecordId::default());
    loop {
        let page = recordings.page("hall", from, u64::MAX, 20_000).unwrap();
        let Some(last) = page.last() else { return all };
        from = last.id.next();
        all.extend(page);
    }
}

fn aside(path: &Path) -> usize {
    let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().contains(".corrupt-")).count()
}

#[test]
fn of_a_damaged_import_everything_is_read_that_is_whole() {
    let mut room = Room::open(11, START_MS);
    room.live(60);
    let directory = imported(&room.records);
    let written: HashMap<RecordId, &StoredRecord> =
        room.records.iter().map(|record| (record.id, record)).collect();
    let pages = fs::metadata(import_path(directory.path(), "hall")).unwrap().len() as usize / PAGE;
    let mut random = StdRng::seed_from_u64(1);
    // All of a page, its beginning, where its structure is, or something in it.
    for (page, length) in (0..pages).flat_map(|page| [(page, PAGE), (page, 64), (page, 63)]) {
        let (copy, path) = copy_of(&directory);
        let mut noise = vec![0; length];
        random.fill_bytes(&mut noise);
        let within = if length == 63 { random.random_range(0..PAGE - length) } else { 0 };
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&noise, (page * PAGE + within) as u64).unwrap();
        let found = all(copy.path());
        assert!(found.is_sorted_by(|a, b| a.id < b.id), "once and in order, page {page}");
        let whole: Vec<_> = found.iter().filter(|record| !record.payload.is_empty()).collect();
        assert!(whole.iter().all(|record| written.get(&record.id) == Some(record)), "as it was, page {page}");
        let lost = room.records.len() - whole.len();
        assert!(lost <= RECORDS_PER_PAGE, "{lost} of {} are gone with page {page}", room.records.len());
        assert!(found.len() > whole.len() || lost == 0 || aside(&path) == 1, "told, page {page}");
    }
    for cut in [5, 100, PAGE, PAGE * 3 + 100, PAGE * pages / 2, PAGE * pages - 1] {
        let (copy, path) = copy_of(&directory);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
        let mut found = all(copy.path());
        found.retain(|record| !record.payload.is_empty());
        assert!(found.iter().all(|record| written.get(&record.id) == Some(&record)), "cut off at {cut}");
        if cut > PAGE * pages / 3 {
            assert!(found.len() > room.records.len() / 4, "{} are left of {cut} bytes", found.len());
        }
    }
}

#[tokio::test]
async fn a_damaged_import_is_told_with_what_was_recorded_here() {
    let mut room = Room::open(12, START_MS);
    room.live(40);
    let directory = imported(&room.records);
    let path = import_path(directory.path(), "hall");
    let mut later = Room::open(13, START_MS + 10_000_000);
    later.live(10);
    write(directory.path(), "hall", &later.records);
    let expected = [told(&room.records, &Wish::default()), told(&later.records, &Wish::default())].concat();
    let rig = Rig::over_files(directory.path());
    let read = rig.stream("hall/replay").await.lines();
    assert!(expected.iter().all(|line| read.contains(line)));

    // Its structure is gone, its records are there.
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xff; 16], 40).unwrap();
    let rig = Rig::over_files(directory.path());
    assert_eq!(rig.stream("hall/replay").await.lines(), read);
    assert_eq!(aside(&path), 1);

    // Nothing of it is there.
    fs::write(&path, "no recording at all").unwrap();
    let rig = Rig::over_files(directory.path());
    assert_eq!(rig.stream("hall/replay").await.lines(), told(&later.records, &Wish::default()));
    assert_eq!(rig.stream("hall/replay").await.lines(), told(&later.records, &Wish::default()));
    assert_eq!((aside(&path), fs::read(&path).unwrap()), (1, b"no recording at all".to_vec()));
}

#[tokio::test]
async fn a_damaged_import_that_cannot_be_mended_now_is_not_passed_off_as_whole() {
    let mut room = Room::open(14, START_MS);
    room.live(60);
    let (copy, path) = copy_of(&imported(&room.records));
    let middle = fs::metadata(&path).unwrap().len() as usize / PAGE / 2 * PAGE;
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xff; PAGE], middle as u64).unwrap();
    // Nobody can lock that.
    let lock = path.with_file_name("lock");
    fs::create_dir(&lock).unwrap();
    let rig = Rig::over_files(copy.path());
    for _ in 0..2 {
        rig.array("hall/replay").await.check_error(503, "The recording cannot be read now");
    }
    let recordings = SqliteRecordings::in_data_dir(copy.path());
    let file = copy.path().join("hall.rec");
    let exported = export_to_file(&recordings, "hall", (0, u64::MAX), &file, false, |_| {});
    assert!(matches!(exported, Err(TransferError::Read(_))), "{exported:?}");
    assert!(!file.exists());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "nothing is left of the attempts");

    fs::remove_dir(&lock).unwrap();
    let read = rig.stream("hall/replay").await.lines();
    assert!(read.len() > told(&room.records, &Wish::default()).len() / 2);
    assert_eq!(aside(&path), 1);
}

#[test]
fn an_import_of_a_newer_version_stays_as_it_is() {
    let mut room = Room::open(15, START_MS);
    room.live(10);
    let (copy, path) = copy_of(&imported(&room.records));
    let set_format = |format: i32| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&format.to_be_bytes(), FORMAT_AT).unwrap();
    };
    set_format(2);
    let written = fs::read(&path).unwrap();
    let recordings = SqliteRecordings::in_data_dir(copy.path());
    for _ in 0..2 {
        let error = recordings.page("hall", RecordId::default(), u64::MAX, 20_000).unwrap_err();
        assert!(error.to_string().contains("format 2"), "{error}");
    }
    assert_eq!((aside(&path), fs::read(&path).unwrap() == written), (0, true));
    // No version will ever have these.
    for (times, format) in [(1, -1), (2, i32::MAX)] {
        set_format(format);
        assert_eq!(all(copy.path()), room.records);
        assert_eq!(aside(&path), times);
    }
}

#[test]
fn an_import_that_nobody_lets_us_see_is_not_absent() {
    let directory = tempfile::tempdir().unwrap();
    let path = import_path(directory.path(), "hall");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // It leads to itself.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    SqliteRecordings::in_data_dir(directory.path()).span("hall").unwrap_err();
}
