//! What of a room is written down, and who waits for that.

use std::collections::HashMap;
use std::hash::RandomState;

use protocol::Outgoing;
use replay::{Action, Content, Event, MemberId, PoseSamples, Record};

use super::outbound::LateReply;
use super::sampling::{Keyframes, Sampler};
use super::{AckId, Effect, Member, Room, SessionId};
use crate::time::Time;

/// Something to be written down, and who waits for that.
#[derive(Debug)]
pub struct RecordEffect<S> {
    /// What.
    pub record: Record,
    /// To be handed to [`Room::recorded`] when the record is durable, or as soon as it is known that it will not be in
    /// time.
    pub awaits: Option<Awaits<S>>,
}

/// Who waits for a record.
#[derive(Debug)]
pub enum Awaits<S> {
    /// A new member, for its welcome.
    Welcome {
        /// The member.
        member: SessionId,
        /// Tells this arrival of it from any other.
        ticket: u64,
    },
    /// Who has left, for the answer. It is out in any case.
    Departure(S, Outgoing),
    /// Who has changed something: for the answer if all goes well, by this ack.
    Answer(S, Outgoing, u64),
}

/// What a room that is written down keeps for it.
pub(super) struct Recording<S> {
    /// The time of the command or tick that is being carried out, Unix ms.
    pub(super) at_ms: u64,
    /// What is to be handed over after the command.
    queue: Vec<RecordEffect<S>>,
    /// How many records somebody waits for.
    awaited: usize,
    /// Members whose arrival is not known to be written down, and the tickets of these arrivals.
    arrivals: HashMap<SessionId, u64>,
    next_ticket: u64,
    /// Answers to joins of those who have left meanwhile.
    late_replies: Vec<LateReply<S>>,
    pub(super) sampler: Sampler,
    pub(super) keyframes: Keyframes,
    /// How often the journal has lost something, as far as is known here.
    losses: Option<u64>,
}

/// What a recording goes on from when its room, which was let go, is opened again: whoever comes and goes must not have
/// everything that stands there written down each time.
#[derive(Debug)]
pub(crate) struct Suspended {
    keyframes: Keyframes,
    losses: Option<u64>,
    revision: u64,
    /// The objects', by these keys, which nobody knows: objects cannot be made so that others have the same.
    fingerprint: u64,
    keys: RandomState,
}

impl<S> Recording<S> {
    pub(super) fn push(&mut self, content: Content, awaits: Option<Awaits<S>>) {
        self.awaited += usize::from(awaits.is_some());
        self.queue.push(RecordEffect { record: Record { at_ms: self.at_ms, content }, awaits });
    }

    pub(super) fn push_poses(&mut self, samples: PoseSamples) {
        self.push(Content::Poses(samples), None);
    }
}

impl<S: Clone> Room<S> {
    /// From now on what happens is written down. To be called once, before anything does. So often the journal has lost
    /// something so far.
    pub fn begin_recording(&mut self, now: Time, losses: u64, effects: &mut Vec<Effect<S>>) {
        let mut recording = Box::new(Recording {
            at_ms: now.as_millis(),
            queue: Vec::new(),
            awaited: 0,
            arrivals: HashMap::new(),
            next_ticket: 0,
            late_replies: Vec::new(),
            sampler: Sampler::default(),
            keyframes: Keyframes::default(),
            losses: None,
        });
        if let Some(before) = self.shared.suspend(None) {
            (recording.keyframes, recording.losses) = (before.keyframes, before.losses);
            self.objects.count_from(before.revision);
            if self.objects.fingerprint(&before.keys) != before.fingerprint {
                // The store has got others from elsewhere meanwhile.
                recording.keyframes.lost();
            }
        }
        self.recording = Some(recording);
        self.note_losses(losses);
        if let Some(recording) = &mut self.recording {
            recording.keyframes.open(now);
        }
        self.record_tick(now, effects);
    }

    /// Keeps what the recording goes on from when the room is opened again. It is let go now: nobody is in.
    pub fn suspend_recording(&self) {
        let Some(recording) = &self.recording else { return };
        let keys = RandomState::new();
        self.shared.suspend(Some(Box::new(Suspended {
            keyframes: recording.keyframes,
            losses: recording.losses,
            revision: self.objects.revision(),
            fingerprint: self.objects.fingerprint(&keys),
            keys,
        })));
    }

    /// Whether what happens is written down.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// So many samples of poses a second are wanted from now on.
    pub fn sample_poses_at(&mut self, hz: u32) {
        if let Some(recording) = &mut self.recording {
            recording.sampler.set_hz(hz);
        }
    }

    /// The journal has not taken the last keyframe. It is made again after a while.
    pub fn keyframe_refused(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.keyframes.refused();
        }
    }

    /// So often the journal has lost something that it had taken. If that is more than the last time, all objects are
    /// written down again soon: keyframes refer to an earlier one for them.
    pub fn note_losses(&mut self, losses: u64) {
        let Some(recording) = &mut self.recording else { return };
        if recording.losses.is_some_and(|known| known < losses) {
            recording.keyframes.lost();
        }
        recording.losses = recording.losses.max(Some(losses));
    }

    /// A record that somebody waits for is durable, or will not be in time.
    pub fn recorded(&mut self, awaits: Awaits<S>, is_durable: bool) {
        let Some(recording) = &mut self.recording else { return };
        recording.awaited -= 1;
        match awaits {
            Awaits::Answer(session, answer, ack) => {
                self.answer_stored(Some((session, answer, ack)), is_durable);
            }
            Awaits::Departure(session, answer) => self.reply(&session, Some(answer)),
            Awaits::Welcome { member, ticket } => {
                if recording.arrivals.get(&member) == Some(&ticket) {
                    recording.arrivals.remove(&member);
                }
                let replies: Vec<_> =
                    recording.late_replies.extract_if(.., |late| late.0 == ticket).collect();
                for (_, session, answer) in replies {
                    self.reply(&session, Some(answer));
                }
                self.out.release(ticket);
            }
        }
    }

    /// Whether somebody waits for a record.
    pub(super) fn is_awaited(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.awaited > 0)
    }

    /// Whether messages to everybody are written down.
    pub(super) fn records_messages(&self) -> bool {
        self.is_recorded() && self.shared.options.record_messages
    }

    /// What is written down from here on happens now.
    pub(super) fn record_at(&mut self, now: Time) {
        if let Some(recording) = &mut self.recording {
            recording.at_ms = now.as_millis();
        }
    }

    /// Gives away what is to be written down.
    pub(super) fn hand_over(&mut self, effects: &mut Vec<Effect<S>>) {
        if let Some(recording) = &mut self.recording {
            effects.extend(recording.queue.drain(..).map(Effect::Record));
        }
    }

    /// The record of something that a member does, if it is written down.
    pub(super) fn event(&self, slot: u16, action: Action) -> Option<Record> {
        let at_ms = self.recording.as_ref()?.at_ms;
        Some(Record { at_ms, content: event(self.member(slot), action) })
    }

    /// Answers a member when what it has done is written down; at once if it is not to be.
    pub(super) fn answer_recorded(
        &mut self,
        slot: u16,
        action: Option<Action>,
        answer: Option<Outgoing>,
        ack: AckId,
    ) {
        let member = self.member(slot);
        let session = member.session.clone();
        let content = action.map(|action| event(member, action));
        match (&mut self.recording, content) {
            (Some(recording), Some(content)) => {
                let awaits = answer.zip(ack).map(|(answer, ack)| Awaits::Answer(session, answer, ack));
                recording.push(content, awaits);
            }
            _ => self.reply(&session, answer),
        }
    }

    /// Somebody has come, whom `user` tells of. Its welcome is to wait until that is written down.
    pub(super) fn record_join(&mut self, slot: u16, user: String) {
        if !self.is_recorded() {
            return;
        }
        let member = self.member(slot);
        let (id, content) = (member.id, event(member, Action::Join { user }));
        let Some(recording) = &mut self.recording else { return };
        let ticket = recording.next_ticket;
        recording.next_ticket += 1;
        recording.arrivals.insert(id, ticket);
        recording.push(content, Some(Awaits::Welcome { member: id, ticket }));
    }

    /// The ticket of a member's arrival, if that is not known to be written down.
    pub(super) fn unrecorded_arrival(&self, id: SessionId) -> Option<u64> {
        self.recording.as_ref()?.arrivals.get(&id).copied()
    }

    /// Somebody has left, with these answers to its joins outstanding, and wants this one to its departure.
    pub(super) fn record_leave(
        &mut self,
        member: &Member<S>,
        unanswered: Vec<LateReply<S>>,
        answer: Option<Outgoing>,
    ) {
        let is_last = self.by_session.is_empty();
        let Some(recording) = &mut self.recording else { return self.reply(&member.session, answer) };
        recording.arrivals.remove(&member.id);
        recording.late_replies.extend(unanswered);
        if is_last && let Some(samples) = recording.sampler.take() {
            recording.push_poses(samples);
        }
        let awaits = answer.map(|answer| Awaits::Departure(member.session.clone(), answer));
        recording.push(event(member, Action::Leave), awaits);
    }
}

impl From<SessionId> for MemberId {
    fn from(id: SessionId) -> Self {
        Self(id.0)
    }
}

fn event<S>(member: &Member<S>, action: Action) -> Content {
    Content::Event(Event {
        member: member.id.into(),
        user_id: member.user.id.clone(),
        socket_id: member.user.socket_id.clone(),
        action,
    })
}

/// The argument of an event that the engine has made.
pub(super) fn argument(packet: &Outgoing) -> &str {
    // None of its names has a comma in it.
    packet.text().split_once(',').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or_default()
}
