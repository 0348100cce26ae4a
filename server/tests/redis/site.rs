//! A server's storage and journal, without the rest of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use engine::ports::{RoomStore as _, RoomWrite, StoredObject, StoredRoom};
use prometheus_client::registry::Registry;
use replay::{RecordId, RecordKind, StoredRecord};
use server::journal::backend::{Backend as _, Entry};
use server::redis::{Nodes, Redis, RedisConfig, RedisHealth, RedisRecordings, RedisStore, SpoolBackend};
use server::replay::recordings::{ReadError, Recordings};
use server::storage::{OUTBOX_ROWS_MAX, SqliteStore};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::programs::PATIENCE;

pub(crate) const TTL: Duration = Duration::from_secs(24 * 3_600);

/// How often a condition is looked at that nothing tells of.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) sqlite: Arc<SqliteStore>,
    pub(crate) redis: Redis,
    pub(crate) backend: SpoolBackend,
    pub(crate) store: RedisStore,
    recordings: Arc<RedisRecordings>,
    /// What was written of each room and must be there.
    pub(crate) reliable: BTreeMap<String, Vec<(RecordId, RecordKind, Bytes)>>,
    next_ms: u64,
}

impl Site {
    pub(crate) async fn start(url: &str) -> Self {
        Self::with(tempfile::tempdir().unwrap(), Nodes::parse(url).unwrap(), u64::MAX).await
    }

    pub(crate) async fn with(directory: TempDir, nodes: Nodes, spool_bytes_max: u64) -> Self {
        Self::limited(directory, nodes, spool_bytes_max, OUTBOX_ROWS_MAX).await
    }

    pub(crate) async fn limited(
        directory: TempDir,
        nodes: Nodes,
        spool_bytes_max: u64,
        outbox_rows_max: u64,
    ) -> Self {
        let sqlite = Arc::new(SqliteStore::open_with_outbox(directory.path(), outbox_rows_max).unwrap());
        let config = RedisConfig { nodes, directory: directory.path().to_owned(), ttl: TTL, spool_bytes_max };
        let (redis, backend) = Redis::start(config, sqlite.clone(), &mut Registry::default()).unwrap();
        redis.first_attempt().await;
        let (store, recordings) = (redis.room_store(), Arc::new(redis.recordings()));
        let reliable = BTreeMap::new();
        Self { directory, sqlite, redis, backend, store, recordings, reliable, next_ms: now_ms() }
    }

    /// The same after its end and a new start.
    pub(crate) async fn restarted(mut self, url: &str) -> Self {
        let (reliable, next_ms) = (std::mem::take(&mut self.reliable), self.next_ms);
        let directory = self.end().await;
        let site = Self::with(directory, Nodes::parse(url).unwrap(), u64::MAX).await;
        Self { reliable, next_ms, ..site }
    }

    /// Ends as a server does; what is on its disk remains.
    pub(crate) async fn end(mut self) -> TempDir {
        self.redis.close().await;
        self.backend.close();
        self.sqlite.close().await.unwrap();
        self.directory
    }

    pub(crate) fn health(&self) -> RedisHealth {
        self.redis.health()
    }

    /// Waits until Redis has everything.
    pub(crate) async fn settled(&self) {
        let is_settled = || {
            let health = self.health();
            health.connected && health.waiting_records == 0 && health.waiting_changes == 0
        };
        until(|| format!("Redis has everything: {:?}", self.health()), is_settled).await;
    }

    pub(crate) async fn away(&self) {
        until(|| "Redis is found to be away".to_owned(), || !self.health().connected).await;
    }

    /// Writes records of the room, with payloads that tell them apart.
    pub(crate) fn write(&mut self, room: &str, kinds: &[RecordKind]) {
        let entries: Vec<Entry> = kinds.iter().map(|kind| self.entry(room, *kind, 40)).collect();
        self.backend.write(&entries).unwrap();
    }

    pub(crate) fn entry(&mut self, room: &str, kind: RecordKind, bytes: usize) -> Entry {
        let id = RecordId { ms: self.next_ms, seq: 3 };
        self.next_ms += 1;
        let mut payload = format!("{room} {id} ").into_bytes();
        payload.resize(payload.len().max(bytes), 0xff);
        let payload = Bytes::from(payload);
        if kind.is_reliable() {
            self.reliable.entry(room.to_owned()).or_default().push((id, kind, payload.clone()));
        }
        Entry { room: room.into(), id, kind, payload }
    }

    /// From then on ids are of that time, Unix ms.
    pub(crate) fn go_to(&mut self, ms: u64) {
        self.next_ms = ms;
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&RedisRecordings) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let recordings = self.recordings.clone();
        tokio::task::spawn_blocking(move || read(&recordings)).await.unwrap()
    }

    /// All records of the room, read in small pages.
    pub(crate) async fn recording(&self, room: &str) -> Vec<StoredRecord> {
        let room = room.to_owned();
        let all = self.read(move |recordings| {
            let (mut all, mut from) = (Vec::<StoredRecord>::new(), RecordId::default());
            loop {
                let page = recordings.page(&room, from, u64::MAX, 1_000)?;
                let Some(last) = page.last() else { return Ok(all) };
                from = last.id.next();
                all.extend(page);
            }
        });
        all.await.unwrap()
    }

    /// Every reliable record is there once and in order, in what is read and, if `streams` says so, in Redis alone.
    pub(crate) async fn check(&self, mut streams: impl FnMut(&str) -> Option<Vec<RecordId>>) {
        for (room, expected) in &self.reliable {
            let found = self.recording(room).await;
            assert!(found.is_sorted_by(|a, b| a.id < b.id), "once and in order");
            let reliable: Vec<_> = found
                .into_iter()
                .filter(|record| record.kind.is_reliable())
                .map(|record| (record.id, record.kind, record.payload))
                .collect();
            assert_eq!(reliable.len(), expected.len(), "of room {room}");
            assert!(reliable == *expected, "what was written of room {room}");
            if let Some(ids) = streams(room) {
                assert_eq!(ids, expected.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), "of room {room}");
            }
        }
    }

    pub(crate) async fn make_room(&self, id: &str) {
        self.store.write(vec![RoomWrite::CreateRoom(room(id))]).await.unwrap();
    }

    pub(crate) async fn put(&self, room: &str, object: StoredObject) {
        self.store.write(vec![RoomWrite::PutObject { room: room.into(), object }]).await.unwrap();
    }

    pub(crate) async fn delete(&self, room: &str, id: &str) {
        let (room, id) = (room.to_owned(), id.to_owned());
        self.store.write(vec![RoomWrite::DeleteObject { room, id }]).await.unwrap();
    }

    /// The objects of a room here, in the order of their ids.
    pub(crate) async fn objects(&self, room: &str) -> Vec<StoredObject> {
        let mut objects = self.store.objects(room).await.unwrap();
        objects.sort_by(|a, b| a.id.cmp(&b.id));
        objects
    }
}

pub(crate) fn room(id: &str) -> StoredRoom {
    StoredRoom { id: id.into(), options: r#"{"maxUsers":8,"persistent":true}"#.into(), created_ms: 7 }
}

pub(crate) fn object(id: &str, version: u64) -> StoredObject {
    let json = format!(r#"{{"version":{version},"exact":1.50000000000000000001}}"#);
    StoredObject { id: id.into(), version, owner: "user_1".into(), json }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A bounded retry: looks again and again until the condition holds.
pub(crate) async fn until(what: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let mut looks = interval(LOOK);
    let holds = async {
        while !condition() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("not in time: {}", what()));
}
