//! Arrivals and departures.

use protocol::error::{ClientError, ErrorCode};
use protocol::event::Encoding;
use protocol::members::json_string;
use protocol::view::{Point, View};
use protocol::{Members, Outgoing, Pose};
use replay::Action;
use serde::Serialize;

use super::ghosts::{ids_json, user_update};
use super::objects::to_json;
use super::outbound::Unrecorded;
use super::{
    AckId, Audience, Effect, Entry, Flush, Joined, Member, Nothing, Outbound, Room, SessionId, User,
    ok_packet,
};
use crate::directory::Recorded;
use crate::interest::Cell;
use crate::limits::{MAX_PROFILE_BYTES, PRESENCE_INTERVAL};
use crate::time::Time;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinAnswer<'a> {
    room_id: &'a str,
    slot: u16,
    /// Unix ms: what `time` in ticks counts from.
    epoch: u64,
    tick_hz: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Recorded>,
}

/// Somebody who wants to come in.
pub(super) struct Arrival<'a, S> {
    pub(super) id: SessionId,
    pub(super) session: &'a S,
    pub(super) user: User,
    pub(super) encoding: Encoding,
    pub(super) view: View,
}

impl<S: Clone> Room<S> {
    pub(super) fn join(
        &mut self,
        arrival: Arrival<'_, S>,
        password: Option<&str>,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) -> Result<(), ClientError> {
        let Arrival { id, session, user, encoding, view } = arrival;
        if let Some(&slot) = self.by_session.get(&id) {
            self.look(slot, &view);
            self.join_again(slot, encoding, ack, effects);
            return Ok(());
        }
        if !self.shared.options.admits(password) {
            return Err(ClientError::new(ErrorCode::WrongPassword, "Wrong password"));
        }
        let Some(slot) = self.take_slot() else {
            return Err(ClientError::new(ErrorCode::RoomFull, "Room full"));
        };
        let generation = self.shared.table.open(slot, &Pose::INITIAL);
        let ids_json = ids_json(&user);
        self.members[usize::from(slot)] = Some(Member {
            session: session.clone(),
            id,
            user,
            ids_json,
            profile: Members::default(),
            generation,
            encoding,
            looks_from: None,
            radius_m: None,
        });
        self.tracks.enter(slot, self.tick);
        self.look(slot, &view);
        self.by_session.insert(id, slot);
        *self.encodings.of(encoding) += 1;
        self.shared.set_members(self.present());
        let user = self.user_json(slot);
        self.push_presence(slot, Outgoing::event_raw("user-joined", &user));
        self.record_join(slot, user);
        effects.push(Effect::Admit { session: session.clone(), slot, generation });
        self.answer_join(slot, encoding, ack);
        Ok(())
    }

    /// A join of the room that the session is in already: it is told everything again, the others nothing.
    fn join_again(&mut self, slot: u16, encoding: Encoding, ack: AckId, effects: &mut Vec<Effect<S>>) {
        let member = self.member(slot);
        let (session, generation) = (member.session.clone(), member.generation);
        effects.push(Effect::Admit { session, slot, generation });
        self.answer_join(slot, encoding, ack);
    }

    fn answer_join(&mut self, slot: u16, encoding: Encoding, ack: AckId) {
        let shared = &self.shared;
        let answer = JoinAnswer {
            room_id: &shared.id,
            slot,
            epoch: shared.epoch.as_millis(),
            tick_hz: shared.tick_hz(),
            replay: shared.recorded,
        };
        let reply = ok_packet(ack, answer);
        let member = self.member(slot);
        let (session, since) = (member.session.clone(), self.out.missed.len() + self.out.entries.len());
        let joined = Joined { session, slot, encoding, reply, since };
        let id = member.id;
        match self.unrecorded_arrival(id) {
            Some(ticket) => self.out.unrecorded.push(Unrecorded { joined, id, ticket, is_told: false }),
            None => self.out.joined.push((joined, id)),
        }
    }

    /// The lowest slot that is free, if the room is not full. Low slots keep the dirty bitmap short.
    pub(super) fn take_slot(&mut self) -> Option<u16> {
        if self.present() >= self.shared.options.max_users {
            return None;
        }
        self.free_retired();
        if let Some(slot) = self.free.pop_first() {
            return Some(slot);
        }
        // Slots that are still being retired count against the table's size for the moment that it takes.
        if self.members.len() >= self.shared.options.max_users {
            return None;
        }
        self.members.push(None);
        Some(self.members.len() as u16 - 1)
    }

    /// Gives back the slots whose last owner has finished its last write.
    pub(super) fn free_retired(&mut self) {
        let Self { retiring, free, shared, .. } = self;
        retiring.retain(|&slot| {
            let retired = shared.table.retire(slot);
            if retired {
                free.insert(slot);
            }
            !retired
        });
    }

    pub(super) fn leave(&mut self, slot: u16, ack: AckId) -> Result<(), ClientError> {
        self.sample_leaver(slot);
        let member = self.members[usize::from(slot)].take().expect("a slot in by_session has a member");
        self.by_session.remove(&member.id);
        self.tracks.leave(slot);
        *self.encodings.of(member.encoding) -= 1;
        self.shared.set_members(self.present());
        self.retiring.push(slot);
        self.free_retired();
        let unanswered = self.out.dismiss(member.id);
        let packet = Outgoing::event("user-left", &*member.user.id);
        self.push_presence(slot, packet);
        self.out.left.push((member.session.clone(), slot));
        self.record_leave(&member, unanswered, ok_packet(ack, Nothing {}));
        Ok(())
    }

    /// The member looks from there from now on.
    pub(super) fn look(&mut self, slot: u16, view: &View) {
        let member = self.members[usize::from(slot)].as_mut().expect("a slot in by_session has a member");
        let is_unlimited = view.radius.is_none() && self.shared.options.view.radius_m.is_none();
        if member.radius_m.is_some() && is_unlimited && member.encoding != Encoding::Binary {
            // Whoever stands still beyond the old radius would never be shown: text has repetitions only for those who
            // see less than all.
            self.shared.want_refresh();
        }
        member.looks_from = view.position.map(|Point { x, y, z }| Cell::of([x, y, z]));
        member.radius_m = view.radius;
    }

    /// Unlike everything else, arrivals and departures are not urgent.
    pub(super) fn push_presence(&mut self, slot: u16, packet: Outgoing) {
        let audience = Audience::Others(slot);
        self.out.entries.push(Entry { audience, packet, volatile: false, in_welcome: true });
    }

    pub(super) fn user_update(
        &mut self,
        slot: u16,
        changes: &Members,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let member = self.members[usize::from(slot)].as_mut().expect("a slot in by_session has a member");
        let mut profile = member.profile.clone();
        profile.merge(changes);
        if profile.json_bytes() > MAX_PROFILE_BYTES {
            return Err(ClientError::new(ErrorCode::Limit, "what a user says of itself is at most 4 KiB"));
        }
        member.profile = profile;
        let update = user_update(&member.user, changes);
        self.announce(Audience::Others(slot), Outgoing::event("user-updated", &update));
        let action = self.is_recorded().then(|| Action::UserUpdate { update: to_json(&update) });
        self.answer_recorded(slot, action, ok_packet(ack, Nothing {}), ack);
        Ok(())
    }

    /// One `user` of the contract as JSON.
    pub(super) fn user_json(&self, slot: u16) -> String {
        let mut out = Vec::with_capacity(200);
        self.write_user(slot, &mut out);
        String::from_utf8(out).expect("built from JSON texts")
    }

    fn write_user(&self, slot: u16, out: &mut Vec<u8>) {
        let (ids_json, user, profile) = self.known_as(slot);
        out.push(b'{');
        out.extend_from_slice(ids_json.as_bytes());
        if profile.value("username").is_none() {
            out.extend_from_slice(b"\"username\":");
            out.extend_from_slice(json_string(&user.username).get().as_bytes());
            out.push(b',');
        }
        self.shared.table.load(slot).unwrap_or(Pose::INITIAL).write_json_members(out);
        out.extend_from_slice(format!(",\"slot\":{slot}").as_bytes());
        for (name, value) in profile.iter() {
            out.push(b',');
            out.extend_from_slice(json_string(name).get().as_bytes());
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
    }

    /// `room-users`: everybody, as of now.
    fn users_packet(&self) -> Outgoing {
        let mut out = Vec::with_capacity(self.present() * 200 + 2);
        out.push(b'[');
        for slot in (0..self.members.len() as u16).filter(|slot| self.is_taken(*slot)) {
            if out.len() > 1 {
                out.push(b',');
            }
            self.write_user(slot, &mut out);
        }
        out.push(b']');
        Outgoing::event_raw("room-users", &String::from_utf8(out).expect("built from JSON texts"))
    }

    /// When what waits should go out: at once if anybody waits for an answer or a message; arrivals and
    /// departures are gathered for a while. `None` if nothing waits.
    pub fn flush_due(&self) -> Option<Time> {
        match (self.out.is_silent(), self.out.urgent) {
            (true, _) => None,
            (false, true) => Some(Time::default()),
            (false, false) if self.out.held => Some(self.last_welcome + PRESENCE_INTERVAL),
            (false, false) => Some(self.last_presence + PRESENCE_INTERVAL),
        }
    }

    /// Sends out what waits; welcomes only if the last ones were long enough ago, for their lists of users and
    /// objects cost the more the fuller the room is. The lists are made once for all who have joined since the last
    /// time, whose members they all are already.
    pub fn flush(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        if self.out.is_silent() {
            return;
        }
        let mut out = std::mem::replace(&mut self.out, Outbound::new());
        let too_early = !out.joined.is_empty() && now < self.last_welcome + PRESENCE_INTERVAL;
        if too_early || !out.unrecorded.is_empty() {
            self.out = out.hold(too_early);
            if out.is_silent() {
                return;
            }
        }
        self.last_presence = now;
        let anybody_joined = !out.joined.is_empty();
        if anybody_joined {
            self.last_welcome = now;
        }
        for (joined, _) in &out.joined {
            self.set_encoding(joined.slot, joined.encoding);
        }
        effects.push(Effect::Flush(Flush {
            left: out.left,
            missed: out.missed,
            entries: out.entries,
            joined: out.joined.into_iter().map(|(joined, _)| joined).collect(),
            users: anybody_joined.then(|| self.users_packet()),
            objects: anybody_joined.then(|| self.objects.packet()),
            replies: out.replies,
        }));
    }

    /// Not before its welcome has gone out: until then a member that joins again takes poses as before.
    fn set_encoding(&mut self, slot: u16, encoding: Encoding) {
        let member =
            self.members[usize::from(slot)].as_mut().expect("who has left is in no list of arrivals");
        *self.encodings.of(member.encoding) -= 1;
        *self.encodings.of(encoding) += 1;
        member.encoding = encoding;
    }
}
