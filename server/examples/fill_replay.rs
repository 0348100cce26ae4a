//! Fills a data directory with the recording of a room that never was, to measure how it is read.
//!
//! People walk about as in the measurements of the codec, an object is changed now and then. What is written is what a
//! server's journal would have written, in the same files. `fill_replay --data-dir data --users 50 --minutes 60`
//!
//! With `--redis-url` it goes to Redis by the same way as a server's does.

#[path = "../../replay/tests/people/mod.rs"]
mod people;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use people::People;
use prometheus_client::registry::Registry;
use replay::{Action, Content, Encoder, Event, Keyframe, MemberId, Objects, Record, RecordId};
use serde_json::json;
use server::journal::backend::{Backend as _, Entry};
use server::journal::folder::{Folder, Hour};
use server::journal::table::Table;
use server::redis::{Nodes, Redis, RedisConfig, SpoolBackend};
use server::storage::{OUTBOX_ROWS_MAX, SqliteStore};
use tokio::runtime::{Builder, Runtime};

/// What to write.
#[derive(Parser)]
struct Arguments {
    /// Data directory
    #[arg(long)]
    data_dir: PathBuf,
    /// The room's id
    #[arg(long, default_value = "hall")]
    room: String,
    /// Redis server or cluster to fill, instead of files
    #[arg(long)]
    redis_url: Option<String>,
    /// Who is in
    #[arg(long, default_value_t = 50)]
    users: u32,
    /// Samples of each one's pose a second: 1, 2, 4, 5, 10 or 20
    #[arg(long, default_value_t = 10)]
    hz: u32,
    /// How long, up to now
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// Seconds between two keyframes.
const KEYFRAME_S: u64 = 30;

/// Seconds that are written at once.
const BATCH_S: u64 = 60;

/// How long Redis keeps it.
const TTL: Duration = Duration::from_secs(24 * 3_600);

/// How often we look whether Redis has it.
const LOOK: Duration = Duration::from_millis(5);

/// Where records go.
enum Place {
    Files(Folder),
    Redis { redis: Redis, spool: Box<SpoolBackend>, runtime: Box<Runtime> },
}

impl Place {
    fn open(data_dir: &Path, redis_url: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let folder = Folder::in_data_dir(data_dir);
        std::fs::create_dir_all(folder.path())?;
        let Some(url) = redis_url else { return Ok(Self::Files(folder)) };
        let config = RedisConfig {
            nodes: Nodes::parse(url)?,
            directory: data_dir.to_owned(),
            ttl: TTL,
            spool_bytes_max: u64::MAX,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let store = Arc::new(SqliteStore::open_with_outbox(data_dir, OUTBOX_ROWS_MAX)?);
        let (redis, spool) = Redis::start(config, store, &mut Registry::default())?;
        runtime.block_on(async { redis.first_attempt().await });
        Ok(Self::Redis { redis, spool: Box::new(spool), runtime: Box::new(runtime) })
    }

    fn write(&mut self, batch: &[Entry]) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Files(folder) => {
                for entries in batch.chunk_by(|a, b| Hour::of(a.id.ms) == Hour::of(b.id.ms)) {
                    Table::open(&folder.file(Hour::of(entries[0].id.ms)))?.insert(entries)?;
                }
                Ok(())
            }
            Self::Redis { redis, spool, runtime } => {
                spool.write(batch)?;
                // No more at a time than wait for Redis in memory.
                while redis.health().waiting_records > 0 || spool.is_behind() {
                    runtime.block_on(async { tokio::time::sleep(LOOK).await });
                }
                Ok(())
            }
        }
    }

    /// Waits until Redis has the last of it.
    fn close(self) {
        if let Self::Redis { redis, runtime, .. } = self {
            runtime.block_on(async { redis.close().await });
        }
    }
}

/// What is written.
struct Recorder {
    place: Place,
    room: Arc<str>,
    encoder: Encoder,
    batch: Vec<Entry>,
    last: RecordId,
    bytes: u64,
    records: u64,
}

impl Recorder {
    fn record(&mut self, at_ms: u64, content: Content) -> Result<(), Box<dyn Error>> {
        let kind = content.kind();
        let payload = self.encoder.encode(&Record { at_ms, content })?;
        self.last = if at_ms > self.last.ms { RecordId::at(at_ms) } else { self.last.next() };
        self.bytes += payload.len() as u64;
        self.records += 1;
        self.batch.push(Entry { room: self.room.clone(), id: self.last, kind, payload });
        Ok(())
    }

    fn write(&mut self) -> Result<(), Box<dyn Error>> {
        self.place.write(&std::mem::take(&mut self.batch))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { data_dir, redis_url, room, users, hz, minutes } = Arguments::parse();
    let place = Place::open(&data_dir, redis_url.as_deref())?;
    let end_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let begin_ms = end_ms - minutes * 60_000;
    let mut to = Recorder {
        place,
        room: room.as_str().into(),
        encoder: Encoder::new(),
        batch: Vec::new(),
        last: RecordId::default(),
        bytes: 0,
        records: 0,
    };
    let mut people = People::new(users, 1);
    to.record(begin_ms, keyframe(true, 0))?;
    for member in 0..users {
        to.record(begin_ms, event(member, Action::Join { user: user(member) }))?;
    }
    let (mut moves, mut parts) = (0, 0);
    for second in 1..=minutes * 60 {
        let now_ms = begin_ms + second * 1_000;
        let mut poses = people.second(hz);
        let last_ms = poses.instants_ms.last().copied().unwrap_or_default();
        poses.instants_ms.iter_mut().for_each(|at_ms| *at_ms = now_ms - (last_ms - *at_ms));
        moves += poses.samples.len();
        parts += people::parts(&poses);
        to.record(now_ms, Content::Poses(poses))?;
        let update = json!({"id": second % 20, "version": second, "position": {"x": second, "y": 1, "z": 0}});
        to.record(
            now_ms,
            event((second % u64::from(users)) as u32, Action::ObjectUpdate { update: update.to_string() }),
        )?;
        if second % KEYFRAME_S == 0 {
            to.record(now_ms, keyframe(false, users))?;
        }
        if second % BATCH_S == 0 {
            to.write()?;
        }
    }
    to.write()?;
    let Recorder { records, bytes, place, .. } = to;
    place.close();
    let line = format!(
        "{room}: {records} records of {bytes} bytes, {moves} moves of {parts} parts, from {begin_ms} to {end_ms}"
    );
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn user(member: u32) -> String {
    let name = format!("user_{member:08x}");
    json!({"id": name, "socketId": format!("socket-{member:012}"), "username": name, "slot": member})
        .to_string()
}

fn event(member: u32, action: Action) -> Content {
    let (user_id, socket_id) = (format!("user_{member:08x}").into(), format!("socket-{member:012}").into());
    Content::Event(Event { member: MemberId(member.into()), user_id, socket_id, action })
}

fn keyframe(opens: bool, users: u32) -> Content {
    let members = (0..users).map(|member| (MemberId(member.into()), user(member))).collect();
    let objects = Objects::All("[]".into());
    Content::Keyframe(Keyframe { opens, max_users: users.max(1), members, objects })
}
