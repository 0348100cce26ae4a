//! What waits for the journal, as the model knows it; and what the journal has been given, read back.

use engine::limits::PRESENCE_INTERVAL;
use engine::room::{Awaits, Effect};
use replay::{Content, MemberId, Record};
use serde_json::json;
use std::time::Duration;

use super::operation::Operation;
use super::run::Run;
use crate::common::poses::{pose_json, pose_numbered};

/// Samples a second.
pub(super) const POSE_HZ: u32 = 10;

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Late {
    Welcome { who: u64, ticket: u64 },
    Departure { who: u64, ack: u64 },
    Answer { who: u64, ack: u64, outcome: String },
}

impl Run {
    /// What an event's success waits for, if anything is to be answered.
    pub(super) fn late(
        &self,
        operation: &Operation,
        who: u64,
        ack: Option<u64>,
        outcome: &str,
    ) -> Option<Late> {
        use super::operation::To;
        match *operation {
            _ if !self.setup.recorded => None,
            Operation::Leave { .. } => Some(Late::Departure { who, ack: ack? }),
            Operation::UserUpdate { .. }
            | Operation::Relay { to: To::Everybody, .. }
            | Operation::Create { .. }
            | Operation::Update { .. }
            | Operation::Delete { .. } => Some(Late::Answer { who, ack: ack?, outcome: outcome.to_owned() }),
            _ => None,
        }
    }

    pub(super) fn awaits(&mut self, awaits: Awaits<u64>) {
        let late = &self.truth.late[self.awaits.len()];
        match (&awaits, late) {
            (Awaits::Welcome { member, .. }, Late::Welcome { who, .. }) => assert_eq!(member.0, *who),
            (Awaits::Departure(session, _), Late::Departure { who, .. }) => assert_eq!(session, who),
            (Awaits::Answer(session, _, id), Late::Answer { who, ack, .. }) => {
                assert_eq!((session, id), (who, ack));
            }
            other => panic!("{other:?}"),
        }
        self.awaits.push_back(awaits);
    }

    /// The journal is done with something.
    pub(super) fn recorded(&mut self, is_durable: bool, last: bool) {
        let index = if last { self.awaits.len().saturating_sub(1) } else { 0 };
        let Some(awaits) = self.awaits.remove(index) else { return };
        match self.truth.late.remove(index).unwrap() {
            Late::Welcome { who, ticket } => self.truth.arrival_recorded(who, ticket),
            Late::Departure { who, ack } => self.truth.answer(who, Some(ack), "ok"),
            Late::Answer { who, ack, outcome } => {
                self.truth.answer(who, Some(ack), if is_durable { &outcome } else { "storage" });
            }
        }
        self.room.recorded(awaits, is_durable);
    }

    /// The store has a change, and the journal has lost it.
    pub(super) fn stored_unrecorded(&mut self) {
        let Some((storing, effect)) = self.storing.pop_front() else { return };
        self.keep_in_store(&effect);
        if let Some((who, ack, _)) = storing.answer {
            self.truth.answer(who, Some(ack), "storage");
        }
        self.room.stored_unrecorded(effect);
    }

    /// Nobody is told anything that is not written down yet.
    pub(super) fn check_late(&self) {
        assert_eq!(self.awaits.len(), self.truth.late.len(), "what waits for the journal");
        let acked = |who: u64, ack: u64| self.fan.pictures[who as usize].acks.contains_key(&ack);
        for late in &self.truth.late {
            match *late {
                Late::Departure { who, ack } | Late::Answer { who, ack, .. } => {
                    assert!(!acked(who, ack), "{late:?}");
                }
                Late::Welcome { who, ticket } => {
                    let mut joins = self.truth.late_joins.iter().filter(|(of, ..)| *of == ticket);
                    assert!(!joins.any(|(_, _, ack)| acked(who, *ack)), "{late:?}");
                }
            }
        }
    }

    pub(super) fn record(&mut self, record: &Record) {
        assert_eq!(record.at_ms, self.now.as_millis());
        let Content::Poses(samples) = &record.content else { return self.replayed.read(record) };
        let (replayed, snapshots, departures) = (&mut self.replayed, &self.snapshots, &self.departures);
        replayed.poses(record.at_ms, samples, |instant_ms, replayed| {
            if departures.contains(&(instant_ms + 1)) {
                return;
            }
            for (who, number) in &snapshots[&instant_ms] {
                let stay = replayed.members.get(&MemberId(*who));
                if let Some(stay) = stay.filter(|stay| stay.since_ms <= instant_ms) {
                    let pose = number.map_or(protocol::Pose::INITIAL, pose_numbered);
                    assert_eq!(stay.pose(), pose_json(&pose), "s{who} at {instant_ms}");
                }
            }
        });
    }

    /// What is written down is what is.
    pub(super) fn check_replayed(&self) {
        if !self.setup.recorded {
            return;
        }
        let Run { truth, replayed, .. } = self;
        let there: Vec<_> = truth.members.keys().map(|who| MemberId(*who)).collect();
        assert_eq!(replayed.members.keys().copied().collect::<Vec<_>>(), there, "who is in");
        for (who, member) in &truth.members {
            let name = format!("name {}", member.username.unwrap_or(*who));
            assert_eq!(replayed.members[&MemberId(*who)].user["username"], name);
        }
        let objects: Vec<_> = replayed
            .objects
            .values()
            .map(|object| {
                [&object["id"], &object["version"], &object["owner"], &object["value"]].map(Clone::clone)
            })
            .collect();
        let expected: Vec<_> = truth
            .objects
            .iter()
            .map(|(id, (version, owner, value))| {
                [json!(id), json!(version), json!(format!("u{owner}")), json!(value)]
            })
            .collect();
        assert_eq!(objects, expected, "the objects");
    }

    /// After a tick, of which the journal may take a sample.
    pub(super) fn ticked(&mut self, records: Vec<Effect<u64>>) {
        if !self.setup.recorded {
            return;
        }
        let poses = || self.truth.members.iter().map(|(who, member)| (*who, member.pose)).collect();
        self.snapshots.entry(self.now.as_millis()).or_insert_with(poses);
        self.apply(records);
        // So that it can be told what came before the sample from what came after it.
        self.step(&Operation::Pass { millis: 1 });
    }

    /// Nobody moves any more, and the last sample is handed over.
    pub(super) fn settle_poses(&mut self) {
        for _ in 0..12 {
            self.step(&Operation::Pass { millis: 2 * PRESENCE_INTERVAL.as_millis() as u64 });
            self.tick();
        }
        for (who, member) in self.truth.members.iter().filter(|_| self.setup.recorded) {
            let pose = member.pose.map_or(protocol::Pose::INITIAL, pose_numbered);
            assert_eq!(self.replayed.members[&MemberId(*who)].pose(), pose_json(&pose), "s{who}");
        }
    }

    /// The journal is done with everything.
    pub(super) fn settle_records(&mut self) {
        while !self.awaits.is_empty() {
            self.step(&Operation::Recorded { ok: true, last: false });
        }
        self.now = self.now + Duration::from_millis(1);
    }
}
