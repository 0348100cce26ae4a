//! What a room remembers of its members' poses from tick to tick, and whose turn it is.

use protocol::Pose;
use protocol::frame::entry_bytes;

use super::cell::Cell;
use super::grid::Shown;

/// Longer than any period of a ring: from here on it does not matter how long ago somebody moved.
const AGE_MAX: u32 = 255;

/// Of a tick's budget, what the base takes if not everything fits: the rest is for what is near.
const BASE_SHARE: (usize, usize) = (1, 2);

/// Of a tick's budget, the most that repeating everybody once a second may take. A room so full that it takes more
/// repeats less often.
const REPEAT_SHARE: (usize, usize) = (3, 4);

/// One member's pose as of the last tick.
#[derive(Debug, Clone, Copy)]
struct Track {
    is_present: bool,
    /// Not everybody has been shown its newest pose.
    is_news: bool,
    /// The tick at which it last moved.
    moved_at: u32,
    pose: Pose,
    cell: Cell,
    bytes: u8,
}

/// One per member, by slot.
#[derive(Debug, Default)]
pub struct Tracks {
    tracks: Vec<Track>,
    /// Where the sweep over those who have moved goes on.
    cursor: usize,
}

/// Who is shown in a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To everybody.
    pub base: Vec<Shown>,
    /// To those near them. Nobody is in both.
    pub near: Vec<Shown>,
    /// Nobody is in the room who is not in the base.
    pub is_full: bool,
}

impl Tracks {
    /// A member has come to `slot`.
    pub fn enter(&mut self, slot: u16, tick: u32) {
        let pose = Pose::INITIAL;
        let track = Track {
            is_present: true,
            is_news: false,
            moved_at: tick.wrapping_sub(AGE_MAX),
            pose,
            cell: Cell::of(pose.head.position),
            bytes: entry_bytes(&pose) as u8,
        };
        let index = usize::from(slot);
        if index >= self.tracks.len() {
            self.tracks.resize(index + 1, Track { is_present: false, ..track });
        }
        self.tracks[index] = track;
    }

    /// The member has gone.
    pub fn leave(&mut self, slot: u16) {
        self.tracks[usize::from(slot)].is_present = false;
    }

    /// Whether there is a member in `slot`.
    pub fn is_present(&self, slot: u16) -> bool {
        self.tracks.get(usize::from(slot)).is_some_and(|track| track.is_present)
    }

    /// The member has a new pose, at `tick`.
    pub fn moved(&mut self, slot: u16, pose: Pose, tick: u32) {
        let track = &mut self.tracks[usize::from(slot)];
        track.is_news = true;
        track.moved_at = tick;
        track.cell = Cell::of(pose.head.position);
        track.bytes = entry_bytes(&pose) as u8;
        track.pose = pose;
    }

    /// Everybody is news again, for somebody has missed something.
    pub fn refresh(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.is_news = true);
    }

    /// Bytes that everybody takes in a frame.
    pub fn bytes(&self) -> usize {
        self.present().map(|track| usize::from(track.bytes)).sum()
    }

    fn present(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_present)
    }

    /// The member's pose as of the last tick.
    pub fn pose(&self, slot: u16) -> &Pose {
        &self.tracks[usize::from(slot)].pose
    }

    /// The member's cell.
    pub fn cell(&self, slot: u16) -> Cell {
        self.tracks[usize::from(slot)].cell
    }

    /// Decides who is shown at `tick` in a room of `hz` ticks a second, where a viewer may get `budget` bytes in this
    /// tick. `longest` is the longest period of a ring. `repeats`: somebody takes frames, which stand alone and may be
    /// lost, so that everybody is repeated once a second even if it is no news.
    pub fn plan(&mut self, tick: u32, hz: u32, budget: usize, longest: u8, repeats: bool) -> Plan {
        let present = || self.tracks.iter().filter(|track| track.is_present);
        let of_all: usize = present().map(|track| usize::from(track.bytes)).sum();
        let of_news: usize =
            present().filter(|track| track.is_news).map(|track| usize::from(track.bytes)).sum();
        let per_tick = of_all.div_ceil(hz as usize);
        let allowed = (budget * REPEAT_SHARE.0 / REPEAT_SHARE.1).max(1);
        let period = hz as usize * per_tick.div_ceil(allowed).max(1);
        let turn = tick as usize % period;
        let is_whole = of_news + if repeats { per_tick } else { 0 } <= budget;
        let mut plan = Plan::default();
        let mut left = budget * BASE_SHARE.0 / BASE_SHARE.1;
        // In a room whose members all get everything there is nothing to repeat but for frames.
        if repeats || !is_whole {
            for index in (turn..self.tracks.len()).step_by(period) {
                left = left.saturating_sub(self.show(index, tick, repeats, &mut plan));
            }
        }
        let from = if is_whole { 0 } else { self.cursor.min(self.tracks.len().saturating_sub(1)) };
        for index in (from..self.tracks.len()).chain(0..from) {
            if !is_whole && left < usize::from(self.tracks[index].bytes) {
                self.cursor = index;
                break;
            }
            left = left.saturating_sub(self.show(index, tick, false, &mut plan));
        }
        if !is_whole {
            // Whoever is no news is where everybody has seen it.
            let news = (0..).zip(&self.tracks).filter(|(_, track)| track.is_present && track.is_news);
            let shown = news.map(|(slot, track)| track.shown(slot, tick));
            plan.near.extend(shown.filter(|shown| shown.age < longest));
        }
        plan.is_full = plan.base.len() == self.present().count();
        plan
    }

    /// Shows a member to everybody if it is news, or in any case. Says how many bytes that takes.
    fn show(&mut self, index: usize, tick: u32, in_any_case: bool, plan: &mut Plan) -> usize {
        let track = &mut self.tracks[index];
        if !track.is_present || !(track.is_news || in_any_case) {
            return 0;
        }
        plan.base.push(track.shown(index as u16, tick));
        track.is_news = false;
        usize::from(track.bytes)
    }
}

impl Track {
    fn shown(&self, slot: u16, tick: u32) -> Shown {
        let age = tick.wrapping_sub(self.moved_at).min(AGE_MAX) as u8;
        Shown { cell: self.cell, age, slot, bytes: self.bytes, is_news: self.is_news }
    }
}
