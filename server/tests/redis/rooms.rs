//! Rooms and objects, here and in Redis.

use engine::ports::{RoomStore as _, RoomWrite};
use server::redis::{Nodes, RoomKeys};
use server::storage::SqliteStore;

use crate::programs::{PATIENCE, ROUNDS, RedisServer};
use crate::site::{Site, object, room};

#[tokio::test]
async fn a_new_machine_gets_everything() {
    let server = RedisServer::start(&[]);
    let site = Site::start(&server.url()).await;
    for id in ["a", "b", "{c}"] {
        site.make_room(id).await;
        for number in 0..100 {
            site.put(id, object(&number.to_string(), number + 1)).await;
        }
    }
    site.delete("a", "7").await;
    site.settled().await;
    let expected = site.objects("a").await;
    assert_eq!(expected.len(), 99);
    site.end().await;

    let other = Site::start(&server.url()).await;
    let mut rooms = other.store.rooms().await.unwrap();
    rooms.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(rooms, [room("a"), room("b"), room("{c}")]);
    assert_eq!(other.objects("a").await, expected);
    tokio::time::timeout(PATIENCE, other.redis.rooms_arrived()).await.expect("it is told");
}

#[tokio::test]
async fn two_disks_become_one() {
    let server = RedisServer::start(&[]);
    let first = Site::start(&server.url()).await;
    first.make_room("a").await;
    first.put("a", object("old", 1)).await;
    first.put("a", object("gone on the other", 1)).await;
    first.put("a", object("newer on the other", 1)).await;
    first.settled().await;
    let disk = first.end().await;

    let second = Site::start(&server.url()).await;
    second.delete("a", "gone on the other").await;
    second.put("a", object("newer on the other", 5)).await;
    second.put("a", object("of the other", 1)).await;
    second.make_room("b").await;
    second.put("b", object("1", 1)).await;
    second.settled().await;
    second.end().await;

    // The first machine comes back with what it had, and finds that somebody else has been there.
    let nodes = Nodes::parse(&server.url()).unwrap();
    let first = Site::with(disk, nodes, u64::MAX).await;
    first.settled().await;
    assert_eq!(first.objects("b").await, [object("1", 1)]);
    let ids: Vec<_> =
        first.objects("a").await.into_iter().map(|object| (object.id, object.version)).collect();
    let expected = [("gone on the other", 1), ("newer on the other", 5), ("of the other", 1), ("old", 1)];
    assert_eq!(ids, expected.map(|(id, version)| (id.to_owned(), version)), "nothing is lost");
    let count: usize = server.command(&["HLEN", &RoomKeys::of("a").objects()]);
    assert_eq!(count, 4, "there neither");
}

#[tokio::test]
async fn what_redis_has_comes_when_it_is_back() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let first = Site::start(&server.url()).await;
    first.make_room("a").await;
    first.put("a", object("1", 1)).await;
    first.settled().await;
    first.end().await;
    server.kill();

    let second = Site::start(&server.url()).await;
    assert!(!second.health().connected);
    second.make_room("b").await;
    second.put("b", object("2", 1)).await;
    assert_eq!(second.store.rooms().await.unwrap().len(), 1, "it begins with what it has");
    server.restart();
    tokio::time::timeout(PATIENCE, second.redis.rooms_arrived()).await.expect("it is told");
    second.settled().await;
    assert_eq!(second.store.rooms().await.unwrap().len(), 2);
    assert_eq!(second.objects("a").await, [object("1", 1)]);
    let keys: Vec<String> = server.command(&["HKEYS", server::redis::ROOMS]);
    assert_eq!(keys.len(), 2);
}

#[tokio::test]
async fn an_answer_means_that_it_is_there() {
    let server = RedisServer::start(&[]);
    let site = Site::start(&server.url()).await;
    site.make_room("a").await;
    let key = RoomKeys::of("a").objects();
    let mut at_once = 0;
    for version in 1..=ROUNDS as u64 {
        server.hold_writes();
        site.put("a", object("1", version)).await;
        let value: Option<String> = server.command(&["HGET", &key, "1"]);
        let version = format!("\"version\":{version},");
        at_once += usize::from(value.is_some_and(|value| value.contains(&version)));
    }
    // A wait that was too long is no failure, but it must not be the rule.
    assert!(at_once >= ROUNDS / 2, "{at_once} of {ROUNDS}");
}

#[tokio::test]
async fn a_time_without_redis_is_made_up_for() {
    let server = RedisServer::start(&[]);
    let site = Site::start(&server.url()).await;
    site.make_room("a").await;
    site.put("a", object("1", 1)).await;
    site.put("a", object("2", 1)).await;
    site.settled().await;
    let disk = site.end().await;

    let alone = SqliteStore::open(disk.path()).unwrap();
    let write = |write| alone.write(vec![write]);
    write(RoomWrite::PutObject { room: "a".into(), object: object("1", 2) }).await.unwrap();
    write(RoomWrite::DeleteObject { room: "a".into(), id: "2".into() }).await.unwrap();
    alone.close().await.unwrap();

    let site = Site::with(disk, Nodes::parse(&server.url()).unwrap(), u64::MAX).await;
    site.settled().await;
    let found: Vec<(String, String)> = server.command(&["HGETALL", &RoomKeys::of("a").objects()]);
    assert!(found.len() == 1 && found[0].0 == "1" && found[0].1.contains(r#""version":2"#), "{found:?}");
    assert_eq!(site.objects("a").await, [object("1", 2)]);
}

/// The outbox forgets what it has no place for, and everything is compared instead.
#[tokio::test]
async fn more_changes_than_are_remembered() {
    const ROWS_MAX: u64 = 100;
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (directory, nodes) = (tempfile::tempdir().unwrap(), Nodes::parse(&server.url()).unwrap());
    let site = Site::limited(directory, nodes, u64::MAX, ROWS_MAX).await;
    site.make_room("a").await;
    for number in 0..10 {
        site.put("a", object(&number.to_string(), 1)).await;
    }
    site.settled().await;
    server.kill();
    site.away().await;
    // The first of these changes are forgotten by the time Redis is back.
    site.delete("a", "1").await;
    site.put("a", object("2", 2)).await;
    for number in 10..10 + 3 * ROWS_MAX {
        site.put("a", object(&number.to_string(), 1)).await;
    }
    let outbox = site.sqlite.changes(0, usize::MAX / 4).await.unwrap();
    assert!(
        outbox.changes.len() as u64 <= 2 * ROWS_MAX && outbox.forgotten > ROWS_MAX,
        "{}",
        outbox.forgotten
    );
    server.restart();
    site.settled().await;
    site.make_room("b").await;
    site.settled().await;
    let expected = site.objects("a").await;
    let mut found: Vec<String> = server.command(&["HKEYS", &RoomKeys::of("a").objects()]);
    found.sort_unstable();
    assert_eq!(found, expected.iter().map(|object| object.id.clone()).collect::<Vec<_>>());
    let second: String = server.command(&["HGET", &RoomKeys::of("a").objects(), "2"]);
    assert!(second.contains(r#""version":2"#), "{second}");
    assert_eq!(expected.len() as u64, 9 + 3 * ROWS_MAX, "nothing came back here");
}
