//! Recordings in Redis: one stream for each room and hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::RedisResult;
use replay::RecordId;

use super::ShipError;
use super::keys::{HOUR_MS, RECORDED, RoomKeys, hour_of};
use super::link::Link;
use super::queue::{Batch, Item};
use super::status::{Dropped, Status};

/// Records of one room in one hour. Full: the oldest are dropped, and counted.
pub const STREAM_RECORDS_MAX: u64 = 1_000_000;

/// Streams whose end is remembered. Full: all are looked up again.
const STREAMS_KNOWN: usize = 16_384;

/// Commands that are under way at once.
const COMMANDS_MAX: usize = 64;

/// An hour that goes within this time gets no records any more: clocks are not quite the same, and sending takes a
/// while. What is left of it is dropped, and counted.
const ABOUT_TO_GO: Duration = Duration::from_secs(60);

/// Puts records behind the one that is expected to be the last, or nothing anywhere if another one is: then the server
/// has lost some, or somebody else writes. So whatever becomes of an answer, and whatever server comes back, a stream is
/// always a beginning of what was meant. By the clock of Redis the hour may have gone already: then the records go at
/// once, and the answer says so.
///
/// Keys: stream, its keyframes, the room's hours. Arguments: expected id, hour in ms, when the hour may go in s, when
/// the list of hours may go in s, records at most, oldest hour to be listed, then id, kind and payload of each record.
const APPEND: &str = "
local found = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = found and found[1] or '0-0'
if last ~= ARGV[1] then return {0, last} end
for i = 7, #ARGV, 3 do
  redis.call('XADD', KEYS[1], ARGV[i], 'k', ARGV[i + 1], 'p', ARGV[i + 2])
  if tonumber(ARGV[i + 1]) >= 3 then redis.pcall('XADD', KEYS[2], ARGV[i], 'k', ARGV[i + 1]) end
end
redis.call('EXPIREAT', KEYS[1], ARGV[3])
redis.call('EXPIREAT', KEYS[2], ARGV[3])
if not redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] then return {2, '0'} end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[6])
redis.call('EXPIREAT', KEYS[3], ARGV[4])
return {1, tostring(redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[5]))}
";

/// The last id of a stream.
const LAST: &str = "
local found = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return found and found[1] or '0-0'
";

/// A room and the beginning of an hour.
type StreamName = (Arc<str>, u64);

/// What is known of the streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    ttl: Duration,
    last: HashMap<StreamName, Last>,
    /// It is known of this connection that Redis has lost something.
    has_lost: bool,
    /// Rows and poses that were never sent before are beyond these.
    tried: Tried,
    /// Beyond these, what came too late for its hour has not been counted yet.
    counted: Tried,
}

/// The last record of a stream.
#[derive(Debug, Clone, Copy)]
struct Last {
    id: RecordId,
    /// It was so on an earlier connection, and is to be looked up.
    is_of_before: bool,
}

/// How far sending has ever come, whether or not an answer came back.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    row: i64,
    pose: u64,
}

impl Tried {
    /// Whether the record is beyond this.
    fn lacks(self, item: &Item) -> bool {
        if item.is_pose() { item.number() > self.pose } else { item.row > self.row }
    }

    fn reach(&mut self, row: i64, pose: u64) {
        *self = Self { row: self.row.max(row), pose: self.pose.max(pose) };
    }
}

/// What goes to one stream.
struct Group<'a> {
    name: StreamName,
    items: Vec<&'a Item>,
}

/// What became of the records that were sent to one stream.
struct Appended {
    name: StreamName,
    newest: RecordId,
    sent: u64,
    /// Those that went at once, as far as they were not sent before.
    expired: u64,
    trimmed: u64,
}

impl Streams {
    /// `first_row` is the last one that an earlier process may have sent.
    pub(super) fn new(ttl: Duration, first_row: i64) -> Self {
        let tried = Tried { row: first_row, pose: 0 };
        Self { ttl, last: HashMap::new(), has_lost: false, tried, counted: tried }
    }

    /// Whatever was known may be otherwise: it is looked up again.
    pub(super) fn forget(&mut self) {
        self.has_lost = false;
        for last in self.last.values_mut() {
            last.is_of_before = true;
        }
    }

    /// The spool is another one: what it has up to that row may have been sent before.
    pub(super) fn forget_rows(&mut self, head: i64) {
        self.tried.row = head;
        self.counted.row = head;
    }

    /// Puts the records of `batch` where they belong, except for those that are there. How many were not.
    pub(super) async fn append(
        &mut self,
        link: &Link,
        batch: &Batch,
        now_ms: u64,
        status: &Status,
    ) -> Result<u64, ShipError> {
        let mut groups = group(batch);
        self.drop_expired(&mut groups, now_ms, status);
        self.look_up(link, &groups, status).await?;
        let (mut sent, tried, taken) = (0, self.tried, status.progress.borrow().row);
        for groups in groups.chunks(COMMANDS_MAX) {
            let (mut commands, mut has_lost) = (Vec::new(), false);
            for group in groups {
                let last = self.last.get(&group.name).map(|last| last.id).unwrap_or_default();
                let missing = missing(group, last, tried, status);
                has_lost |= missing.iter().any(|item| !item.is_pose() && item.row <= taken);
                if !missing.is_empty() {
                    commands.push(self.command(link.clone(), &group.name, (last, tried), &missing, now_ms));
                }
            }
            self.tried.reach(batch.until, batch.last_pose());
            if has_lost {
                // Whatever becomes of the answer: Redis may have it from now on only.
                status.note_resent();
            }
            for done in try_join_all(commands).await? {
                sent += done.sent;
                status.count_dropped(Dropped::StreamFull, done.trimmed);
                status.count_dropped(Dropped::Expired, done.expired);
                self.last.insert(done.name, Last { id: done.newest, is_of_before: false });
            }
        }
        Ok(sent)
    }

    /// When the records of an hour go, Unix s.
    fn goes_s(&self, hour: u64) -> u64 {
        (hour + HOUR_MS) / 1000 + self.ttl.as_secs()
    }

    /// Takes out what would go as soon as it came. That its stream is gone is no loss, and nothing to begin anew for.
    fn drop_expired(&mut self, groups: &mut Vec<Group<'_>>, now_ms: u64, status: &Status) {
        let mut known = self.tried;
        known.reach(self.counted.row, self.counted.pose);
        let mut dropped = 0;
        groups.retain(|group| {
            if self.goes_s(group.name.1) > now_ms / 1000 + ABOUT_TO_GO.as_secs() {
                return true;
            }
            self.last.remove(&group.name);
            for item in &group.items {
                dropped += u64::from(known.lacks(item));
                // A pose has the row of another record, which need not be among these.
                let row = if item.is_pose() { 0 } else { item.row };
                self.counted.reach(row, item.number());
            }
            false
        });
        if dropped > 0 {
            tracing::warn!(dropped, "records have waited for Redis for longer than recordings are kept");
        }
        status.count_dropped(Dropped::Expired, dropped);
    }

    fn command(
        &self,
        mut link: Link,
        name: &StreamName,
        (last, tried): (RecordId, Tried),
        items: &[&Item],
        now_ms: u64,
    ) -> impl Future<Output = Result<Appended, ShipError>> + use<> {
        let (keys, hour, ttl_s) = (RoomKeys::of(&name.0), name.1, self.ttl.as_secs());
        let oldest = hour_of(now_ms.saturating_sub(self.ttl.as_millis() as u64));
        let mut command = redis::cmd("EVAL");
        command.arg(APPEND).arg(3).arg(keys.stream(hour)).arg(keys.keyframes(hour)).arg(keys.hours());
        command.arg(last.to_string()).arg(hour).arg(self.goes_s(hour));
        command.arg((now_ms + HOUR_MS) / 1000 + ttl_s).arg(STREAM_RECORDS_MAX).arg(oldest);
        for item in items {
            let entry = &item.entry;
            command.arg(entry.id.to_string()).arg(entry.kind as u8).arg(&*entry.payload);
        }
        let (name, sent) = (name.clone(), items.len() as u64);
        let newest = items.last().map_or(last, |item| item.entry.id);
        let first_sent = items.iter().filter(|item| tried.lacks(item)).count() as u64;
        async move {
            let (done, answer): (i64, String) = command.query_async(&mut link).await?;
            match done {
                0 => Err(ShipError::Changed),
                1 => {
                    let trimmed = answer.parse().unwrap_or(0);
                    Ok(Appended { name, newest, sent, expired: 0, trimmed })
                }
                _ => {
                    let newest = RecordId::default();
                    Ok(Appended { name, newest, sent: 0, expired: first_sent, trimmed: 0 })
                }
            }
        }
    }

    /// Finds out how far those streams reach that are not known yet, and lists their rooms.
    async fn look_up(&mut self, link: &Link, groups: &[Group<'_>], status: &Status) -> Result<(), ShipError> {
        if self.last.len() >= STREAMS_KNOWN {
            // With so many, those that come again until the next connection are enough to find a loss by.
            self.last.clear();
        }
        let is_unknown = |name: &&StreamName| self.last.get(*name).is_none_or(|last| last.is_of_before);
        let unknown: Vec<&StreamName> = groups.iter().map(|group| &group.name).filter(is_unknown).collect();
        for names in unknown.chunks(COMMANDS_MAX) {
            let ids = try_join_all(names.iter().map(|name| last_id(link.clone(), name))).await?;
            for (name, id) in names.iter().zip(ids) {
                let before = self.last.insert((*name).clone(), Last { id, is_of_before: false });
                // Its last record was one that it does not have any more. Perhaps the spool still has all that is
                // missing, perhaps not.
                if before.is_some_and(|before| id < before.id) && !self.has_lost {
                    self.has_lost = true;
                    status.note_setback();
                }
            }
            let mut listing = redis::cmd("ZADD");
            listing.arg(RECORDED);
            for (room, hour) in names {
                listing.arg(*hour).arg(&**room);
            }
            listing.query_async::<()>(&mut link.clone()).await?;
        }
        Ok(())
    }

    /// Takes rooms whose recordings are all gone out of the list.
    pub(super) async fn tidy_list(&self, link: &Link, now_ms: u64) -> Result<(), ShipError> {
        let oldest = hour_of(now_ms.saturating_sub(self.ttl.as_millis() as u64));
        let mut command = redis::cmd("ZREMRANGEBYSCORE");
        command.arg(RECORDED).arg("-inf").arg(format!("({oldest}"));
        Ok(command.query_async::<()>(&mut link.clone()).await?)
    }
}

fn group(batch: &Batch) -> Vec<Group<'_>> {
    let mut places: HashMap<(&str, u64), usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for item in &batch.items {
        let hour = hour_of(item.entry.id.ms);
        let place = *places.entry((&item.entry.room, hour)).or_insert_with(|| {
            groups.push(Group { name: (item.entry.room.clone(), hour), items: Vec::new() });
            groups.len() - 1
        });
        groups[place].items.push(item);
    }
    for group in &mut groups {
        group.items.sort_by_key(|item| item.entry.id);
    }
    groups
}

/// What comes after `last`. What does not is there already, unless it was never sent.
fn missing<'a>(group: &Group<'a>, last: RecordId, tried: Tried, status: &Status) -> Vec<&'a Item> {
    let (mut missing, mut late_poses, mut conflicts) = (Vec::with_capacity(group.items.len()), 0, 0);
    let mut newest = last;
    for item in &group.items {
        if item.entry.id > newest {
            newest = item.entry.id;
            missing.push(*item);
        } else if item.is_pose() {
            late_poses += u64::from(tried.lacks(item));
        } else {
            conflicts += u64::from(tried.lacks(item));
        }
    }
    status.count_dropped(Dropped::TooLate, late_poses);
    status.count_dropped(Dropped::Conflict, conflicts);
    if conflicts > 0 {
        tracing::error!(conflicts, "Redis has later records of a room: another server writes there");
    }
    missing
}

fn last_id(
    mut link: Link,
    (room, hour): &StreamName,
) -> impl Future<Output = Result<RecordId, ShipError>> + use<> {
    let mut command = redis::cmd("EVAL");
    command.arg(LAST).arg(1).arg(RoomKeys::of(room).stream(*hour));
    async move {
        let id: RedisResult<String> = command.query_async(&mut link).await;
        id?.parse().map_err(|_| ShipError::Foreign("the id of a record"))
    }
}

#[cfg(test)]
mod tests;
