//! The tick: whose poses have changed, encoded once for everybody.

use protocol::event::Encoding;

use super::{Effect, Room};
use crate::broadcast::{BatchTick, JsonTick, Moved, TickPoses};
use crate::limits::REFRESH_INTERVAL;
use crate::time::Time;

impl<S: Clone> Room<S> {
    pub(super) fn tick_poses(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        self.tick = self.tick.wrapping_add(1);
        let mut slots = Vec::new();
        if self.refresh_due(now) {
            self.shared.table.take_dirty(|_| ());
            slots.extend(
                (0..self.members.len() as u16).filter(|&slot| self.members[usize::from(slot)].is_some()),
            );
        } else {
            self.shared.table.take_dirty(|slot| slots.push(slot));
        }
        if slots.is_empty() {
            return;
        }
        let mut moved = Vec::with_capacity(slots.len());
        for slot in slots {
            // A late write of a member that has just left may have set the bit of an empty slot.
            let Some(Some(member)) = self.members.get(usize::from(slot)) else { continue };
            match self.shared.table.load(slot) {
                Some(pose) => moved.push(Moved { slot, ids_json: &member.ids_json, pose }),
                None => self.shared.table.mark_dirty(slot),
            }
        }
        if moved.is_empty() {
            return;
        }
        // From the epoch, so that 32 bits last for 49 days; they wrap after that.
        let time_ms = now.since(self.shared.epoch).as_millis() as u32;
        let wanted = |encoding: Encoding| self.encodings.0[encoding as usize] > 0;
        let poses = TickPoses {
            moved: moved.len(),
            json: wanted(Encoding::Json).then(|| JsonTick::encode(&moved)),
            batch: wanted(Encoding::Batch).then(|| BatchTick::encode(self.tick, time_ms, &moved)),
        };
        effects.push(Effect::Tick(poses));
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
