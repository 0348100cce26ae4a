//! What a room has to say, until it says it.

use super::{Entry, Joined, SessionId};
use protocol::Outgoing;

/// What has happened since the last flush.
pub(super) struct Outbound<S> {
    pub(super) left: Vec<(S, u16)>,
    /// What has gone out already, but not to those in `joined` and `unrecorded`.
    pub(super) missed: Vec<Entry>,
    pub(super) entries: Vec<Entry>,
    pub(super) joined: Vec<(Joined<S>, SessionId)>,
    /// Who is to be welcomed once its arrival is written down.
    pub(super) unrecorded: Vec<Unrecorded<S>>,
    pub(super) replies: Vec<(S, Outgoing)>,
    /// Something other than arrivals and departures waits, so nothing but welcomes is held back.
    pub(super) urgent: bool,
    /// Those in `joined` were held back by a flush: others know of them already.
    pub(super) held: bool,
}

/// Somebody whose arrival is not written down yet.
pub(super) struct Unrecorded<S> {
    pub(super) joined: Joined<S>,
    pub(super) id: SessionId,
    /// Of its arrival.
    pub(super) ticket: u64,
    /// Others know of it already.
    pub(super) is_told: bool,
}

/// An answer to a join that waits for the record of that ticket.
pub(super) type LateReply<S> = (u64, S, Outgoing);

impl<S> Outbound<S> {
    pub(super) fn new() -> Self {
        Self {
            left: Vec::new(),
            missed: Vec::new(),
            entries: Vec::new(),
            joined: Vec::new(),
            unrecorded: Vec::new(),
            replies: Vec::new(),
            urgent: false,
            held: false,
        }
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.is_silent() && self.unrecorded.is_empty()
    }

    /// Whether there is nothing that could be said now.
    pub(super) fn is_silent(&self) -> bool {
        self.left.is_empty() && self.entries.is_empty() && self.joined.is_empty() && self.replies.is_empty()
    }

    /// Takes out those whose arrival is not written down yet, and if it is `too_early` for a welcome, all who wait for
    /// one; with what they must hear after it of what goes out without them.
    pub(super) fn hold(&mut self, too_early: bool) -> Self {
        let mut joined = if too_early { std::mem::take(&mut self.joined) } else { Vec::new() };
        let mut unrecorded = std::mem::take(&mut self.unrecorded);
        let waiting =
            || joined.iter().map(|(joined, _)| joined).chain(unrecorded.iter().map(|one| &one.joined));
        let first = waiting().map(|joined| joined.since).min().unwrap_or(0);
        let entries = self.missed.iter().chain(&self.entries).enumerate().skip(first);
        let (places, missed): (Vec<usize>, Vec<Entry>) =
            entries.filter(|(_, entry)| !entry.in_welcome).map(|(at, entry)| (at, entry.clone())).unzip();
        let waiting = joined.iter_mut().map(|(joined, _)| joined);
        for joined in waiting.chain(unrecorded.iter_mut().map(|one| &mut one.joined)) {
            joined.since = places.partition_point(|place| *place < joined.since);
        }
        unrecorded.iter_mut().for_each(|one| one.is_told = true);
        if self.joined.is_empty() {
            self.missed.clear();
        }
        Self { missed, joined, unrecorded, held: too_early, ..Self::new() }
    }

    /// The arrival of that ticket needs to wait for its record no longer.
    pub(super) fn release(&mut self, ticket: u64) {
        for one in self.unrecorded.extract_if(.., |one| one.ticket == ticket) {
            self.held |= one.is_told;
            self.joined.push((one.joined, one.id));
        }
    }

    /// Who goes before its join was answered still gets the answer, but becomes no viewer. Gives the answers that have
    /// to wait for its arrival's record.
    pub(super) fn dismiss(&mut self, id: SessionId) -> Vec<LateReply<S>> {
        for (pending, _) in self.joined.extract_if(.., |(_, other)| *other == id) {
            self.replies.extend(pending.reply.map(|reply| (pending.session, reply)));
        }
        let unrecorded = self.unrecorded.extract_if(.., |one| one.id == id);
        unrecorded
            .filter_map(|Unrecorded { joined, ticket, .. }| Some((ticket, joined.session, joined.reply?)))
            .collect()
    }
}
