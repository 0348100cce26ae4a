//! Persistent rooms and their objects in Redis: a copy of what this machine's disk has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::ports::{RoomStore as _, StoredObject, StoredRoom};
use redis::RedisResult;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

use super::ShipError;
use super::keys::{ROOMS, RoomKeys, WRITER};
use super::link::Link;
use super::status::Status;
use crate::storage::{Change, Found, SqliteStore};

/// Changes that are copied together.
const CHANGES_MAX: usize = 256;

/// What is found elsewhere and taken over together.
const FOUND_MAX: usize = 256;

/// Fields of a hash that Redis is asked for at once.
const FIELDS_ASKED: usize = 256;

/// The copying of rooms and objects.
#[derive(Debug)]
pub(super) struct Rooms {
    store: Arc<SqliteStore>,
    counted: watch::Receiver<u64>,
    /// Everything up to this number of the outbox is in Redis.
    copied: u64,
    /// The outbox still has what is after this.
    forgotten: u64,
    /// The outbox had more than was taken at once.
    has_more: bool,
    /// Told when the store has got rooms from Redis.
    arrived: Arc<Notify>,
    status: Arc<Status>,
}

/// A room in Redis.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoteRoom {
    created_ms: u64,
    options: Box<RawValue>,
}

/// An object in Redis.
#[derive(Serialize, Deserialize)]
struct RemoteObject {
    version: u64,
    owner: String,
    object: Box<RawValue>,
}

/// What Redis says of who wrote there last.
#[derive(Debug, Default)]
struct Writer {
    id: Option<String>,
    /// How far its outbox was copied.
    seq: u64,
}

/// How two that differ become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nobody else has written there since: what this disk has is right, and nothing else.
    Mirror,
    /// Either may have what the other lacks.
    Merge,
}

impl Rooms {
    pub(super) fn new(store: Arc<SqliteStore>, arrived: Arc<Notify>, status: Arc<Status>) -> Self {
        let counted = store.watch();
        Self { store, counted, copied: 0, forgotten: 0, has_more: true, arrived, status }
    }

    /// Waits for a change.
    pub(super) async fn changed(&mut self) {
        if self.counted.changed().await.is_err() {
            // The store is closed: nothing will change any more.
            std::future::pending::<()>().await;
        }
        self.has_more = true;
    }

    /// Brings both together after a connection has come up.
    pub(super) async fn reconcile(&mut self, link: &mut Link) -> Result<(), ShipError> {
        let (id, seq, at_ms): (Option<String>, Option<u64>, Option<u64>) =
            redis::cmd("HMGET").arg(WRITER).arg("id").arg("seq").arg("at").query_async(link).await?;
        let writer = Writer { id, seq: seq.unwrap_or(0) };
        self.status.floor_ms.fetch_max(at_ms.unwrap_or(0), Ordering::Relaxed);
        let local = self.store.changes(0, 1).await?;
        // A number that this disk has not come to yet was written by it, but the disk was put back since.
        let is_ours = writer.id.as_deref() == Some(self.store.id()) && writer.seq <= local.head;
        self.copied = local.forgotten;
        self.forgotten = local.forgotten;
        if !(is_ours && link.is_single() && writer.seq >= local.forgotten) {
            let mode = if is_ours { Mode::Mirror } else { Mode::Merge };
            tracing::info!(?mode, "rooms and objects are compared with those in Redis");
            self.compare(link, mode).await?;
        }
        redis::cmd("HSET").arg(WRITER).arg("id").arg(self.store.id()).query_async::<()>(link).await?;
        self.has_more = true;
        while self.copy(link).await? {}
        Ok(())
    }

    /// Copies the next changes. Whether there are more.
    pub(super) async fn copy(&mut self, link: &mut Link) -> Result<bool, ShipError> {
        if !self.has_more && !self.counted.has_changed().unwrap_or(false) {
            return Ok(false);
        }
        let count = *self.counted.borrow_and_update();
        let changes = self.store.changes(self.copied, CHANGES_MAX).await?;
        if changes.forgotten > self.copied {
            return Err(ShipError::Overflowed);
        }
        let is_last = changes.until == changes.head;
        self.has_more = !is_last;
        if !changes.changes.is_empty() {
            self.send(link, &changes.changes).await?;
        }
        if changes.until > self.copied {
            self.copied = changes.until;
            let mut command = redis::cmd("HSET");
            command.arg(WRITER).arg("seq").arg(self.copied).query_async::<()>(link).await?;
        }
        self.status.waiting_changes.store(changes.head - changes.until, Ordering::Relaxed);
        if is_last {
            self.status.progress.send_if_modified(|progress| {
                let is_news = progress.change < count;
                progress.change = progress.change.max(count);
                is_news
            });
        }
        Ok(!is_last)
    }

    /// Takes what was copied out of the outbox.
    pub(super) fn forget(&mut self) {
        if self.copied > self.forgotten {
            self.forgotten = self.copied;
            // Nobody needs the answer: what stays in the outbox is copied again, which changes nothing.
            drop(self.store.copied(self.copied));
        }
    }

    async fn send(&self, link: &mut Link, changes: &[Change]) -> Result<(), ShipError> {
        // A pipeline for each run of changes to one key: in a cluster it must stay on one node.
        let key_of = |change: &Change| match change {
            Change::Room(_) => ROOMS.to_owned(),
            Change::Object(room, _) | Change::Gone(room, _) => RoomKeys::of(room).objects(),
        };
        let mut rest = changes;
        while let Some(first) = rest.first() {
            let key = key_of(first);
            let count = rest.iter().take_while(|change| key_of(change) == key).count();
            let (run, others) = rest.split_at(count);
            let mut pipeline = redis::pipe();
            for change in run {
                match change {
                    Change::Room(room) => {
                        pipeline.cmd("HSET").arg(&key).arg(&room.id).arg(room_value(room)?).ignore();
                    }
                    Change::Object(_, object) => {
                        pipeline.cmd("HSET").arg(&key).arg(&object.id).arg(object_value(object)?).ignore();
                    }
                    Change::Gone(_, id) => {
                        pipeline.cmd("HDEL").arg(&key).arg(id).ignore();
                    }
                }
            }
            pipeline.query_async::<()>(link).await?;
            rest = others;
        }
        Ok(())
    }

    async fn compare(&mut self, link: &mut Link, mode: Mode) -> Result<(), ShipError> {
        let mut remote = read_hash(link, ROOMS).await?;
        let mut arrived = 0;
        for room in self.store.rooms().await? {
            let value = room_value(&room)?;
            if remote.remove(&room.id).is_none_or(|found| found != value) {
                self.send(link, &[Change::Room(room.clone())]).await?;
            }
            self.compare_objects(link, mode, &room.id).await?;
        }
        // What is left is not here. Rooms never go, so it comes from elsewhere in either case.
        for (id, value) in remote {
            let Ok(room) = serde_json::from_str::<RemoteRoom>(&value) else {
                return Err(ShipError::Foreign("a room"));
            };
            let options = room.options.get().to_owned();
            let room = StoredRoom { id: id.clone(), options, created_ms: room.created_ms };
            arrived += self.store.merge(vec![Found::Room(room)]).await?;
            self.compare_objects(link, Mode::Merge, &id).await?;
        }
        if arrived > 0 {
            tracing::info!(rooms = arrived, "rooms have come from Redis");
            self.arrived.notify_one();
        }
        Ok(())
    }

    async fn compare_objects(&self, link: &mut Link, mode: Mode, room: &str) -> Result<(), ShipError> {
        let mut remote = read_hash(link, &RoomKeys::of(room).objects()).await?;
        let (mut changes, mut found) = (Vec::new(), Vec::new());
        for object in self.store.objects(room).await? {
            let Some(value) = remote.remove(&object.id) else {
                changes.push(Change::Object(room.to_owned(), object));
                continue;
            };
            if value == object_value(&object)? {
                continue;
            }
            let other = read_object(&object.id, &value)?;
            if mode == Mode::Merge && other.version > object.version {
                found.push(Found::Object(room.to_owned(), other));
            } else {
                changes.push(Change::Object(room.to_owned(), object));
            }
        }
        for (id, value) in remote {
            match mode {
                Mode::Mirror => changes.push(Change::Gone(room.to_owned(), id)),
                Mode::Merge => found.push(Found::Object(room.to_owned(), read_object(&id, &value)?)),
            }
        }
        for changes in changes.chunks(CHANGES_MAX) {
            self.send(link, changes).await?;
        }
        for found in found.chunks(FOUND_MAX) {
            self.store.merge(found.to_vec()).await?;
        }
        Ok(())
    }
}

/// A whole hash, asked for in pieces.
async fn read_hash(link: &mut Link, key: &str) -> RedisResult<HashMap<String, String>> {
    let (mut found, mut cursor) = (HashMap::new(), 0u64);
    loop {
        let mut command = redis::cmd("HSCAN");
        command.arg(key).arg(cursor).arg("COUNT").arg(FIELDS_ASKED);
        let (next, fields): (u64, Vec<(String, String)>) = command.query_async(link).await?;
        found.extend(fields);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}

fn room_value(room: &StoredRoom) -> Result<String, ShipError> {
    let options = raw(&room.options)?;
    text(&RemoteRoom { created_ms: room.created_ms, options })
}

fn object_value(object: &StoredObject) -> Result<String, ShipError> {
    let (version, owner) = (object.version, object.owner.clone());
    text(&RemoteObject { version, owner, object: raw(&object.json)? })
}

fn read_object(id: &str, value: &str) -> Result<StoredObject, ShipError> {
    let RemoteObject { version, owner, object } =
        serde_json::from_str(value).map_err(|_| ShipError::Foreign("an object"))?;
    Ok(StoredObject { id: id.to_owned(), version, owner, json: object.get().to_owned() })
}

fn raw(json: &str) -> Result<Box<RawValue>, ShipError> {
    RawValue::from_string(json.to_owned()).map_err(|_| ShipError::Foreign("JSON"))
}

fn text(value: &impl Serialize) -> Result<String, ShipError> {
    serde_json::to_string(value).map_err(|_| ShipError::Foreign("JSON"))
}
