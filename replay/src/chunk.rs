//! Poses of about a second as bytes.
//!
//! Every member has a track: its samples in the order of time. All numbers of one kind stand together, track after
//! track, each as its difference from what the two before it let expect; the hands' positions are relative to the
//! head's. What is left are small numbers, which compress well.

use protocol::Pose;

use crate::codec::wire::{Reader, put_varint};
use crate::codec::{Damaged, TooLarge};
use crate::limits::{CHUNK_INSTANTS_MAX, CHUNK_SAMPLES_MAX, CHUNK_SPAN_MAX_MS, MEMBERS_MAX};
use crate::{MemberId, PoseSample, PoseSamples};

mod columns;
mod quantise;
mod tracks;

use columns::{put_columns, read_columns};
use quantise::{Form, Quantised};
use tracks::Tracks;

/// Head, left hand, right hand.
const PARTS: usize = 3;
/// Bits of a sample's mask that say which parts there are; the head always is.
const PRESENT: [u8; PARTS] = [0, 1, 2];
/// Bits for the form of a part's rotation.
const EULER: [u8; PARTS] = [4, 8, 16];
/// Bits for angles that a quaternion does not tell from others.
const FLIPPED: [u8; PARTS] = [32, 64, 128];

/// What encoding and decoding need, kept from one chunk to the next.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    tracks: Tracks,
    /// One for each sample, in the order of tracks.
    masks: Vec<u8>,
    /// Likewise, but only where there is such a part.
    parts: [Vec<Quantised>; PARTS],
}

impl Workspace {
    /// Appends a chunk's body, which leaves out its first instant.
    pub(crate) fn put(&mut self, poses: &PoseSamples, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        check(poses)?;
        self.tracks.gather(&poses.samples);
        if self.tracks.len() > MEMBERS_MAX {
            return Err(TooLarge);
        }
        self.quantise(&poses.samples);
        put_varint(poses.instants_ms.len() as u64, out);
        for pair in poses.instants_ms.windows(2) {
            put_varint(pair[1] - pair[0], out);
        }
        self.tracks.put(poses.instants_ms.len(), out);
        put_masks(&self.masks, out);
        for part in &self.parts {
            put_columns(part, out);
        }
        Ok(())
    }

    fn quantise(&mut self, samples: &[PoseSample]) {
        self.masks.clear();
        self.parts.iter_mut().for_each(Vec::clear);
        for (_, rows) in self.tracks.iter() {
            let mut starts = [true; PARTS];
            for row in rows {
                let Pose { head, left_hand, right_hand } = &samples[self.tracks.source(row)].pose;
                let mut mask = 0;
                let mut origin = [0; 3];
                for (at, part) in
                    [Some(head), left_hand.as_ref(), right_hand.as_ref()].into_iter().enumerate()
                {
                    let Some(part) = part else { continue };
                    let (quantised, form) = Quantised::new(part, origin, std::mem::take(&mut starts[at]));
                    mask |= PRESENT[at] | form.bits(at);
                    if at == 0 {
                        origin = quantised.position();
                    }
                    self.parts[at].push(quantised);
                }
                self.masks.push(mask);
            }
        }
    }

    /// Reads a chunk's body. `first_ms` is its first instant. With `until_ms`, of each member only the last sample up
    /// to then is given.
    pub(crate) fn read(
        &mut self,
        first_ms: u64,
        body: &[u8],
        until_ms: Option<u64>,
    ) -> Result<PoseSamples, Damaged> {
        let mut reader = Reader::new(body);
        let instants_ms = read_instants(first_ms, &mut reader)?;
        self.tracks.read(instants_ms.len(), &mut reader)?;
        self.read_masks(&mut reader)?;
        for at in 0..PARTS {
            self.lay_out(at);
            read_columns(&mut self.parts[at], &mut reader)?;
        }
        reader.end()?;
        let instants = instants_ms.partition_point(|ms| until_ms.is_none_or(|until_ms| *ms <= until_ms));
        let samples = match until_ms {
            None => self.samples(instants_ms.len(), |_, _| true)?,
            Some(_) => self.samples(instants_ms.len(), |row, next| {
                let is_early = |row: usize| usize::from(self.tracks.instant(row)) < instants;
                is_early(row) && !next.is_some_and(is_early)
            })?,
        };
        Ok(PoseSamples { instants_ms, samples })
    }

    fn read_masks(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.masks.clear();
        while self.masks.len() < self.tracks.rows() {
            let mask = reader.byte()?;
            let run = reader.count(self.tracks.rows() - self.masks.len())?;
            if run == 0 {
                return Err(Damaged);
            }
            self.masks.resize(self.masks.len() + run, mask);
        }
        Ok(())
    }

    /// Makes places for all samples of a part, and says where tracks begin.
    fn lay_out(&mut self, at: usize) {
        let part = &mut self.parts[at];
        part.clear();
        for (_, rows) in self.tracks.iter() {
            let mut starts = true;
            for mask in &self.masks[rows] {
                if at == 0 || mask & PRESENT[at] != 0 {
                    part.push(Quantised::unread(std::mem::take(&mut starts)));
                }
            }
        }
    }

    /// The samples in the order of their instants, of those rows that are wanted; they are told from themselves and
    /// from the next of their track.
    fn samples(
        &self,
        instants: usize,
        is_wanted: impl Fn(usize, Option<usize>) -> bool,
    ) -> Result<Vec<PoseSample>, Damaged> {
        let mut wanted = vec![false; self.tracks.rows()];
        for (_, rows) in self.tracks.iter() {
            for row in rows.clone() {
                wanted[row] = is_wanted(row, Some(row + 1).filter(|next| *next < rows.end));
            }
        }
        let mut places = self.tracks.places(instants, &wanted);
        let nothing = PoseSample { instant: 0, member: MemberId(0), pose: Pose::INITIAL };
        let mut samples = vec![nothing; wanted.iter().filter(|is_wanted| **is_wanted).count()];
        let mut unread = self.parts.each_ref().map(|part| part.iter());
        for (member, rows) in self.tracks.iter() {
            for row in rows {
                let mask = self.masks[row];
                let mut parts = [None; PARTS];
                for at in (0..PARTS).filter(|at| *at == 0 || mask & PRESENT[*at] != 0) {
                    parts[at] = unread[at].next();
                }
                if !wanted[row] {
                    continue;
                }
                let instant = self.tracks.instant(row);
                let place = &mut places[usize::from(instant)];
                samples[*place] = PoseSample { instant, member, pose: pose(parts, mask)? };
                *place += 1;
            }
        }
        Ok(samples)
    }
}

fn pose(parts: [Option<&Quantised>; PARTS], mask: u8) -> Result<Pose, Damaged> {
    let [head, left, right] = parts;
    let head = head.ok_or(Damaged)?;
    let hand = |part: Option<&Quantised>, at| {
        part.map(|part| part.part(head.position(), Form::of(mask, at))).transpose()
    };
    Ok(Pose {
        head: head.part([0; 3], Form::of(mask, 0))?,
        left_hand: hand(left, 1)?,
        right_hand: hand(right, 2)?,
    })
}

/// What the type promises holds, and the limits are kept.
fn check(poses: &PoseSamples) -> Result<(), TooLarge> {
    let PoseSamples { instants_ms, samples } = poses;
    let is_small = instants_ms.len() <= CHUNK_INSTANTS_MAX && samples.len() <= CHUNK_SAMPLES_MAX;
    let grows = instants_ms.is_sorted_by(|a, b| a < b);
    let span = poses.last_ms().saturating_sub(poses.first_ms());
    let is_inside = samples.iter().all(|sample| usize::from(sample.instant) < instants_ms.len());
    if is_small && grows && span <= CHUNK_SPAN_MAX_MS && is_inside { Ok(()) } else { Err(TooLarge) }
}

fn read_instants(first_ms: u64, reader: &mut Reader<'_>) -> Result<Vec<u64>, Damaged> {
    let count = reader.count(CHUNK_INSTANTS_MAX)?;
    let mut instants = Vec::with_capacity(count);
    let mut last = first_ms;
    for at in 0..count {
        if at > 0 {
            let step = reader.varint()?;
            last = last.checked_add(step).filter(|_| step > 0).ok_or(Damaged)?;
        }
        if last - first_ms > CHUNK_SPAN_MAX_MS {
            return Err(Damaged);
        }
        instants.push(last);
    }
    Ok(instants)
}

/// Masks hardly ever change within a track: each is written once, with how many samples have it.
fn put_masks(masks: &[u8], out: &mut Vec<u8>) {
    for run in masks.chunk_by(|a, b| a == b) {
        out.push(run[0]);
        put_varint(run.len() as u64, out);
    }
}
