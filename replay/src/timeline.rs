//! A recording as moments in the order of time.
//!
//! Records stand in the order in which they were written down, and a chunk is written down after all that it tells
//! of. So moments wait until no chunk that is still to come can hold an earlier one.

use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use crate::codec::{self, Decoder};
use crate::{
    Action, Content, Event, Filter, Keyframe, MemberId, Moment, Objects, PoseSample, RecordKind,
    StoredRecord, Types, What, Who,
};

mod names;
mod waiting;

use names::{Mover, Names};
use waiting::{Body, Chunk, Rank, Waiting};

/// How long after its earliest pose a chunk may be written down. What it tells of later than that is told late.
/// Whoever reads up to some time reads records of so much later too.
pub const LOOK_AHEAD_MS: u64 = 5_000;
/// How much may wait: beyond it the earliest is told although something earlier could still come. A room that says
/// so much in [`LOOK_AHEAD_MS`] has more than a thousand members.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is counted of anything that waits, besides its own bytes.
const WAITING_BYTES_EACH: usize = 128;

/// Turns records into moments. Takes a bounded amount of memory, however long the recording is.
#[derive(Default)]
pub struct Timeline {
    filter: Filter,
    decoder: Decoder,
    names: Names,
    waiting: BinaryHeap<Waiting>,
    waiting_bytes: usize,
    /// Counts records, so that of two at one time the earlier is told first.
    sequence: u64,
    /// The newest id's time.
    newest_ms: u64,
    /// When the last thing happened that a record has told of.
    happened_ms: u64,
    /// When the last thing happened that has been told.
    told_ms: u64,
    is_finished: bool,
    counts: Counts,
}

/// What did not go smoothly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records that cannot be read.
    pub damaged: u64,
    /// Moves of members of whom nothing is known, or not any more. They are left out.
    pub unknown_moves: u64,
    /// Moments that were told later than in their turn; they have the time of the one before.
    pub late: u64,
}

impl Timeline {
    /// A timeline of what `filter` lets through. To know who is in, it is given records from a keyframe on.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Takes the next record. Records come in the order of their ids. After each, [`Self::next`] is called until it has
    /// nothing more.
    pub fn push(&mut self, record: &StoredRecord) {
        self.newest_ms = self.newest_ms.max(record.id.ms);
        let Ok(sealed) = codec::open(record.kind, &record.payload) else { return self.gap(record.id.ms) };
        let (first_ms, last_ms) = (sealed.first_ms, sealed.last_ms);
        if record.kind == RecordKind::Poses {
            self.happened_ms = self.happened_ms.max(last_ms);
            if self.filter.wants_moves_in(first_ms, last_ms) {
                let payload = record.payload.clone();
                let body = Body::Sealed { payload, epoch: self.names.epoch() };
                self.wait(first_ms, Rank::Move, record.payload.len(), body);
            }
            return;
        }
        let bytes = record.payload.len();
        match self.decoder.decode(record.kind, &record.payload).map(|record| (record.at_ms, record.content)) {
            Ok((at_ms, Content::Event(event))) => self.event(at_ms, bytes, event),
            Ok((at_ms, Content::Keyframe(keyframe))) => self.keyframe(at_ms, keyframe),
            Ok((_, Content::Poses(_))) | Err(_) => return self.gap(record.id.ms),
        }
        self.happened_ms = self.happened_ms.max(last_ms);
    }

    /// There are no more records: what waits is told.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Whether all records from now on are later than anything that the filter lets through.
    pub fn is_over(&self) -> bool {
        self.newest_ms > self.filter.to_ms.saturating_add(LOOK_AHEAD_MS)
    }

    /// What did not go smoothly so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next moment, or `None` if it takes more records to know it, or there is none.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end here")]
    pub fn next(&mut self) -> Option<Moment> {
        while self.is_due() {
            let told_ms = self.told_ms;
            let is_late = self.waiting.peek().is_some_and(|first| first.at_ms < told_ms);
            let what = self.step();
            let at_ms = self.told_ms;
            if let Some(what) = what.filter(|_| self.filter.wants_time(at_ms)) {
                self.counts.late += u64::from(is_late);
                return Some(Moment { at_ms, what });
            }
        }
        None
    }

    /// Whether nothing that is still to come is earlier than the first of what waits.
    fn is_due(&self) -> bool {
        let is_sure = |first: &Waiting| first.at_ms.saturating_add(LOOK_AHEAD_MS) <= self.newest_ms;
        let goes_anyway = self.is_finished || self.waiting_bytes > WAITING_BYTES_MAX;
        self.waiting.peek().is_some_and(|first| goes_anyway || is_sure(first))
    }

    /// Takes the first of what waits, which may be nothing that is wanted.
    fn step(&mut self) -> Option<What> {
        let mut first = self.waiting.peek_mut()?;
        self.told_ms = self.told_ms.max(first.at_ms);
        if let Body::Chunk(chunk) = &mut first.body {
            let (epoch, sample) = (chunk.epoch, chunk.next());
            match chunk.next_ms() {
                Some(next_ms) => {
                    first.at_ms = next_ms;
                    drop(first);
                }
                None => self.waiting_bytes -= PeekMut::pop(first).bytes,
            }
            return self.moved(epoch, sample?);
        }
        let first = PeekMut::pop(first);
        self.waiting_bytes -= first.bytes;
        match first.body {
            Body::Sealed { payload, epoch } => self.unseal(&payload, epoch),
            Body::Event { epoch, member, who, action } => self.happened(epoch, member, who, action),
            Body::Objects(objects) => Some(What::Objects(objects)),
            Body::Gap => Some(What::Gap),
            Body::Chunk(_) => None,
        }
    }

    fn moved(&mut self, epoch: u32, sample: PoseSample) -> Option<What> {
        let PoseSample { member, pose, .. } = sample;
        match self.names.mover(epoch, member, &self.filter, self.told_ms) {
            Mover::Wanted(who) => Some(What::Move { member, who, pose }),
            Mover::Unwanted => None,
            Mover::Unknown => {
                self.counts.unknown_moves += u64::from(self.filter.wants_time(self.told_ms));
                None
            }
        }
    }

    fn happened(&mut self, epoch: u32, member: MemberId, who: Arc<Who>, action: Action) -> Option<What> {
        if action == Action::Leave {
            self.names.forget(epoch, member, &who);
        }
        let is_wanted =
            self.filter.types.contains(Types::of(&action)) && self.filter.wants_user(&who.user_id);
        is_wanted.then_some(What::Event { member, who, action })
    }

    /// A chunk's turn has come.
    fn unseal(&mut self, payload: &[u8], epoch: u32) -> Option<What> {
        let until_ms = self.filter.only_last_moves.then_some(self.filter.to_ms);
        let poses =
            codec::open(RecordKind::Poses, payload).and_then(|sealed| self.decoder.poses(&sealed, until_ms));
        let Ok(poses) = poses else {
            self.counts.damaged += 1;
            return Some(What::Gap);
        };
        let bytes = size_of_val(&poses.samples[..]);
        let chunk = Chunk::new(poses, epoch);
        if let Some(first_ms) = chunk.next_ms() {
            self.wait(first_ms, Rank::Move, bytes, Body::Chunk(Box::new(chunk)));
        }
        None
    }

    fn event(&mut self, at_ms: u64, bytes: usize, event: Event) {
        let Event { member, user_id, socket_id, action } = event;
        if self.names.is_somebody_else(member, &socket_id) {
            // Members are numbered anew, and the keyframe that says so was lost.
            self.leave_all_but(&HashSet::new(), self.happened_ms, Rank::Last);
            self.names.begin_anew();
        }
        let who = self.names.actor(member, &user_id, &socket_id, &action, &self.filter);
        let body = Body::Event { epoch: self.names.epoch(), member, who, action };
        self.wait(at_ms, Rank::Event, bytes, body);
    }

    /// Who is in according to the keyframe is in, and nobody else: what has been lost before it is made up for here.
    fn keyframe(&mut self, at_ms: u64, keyframe: Keyframe) {
        let Keyframe { opens, members, objects, .. } = keyframe;
        let users: Vec<(MemberId, Who, String)> = members
            .into_iter()
            .filter_map(|(member, user)| Some((member, names::read_user(&user)?, user)))
            .collect();
        // A room may be opened, and joined, a moment before there is a keyframe that says so.
        let stay: HashSet<MemberId> = users
            .iter()
            .filter(|(member, who, _)| self.names.is_in(*member, who))
            .map(|(member, ..)| *member)
            .collect();
        let (left_ms, rank) = if opens { (self.happened_ms, Rank::Last) } else { (at_ms, Rank::Event) };
        self.leave_all_but(&stay, left_ms, rank);
        if opens && stay.is_empty() {
            self.names.begin_anew();
        }
        if let (true, Objects::All(objects)) = (opens && self.filter.openings, objects) {
            self.wait(at_ms, Rank::Event, objects.len(), Body::Objects(objects));
        }
        let is_followed = self.names.complete() || opens;
        for (member, who, user) in users.into_iter().filter(|(member, ..)| !stay.contains(member)) {
            let who = self.names.enter(member, who, &self.filter);
            if is_followed {
                let epoch = self.names.epoch();
                let (bytes, action) = (user.len(), Action::Join { user });
                self.wait(at_ms, Rank::Event, bytes, Body::Event { epoch, member, who, action });
            }
        }
    }

    fn leave_all_but(&mut self, stay: &HashSet<MemberId>, at_ms: u64, rank: Rank) {
        let epoch = self.names.epoch();
        for (member, who) in self.names.leave_all_but(stay) {
            let body = Body::Event { epoch, member, who, action: Action::Leave };
            self.wait(at_ms, rank, 0, body);
        }
    }

    fn gap(&mut self, at_ms: u64) {
        self.counts.damaged += 1;
        self.wait(at_ms, Rank::Event, 0, Body::Gap);
    }

    fn wait(&mut self, at_ms: u64, rank: Rank, bytes: usize, body: Body) {
        let bytes = bytes + WAITING_BYTES_EACH;
        self.waiting_bytes += bytes;
        self.sequence += 1;
        self.waiting.push(Waiting { at_ms, rank, sequence: self.sequence, bytes, body });
    }
}
