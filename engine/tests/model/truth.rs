//! The model: plain maps, no packets, no slots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::Time;
use engine::limits::PRESENCE_INTERVAL;

use super::late::Late;
use super::operation::SESSIONS;

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) members: BTreeMap<u64, Member>,
    /// Version, owner and value by id.
    pub(crate) objects: BTreeMap<String, (u64, u64, u64)>,
    /// What each session should have been told, in order.
    pub(crate) logs: Vec<Vec<String>>,
    /// What each session should have been answered, by ack id.
    pub(crate) answers: Vec<BTreeMap<u64, String>>,
    /// Codes of the errors that each session should have been told without an ack.
    pub(crate) errors: Vec<Vec<String>>,
    /// Something waits to be flushed.
    pub(crate) waiting: bool,
    /// When anybody was welcomed last.
    last_welcome: Time,
    /// Objects whose last write failed.
    pub(crate) unsaved: BTreeSet<String>,
    /// What waits for the journal, in order.
    pub(crate) late: VecDeque<Late>,
    /// Acks of joins that wait for an arrival's record: its ticket, whose, which.
    pub(crate) late_joins: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) pose: Option<u32>,
    pub(crate) username: Option<u64>,
    /// It has had its welcome.
    pub(crate) welcomed: bool,
    /// Welcomes that it is to get with the next flush that brings any.
    welcomes: usize,
    /// The ticket of its arrival, if that is not written down yet, and the welcomes that wait for it.
    unrecorded: Option<(u64, usize)>,
    /// What it is to be told with the next flush, or after its first welcome.
    pending: Vec<String>,
    /// Objects that it has changed since its last welcome: of these it knows more than it was told.
    pub(crate) touched: BTreeSet<String>,
}

impl Truth {
    pub(crate) fn new() -> Self {
        let sessions = SESSIONS as usize;
        Self {
            logs: vec![Vec::new(); sessions],
            answers: vec![BTreeMap::new(); sessions],
            errors: vec![Vec::new(); sessions],
            ..Self::default()
        }
    }

    /// A join by this ack. With a ticket, an arrival is to be written down under it before it is answered.
    pub(crate) fn join(&mut self, who: u64, ack: Option<u64>, ticket: Option<u64>) {
        if !self.members.contains_key(&who) {
            self.tell_others(who, &format!("joined s{who}"));
            let unrecorded = ticket.map(|ticket| (ticket, 0));
            self.members.insert(who, Member { unrecorded, ..Member::default() });
            self.late.extend(ticket.map(|ticket| Late::Welcome { who, ticket }));
        }
        if let Some(ack) = ack {
            self.answers[who as usize].insert(ack, "ok".to_owned());
        }
        let member = self.members.get_mut(&who).expect("just let in");
        match &mut member.unrecorded {
            Some((ticket, welcomes)) => {
                *welcomes += 1;
                self.late_joins.extend(ack.map(|ack| (*ticket, who, ack)));
            }
            None => {
                member.welcomes += 1;
                self.waiting = true;
            }
        }
    }

    /// An arrival is written down, or never will be.
    pub(crate) fn arrival_recorded(&mut self, who: u64, ticket: u64) {
        let acks = self.late_joins.extract_if(.., |(of, ..)| *of == ticket).count();
        let member =
            self.members.get_mut(&who).filter(|member| member.unrecorded.is_some_and(|(of, _)| of == ticket));
        match member {
            Some(member) => {
                member.welcomes += member.unrecorded.take().map_or(0, |(_, welcomes)| welcomes);
                self.waiting = true;
            }
            // It has left.
            None => self.waiting |= acks > 0,
        }
    }

    pub(crate) fn leave(&mut self, who: u64) {
        self.members.remove(&who);
        self.tell_others(who, &format!("left u{who}"));
    }

    /// Something that who is not welcomed yet will find in its welcome.
    pub(crate) fn tell_others(&mut self, from: u64, line: &str) {
        self.waiting = true;
        for (_, member) in self.members.iter_mut().filter(|(who, member)| **who != from && member.welcomed) {
            member.pending.push(line.to_owned());
        }
    }

    /// A message: it reaches every member, welcomed or not.
    pub(crate) fn message(&mut self, to: impl Fn(u64) -> bool, number: u64) {
        self.waiting = true;
        for (_, member) in self.members.iter_mut().filter(|(who, _)| to(**who)) {
            member.pending.push(format!("message {number}"));
        }
    }

    /// An answer: `ok`, `ok` with a version, or an error's code.
    pub(crate) fn answer(&mut self, who: u64, ack: Option<u64>, outcome: &str) {
        match ack {
            Some(ack) => {
                self.answers[who as usize].insert(ack, outcome.to_owned());
            }
            None if outcome.starts_with("ok") => return,
            None => self.errors[who as usize].push(outcome.to_owned()),
        }
        self.waiting = true;
    }

    pub(crate) fn flush(&mut self, now: Time) {
        let anybody = self.members.values().any(|member| member.welcomes > 0);
        let hold = anybody && now < self.last_welcome + PRESENCE_INTERVAL;
        if anybody && !hold {
            self.last_welcome = now;
        }
        self.waiting = hold;
        for (who, member) in
            self.members.iter_mut().filter(|(_, member)| member.welcomed || (!hold && member.welcomes > 0))
        {
            let log = &mut self.logs[*who as usize];
            let welcomes = if hold { 0 } else { std::mem::take(&mut member.welcomes) };
            let first = usize::from(!member.welcomed && welcomes > 0);
            if first == 1 {
                log.push("welcome".to_owned());
                member.welcomed = true;
            }
            log.append(&mut member.pending);
            log.extend((first..welcomes).map(|_| "welcome".to_owned()));
            if welcomes > 0 {
                member.touched.clear();
            }
        }
    }
}
