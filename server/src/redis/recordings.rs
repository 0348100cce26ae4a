//! Recordings, read back from Redis and from what has not come there yet.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use redis::{RedisError, RedisResult, Value};
use replay::{RecordId, RecordKind, StoredRecord};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::keys::{HOUR_MS, RoomKeys, hour_of};
use super::link::{Link, timed_out};
use super::nodes::Nodes;
use super::repair::SPOOL;
use super::status::Status;
use crate::clock::now_ms;
use crate::journal::table::{Table, TableError};
use crate::replay::recordings::{ReadError, Recordings, Span};

/// How long one reading may take altogether.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// How long nobody tries again after Redis did not answer, so that readers do not wait for it one after the other.
const BREAK_MS: u64 = 1_000;

/// Records that are asked for at first, before it is known how large they are.
const RECORDS_FIRST: usize = 32;

/// Records that are asked for at once, at most.
const RECORDS_MAX: usize = 2_048;

/// Recordings of all rooms in Redis.
///
/// What the spool has is read with it, so that a record is found from the moment at which its receipt was given,
/// whether Redis has it yet or not. Without Redis there is no answer: the spool alone would be a part of one. But which
/// rooms this machine has recorded is known without Redis.
#[derive(Debug)]
pub struct RedisRecordings {
    runtime: Handle,
    nodes: Nodes,
    /// Not the one that is written by: a large answer would keep what is behind it waiting. With it the number of times
    /// that one had come up, since what breaks the one breaks the other.
    link: Mutex<Option<(u64, Link)>>,
    failed_ms: AtomicU64,
    spool_path: PathBuf,
    /// Which spool it is, and the spool.
    spool: Mutex<Option<(u64, Table)>>,
    /// Without a server whose thread drives `runtime` and says in `status` how it goes: ends the thread that does.
    alone: Option<oneshot::Sender<()>>,
    status: Arc<Status>,
}

/// Records, and whether there may be more after them.
#[derive(Default)]
struct Part {
    records: Vec<StoredRecord>,
    is_cut: bool,
}

impl RedisRecordings {
    pub(super) fn new(runtime: Handle, nodes: Nodes, directory: &Path, status: Arc<Status>) -> Self {
        Self {
            runtime,
            nodes,
            link: Mutex::default(),
            failed_ms: AtomicU64::new(0),
            spool_path: directory.join(SPOOL),
            spool: Mutex::default(),
            alone: None,
            status,
        }
    }

    /// The same without a server, for a program that only reads: perhaps beside a server in `directory`, perhaps where
    /// there never was one.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub fn alone(nodes: Nodes, directory: &Path) -> io::Result<Self> {
        // Whichever comes first; both would be the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alone, ended) = oneshot::channel();
        // Connections live on it, while whoever reads waits.
        std::thread::Builder::new().name("redis".into()).spawn(move || runtime.block_on(ended))?;
        let status = Arc::new(Status::new(&mut Registry::default()));
        Ok(Self { alone: Some(alone), ..Self::new(handle, nodes, directory, status) })
    }

    /// Does `work` with a connection, on this thread.
    fn ask<T, F>(&self, work: impl FnOnce(Link) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let now_ms = now_ms();
        let is_healthy = self.status.progress.borrow().is_healthy;
        if !is_healthy && now_ms.saturating_sub(self.failed_ms.load(Ordering::Relaxed)) < BREAK_MS {
            return Err(ReadError("Redis did not answer a moment ago".into()));
        }
        let done = self.runtime.block_on(async {
            let all = async {
                let number = self.status.reconnects.get();
                let known = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let link = match known {
                    Some((of, link)) if of == number => link,
                    _ => Link::connect(&self.nodes).await?,
                };
                *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, link.clone()));
                work(link).await
            };
            timeout(READ_TIMEOUT, all).await.unwrap_or_else(|_| Err(timed_out()))
        });
        done.map_err(|error: RedisError| {
            // An answer that says no is an answer.
            if error.code().is_none() {
                self.failed_ms.store(now_ms, Ordering::Relaxed);
                *self.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            ReadError(error.to_string())
        })
    }

    /// Reads in the spool. Nothing if there is none, which is so without a server only.
    fn spooled<T: Default>(
        &self,
        read: impl FnOnce(&Table) -> Result<T, TableError>,
    ) -> Result<T, ReadError> {
        if self.alone.is_some() && !self.spool_path.exists() {
            return Ok(T::default());
        }
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.status.spool();
        if spool.as_ref().is_none_or(|(open, _)| *open != number) {
            let table = Table::open_to_read(&self.spool_path).map_err(|error| unreadable(&error))?;
            *spool = Some((number, table));
        }
        let Some((_, table)) = &*spool else { return Err(ReadError("no spool".into())) };
        read(table).map_err(|error| {
            let read = unreadable(&error);
            self.status.report(error);
            read
        })
    }

    fn spooled_page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Part, ReadError> {
        self.spooled(|table| {
            let records = table.page(room, from, until_ms, bytes_max)?.records;
            let is_cut = match records.last() {
                Some(last) => !table.page(room, last.id.next(), until_ms, 1)?.records.is_empty(),
                None => false,
            };
            Ok(Part { records, is_cut })
        })
    }
}

impl Recordings for RedisRecordings {
    fn span(&self, room: &str) -> Result<Option<Span>, ReadError> {
        let spooled = self.spooled(|table| table.span(room))?;
        let keys = RoomKeys::of(room);
        let stored = self.ask(|mut link| async move {
            let hours = hours(&mut link, &keys, 0, u64::MAX).await?;
            let mut ends = (None, None);
            for hour in &hours {
                if let Some(id) = end(&mut link, "XRANGE", ("-", "+"), keys.stream(*hour)).await? {
                    ends.0 = Some(id);
                    break;
                }
            }
            for hour in hours.iter().rev() {
                if let Some(id) = end(&mut link, "XREVRANGE", ("+", "-"), keys.stream(*hour)).await? {
                    ends.1 = Some(id);
                    break;
                }
            }
            Ok(ends.0.zip(ends.1))
        })?;
        let spans = [spooled, stored].into_iter().flatten();
        Ok(spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).map(|(first, last)| Span { first, last }))
    }

    fn page(
        &self,
        room: &str,
        from: RecordId,
        until_ms: u64,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        // First the spool: what leaves it meanwhile is in Redis by then.
        let spooled = self.spooled_page(room, from, until_ms, bytes_max)?;
        let keys = RoomKeys::of(room);
        let stored = self.ask(|link| stored_page(link, keys, from, until_ms, bytes_max))?;
        // Beyond the end of a part that is cut, the other one alone is not all.
        let parts = [spooled, stored];
        let ends = parts.iter().filter(|part| part.is_cut).filter_map(|part| part.records.last());
        let end = ends.map(|record| record.id).min();
        let records = parts.into_iter().flat_map(|part| part.records);
        let both: BTreeMap<RecordId, StoredRecord> = records
            .filter(|record| end.is_none_or(|end| record.id <= end))
            .map(|record| (record.id, record))
            .collect();
        Ok(both.into_values().collect())
    }

    fn keyframe_before(&self, room: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        let spooled = self.spooled(|table| table.keyframe_before(room, at_ms))?;
        let keys = RoomKeys::of(room);
        let stored = self.ask(|mut link| async move {
            for hour in hours(&mut link, &keys, 0, at_ms).await?.into_iter().rev() {
                let latest = at_ms.to_string();
                let Some(id) = end(&mut link, "XREVRANGE", (&latest, "-"), keys.keyframes(hour)).await?
                else {
                    continue;
                };
                let mut command = redis::cmd("XRANGE");
                command.arg(keys.stream(hour)).arg(id.to_string()).arg(id.to_string());
                let found: Value = command.query_async(&mut link).await?;
                if let Some(record) = records(found)?.pop() {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        })?;
        Ok([spooled, stored].into_iter().flatten().max_by_key(|record| record.id))
    }

    fn is_away(&self) -> bool {
        self.alone.is_none() && !self.status.progress.borrow().is_healthy
    }

    /// The spool remembers its rooms for longer than their records.
    fn is_surely_without(&self, room: &str) -> bool {
        self.spooled(|table| Ok(Some(table.knows(room)?))).is_ok_and(|knows| knows == Some(false))
    }
}

/// The hours that touch the time between, oldest first.
async fn hours(link: &mut Link, keys: &RoomKeys, from_ms: u64, until_ms: u64) -> RedisResult<Vec<u64>> {
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(keys.hours()).arg(hour_of(from_ms));
    match until_ms {
        u64::MAX => command.arg("+inf"),
        until_ms => command.arg(until_ms),
    };
    command.query_async(link).await
}

/// The first id that a range has.
async fn end(
    link: &mut Link,
    command: &str,
    (from, to): (&str, &str),
    key: String,
) -> RedisResult<Option<RecordId>> {
    let mut command = redis::cmd(command);
    command.arg(key).arg(from).arg(to).arg("COUNT").arg(1);
    let found: Vec<(String, Value)> = command.query_async(link).await?;
    Ok(found.first().and_then(|(id, _)| id.parse().ok()))
}

async fn stored_page(
    mut link: Link,
    keys: RoomKeys,
    from: RecordId,
    until_ms: u64,
    bytes_max: usize,
) -> RedisResult<Part> {
    let mut part = Part { records: Vec::new(), is_cut: false };
    let (mut bytes, mut next) = (0, from);
    for hour in hours(&mut link, &keys, from.ms, until_ms).await? {
        let (key, latest) = (keys.stream(hour), until_ms.min(hour + HOUR_MS).to_string());
        loop {
            if bytes >= bytes_max && !part.records.is_empty() {
                part.is_cut = true;
                return Ok(part);
            }
            // As many as fit if they are as large as those before.
            let count = match bytes / part.records.len().max(1) {
                0 => RECORDS_FIRST,
                average => ((bytes_max - bytes) / average).clamp(1, RECORDS_MAX),
            };
            let mut command = redis::cmd("XRANGE");
            command.arg(&key).arg(next.to_string()).arg(&latest).arg("COUNT").arg(count);
            let found = records(command.query_async(&mut link).await?)?;
            let is_end = found.len() < count;
            bytes += found.iter().map(|record| record.payload.len()).sum::<usize>();
            if let Some(last) = found.last() {
                next = last.id.next();
            }
            part.records.extend(found);
            if is_end {
                break;
            }
        }
    }
    Ok(part)
}

/// What `XRANGE` answers. The fields are taken apart here, since payloads must not be copied more than once.
fn records(found: Value) -> RedisResult<Vec<StoredRecord>> {
    let Value::Array(entries) = found else { return Err(foreign()) };
    entries.into_iter().map(record).collect()
}

fn record(entry: Value) -> RedisResult<StoredRecord> {
    let Value::Array(parts) = entry else { return Err(foreign()) };
    let Ok([Value::BulkString(id), Value::Array(fields)]) = <[Value; 2]>::try_from(parts) else {
        return Err(foreign());
    };
    let Ok([_, Value::BulkString(kind), _, Value::BulkString(payload)]) = <[Value; 4]>::try_from(fields)
    else {
        return Err(foreign());
    };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let id = text(&id).and_then(|id| id.parse().ok());
    let kind = text(&kind).and_then(|kind| kind.parse().ok()).and_then(RecordKind::from_number);
    let (Some(id), Some(kind)) = (id, kind) else { return Err(foreign()) };
    Ok(StoredRecord { id, kind, payload: Bytes::from(payload) })
}

fn foreign() -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "what is in the stream is no record").into()
}

fn unreadable(error: &TableError) -> ReadError {
    ReadError(format!("the spool cannot be read: {error}"))
}
