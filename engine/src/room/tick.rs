//! The tick: whose poses have changed, encoded once for everybody.

use protocol::event::Encoding;
use protocol::frame::{FLAG_FULL, FrameHeader};

use super::{Effect, Room};
use crate::broadcast::{BatchTick, BinaryTick, JsonTick, Moved, TickPoses};
use crate::limits::REFRESH_INTERVAL;
use crate::time::Time;

impl<S: Clone> Room<S> {
    pub(super) fn tick_poses(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        self.tick = self.tick.wrapping_add(1);
        let is_full = self.refresh_due(now);
        let mut slots = Vec::new();
        self.shared.table.take_dirty(|slot| slots.push(slot));
        if is_full {
            slots = (0..self.members.len() as u16).collect();
        }
        let wants = |encoding: Encoding| self.encodings.0[encoding as usize] > 0;
        // Each slot is read once, whoever sees it: binary viewers see what has moved and some that has not.
        let (seen, moved): (Vec<Moved<'_>>, Vec<Moved<'_>>) = if wants(Encoding::Binary) {
            let seen = self.poses_of(&self.with_repeated(slots.clone()));
            let moved = seen.iter().filter(|one| slots.binary_search(&one.slot).is_ok()).copied().collect();
            (seen, moved)
        } else {
            (Vec::new(), self.poses_of(&slots))
        };
        // From the epoch, so that 32 bits last for 49 days; they wrap after that.
        let time_ms = now.since(self.shared.epoch).as_millis() as u32;
        let mut poses = TickPoses { moved: moved.len(), ..TickPoses::default() };
        if !moved.is_empty() {
            poses.json = wants(Encoding::Json).then(|| JsonTick::encode(&moved));
            poses.batch = wants(Encoding::Batch).then(|| BatchTick::encode(self.tick, time_ms, &moved));
        }
        if !seen.is_empty() {
            let flags = if is_full { FLAG_FULL } else { 0 };
            poses.binary = Some(BinaryTick::encode(FrameHeader { flags, tick: self.tick, time_ms }, &seen));
        }
        if poses.json.is_some() || poses.batch.is_some() || poses.binary.is_some() {
            effects.push(Effect::Tick(poses));
        }
    }

    /// The poses in those of `slots` that have a member.
    fn poses_of(&self, slots: &[u16]) -> Vec<Moved<'_>> {
        let mut moved = Vec::with_capacity(slots.len());
        for &slot in slots {
            // A late write of a member that has just left may have set the bit of an empty slot.
            let Some(Some(member)) = self.members.get(usize::from(slot)) else { continue };
            match self.shared.table.load(slot) {
                Some(pose) => moved.push(Moved { slot, ids_json: &member.ids_json, pose }),
                None => self.shared.table.mark_dirty(slot),
            }
        }
        moved
    }

    /// `slots` and those whose turn it is to be repeated, in ascending order. A binary frame may be lost to its
    /// viewer without anybody knowing, so every member's pose goes out once a second, moved or not; the turns are
    /// spread over the second's ticks.
    fn with_repeated(&self, mut slots: Vec<u16>) -> Vec<u16> {
        let ticks = self.shared.tick_hz();
        let turn = self.tick % ticks;
        slots.extend((turn..self.members.len() as u32).step_by(ticks as usize).map(|slot| slot as u16));
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Whether this tick brings everybody's pose, because some viewer had to skip one. Rate-limited, so that one
    /// slow viewer does not make every tick a full one.
    fn refresh_due(&mut self, now: Time) -> bool {
        let due = self.shared.refresh_wanted() && now.since(self.last_refresh) >= REFRESH_INTERVAL;
        if due {
            self.shared.take_refresh_wanted();
            self.last_refresh = now;
        }
        due
    }
}
