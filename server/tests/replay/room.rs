//! A room that never was: what it would have recorded, and that written into files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use protocol::{Part, Pose, Rotation};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use replay::{
    Action, Content, Event, Keyframe, MemberId, Objects, PoseSample, PoseSamples, Record, RecordId,
    StoredRecord, encode,
};
use serde_json::json;
use server::journal::backend::Entry;
use server::journal::folder::{Folder, Hour};
use server::journal::table::Table;

/// Half a minute before an hour begins, so that every recording is in two files.
pub(crate) const START_MS: u64 = 1_700_002_800_000 - 30_000;

const STEP_MS: u64 = 100;

/// A room at work, and what it has recorded so far.
pub(crate) struct Room {
    rng: StdRng,
    pub(crate) now_ms: u64,
    members: Vec<(MemberId, String, String)>,
    joined: u64,
    poses: PoseSamples,
    pub(crate) records: Vec<StoredRecord>,
}

impl Room {
    /// A room that is opened at `now_ms`.
    pub(crate) fn open(seed: u64, now_ms: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (members, poses, records) = (Vec::new(), PoseSamples::default(), Vec::new());
        let mut room = Self { rng, now_ms, members, joined: 0, poses, records };
        room.keyframe(true);
        room
    }

    /// So many seconds of its life, with a crash now and then.
    pub(crate) fn live(&mut self, seconds: u64) {
        for step in 1..=seconds * 1_000 / STEP_MS {
            self.now_ms += STEP_MS;
            self.sample();
            self.act();
            if step % 10 == 0 {
                self.hand_over();
            }
            // Amid a chunk, so that some who move in it are gone.
            if step % 50 == 5 {
                self.keyframe(false);
            }
            if self.rng.random_range(0..250) == 0 {
                self.crash();
            }
        }
        self.hand_over();
    }

    fn crash(&mut self) {
        self.poses = PoseSamples::default();
        self.members.clear();
        self.joined = 0;
        self.now_ms += self.rng.random_range(1..3_000);
        self.keyframe(true);
    }

    fn sample(&mut self) {
        self.poses.instants_ms.push(self.now_ms);
        let instant = (self.poses.instants_ms.len() - 1) as u16;
        for (member, ..) in &self.members {
            // Some hardly move.
            if self.rng.random_range(0..20) < [14, 1, 2][member.0 as usize % 3] {
                let mut at = || self.rng.random_range(-50.0..50.0f32);
                let head = Part { position: [at(), at(), at()], rotation: Rotation::Euler([0.1, 0.2, 0.3]) };
                let pose = Pose { head, left_hand: None, right_hand: None };
                self.poses.samples.push(PoseSample { instant, member: *member, pose });
            }
        }
    }

    /// What comes between two samples: often nothing, sometimes several things at once.
    fn act(&mut self) {
        while self.rng.random_range(0..3) == 0 {
            let count = self.members.len();
            if count == 0 || (count < 6 && self.rng.random_range(0..4) == 0) {
                let (member, user) = (MemberId(self.joined), format!("user_{}", self.joined % 4));
                let socket = format!("socket-{}-{}", self.now_ms, self.joined);
                self.joined += 1;
                self.members.push((member, user.clone(), socket.clone()));
                let user = json!({"id": user, "socketId": socket, "username": "x", "slot": member.0});
                self.event(count, Action::Join { user: user.to_string() });
                continue;
            }
            let who = self.rng.random_range(0..count);
            let id = self.rng.random_range(0..9);
            match self.rng.random_range(0..7) {
                0 => {
                    self.event(who, Action::Leave);
                    self.members.remove(who);
                }
                1 => {
                    let object = json!({"id": id, "type": "cube"}).to_string();
                    self.event(who, Action::ObjectCreate { object, version: 1 });
                }
                2 => self
                    .event(who, Action::ObjectUpdate { update: json!({"id": id, "version": 2}).to_string() }),
                3 => self.event(who, Action::ObjectDelete { id: id.to_string() }),
                4 => self.event(who, Action::UserUpdate { update: json!({"mood": id}).to_string() }),
                _ => {
                    let message = json!({"type": "chat", "data": id}).to_string();
                    self.event(who, Action::Message { message, attachments: vec![vec![id as u8].into()] });
                }
            }
        }
    }

    fn event(&mut self, who: usize, action: Action) {
        let (member, user, socket) = &self.members[who];
        let event = Event {
            member: *member,
            user_id: user.as_str().into(),
            socket_id: socket.as_str().into(),
            action,
        };
        // Not at the time of a sample: what comes first of two at one time is no business of these tests.
        self.record(self.now_ms + 37, Content::Event(event));
    }

    /// The second's poses go to the journal.
    pub(crate) fn hand_over(&mut self) {
        let poses = std::mem::take(&mut self.poses);
        if !poses.samples.is_empty() {
            self.record(self.now_ms + 40, Content::Poses(poses));
        }
    }

    fn keyframe(&mut self, opens: bool) {
        let members = self.members.iter().map(|(member, user, socket)| {
            (*member, json!({"id": user, "socketId": socket, "username": "x"}).to_string())
        });
        let (members, objects) = (members.collect(), Objects::All("[]".into()));
        self.record(self.now_ms + 45, Content::Keyframe(Keyframe { opens, max_users: 50, members, objects }));
    }

    fn record(&mut self, at_ms: u64, content: Content) {
        let kind = content.kind();
        let payload = encode(&Record { at_ms, content }).expect("of a size that is allowed");
        // The journal is not always quick.
        let ms = at_ms + self.rng.random_range(0..20);
        let id = match self.records.last() {
            Some(last) if last.id.ms >= ms => last.id.next(),
            _ => RecordId::at(ms),
        };
        self.records.push(StoredRecord { id, kind, payload });
    }
}

/// Writes `records` of `room` to where a server with this data directory looks for them.
pub(crate) fn write(data_dir: &Path, room: &str, records: &[StoredRecord]) {
    let folder = Folder::in_data_dir(data_dir);
    std::fs::create_dir_all(folder.path()).unwrap();
    let mut hours: BTreeMap<Hour, Vec<Entry>> = BTreeMap::new();
    for StoredRecord { id, kind, payload } in records.iter().cloned() {
        let entry = Entry { room: Arc::from(room), id, kind, payload };
        hours.entry(Hour::of(id.ms)).or_default().push(entry);
    }
    for (hour, entries) in hours {
        Table::open(&folder.file(hour)).unwrap().insert(&entries).unwrap();
    }
}
