//! What a recorded room writes down by itself: where its members are, and how everything stands.

use std::time::Duration;

use protocol::Pose;
use replay::limits::{CHUNK_INSTANTS_MAX, CHUNK_SAMPLES_MAX};
use replay::{Content, Keyframe, MemberId, Objects, PoseSample, PoseSamples};

use super::recording::{Recording, argument};
use super::{Effect, Room};
use crate::limits::{KEYFRAME_INTERVAL, KEYFRAME_RETRY, MAX_POSE_HZ, POSE_CHUNK};
use crate::time::Time;

const SECOND: Duration = Duration::from_secs(1);

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Gathers samples of poses until they are handed over, and knows when the next are due.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Samples a second.
    hz: u32,
    /// When the next sample is due.
    next: Time,
    /// When the last sample was taken, Unix ms.
    last_ms: u64,
    /// The tick of the last sample.
    tick: u32,
    chunk: PoseSamples,
    /// How many samples the chunk before this one had.
    count_before: usize,
    /// Who was alone in the room, and where, at the last sample.
    alone: Option<(MemberId, Pose)>,
    /// The last instant is that of members who left.
    is_of_leavers: bool,
}

/// Instants of a chunk from which on it takes none for members who leave.
const MAX_INSTANTS_OF_LEAVERS: usize = CHUNK_INSTANTS_MAX / 2;

impl Sampler {
    pub(super) fn set_hz(&mut self, hz: u32) {
        self.hz = hz.min(MAX_POSE_HZ);
    }

    /// What has been gathered, if anything has been.
    pub(super) fn take(&mut self) -> Option<PoseSamples> {
        if self.chunk.samples.is_empty() {
            return None;
        }
        self.count_before = self.chunk.samples.len();
        Some(std::mem::take(&mut self.chunk))
    }

    /// What has been gathered, if it is so old that it is to be handed over, or if samples of so many members would be
    /// more than a chunk may have.
    fn take_due(&mut self, at_ms: u64, members: usize) -> Option<PoseSamples> {
        let first = *self.chunk.instants_ms.first()?;
        let is_old = at_ms - first >= POSE_CHUNK.as_millis() as u64;
        let is_full = self.chunk.samples.len() + members > CHUNK_SAMPLES_MAX;
        if is_old || is_full { self.take() } else { None }
    }

    /// Whether a sample is to be taken at this tick of a room of `tick_hz` a second.
    fn is_due(&mut self, now: Time, tick_hz: u32) -> bool {
        // To the nearest tick, so that one that is a little early is not passed over.
        if self.hz == 0 || now + SECOND / tick_hz / 2 < self.next || now.as_millis() <= self.last_ms {
            return false;
        }
        let interval = SECOND / self.hz;
        let next = self.next + interval;
        self.next = if next < now { now + interval } else { next };
        self.last_ms = now.as_millis();
        self.is_of_leavers = false;
        true
    }

    /// Takes a place for the sample of a member that leaves at `at_ms`, the millisecond before: it is told before the
    /// departure. `false` if there is none.
    fn begin_for_leaver(&mut self, at_ms: u64) -> bool {
        let before_ms = at_ms.saturating_sub(1);
        let has_place = self.is_of_leavers && self.last_ms == before_ms && !self.chunk.instants_ms.is_empty();
        if has_place || self.hz == 0 {
            return has_place;
        }
        if before_ms <= self.last_ms || self.chunk.instants_ms.len() >= MAX_INSTANTS_OF_LEAVERS {
            return false;
        }
        self.last_ms = before_ms;
        self.is_of_leavers = true;
        self.begin(1);
        true
    }

    /// Takes a place for the samples of one instant, in a room of so many members.
    fn begin(&mut self, members: usize) {
        if self.chunk.instants_ms.is_empty() {
            // About as many as the last time, and some more, so that the buffer need not grow while it is filled.
            let expected = self.count_before + self.count_before / 8;
            self.chunk.samples.reserve_exact(expected.max(members));
            self.chunk.instants_ms.reserve_exact(self.hz as usize + 1);
        }
        self.chunk.instants_ms.push(self.last_ms);
    }

    fn push(&mut self, member: MemberId, pose: Pose) {
        let instant = (self.chunk.instants_ms.len() - 1) as u16;
        self.chunk.samples.push(PoseSample { instant, member, pose });
    }

    /// All samples of the instant are taken.
    fn end(&mut self) {
        let last = self.chunk.instants_ms.len() - 1;
        if self.chunk.samples.last().is_none_or(|sample| usize::from(sample.instant) != last) {
            self.chunk.instants_ms.pop();
        }
    }
}

/// When it is written down how everything stands, and how much of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Keyframes {
    next: Time,
    last: Time,
    written: Written,
    /// As it was before the last one.
    before: Written,
}

#[derive(Debug, Default, Clone, Copy)]
struct Written {
    /// Whether a keyframe has opened the recording, or none needs to.
    is_open: bool,
    /// When all objects were written down last, Unix ms, and the number of their last change then.
    objects: Option<(u64, u64)>,
}

impl Keyframes {
    /// The room is opened, for the first time or again. If it is too early for another keyframe, all that has happened
    /// since the last one is written down behind that.
    pub(super) fn open(&mut self, now: Time) {
        if now >= self.next {
            self.written.is_open = false;
        }
    }

    pub(super) fn refused(&mut self) {
        self.written = self.before;
        self.next = self.last + KEYFRAME_RETRY;
    }

    /// Earlier ones may be lost.
    pub(super) fn lost(&mut self) {
        (self.written.objects, self.before.objects) = (None, None);
        self.next = self.next.min(self.last + KEYFRAME_RETRY);
    }
}

impl<S: Clone> Room<S> {
    /// To be called at each tick, when the poses have been taken from their slots.
    pub(super) fn record_tick(&mut self, now: Time, effects: &mut Vec<Effect<S>>) {
        let Some(mut recording) = self.recording.take() else { return };
        recording.at_ms = now.as_millis();
        if let Some(samples) = recording.sampler.take_due(now.as_millis(), self.by_session.len()) {
            recording.push_poses(samples);
        }
        if recording.sampler.is_due(now, self.shared.tick_hz()) {
            self.sample(&mut recording.sampler);
        }
        if self.is_keyframe_due(&recording.keyframes, now) {
            // Before it, so that no sample that follows a keyframe is older than it.
            if let Some(samples) = recording.sampler.take() {
                recording.push_poses(samples);
            }
            self.keyframe(&mut recording, now);
        }
        self.recording = Some(recording);
        self.hand_over(effects);
    }

    fn sample(&self, sampler: &mut Sampler) {
        sampler.begin(self.by_session.len());
        match self.only_member() {
            Some(slot) => self.sample_only(slot, sampler),
            None => {
                for (slot, pose) in self.tracks.moved_since(sampler.tick, self.tick) {
                    sampler.push(self.member(slot).id.into(), *pose);
                }
                sampler.alone = None;
            }
        }
        sampler.tick = self.tick;
        sampler.end();
    }

    fn only_member(&self) -> Option<u16> {
        if self.by_session.len() == 1 { self.by_session.values().next().copied() } else { None }
    }

    /// One who is alone: no tick takes its pose, nor may this, or whoever comes next would not be shown it.
    fn sample_only(&self, slot: u16, sampler: &mut Sampler) {
        let Some(pose) = self.shared.table.load(slot) else { return };
        let member = self.member(slot).id.into();
        if self.is_unsampled(slot, &pose, sampler) {
            sampler.push(member, pose);
        }
        sampler.alone = Some((member, pose));
    }

    /// Whether the member's pose, as it is in its slot, is in no sample yet.
    fn is_unsampled(&self, slot: u16, pose: &Pose, sampler: &Sampler) -> bool {
        let member = self.member(slot).id.into();
        match &sampler.alone {
            Some((of, before)) if *of == member => before != pose,
            _ => self.tracks.has_moved(slot, sampler.tick, self.tick) || self.tracks.pose(slot) != pose,
        }
    }

    /// Samples a member that is about to leave: its last pose would be in no sample otherwise.
    pub(super) fn sample_leaver(&mut self, slot: u16) {
        let Some(mut recording) = self.recording.take() else { return };
        // A tick would have taken what is old, but it may be late.
        if let Some(samples) = recording.sampler.take_due(recording.at_ms, 1) {
            recording.push_poses(samples);
        }
        let sampler = &mut recording.sampler;
        if let Some(pose) = self.shared.table.load(slot)
            && self.is_unsampled(slot, &pose, sampler)
            && sampler.begin_for_leaver(recording.at_ms)
        {
            sampler.push(self.member(slot).id.into(), pose);
        }
        self.recording = Some(recording);
    }

    fn is_keyframe_due(&self, keyframes: &Keyframes, now: Time) -> bool {
        now >= keyframes.next && (!self.by_session.is_empty() || !keyframes.written.is_open)
    }

    fn keyframe(&mut self, recording: &mut Recording<S>, now: Time) {
        let at_ms = recording.at_ms;
        let keyframes = &mut recording.keyframes;
        keyframes.before = keyframes.written;
        let revision = self.objects.revision();
        let objects = match keyframes.written.objects {
            Some((all_ms, of)) if of == revision && all_ms / HOUR_MS == at_ms / HOUR_MS => {
                Objects::UnchangedSince(all_ms)
            }
            _ => {
                keyframes.written.objects = Some((at_ms, revision));
                Objects::All(argument(&self.objects.packet()).to_owned())
            }
        };
        let present = (0..).zip(&self.members).filter_map(|(slot, member)| Some((slot, member.as_ref()?.id)));
        let keyframe = Keyframe {
            opens: !keyframes.written.is_open,
            max_users: self.shared.options.max_users as u32,
            members: present.map(|(slot, id)| (id.into(), self.user_json(slot))).collect(),
            objects,
        };
        keyframes.written.is_open = true;
        (keyframes.last, keyframes.next) = (now, now + KEYFRAME_INTERVAL);
        recording.push(Content::Keyframe(keyframe), None);
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;

    #[test]
    fn no_chunk_has_more_samples_than_one_may_have() {
        const MEMBERS: u64 = 60_000;
        let mut sampler = Sampler::default();
        sampler.set_hz(MAX_POSE_HZ);
        let mut now = Time::from_micros(1_000_000);
        let mut chunks = Vec::new();
        for _ in 0..10 {
            chunks.extend(sampler.take_due(now.as_millis(), MEMBERS as usize));
            assert!(sampler.is_due(now, MAX_POSE_HZ));
            sampler.begin(MEMBERS as usize);
            (0..MEMBERS).for_each(|member| sampler.push(MemberId(member), Pose::INITIAL));
            sampler.end();
            now = now + SECOND / MAX_POSE_HZ * 2;
        }
        chunks.extend(sampler.take());
        let samples: Vec<_> = chunks.iter().map(|chunk| chunk.samples.len()).collect();
        assert_eq!(samples, [240_000, 240_000, 120_000]);
    }
}
