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
use tempfile::TempDir;

use crate::naive::{Wish, told};
use crate::rig::Rig;
use crate::room::{Room, START_MS, write};
use crate::transfer::imported;

const PAGE: usize = 4_096;

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
