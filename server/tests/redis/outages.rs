//! Redis away, in every way that it can be.

use replay::RecordKind::{Event, Keyframe, KeyframeUnchanged, Poses};
use server::journal::backend::Backend as _;
use server::journal::table::Table;
use server::redis::{HOUR_MS, KEPT_AFTER_SHIPPING, SPOOL};

use crate::ids_in;
use crate::programs::RedisServer;
use crate::site::{Site, TTL, now_ms, object, until};

#[tokio::test]
async fn refused_at_the_start() {
    let mut server = RedisServer::stopped(&[]);
    let mut site = Site::start(&server.url()).await;
    let health = site.health();
    assert!(!health.connected && health.away_since_ms.is_some() && health.last_error.is_some(), "{health:?}");
    site.make_room("a").await;
    site.put("a", object("1", 1)).await;
    for _ in 0..100 {
        site.write("a", &[Event, Poses, Keyframe]);
    }
    assert_eq!(site.health().waiting_records, 200);
    site.read(|recordings| server::replay::recordings::Recordings::span(recordings, "a")).await.unwrap_err();
    server.restart();
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
    assert_eq!(site.recording("a").await.len(), 300, "poses have waited, too");
    assert_eq!(site.health().away_since_ms, None);
    let value: String = server.command(&["HGET", &server::redis::RoomKeys::of("a").objects(), "1"]);
    assert!(value.contains("1.50000000000000000001"), "{value}");
}

#[tokio::test]
async fn away_over_a_restart_of_the_server() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut site = Site::start(&server.url()).await;
    site.write("a", &[Keyframe, Event, Event]);
    site.settled().await;
    server.kill();
    site.away().await;
    site.write("a", &[Event, Event, Poses]);
    let mut site = site.restarted(&server.url()).await;
    let last = site.backend.last_id("a").unwrap().unwrap();
    assert!(last >= site.reliable["a"].last().unwrap().0);
    site.write("a", &[Event]);
    server.restart();
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_writing() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    for round in 1..=5 {
        for _ in 0..200 {
            site.write("a", &[Event, Poses]);
            site.write("b", &[Event]);
            tokio::task::yield_now().await;
        }
        // In the midst of it: most of this is still on its way.
        server.kill();
        site.put("a", object("1", round)).await;
        site.put("a", object(&format!("of round {round}"), 1)).await;
        site.write("a", &[Event]);
        site.away().await;
        site.write("b", &[Event]);
        server.restart();
    }
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
    let count: usize = server.command(&["HLEN", &server::redis::RoomKeys::of("a").objects()]);
    assert_eq!(count, 6);
    assert_eq!((site.health().dropped, site.health().setbacks), (0, 0));
}

#[tokio::test]
async fn restarted_empty() {
    let mut server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    site.put("a", object("1", 3)).await;
    for _ in 0..500 {
        site.write("a", &[Event]);
        site.write("b", &[Event, Poses]);
    }
    site.settled().await;
    site.backend.tend(now_ms());
    server.kill();
    server.restart();
    assert_eq!(server.command::<usize>(&["DBSIZE"]), 0);
    site.write("b", &[Event]);
    until(
        || "both rooms are back".to_owned(),
        || ids_in(&server, "a").len() + ids_in(&server, "b").len() == 1_001,
    )
    .await;
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
    let objects: Vec<String> = server.command(&["HKEYS", &server::redis::RoomKeys::of("a").objects()]);
    assert_eq!(objects, ["1"]);
}

#[tokio::test]
async fn back_empty_after_a_long_time() {
    let mut server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    site.write("a", &[Event; 100]);
    site.settled().await;
    let kept_ms = KEPT_AFTER_SHIPPING.as_millis() as u64;
    site.backend.tend(now_ms());
    server.kill();
    site.away().await;
    for later in 1..=3 {
        site.backend.tend(now_ms() + later * kept_ms);
    }
    site.write("a", &[Event]);
    server.restart();
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;

    // Now that Redis has it, it goes in time.
    let rows = |site: &Site| Table::open_to_read(&site.directory.path().join(SPOOL)).unwrap().rows().unwrap();
    assert_eq!(rows(&site), Some((1, 101)));
    site.backend.tend(now_ms() + 4 * kept_ms);
    site.backend.tend(now_ms() + 6 * kept_ms);
    assert_eq!(rows(&site), Some((101, 101)), "the newest stays, so that numbers only grow");
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn away_for_longer_than_recordings_are_kept() {
    let mut server = RedisServer::stopped(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut site = Site::start(&server.url()).await;
    // More than is sent at once, of an hour that has been over for longer than that.
    site.go_to(now_ms() - 2 * HOUR_MS - TTL.as_millis() as u64);
    for _ in 0..50 {
        let entries = [site.entry("a", Event, 100_000), site.entry("b", Poses, 1_000)];
        site.backend.write(&entries).unwrap();
    }
    site.go_to(now_ms());
    site.write("a", &[Event, Keyframe]);
    site.write("b", &[Event]);
    server.restart();
    for _ in 0..2 {
        site.settled().await;
        for (room, expired) in [("a", 50), ("b", 0)] {
            let kept = site.reliable[room][expired..].iter().map(|(id, ..)| *id);
            assert_eq!(ids_in(&server, room), kept.collect::<Vec<_>>(), "of room {room}");
        }
        let health = site.health();
        assert_eq!((health.dropped, health.setbacks, site.backend.losses()), (100, 0, 0));
        // The spool still has what was dropped, and offers it again.
        server.kill();
        site.away().await;
        server.restart();
        site.write("a", &[Event]);
    }
}

#[tokio::test]
async fn emptied_by_somebody_else() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    site.put("a", object("1", 3)).await;
    site.write("a", &[Event, Poses, Event]);
    site.settled().await;
    server.command::<()>(&["FLUSHALL"]);
    // Nobody writes to the room any more: that it is gone has to be found out.
    until(|| "the recording is back".to_owned(), || ids_in(&server, "a").len() == 2).await;
    until(
        || "the object is back".to_owned(),
        || server.command::<usize>(&["HLEN", &server::redis::RoomKeys::of("a").objects()]) == 1,
    )
    .await;
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn emptied_of_more_than_is_kept_here() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    let kept_ms = KEPT_AFTER_SHIPPING.as_millis() as u64;
    for setbacks in 0..3 {
        for room in ["a", "b"] {
            site.write(room, &[Keyframe, Event, KeyframeUnchanged]);
        }
        site.settled().await;
        assert_eq!((site.backend.losses(), site.health().setbacks), (setbacks, setbacks));
        // A connection that is being made anew keeps what was shipped, so this may take more than one time.
        let (backend, spool) = (&mut site.backend, site.directory.path().join(SPOOL));
        let mut time_ms = now_ms();
        let is_empty = || {
            backend.tend(time_ms);
            time_ms += 2 * kept_ms;
            // The last row always stays; it is of the other room.
            let rows = Table::open_to_read(&spool).and_then(|table| table.rows()).unwrap();
            rows.is_none_or(|(first, last)| first == last)
        };
        until(|| "nothing of it is kept here".to_owned(), is_empty).await;
        server.command::<()>(&["FLUSHALL"]);
        // Only then do rooms write down again what later records refer to.
        let is_found = || site.backend.losses() > setbacks;
        until(|| "it is found out that the keyframes are gone".to_owned(), is_found).await;
        assert_eq!(ids_in(&server, "a").len(), 0, "there was nothing left to be sent again");
    }
}

#[tokio::test]
async fn restarted_as_it_was_before() {
    let mut server = RedisServer::start(&["--dbfilename", "dump.rdb"]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    site.put("a", object("deleted later", 1)).await;
    site.put("a", object("changed later", 1)).await;
    for _ in 0..100 {
        site.write("a", &[Event, Poses]);
    }
    site.settled().await;
    server.command::<()>(&["SAVE"]);
    site.delete("a", "deleted later").await;
    site.put("a", object("changed later", 2)).await;
    for _ in 0..100 {
        site.write("a", &[Event, Poses]);
    }
    site.settled().await;
    // What is forgotten in the outbox can only be found by a comparison.
    site.sqlite.copied(u64::MAX / 2).await.unwrap();
    server.kill();
    site.away().await;
    server.restart();
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
    let key = server::redis::RoomKeys::of("a").objects();
    until(
        || "the object that was deleted is gone".to_owned(),
        || server.command::<Vec<String>>(&["HKEYS", &key]) == ["changed later"],
    )
    .await;
    assert!(server.command::<String>(&["HGET", &key, "changed later"]).contains(r#""version":2"#));
    assert_eq!(site.objects("a").await, [object("changed later", 2)], "nothing came back here");
}

#[tokio::test]
async fn what_is_sent_again_is_kept_anew() {
    let mut server = RedisServer::start(&["--dbfilename", "dump.rdb"]);
    let mut site = Site::start(&server.url()).await;
    server.command::<()>(&["SAVE"]);
    site.write("a", &[Event; 100]);
    site.settled().await;
    let kept_ms = KEPT_AFTER_SHIPPING.as_millis() as u64;
    let rows = |site: &Site| Table::open_to_read(&site.directory.path().join(SPOOL)).unwrap().rows().unwrap();
    // It comes back as it was before, and once more before it has written down anything.
    let mut time_ms = now_ms();
    for _ in 0..2 {
        site.backend.tend(time_ms);
        server.kill();
        site.away().await;
        server.restart();
        site.settled().await;
        time_ms += kept_ms + 1;
        site.backend.tend(time_ms);
        assert_eq!(rows(&site), Some((1, 100)));
        site.check(|room| Some(ids_in(&server, room))).await;
    }
    // Another connection alone renews nothing, or what changes its connection often would be kept for ever.
    server.command::<()>(&["SAVE"]);
    server.kill();
    site.away().await;
    site.backend.tend(time_ms + 1);
    server.restart();
    site.settled().await;
    site.backend.tend(time_ms + kept_ms + 1);
    assert_eq!(rows(&site), Some((100, 100)));
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn paused_and_going_on() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    for round in 1..=2 {
        server.pause();
        for _ in 0..100 {
            site.write("a", &[Event, Poses]);
        }
        site.put("a", object("1", round)).await;
        site.away().await;
        for _ in 0..100 {
            site.write("a", &[Event]);
        }
        server.go_on();
        site.settled().await;
    }
    site.check(|room| Some(ids_in(&server, room))).await;
    assert_eq!(site.health().dropped, 0);
}

#[tokio::test]
async fn full_and_then_larger() {
    let server = RedisServer::start(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
    let mut site = Site::start(&server.url()).await;
    site.make_room("a").await;
    while site.health().connected {
        let entries = [(); 20].map(|()| site.entry("a", Event, 10_000));
        site.backend.write(&entries).unwrap();
        tokio::task::yield_now().await;
    }
    assert!(site.health().last_error.unwrap().contains("OOM"));
    site.put("a", object("1", 1)).await;
    // It can still be read, and what it lacks is here.
    site.check(|_| None).await;
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    site.settled().await;
    site.check(|room| Some(ids_in(&server, room))).await;
}

#[tokio::test]
async fn read_before_and_after() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut site = Site::start(&server.url()).await;
    site.write("a", &[Event]);
    site.settled().await;
    site.check(|_| None).await;
    server.kill();
    site.away().await;
    server.restart();
    site.settled().await;
    // The first reader after that is not told that its connection of before is gone.
    site.check(|_| None).await;
}
