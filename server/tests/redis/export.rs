//! Recordings of before and of elsewhere, with Redis and without it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use replay::RecordKind::{Event, Keyframe, Poses};
use replay::{RecordId, StoredRecord};
use server::journal::backend::Entry;
use server::journal::table::Table;
use server::replay::both::Both;
use server::replay::recordings::{ReadError, Recordings};
use server::replay::sqlite::{SqliteRecordings, import_path};
use tempfile::tempdir;

use crate::programs::RedisServer;
use crate::site::{Site, now_ms};

/// Runs `copresence replay …` on a data directory.
fn replay(data_dir: &Path, url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_copresence"))
        .arg("replay")
        .args(arguments)
        .env_clear()
        .env("DATA_DIR", data_dir)
        .env("REDIS_URL", url)
        .output()
        .expect("it runs")
}

fn succeeds(data_dir: &Path, url: &str, arguments: &[&str]) {
    let output = replay(data_dir, url, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All reliable records that were imported for the room.
fn imported(data_dir: &Path, room: &str) -> Vec<(RecordId, replay::RecordKind, bytes::Bytes)> {
    let table = Table::open_to_read(&import_path(data_dir, room)).expect("it was imported");
    let records =
        table.page(room, RecordId::default(), u64::MAX, usize::MAX).expect("it can be read").records;
    let reliable = records.into_iter().filter(|record| record.kind.is_reliable());
    reliable.map(|StoredRecord { id, kind, payload }| (id, kind, payload)).collect()
}

#[tokio::test]
async fn what_is_in_redis_is_exported_from_here_and_from_elsewhere() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    for _ in 0..200 {
        site.write("a", &[Keyframe, Event, Poses]);
    }
    site.settled().await;
    // What Redis does not have yet is in the spool.
    server.pause();
    site.write("a", &[Event]);
    site.away().await;
    server.go_on();
    let (elsewhere, file) = (tempdir().unwrap(), site.directory.path().join("a.rec"));
    let file = file.to_str().unwrap();
    succeeds(site.directory.path(), &server.url(), &["export", "--room", "a", file]);
    succeeds(elsewhere.path(), &server.url(), &["import", "--room", "from here", file]);
    assert_eq!(imported(elsewhere.path(), "from here"), site.reliable["a"]);

    site.settled().await;
    let other = elsewhere.path().join("a.rec");
    let other = other.to_str().unwrap();
    succeeds(elsewhere.path(), &server.url(), &["export", "--room", "a", other]);
    succeeds(elsewhere.path(), &server.url(), &["import", "--room", "from there", other]);
    assert_eq!(imported(elsewhere.path(), "from there"), site.reliable["a"]);
}

#[tokio::test]
async fn without_redis_there_is_no_part_of_a_recording() {
    let mut server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    site.write("a", &[Event, Event]);
    site.settled().await;
    server.kill();
    let file = site.directory.path().join("a.rec");
    let output =
        replay(site.directory.path(), &server.url(), &["export", "--room", "a", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!file.exists());
}

#[tokio::test]
async fn what_is_only_imported_is_read_without_redis() {
    let mut server = RedisServer::stopped(&[]);
    let mut site = Site::start(&server.url()).await;
    let (old, data_dir) = (now_ms() - 1_000_000_000, site.directory.path().to_owned());
    std::fs::create_dir_all(import_path(&data_dir, "a").parent().unwrap()).unwrap();
    for room in ["a", "b"] {
        let payload = bytes::Bytes::from_static(b"of long ago");
        let entry = Entry { room: room.into(), id: RecordId::at(old), kind: Keyframe, payload };
        Table::open(&import_path(&data_dir, room)).unwrap().insert(&[entry]).unwrap();
    }
    // This one was recorded here as well, which Redis is to have.
    site.write("b", &[Event]);
    let recordings = Arc::new(Both(SqliteRecordings::in_data_dir(&data_dir), site.redis.recordings()));
    let read = |room: &'static str| {
        let recordings = recordings.clone();
        let read = move || {
            let span = recordings.span(room)?;
            let keyframe = recordings.keyframe_before(room, u64::MAX)?;
            let (mut all, mut from) = (Vec::new(), RecordId::default());
            loop {
                let page = recordings.page(room, from, u64::MAX, 1_000)?;
                let Some(last) = page.last() else { return Ok::<_, ReadError>((span, keyframe, all)) };
                from = last.id.next();
                all.extend(page);
            }
        };
        async { tokio::task::spawn_blocking(read).await.unwrap() }
    };
    let (span, keyframe, all) = read("a").await.unwrap();
    assert_eq!((span.unwrap().last, keyframe.unwrap().id), (RecordId::at(old), RecordId::at(old)));
    assert_eq!(all.len(), 1);
    read("b").await.unwrap_err();
    read("never heard of").await.unwrap_err();
    server.restart();
    site.settled().await;
    assert_eq!(read("b").await.unwrap().2.len(), 2);
    assert!(read("never heard of").await.unwrap().0.is_none());
}
