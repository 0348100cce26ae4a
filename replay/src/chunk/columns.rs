//! Tracks of numbers as differences from what is expected.

use super::quantise::Quantised;
use crate::codec::Damaged;
use crate::codec::wire::{Reader, put_varint, zigzag};

/// A position's three numbers, then a rotation's.
const COLUMNS: usize = 6;
const FIRST_OF_ROTATION: usize = 3;
/// How much of the last step is expected to follow again: none, a half, all of it.
const HALVES_MAX: u8 = 2;

/// Appends all numbers of one part.
pub(super) fn put_columns(part: &[Quantised], out: &mut Vec<u8>) {
    if part.is_empty() {
        return;
    }
    let mut before = 0;
    for sample in part {
        out.push(sample.largest ^ before);
        before = sample.largest;
    }
    for column in 0..COLUMNS {
        let halves = best_halves(part, column);
        out.push(halves);
        let mut track = Track::new(column);
        for sample in part {
            let value = i64::from(sample.values[column]);
            put_varint(zigzag(value - track.expected(sample, halves)), out);
            track.follow(sample, value);
        }
    }
}

/// Reads what [`put_columns`] has written into places that say already where tracks begin.
pub(super) fn read_columns(part: &mut [Quantised], reader: &mut Reader<'_>) -> Result<(), Damaged> {
    if part.is_empty() {
        return Ok(());
    }
    let mut before = 0;
    for sample in &mut *part {
        before ^= reader.byte()?;
        if before > 3 {
            return Err(Damaged);
        }
        sample.largest = before;
    }
    for column in 0..COLUMNS {
        let halves = reader.byte()?;
        if halves > HALVES_MAX {
            return Err(Damaged);
        }
        let mut track = Track::new(column);
        for sample in &mut *part {
            let value = track.expected(sample, halves).checked_add(reader.signed()?).ok_or(Damaged)?;
            sample.values[column] = i32::try_from(value).map_err(|_| Damaged)?;
            track.follow(sample, value);
        }
    }
    Ok(())
}

/// The choice that leaves the smallest numbers.
fn best_halves(part: &[Quantised], column: usize) -> u8 {
    let (mut track, mut sums) = (Track::new(column), [0; HALVES_MAX as usize + 1]);
    for sample in part {
        let value = i64::from(sample.values[column]);
        for (sum, halves) in sums.iter_mut().zip(0..) {
            *sum += (value - track.expected(sample, halves)).unsigned_abs();
        }
        track.follow(sample, value);
    }
    let best = sums.iter().zip(0..).min_by_key(|(sum, _)| **sum);
    best.map_or(0, |(_, halves)| halves)
}

/// Follows the numbers of one column.
struct Track {
    is_rotation: bool,
    last: i64,
    last_but_one: i64,
    /// The first of the track before.
    neighbour: i64,
    largest: u8,
}

impl Track {
    fn new(column: usize) -> Self {
        Self { is_rotation: column >= FIRST_OF_ROTATION, last: 0, last_but_one: 0, neighbour: 0, largest: 0 }
    }

    /// Whether `sample` has nothing to do with the one before. Another component of a rotation has been left out
    /// of it: then the others mean something else.
    fn begins(&self, sample: &Quantised) -> bool {
        sample.starts || (self.is_rotation && sample.largest != self.largest)
    }

    /// What `sample` has there if so much of the last step follows again.
    fn expected(&self, sample: &Quantised, halves: u8) -> i64 {
        if self.begins(sample) {
            return if self.is_rotation { 0 } else { self.neighbour };
        }
        self.last + (((self.last - self.last_but_one) * i64::from(halves)) >> 1)
    }

    fn follow(&mut self, sample: &Quantised, value: i64) {
        let begins = self.begins(sample);
        self.last_but_one = if begins { value } else { self.last };
        self.last = value;
        if sample.starts {
            self.neighbour = value;
        }
        self.largest = sample.largest;
    }
}
