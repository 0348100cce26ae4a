//! Fills a data directory with the recording of a room that never was, to measure how it is read.
//!
//! People walk about as in the measurements of the codec, an object is changed now and then. What is written is what a
//! server's journal would have written, in the same files. `fill_replay --data-dir data --users 50 --minutes 60`

#[path = "../../replay/tests/people/mod.rs"]
mod people;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use people::People;
use replay::{Action, Content, Encoder, Event, Keyframe, MemberId, Objects, Record, RecordId};
use serde_json::json;
use server::journal::backend::Entry;
use server::journal::folder::{Folder, Hour};
use server::journal::table::Table;

/// What to write.
#[derive(Parser)]
struct Arguments {
    /// Data directory
    #[arg(long)]
    data_dir: PathBuf,
    /// The room's id
    #[arg(long, default_value = "hall")]
    room: String,
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

/// What goes to the files.
struct Recorder {
    folder: Folder,
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
        let batch = std::mem::take(&mut self.batch);
        for entries in batch.chunk_by(|a, b| Hour::of(a.id.ms) == Hour::of(b.id.ms)) {
            Table::open(&self.folder.file(Hour::of(entries[0].id.ms)))?.insert(entries)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { data_dir, room, users, hz, minutes } = Arguments::parse();
    let folder = Folder::in_data_dir(&data_dir);
    std::fs::create_dir_all(folder.path())?;
    let end_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let begin_ms = end_ms - minutes * 60_000;
    let mut to = Recorder {
        folder,
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
    let Recorder { records, bytes, .. } = to;
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
