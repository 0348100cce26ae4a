//! Which member has samples at which instants.

use std::ops::Range;

use crate::codec::Damaged;
use crate::codec::wire::{Reader, put_varint};
use crate::limits::{CHUNK_SAMPLES_MAX, MEMBERS_MAX};
use crate::{MemberId, PoseSample};

/// A track is there at all instants.
const EVERYWHERE: u8 = 0;
/// A track is there where a bit is set: so many bits as there are instants follow, lowest first.
const SOMEWHERE: u8 = 1;

/// All samples of a chunk as rows, those of one member together, in the order of their instants.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    /// In growing order.
    members: Vec<MemberId>,
    /// Where each track ends.
    ends: Vec<usize>,
    instants: Vec<u16>,
    /// Which sample a row was made of.
    sources: Vec<u32>,
    order: Vec<(MemberId, u16, u32)>,
}

impl Tracks {
    /// Sorts samples. Where two are of one member and instant, the last counts.
    pub(super) fn gather(&mut self, samples: &[PoseSample]) {
        self.clear();
        let keys = samples.iter().zip(0..).map(|(sample, at)| (sample.member, sample.instant, at));
        self.order.clear();
        self.order.extend(keys);
        self.order.sort_unstable();
        self.order.dedup_by(|later, earlier| {
            let is_same = (later.0, later.1) == (earlier.0, earlier.1);
            if is_same {
                *earlier = *later;
            }
            is_same
        });
        for &(member, instant, source) in &self.order {
            if self.members.last() != Some(&member) {
                self.members.push(member);
                self.ends.push(self.instants.len());
            }
            self.instants.push(instant);
            self.sources.push(source);
            if let Some(end) = self.ends.last_mut() {
                *end += 1;
            }
        }
    }

    /// Appends members and instants.
    pub(super) fn put(&self, instants: usize, out: &mut Vec<u8>) {
        put_varint(self.members.len() as u64, out);
        let mut before = 0;
        for member in &self.members {
            put_varint(member.0 - before, out);
            before = member.0;
        }
        for (_, rows) in self.iter() {
            if rows.len() == instants {
                out.push(EVERYWHERE);
                continue;
            }
            out.push(SOMEWHERE);
            let from = out.len();
            out.resize(from + instants.div_ceil(8), 0);
            for instant in &self.instants[rows] {
                let instant = usize::from(*instant);
                out[from + instant / 8] |= 1 << (instant % 8);
            }
        }
    }

    /// Reads what [`Self::put`] has written.
    pub(super) fn read(&mut self, instants: usize, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.clear();
        let count = reader.count(MEMBERS_MAX)?;
        let mut member = 0u64;
        for at in 0..count {
            let step = reader.varint()?;
            member = member.checked_add(step).filter(|_| at == 0 || step > 0).ok_or(Damaged)?;
            self.members.push(MemberId(member));
        }
        for _ in 0..count {
            match reader.byte()? {
                EVERYWHERE => self.instants.extend(0..instants as u16),
                SOMEWHERE => {
                    let bits = reader.take(instants.div_ceil(8))?;
                    let is_there = |at: &u16| bits[usize::from(at / 8)] >> (at % 8) & 1 == 1;
                    self.instants.extend((0..instants as u16).filter(is_there));
                }
                _ => return Err(Damaged),
            }
            if self.instants.len() > CHUNK_SAMPLES_MAX {
                return Err(Damaged);
            }
            self.ends.push(self.instants.len());
        }
        Ok(())
    }

    /// Each member with the rows of its track.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, Range<usize>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.members.iter().zip(starts.zip(&self.ends)).map(|(member, (start, end))| (*member, start..*end))
    }

    /// How many tracks there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many samples there are.
    pub(super) fn rows(&self) -> usize {
        self.instants.len()
    }

    /// Which sample a row was made of.
    pub(super) fn source(&self, row: usize) -> usize {
        self.sources[row] as usize
    }

    /// When a row is.
    pub(super) fn instant(&self, row: usize) -> u16 {
        self.instants[row]
    }

    /// For each instant how many rows are earlier, of those that are wanted.
    pub(super) fn places(&self, instants: usize, wanted: &[bool]) -> Vec<usize> {
        let mut counts = vec![0; instants];
        for (instant, is_wanted) in self.instants.iter().zip(wanted) {
            counts[usize::from(*instant)] += usize::from(*is_wanted);
        }
        let mut earlier = 0;
        for count in &mut counts {
            earlier += std::mem::replace(count, earlier);
        }
        counts
    }

    fn clear(&mut self) {
        self.members.clear();
        self.ends.clear();
        self.instants.clear();
        self.sources.clear();
    }
}
