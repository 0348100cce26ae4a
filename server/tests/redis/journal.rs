//! Recordings while Redis is there, and the limits of what waits for it.

use replay::RecordId;
use replay::RecordKind::{Event, Keyframe, KeyframeUnchanged, Poses};
use server::journal::backend::Backend as _;
use server::redis::{HOUR_MS, Nodes, POSE_BYTES_MAX, RECORDED, RoomKeys, SPOOL, hour_of};
use server::replay::recordings::Recordings as _;
use tokio::sync::oneshot;

use crate::ids_in;
use crate::programs::{PATIENCE, ROUNDS, RedisServer};
use crate::site::{Site, TTL, now_ms, until};

#[tokio::test]
async fn what_is_written_is_read_back() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    assert!(site.health().connected, "{:?}", site.health());
    // From one hour into the next.
    let hour = hour_of(now_ms());
    site.go_to(hour - 60);
    for _ in 0..30 {
        site.write("a", &[Keyframe, Event, Poses, KeyframeUnchanged, Poses]);
        site.write("b/{b}", &[Event]);
    }
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
    let all = site.recording("a").await;
    assert_eq!(all.len(), 150, "poses as well");

    let first = site.reliable["a"][0].0;
    let last = all.last().unwrap().id;
    let span = site.read(|recordings| recordings.span("a")).await.unwrap().unwrap();
    assert_eq!((span.first, span.last), (first, last));
    assert!(site.read(|recordings| recordings.span("nowhere")).await.unwrap().is_none());

    for record in &all {
        let at_ms = record.id.ms;
        let expected = all
            .iter()
            .rev()
            .find(|record| record.id.ms <= at_ms && matches!(record.kind, Keyframe | KeyframeUnchanged));
        let found = site.read(move |recordings| recordings.keyframe_before("a", at_ms)).await.unwrap();
        assert_eq!(found.as_ref(), expected);
    }
    let until_ms = all[70].id.ms;
    let part = site.read(move |recordings| recordings.page("a", RecordId::at(1), until_ms, usize::MAX / 2));
    assert_eq!(part.await.unwrap(), all[..=70]);
}

#[tokio::test]
async fn hours_go_by_themselves() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    let hour = hour_of(now_ms());
    site.go_to(hour);
    site.write("a", &[Keyframe, Event]);
    site.settled().await;
    let keys = RoomKeys::of("a");
    let goes_s = (hour + HOUR_MS) / 1000 + TTL.as_secs();
    for key in [keys.stream(hour), keys.keyframes(hour)] {
        assert_eq!(server.command::<u64>(&["EXPIRETIME", &key]), goes_s);
    }
    assert!(server.command::<u64>(&["EXPIRETIME", &keys.hours()]) >= goes_s);
    let listed: Vec<String> = server.command(&["ZRANGE", RECORDED, "0", "-1"]);
    assert_eq!(listed, ["a"]);
    // Nothing else has been made, and nothing else stays for ever.
    let mut all: Vec<String> = server.command(&["KEYS", "*"]);
    all.sort();
    let mut expected = vec![
        keys.hours(),
        keys.keyframes(hour),
        keys.stream(hour),
        RECORDED.into(),
        "copresence:writer".into(),
    ];
    expected.sort();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn a_receipt_waits_for_a_redis_that_is_there_and_for_no_other() {
    let mut server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    let mut at_once = 0;
    for count in 1..=ROUNDS {
        server.hold_writes();
        site.write("a", &[Event]);
        let (receipt, given) = oneshot::channel();
        site.backend.confirm(vec![receipt]);
        tokio::time::timeout(PATIENCE, given).await.unwrap().unwrap();
        at_once += usize::from(ids_in(&server, "a").len() == count);
    }
    // A wait that was too long is no failure, but it must not be the rule.
    assert!(at_once >= ROUNDS / 2, "{at_once} of {ROUNDS}");
    server.kill();
    site.away().await;
    site.write("a", &[Event]);
    let (receipt, mut given) = oneshot::channel();
    site.backend.confirm(vec![receipt]);
    given.try_recv().expect("at once");
    server.restart();
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn poses_that_wait_are_limited_and_counted() {
    let server = RedisServer::stopped(&[]);
    let mut site = Site::start(&server.url()).await;
    let bytes = POSE_BYTES_MAX / 8;
    for written in 0..20 {
        assert_eq!(site.backend.is_behind(), written >= 4, "after {written}");
        let entry = site.entry("a", Poses, bytes);
        site.backend.write(&[entry]).unwrap();
    }
    assert!((12..=13).contains(&site.health().dropped), "{:?}", site.health());
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_says_so() {
    let mut server = RedisServer::stopped(&[]);
    let nodes = Nodes::parse(&server.url()).unwrap();
    let mut site = Site::with(tempfile::tempdir().unwrap(), nodes, 512 * 1024).await;
    for _ in 0..100 {
        let entries = [(); 20].map(|()| site.entry("a", Event, 1_000));
        site.backend.write(&entries).unwrap();
        site.backend.tend(now_ms());
    }
    let health = site.health();
    assert!(health.dropped > 1_000 && health.spool_bytes < 1024 * 1024, "{health:?}");
    server.restart();
    site.settled().await;
    let dropped = site.health().dropped as usize;
    let expected: Vec<_> = site.reliable["a"][dropped..].iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids_in(&server, "a"), expected, "all but the oldest");
}

#[tokio::test]
async fn a_damaged_spool_is_put_together_anew() {
    let mut server = RedisServer::stopped(&[]);
    let mut site = Site::start(&server.url()).await;
    for _ in 0..300 {
        site.write("a", &[Event, Keyframe]);
        site.write("b", &[Event]);
    }
    let reliable = site.reliable.clone();
    let directory = site.end().await;
    let path = directory.path().join(SPOOL);
    let mut bytes = std::fs::read(&path).unwrap();
    // Two pages that only reading will find.
    let middle = bytes.len() / 8_192 * 4_096;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    server.restart();
    let mut site = Site::with(directory, Nodes::parse(&server.url()).unwrap(), u64::MAX).await;
    site.go_to(now_ms() + 10_000);
    site.write("a", &[Event]);
    // The journal's thread looks after its backend once a second.
    until(
        || format!("{:?}", site.redis.health()),
        || {
            site.backend.tend(now_ms());
            site.redis.health().connected && site.redis.health().waiting_records == 0
        },
    )
    .await;
    for (room, written) in &reliable {
        let found: Vec<_> = ids_in(&server, room);
        assert!(found.is_sorted(), "in order");
        let is_known =
            |id: &RecordId| written.iter().any(|(known, ..)| known == id) || *id == site.reliable["a"][0].0;
        assert!(found.iter().all(is_known));
        assert!(found.len() > written.len() / 2, "{} of {}", found.len(), written.len());
    }
    let aside = std::fs::read_dir(site.directory.path()).unwrap();
    let names = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().any(|name| name.starts_with("spool.db.corrupt-")));
}
