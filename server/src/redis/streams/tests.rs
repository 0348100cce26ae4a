//! Hours that go while their records are on the way, with a real server.

use bytes::Bytes;
use prometheus_client::registry::Registry;
use replay::RecordKind;

use super::super::nodes::Nodes;
use super::*;
use crate::clock::now_ms;
use crate::journal::backend::Entry;

#[allow(dead_code, reason = "these tests need only some of it")]
#[path = "../../../tests/redis/programs.rs"]
mod programs;

use programs::RedisServer;

const TTL: Duration = Duration::from_secs(3_600);

/// What there is to send with.
struct Rig {
    server: RedisServer,
    link: Link,
    streams: Streams,
    status: Status,
}

impl Rig {
    async fn start() -> Self {
        let server = RedisServer::start(&[]);
        let nodes = Nodes::parse(&server.url()).expect("a URL");
        let link = Link::connect(&nodes).await.expect("it runs");
        let status = Status::new(&mut Registry::default());
        Self { server, link, streams: Streams::new(TTL, 0), status }
    }

    /// Sends two records of that row and the next one, which happened at `at_ms`. How many were sent, if all went well.
    async fn send(&mut self, row: i64, at_ms: u64, now_ms: u64) -> Result<u64, ShipError> {
        let item = |row: i64| {
            let (id, payload) = (RecordId { ms: at_ms, seq: row as u32 }, Bytes::from_static(b"payload"));
            Item::spooled(row, Entry { room: "a".into(), id, kind: RecordKind::Event, payload })
        };
        let batch = Batch { items: vec![item(row), item(row + 1)], until: row + 1 };
        self.streams.append(&self.link, &batch, now_ms, &self.status).await
    }

    fn counts(&self) -> (u64, u64) {
        (self.status.health().dropped, self.status.setbacks())
    }
}

#[tokio::test]
async fn an_hour_that_goes_between_two_batches_is_no_loss() {
    let mut rig = Rig::start().await;
    let (now, hour) = (now_ms(), hour_of(now_ms()));
    assert_eq!(rig.send(1, now, now).await.unwrap(), 2);
    // The time passes after which Redis takes it away.
    rig.server.command::<()>(&["DEL", &RoomKeys::of("a").stream(hour)]);
    let later = hour + HOUR_MS + TTL.as_millis() as u64 - ABOUT_TO_GO.as_millis() as u64;
    assert_eq!(rig.send(3, now, later).await.unwrap(), 0);
    assert_eq!(rig.counts(), (2, 0), "what was never sent is counted");
    // Another connection, to which everything is offered again.
    rig.streams.forget();
    for row in [1, 3] {
        assert_eq!(rig.send(row, now, later).await.unwrap(), 0);
    }
    assert_eq!(rig.counts(), (2, 0), "once");
    assert_eq!(rig.send(5, later, later).await.unwrap(), 2);
}

#[tokio::test]
async fn an_hour_that_has_gone_by_the_clock_of_redis_only_holds_nothing_up() {
    let mut rig = Rig::start().await;
    let at_ms = now_ms() - 4 * TTL.as_millis() as u64;
    for row in [1, 3] {
        assert_eq!(rig.send(row, at_ms, at_ms).await.unwrap(), 0);
    }
    rig.streams.forget();
    assert_eq!(rig.send(1, at_ms, at_ms).await.unwrap(), 0);
    assert_eq!(rig.counts(), (4, 0));
    assert_eq!(rig.server.command::<Vec<String>>(&["KEYS", "copresence:{*"]), Vec::<String>::new());
    assert_eq!(rig.send(5, now_ms(), now_ms()).await.unwrap(), 2);
}
