//! The tick: who has moved, and who sees it.

use protocol::Pose;
use protocol::event::Encoding;
use protocol::frame::{FLAG_FULL, FrameHeader};

use super::ghosts::Ghosts;
use super::{Effect, Member, Room};
use crate::broadcast::{FRAME_ENVELOPE_BYTES, Members, Section, TickPoses, Wanted};
use crate::interest::{Grid, Plan, Tracks, Viewpoint};
use crate::limits::REFRESH_INTERVAL;
use crate::time::Time;

/// What the sections of a tick are encoded from.
struct Known<'a, S> {
    tracks: &'a Tracks,
    members: &'a [Option<Member<S>>],
    ghosts: &'a Ghosts,
}

impl<S> Members for Known<'_, S> {
    fn pose(&self, slot: u16) -> &Pose {
        self.tracks.pose(slot)
    }

    fn ids_json(&self, slot: u16) -> &str {
        match &self.members[usize::from(slot)] {
            Some(member) => &member.ids_json,
            None => self.ghosts.at(slot).map_or("", |ghost| &ghost.ids_json),
        }
    }
}

impl<S: Clone> Room<S> {
    pub(super) fn tick_poses(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        self.tick = self.tick.wrapping_add(1);
        if self.by_session.is_empty() || self.present() < 2 {
            // Nobody is there to see anybody; what has moved meanwhile is still marked when somebody is.
            return;
        }
        self.take_moved();
        let wanted = self.wanted();
        let (hz, options) = (self.shared.tick_hz(), self.shared.options.view);
        let budget = self.tick_budget(hz, wanted);
        if self.refresh_due(now) {
            self.tracks.refresh();
        }
        let longest = options.periods.as_slice().last().copied().unwrap_or(1);
        let repeats = wanted.binary || wanted.repeated_text;
        let Plan { base, near, is_full } = self.tracks.plan(self.tick, hz, budget, longest, repeats);
        if base.is_empty() && near.is_empty() {
            return;
        }
        let known = Known { tracks: &self.tracks, members: &self.members, ghosts: &self.ghosts };
        let base = Section::encode(Grid::coarse(base), &known, wanted);
        let near = Section::encode(Grid::new(near), &known, wanted);
        // From the epoch, so that 32 bits last for 49 days; they wrap after that.
        let time_ms = now.since(self.shared.epoch).as_millis() as u32;
        let flags = if is_full { FLAG_FULL } else { 0 };
        let header = FrameHeader { flags, tick: self.tick, time_ms };
        let poses = TickPoses::new(header, options, budget, base, near, &self.viewpoints());
        effects.push(Effect::Tick(Box::new(poses)));
    }

    /// Bytes that a viewer may get in a tick.
    fn tick_budget(&self, hz: u32, wanted: Wanted) -> usize {
        let options = &self.shared.options;
        // Text costs by the byte, so a room with text that has been slowed down must not make up for it with longer
        // ticks. Frames cost by the write.
        let has_text = wanted.json || wanted.batch;
        let hz = if has_text { hz.max(options.tick_hz.hz_for(self.present())) } else { hz };
        ((options.view.budget / hz) as usize).saturating_sub(FRAME_ENVELOPE_BYTES)
    }

    /// What the tick has to be encoded to.
    fn wanted(&self) -> Wanted {
        let wants = |encoding: Encoding| self.encodings.0[encoding as usize] > 0;
        let is_limited_text =
            |member: &Member<S>| self.sees_up_to(member).is_some() && member.encoding != Encoding::Binary;
        Wanted {
            json: wants(Encoding::Json),
            batch: wants(Encoding::Batch),
            binary: wants(Encoding::Binary),
            repeated_text: self.members.iter().flatten().any(is_limited_text),
        }
    }

    /// Takes note of whoever has moved since the last tick.
    fn take_moved(&mut self) {
        let Self { shared, tracks, tick, .. } = self;
        shared.table.take_dirty(|slot| {
            // A late write of a member that has just left may have set the bit of an empty slot.
            if tracks.is_present(slot) {
                match shared.table.load(slot) {
                    Some(pose) => tracks.moved(slot, pose, *tick),
                    None => shared.table.mark_dirty(slot),
                }
            }
        });
    }

    /// Where all members look from.
    fn viewpoints(&self) -> Vec<(Viewpoint, u16)> {
        let present = (0..).zip(&self.members).filter_map(|(slot, member)| Some((slot, member.as_ref()?)));
        present
            .map(|(slot, member)| {
                let cell = member.looks_from.unwrap_or_else(|| self.tracks.cell(slot));
                (Viewpoint::new(cell, self.sees_up_to(member)), slot)
            })
            .collect()
    }

    /// How far a member sees, in metres: as far as it wants, and no further than the room lets. `None`: there is no
    /// limit.
    fn sees_up_to(&self, member: &Member<S>) -> Option<f32> {
        match (member.radius_m, self.shared.options.view.radius_m) {
            (Some(own), Some(of_room)) => Some(own.min(of_room)),
            (own, of_room) => own.or(of_room),
        }
    }

    /// Whether everybody's pose is to be shown again, because some viewer had to skip a tick. Rate-limited, so that
    /// one slow viewer does not make every tick a full one.
    fn refresh_due(&mut self, now: Time) -> bool {
        let due = self.shared.refresh_wanted() && now.since(self.last_refresh) >= REFRESH_INTERVAL;
        if due {
            self.shared.take_refresh_wanted();
            self.last_refresh = now;
        }
        due
    }
}
