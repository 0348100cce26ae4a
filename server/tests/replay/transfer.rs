//! Recordings into a file and out of one, by the program itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use replay::archive::{Header, Writer};
use replay::{RecordId, RecordKind, StoredRecord};
use serde_json::Value;
use server::replay::query::Query;
use server::replay::sqlite::{SqliteRecordings, import_path};
use server::replay::transfer::{self, TransferError, Transferred};
use server::replay::walk::{Form, Progress, STEP_BYTES, Walk};
use tempfile::{TempDir, tempdir};

use crate::naive::{Wish, told};
use crate::rig::Rig;
use crate::room::{Room, START_MS, write};

/// The year 2100.
const FUTURE_MS: u64 = 4_102_444_800_000;

/// Runs `copresence replay …` on a data directory.
fn replay(data_dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_copresence"))
        .arg("replay")
        .args(arguments)
        .env_clear()
        .env("DATA_DIR", data_dir)
        .output()
        .unwrap()
}

fn succeeds(data_dir: &Path, arguments: &[&str], said: &str) {
    let output = replay(data_dir, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.contains(said), "{arguments:?}: {error}");
}

fn fails(data_dir: &Path, arguments: &[&str], code: i32, said: &str) {
    let output = replay(data_dir, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(error.starts_with("copresence: ") && error.contains(said), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// A directory with the recording of a room called hall.
fn recorded(seed: u64) -> (TempDir, Room) {
    let directory = tempdir().unwrap();
    let mut room = Room::open(seed, START_MS);
    room.live(45);
    write(directory.path(), "hall", &room.records);
    (directory, room)
}

/// Files in the folder of imports, its lock not counted.
fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != "lock").count()
}

#[tokio::test]
async fn a_recording_goes_from_one_server_to_another() {
    let (directory, room) = recorded(1);
    let (elsewhere, file) = (tempdir().unwrap(), directory.path().join("hall.rec"));
    let file = file.to_str().unwrap();
    // Somebody reads, as a server would.
    let here = Rig::over_files(directory.path());
    let all = here.stream("hall/replay").await.lines();
    succeeds(directory.path(), &["export", "--room", "hall", file], "exported ");
    assert_eq!(here.stream("hall/replay").await.lines(), all);

    let there = Rig::over_files(elsewhere.path());
    there.array("hall/replay").await.check_error(404, "Room not found");
    succeeds(elsewhere.path(), &["import", file], r#"of the room "hall""#);
    assert_eq!(there.stream("hall/replay").await.lines(), all);
    assert_eq!(all, told(&room.records, &Wish::default()));
    let imports = elsewhere.path().join("replay/imports");
    assert_eq!(files(&imports), 1, "nothing else is left");

    succeeds(elsewhere.path(), &["import", "--room", "a/../b", file], r#"of the room "a/../b""#);
    assert_eq!(there.stream("a%2F..%2Fb/replay").await.lines(), all);
    fails(elsewhere.path(), &["import", file], 1, "--force replaces it");
    succeeds(elsewhere.path(), &["import", "--force", file], "imported ");
    assert_eq!(there.stream("hall/replay").await.lines(), all);
    assert_eq!(files(&imports), 2);
}

#[tokio::test]
async fn a_part_of_a_recording_is_told_as_in_the_whole() {
    let (directory, room) = recorded(2);
    let elsewhere = tempdir().unwrap();
    let wish = Wish { from_ms: Some(START_MS + 12_345), to_ms: Some(START_MS + 33_333), ..Wish::default() };
    let (from, to) = ((START_MS + 12_345).to_string(), (START_MS + 33_333).to_string());
    let output = replay(directory.path(), &["export", "--room=hall", "--from", &from, "--to", &to, "-"]);
    assert!(output.status.success());
    let file = elsewhere.path().join("part.rec");
    fs::write(&file, output.stdout).unwrap();
    succeeds(elsewhere.path(), &["import", file.to_str().unwrap()], "imported ");
    let there = Rig::over_files(elsewhere.path());
    let lines = there.stream(&format!("hall/replay?{}", wish.query())).await.lines();
    assert_eq!(lines, told(&room.records, &wish));
    assert!(there.stream("hall/replay").await.lines().len() < told(&room.records, &Wish::default()).len());
}

#[test]
fn what_does_not_work_is_said_and_leaves_nothing_behind() {
    let (directory, _) = recorded(3);
    let data = directory.path();
    let file = data.join("hall.rec");
    let path = file.to_str().unwrap();
    fails(data, &["export", "--room", "nowhere", path], 1, r#"no recording of the room "nowhere""#);
    fails(data, &["export", "--room", "hall", "--to", "5", path], 1, "no recording of the room");
    fails(data, &["export", "--room", "hall", "--from", "5", "--to", "4", path], 1, "--to is before --from");
    fails(data, &["export", "--room", "hall", "/nowhere/at/all"], 1, "/nowhere/at/all: ");
    fails(data, &["export", path], 2, "--room");
    assert!(!file.exists());
    succeeds(data, &["export", "--room", "hall", path], "exported ");
    fails(data, &["export", "--room", "hall", path], 1, "is there already");
    succeeds(data, &["export", "--room", "hall", "--force", path], "exported ");

    let whole = fs::read(&file).unwrap();
    let imports = data.join("replay/imports");
    fails(data, &["import", "/nowhere/at/all"], 1, "/nowhere/at/all: ");
    for (bytes, said) in [
        (Vec::new(), "recording"),
        (b"a text, and rather a long one".to_vec(), "not a recording"),
        (whole[..whole.len() / 2].to_vec(), "cut short"),
        (whole[..whole.len() - 1].to_vec(), "cut short"),
    ] {
        fs::write(&file, bytes).unwrap();
        fails(data, &["import", path], 1, said);
    }
    for at in (0..whole.len()).step_by(whole.len() / 7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        fails(data, &["import", path], 1, "recording");
    }
    fs::write(&file, &whole).unwrap();
    fails(data, &["import", "--room", "", path], 1, "no room can have the id");
    assert_eq!(files(&imports), 0);
    succeeds(data, &["import", path], "imported ");
}

/// A directory into which the recording of a room called hall was imported.
pub(crate) fn imported(records: &[StoredRecord]) -> TempDir {
    let (there, here) = (tempdir().unwrap(), tempdir().unwrap());
    write(there.path(), "hall", records);
    let file = there.path().join("hall.rec");
    let path = file.to_str().unwrap();
    succeeds(there.path(), &["export", "--room", "hall", path], "exported ");
    succeeds(here.path(), &["import", path], "imported ");
    here
}

#[tokio::test]
async fn what_is_dated_in_the_future_is_told_page_by_page() {
    let mut room = Room::open(4, FUTURE_MS);
    room.live(30);
    let directory = imported(&room.records);
    let rig = Rig::over_files(directory.path());
    let expected = told(&room.records, &Wish::default());
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..=expected.len() / 50 {
        let page = rig.array(&format!("hall/replay?limit=50&cursor={cursor}")).await;
        items.extend(page.items());
        cursor = page.header("x-next-cursor").unwrap_or_default().to_owned();
    }
    let expected: Vec<Value> = expected.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((items, cursor.as_str()), (expected, ""));
}

#[test]
fn what_is_dated_in_the_future_is_read_a_piece_at_a_time() {
    let mut room = Room::open(5, FUTURE_MS);
    room.live(120);
    let directory = imported(&room.records);
    let recordings = Arc::new(SqliteRecordings::in_data_dir(directory.path()));
    let query = Query { limit: Some(u64::MAX), ..Query::default() };
    let begun = Walk::begin(recordings, "hall".into(), &query, Form::Lines, usize::MAX, || START_MS);
    let (mut walk, mut lines) = (begun.unwrap().unwrap(), Vec::new());
    loop {
        let mut text = Vec::new();
        let progress = walk.step(&mut text).unwrap();
        assert!(text.len() < STEP_BYTES + 1_024, "{} bytes at once", text.len());
        lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
        if progress != Progress::More {
            assert_eq!(progress, Progress::Whole);
            break;
        }
    }
    assert!(lines == told(&room.records, &Wish::default()));
}

#[tokio::test]
async fn what_a_killed_import_left_is_not_mixed_with_the_next() {
    let (directory, room) = recorded(6);
    let data = directory.path();
    let (hall, other) = (data.join("hall.rec"), data.join("other.rec"));
    succeeds(data, &["export", "--room", "hall", hall.to_str().unwrap()], "exported ");
    let mut elsewhere = Room::open(7, START_MS + 500);
    elsewhere.live(20);
    write(data, "other", &elsewhere.records);
    succeeds(data, &["export", "--room", "other", other.to_str().unwrap()], "exported ");

    let there = tempdir().unwrap();
    let imports = there.path().join("replay/imports");
    succeeds(there.path(), &["import", "--room", "hall", other.to_str().unwrap()], "imported ");
    let kept = import_path(there.path(), "hall");
    // As they are called whose processes all have the same number, and this one's own.
    for number in [1, std::process::id()] {
        let left = format!("{}.{number}.begun", kept.display());
        fs::copy(&kept, &left).unwrap();
        fs::write(format!("{left}-wal"), "a log").unwrap();
    }
    fs::remove_file(&kept).unwrap();
    succeeds(there.path(), &["import", hall.to_str().unwrap()], "imported ");
    assert_eq!(files(&imports), 1);
    let told_there = Rig::over_files(there.path()).stream("hall/replay").await.lines();
    assert_eq!(told_there, told(&room.records, &Wish::default()));
}

#[test]
fn an_import_takes_its_name_only_under_the_lock_and_if_it_is_free() {
    let (directory, _) = recorded(8);
    let (path, there) = (directory.path().join("long.rec"), tempdir().unwrap());
    let header = Header { room: "hall".into(), options: "{}".into() };
    let mut writer = Writer::new(fs::File::create(&path).unwrap(), &header).unwrap();
    // So many that it is told how far it has come.
    for ms in 0..5_000 {
        let payload = b"a record".as_slice().into();
        writer
            .record(&StoredRecord { id: RecordId::at(START_MS + ms), kind: RecordKind::Event, payload })
            .unwrap();
    }
    writer.finish().unwrap();
    let imports = there.path().join("replay/imports");
    let (lock, kept) = (imports.join("lock"), import_path(there.path(), "hall"));

    let take_lock = |_: &Transferred| {
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
    };
    let error = transfer::import(&path, None, there.path(), false, take_lock).unwrap_err();
    assert!(matches!(error, TransferError::File(..)), "{error}");
    fs::remove_dir(&lock).unwrap();
    assert_eq!(files(&imports), 0);

    let be_first = |_: &Transferred| fs::write(&kept, "another one").unwrap();
    let error = transfer::import(&path, None, there.path(), false, be_first).unwrap_err();
    assert!(matches!(error, TransferError::Exists(_)), "{error}");
    assert_eq!((files(&imports), fs::read(&kept).unwrap()), (1, b"another one".to_vec()));
    transfer::import(&path, None, there.path(), true, |_| {}).unwrap();
    assert_eq!(files(&imports), 1);
}
