//! What a room remembers of its members' poses from tick to tick, and whose turn it is.

use std::collections::HashMap;

use protocol::Pose;
use protocol::frame::{ENTRY_BYTES_MIN, GROUP_HEADER_BYTES, entry_bytes};

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
    /// How many members are in each block where there are any: each costs the base a group's header.
    blocks: HashMap<Cell, u32>,
    /// Where the sweep over those who have moved goes on.
    cursor: usize,
    /// Where the repetition of everybody goes on, as a part of its circle.
    phase: u32,
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
        self.enter_block(track.cell.block());
    }

    /// The member has gone.
    pub fn leave(&mut self, slot: u16) {
        let track = &mut self.tracks[usize::from(slot)];
        track.is_present = false;
        let block = track.cell.block();
        self.leave_block(block);
    }

    fn enter_block(&mut self, block: Cell) {
        *self.blocks.entry(block).or_default() += 1;
    }

    fn leave_block(&mut self, block: Cell) {
        if let Some(members) = self.blocks.get_mut(&block) {
            *members -= 1;
            if *members == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    /// Whether there is a member in `slot`.
    pub fn is_present(&self, slot: u16) -> bool {
        self.tracks.get(usize::from(slot)).is_some_and(|track| track.is_present)
    }

    /// The member has a new pose, at `tick`.
    pub fn moved(&mut self, slot: u16, pose: Pose, tick: u32) {
        let track = &mut self.tracks[usize::from(slot)];
        let (before, cell) = (track.cell.block(), Cell::of(pose.head.position));
        track.is_news = true;
        track.moved_at = tick;
        track.cell = cell;
        track.bytes = entry_bytes(&pose) as u8;
        track.pose = pose;
        if before != cell.block() {
            self.leave_block(before);
            self.enter_block(cell.block());
        }
    }

    /// Everybody is news again, for somebody has missed something.
    pub fn refresh(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.is_news = true);
    }

    /// Bytes that everybody takes in a frame.
    #[cfg(all(test, not(loom_model)))]
    pub(super) fn bytes(&self) -> usize {
        self.bytes_of(|_, _| true)
    }

    /// Bytes that some of the members take in a frame, at most.
    fn bytes_of(&self, is_shown: impl Fn(usize, &Track) -> bool) -> usize {
        let (mut bytes, mut count) = (0, 0);
        for (slot, track) in self.tracks.iter().enumerate() {
            if track.is_present && is_shown(slot, track) {
                bytes += usize::from(track.bytes);
                count += 1;
            }
        }
        bytes + self.header_bytes(count)
    }

    /// Bytes of the groups' headers if `count` members are shown, at most.
    fn header_bytes(&self, count: usize) -> usize {
        GROUP_HEADER_BYTES * self.blocks.len().min(count)
    }

    fn present(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_present)
    }

    /// The member's pose as of the last tick.
    pub fn pose(&self, slot: u16) -> &Pose {
        &self.tracks[usize::from(slot)].pose
    }

    /// Whether the member has moved after the tick `since`, as of `tick`.
    pub fn has_moved(&self, slot: u16, since: u32, tick: u32) -> bool {
        self.tracks[usize::from(slot)].has_moved(since, tick)
    }

    /// Who has moved after the tick `since`, as of `tick`, and where they are.
    pub fn moved_since(&self, since: u32, tick: u32) -> impl Iterator<Item = (u16, &Pose)> {
        let moved = (0..).zip(&self.tracks).filter(move |(_, track)| track.has_moved(since, tick));
        moved.map(|(slot, track)| (slot, &track.pose))
    }

    /// The member's cell.
    pub fn cell(&self, slot: u16) -> Cell {
        self.tracks[usize::from(slot)].cell
    }

    /// Decides who is shown at `tick` in a room of `hz` ticks a second, where a viewer may get `budget` bytes in this
    /// tick. `longest` is the longest period of a ring. `repeats`: somebody takes frames, which stand alone and may be
    /// lost, so that everybody is repeated once a second even if it is no news.
    pub fn plan(&mut self, tick: u32, hz: u32, budget: usize, longest: u8, repeats: bool) -> Plan {
        let mut plan = Plan::default();
        let (from, step) = (self.phase, self.repeat_step(hz, budget));
        // Wrapped, a step that is the whole circle ends where it began.
        self.phase = from.wrapping_add(step as u32);
        let is_in_turn = |slot: usize| u64::from(phase_of(slot).wrapping_sub(from)) < step;
        let whole = self.bytes_of(|slot, track| track.is_news || (repeats && is_in_turn(slot)));
        let is_whole = whole <= budget;
        let mut shown = 0;
        for slot in (0..self.tracks.len()).filter(|slot| is_in_turn(*slot)) {
            shown += self.show(slot, tick, repeats, &mut plan);
        }
        if is_whole {
            for slot in 0..self.tracks.len() {
                self.show(slot, tick, false, &mut plan);
            }
        } else {
            self.sweep(tick, budget * BASE_SHARE.0 / BASE_SHARE.1, shown, &mut plan);
            // Whoever is no news is where everybody has seen it.
            let news = (0..).zip(&self.tracks).filter(|(_, track)| track.is_present && track.is_news);
            let shown = news.map(|(slot, track)| track.shown(slot, tick));
            plan.near.extend(shown.filter(|shown| shown.age < longest));
        }
        plan.is_full = plan.base.len() == self.present().count();
        plan
    }

    /// By how much of its circle the repetition goes on in a tick: around once a second, if a tick's share of everybody
    /// is not too large. Where members stand on the circle depends on nothing that changes, so that nobody waits longer
    /// because others come or the rate is another.
    fn repeat_step(&self, hz: u32, budget: usize) -> u64 {
        let entries: usize = self.present().map(|track| usize::from(track.bytes)).sum();
        let per_tick =
            entries.div_ceil(hz as usize) + self.header_bytes(self.tracks.len().div_ceil(hz as usize));
        let allowed = (budget * REPEAT_SHARE.0 / REPEAT_SHARE.1).max(1);
        let ticks = (hz as usize * per_tick).div_ceil(allowed).max(hz as usize);
        (1_u64 << u32::BITS).div_ceil(ticks as u64)
    }

    /// Goes on showing those who have moved to everybody, in turns, until `share` bytes are used. `used` of them are,
    /// without the headers of groups.
    fn sweep(&mut self, tick: u32, share: usize, used: usize, plan: &mut Plan) {
        let headers = self.header_bytes(share / (GROUP_HEADER_BYTES + ENTRY_BYTES_MIN));
        let mut left = share.saturating_sub(headers + used);
        let from = self.cursor.min(self.tracks.len().saturating_sub(1));
        for slot in (from..self.tracks.len()).chain(0..from) {
            if left < usize::from(self.tracks[slot].bytes) {
                self.cursor = slot;
                return;
            }
            left -= self.show(slot, tick, false, plan);
        }
    }

    /// Shows a member to everybody if it is news, or in any case. Says how many bytes its entry takes.
    fn show(&mut self, slot: usize, tick: u32, in_any_case: bool, plan: &mut Plan) -> usize {
        let track = &mut self.tracks[slot];
        if !track.is_present || !(track.is_news || in_any_case) {
            return 0;
        }
        plan.base.push(track.shown(slot as u16, tick));
        track.is_news = false;
        usize::from(track.bytes)
    }
}

/// Where a slot stands on the circle of repetition. Multiples of the golden ratio: however many slots there are, they are
/// spread evenly.
fn phase_of(slot: usize) -> u32 {
    (slot as u32).wrapping_mul(0x9E37_79B1)
}

impl Track {
    fn has_moved(&self, since: u32, tick: u32) -> bool {
        self.is_present && tick.wrapping_sub(self.moved_at) < tick.wrapping_sub(since)
    }

    fn shown(&self, slot: u16, tick: u32) -> Shown {
        let age = tick.wrapping_sub(self.moved_at).min(AGE_MAX) as u8;
        Shown { cell: self.cell, age, slot, bytes: self.bytes, is_news: self.is_news }
    }
}
