//! What a recording says, by reading all of it into memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use replay::{Action, Content, MemberId, Moment, RecordKind, StoredRecord, Types, What, Who, decode, json};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) from_ms: Option<u64>,
    pub(crate) to_ms: Option<u64>,
    pub(crate) types: Vec<&'static str>,
    pub(crate) users: Vec<String>,
    pub(crate) hz: Option<f64>,
}

impl Wish {
    /// As a part of a URL, with nothing before it.
    pub(crate) fn query(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.from_ms.map(|ms| format!("from={ms}")));
        parts.extend(self.to_ms.map(|ms| format!("to={ms}")));
        if !self.types.is_empty() {
            parts.push(format!("types={}", self.types.join(",")));
        }
        if !self.users.is_empty() {
            parts.push(format!("users={}", self.users.join(",")));
        }
        parts.extend(self.hz.map(|hz| format!("hz={hz}")));
        parts.join("&")
    }
}

/// Something that has happened, before anybody asks.
struct Happened {
    /// When, and what comes first of what is at one time.
    order: (u64, u8, usize),
    life: usize,
    moment: Moment,
}

/// The events of `records` that `wish` is for, as the lines of an answer.
pub(crate) fn told(records: &[StoredRecord], wish: &Wish) -> Vec<String> {
    let mut all = expand(records);
    all.sort_by_key(|happened| happened.order);
    let mut moved = HashSet::new();
    let mut lines = Vec::new();
    for Happened { life, moment, .. } in all {
        let (who, kind) = match &moment.what {
            What::Move { who, member, .. } => {
                let part = wish.hz.map(|hz| (moment.at_ms as f64 * hz / 1_000.0) as u64);
                if part.is_some_and(|part| !moved.insert((life, *member, part))) {
                    continue;
                }
                (who, Types::MOVE)
            }
            What::Event { who, action, .. } => (who, Types::of(action)),
            What::Objects(_) | What::Gap => panic!("nothing is damaged, nor asked for"),
        };
        let is_wanted = moment.at_ms >= wish.from_ms.unwrap_or(0)
            && moment.at_ms <= wish.to_ms.unwrap_or(u64::MAX)
            && (wish.types.is_empty() || wish.types.iter().any(|name| Types::from_name(name) == Some(kind)))
            && (wish.users.is_empty() || wish.users.iter().any(|user| **user == *who.user_id));
        if is_wanted {
            let mut line = Vec::new();
            json::write(&moment, &mut line);
            lines.push(String::from_utf8(line).unwrap());
        }
    }
    lines
}

fn expand(records: &[StoredRecord]) -> Vec<Happened> {
    let (mut all, mut life) = (Vec::new(), 0);
    let mut names: HashMap<MemberId, Arc<Who>> = HashMap::new();
    let mut inside: Vec<MemberId> = Vec::new();
    let mut latest_ms = 0;
    for record in records {
        let read = decode(record.kind, &record.payload).unwrap();
        let mut tell = |at_ms, rank, life, what| {
            let order = (at_ms, rank, all.len());
            all.push(Happened { order, life, moment: Moment { at_ms, what } });
        };
        match read.content {
            Content::Event(event) => {
                let who = names
                    .entry(event.member)
                    .or_insert_with(|| Arc::new(Who::new(&event.user_id, &event.socket_id)))
                    .clone();
                match event.action {
                    Action::Join { .. } => inside.push(event.member),
                    Action::Leave => inside.retain(|member| *member != event.member),
                    _ => {}
                }
                tell(read.at_ms, 0, life, What::Event { member: event.member, who, action: event.action });
            }
            Content::Poses(poses) => {
                for sample in poses.samples {
                    let at_ms = poses.instants_ms[usize::from(sample.instant)];
                    let who = names[&sample.member].clone();
                    tell(at_ms, 1, life, What::Move { member: sample.member, who, pose: sample.pose });
                }
                latest_ms = latest_ms.max(poses.instants_ms.last().copied().unwrap_or(0));
            }
            Content::Keyframe(keyframe) if keyframe.opens => {
                inside.sort();
                for member in inside.drain(..) {
                    let who = names[&member].clone();
                    tell(latest_ms, 2, life, What::Event { member, who, action: Action::Leave });
                }
                life += 1;
                names.clear();
            }
            Content::Keyframe(_) => {}
        }
        if record.kind != RecordKind::Poses {
            latest_ms = latest_ms.max(read.at_ms);
        }
    }
    all
}
