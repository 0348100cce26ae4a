//! Pose slots: where a session leaves its newest pose for the tick to find.
//!
//! A slot is a sequence lock over atomics. A writer never waits and never makes anybody wait; a reader tries
//! again a few times if a write came between. Each slot carries a *generation*: when a member leaves, the
//! generation moves on, and whatever the old member's connection still tries to write is refused.

use protocol::{Part, Pose, Rotation};

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Why a pose was not stored. Poses are volatile: the caller counts it and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreRefused {
    /// Another writer is inside. A session has one writer, so this is two requests of one client at once.
    Busy,
    /// The slot has been given to somebody else.
    Retired,
}

/// How often a reader tries before it leaves the slot to the next tick. A write takes nanoseconds, unless its
/// thread is descheduled in the middle; waiting that out would cost the whole room its tick.
#[cfg(not(loom_model))]
const LOAD_ATTEMPTS: usize = 8;

/// Two show all there is to see; each further one multiplies the orders that the model checker goes through.
#[cfg(loom_model)]
const LOAD_ATTEMPTS: usize = 2;

/// `WORDS` 32-bit words that are written and read as one.
///
/// `version` holds the generation in its upper half and the sequence in its lower; an odd sequence means that
/// a write is under way.
#[derive(Debug)]
pub(crate) struct SeqSlot<const WORDS: usize> {
    version: AtomicU64,
    words: [AtomicU32; WORDS],
}

const GENERATION_SHIFT: u32 = 32;

fn is_writing(version: u64) -> bool {
    version & 1 == 1
}

fn generation(version: u64) -> u32 {
    (version >> GENERATION_SHIFT) as u32
}

/// The version after `version`'s write step, with the sequence wrapping inside its own half.
fn next(version: u64) -> u64 {
    (version & !0xFFFF_FFFF) | u64::from((version as u32).wrapping_add(1))
}

impl<const WORDS: usize> SeqSlot<WORDS> {
    pub(crate) fn new() -> Self {
        Self { version: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU32::new(0)) }
    }

    /// The generation that a writer must hold now.
    pub(crate) fn generation(&self) -> u32 {
        generation(self.version.load(Ordering::Acquire))
    }

    /// Stores the first `words.len()` words.
    pub(crate) fn store(&self, held: u32, words: &[u32]) -> Result<(), StoreRefused> {
        let version = self.version.load(Ordering::Relaxed);
        if generation(version) != held {
            return Err(StoreRefused::Retired);
        }
        if is_writing(version) {
            return Err(StoreRefused::Busy);
        }
        // Taking the odd version by exchange makes a second writer harmless, at the price of a plain store.
        self.version.compare_exchange(version, next(version), Ordering::Acquire, Ordering::Relaxed).map_err(
            |now| if generation(now) == held { StoreRefused::Busy } else { StoreRefused::Retired },
        )?;
        // Whoever sees one of the words below must see the odd version too.
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
        self.version.store(next(next(version)), Ordering::Release);
        Ok(())
    }

    /// All words as of one write, or `None` if writes kept coming between.
    pub(crate) fn load(&self) -> Option<[u32; WORDS]> {
        for _ in 0..LOAD_ATTEMPTS {
            let before = self.version.load(Ordering::Acquire);
            if !is_writing(before) {
                let words = std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return Some(words);
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Moves the generation on, so that no writer of the old one gets in any more. `false` if one is inside at
    /// this moment: try again later, and do not give the slot away before.
    pub(crate) fn retire(&self) -> bool {
        let version = self.version.load(Ordering::Relaxed);
        let retired = u64::from(generation(version).wrapping_add(1)) << GENERATION_SHIFT;
        !is_writing(version)
            && self.version.compare_exchange(version, retired, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Words of a pose: flags, then seven for the head and for each hand.
const POSE_WORDS: usize = 1 + 3 * PART_WORDS;
const PART_WORDS: usize = 7;

const HAS_LEFT: u32 = 1 << 0;
const HAS_RIGHT: u32 = 1 << 1;
/// Set for each part (head, left, right) whose rotation is a quaternion.
const QUATERNION: [u32; 3] = [1 << 2, 1 << 3, 1 << 4];

/// One member's newest pose. 128 bytes, so that two members' writes never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct PoseSlot(SeqSlot<POSE_WORDS>);

impl Default for PoseSlot {
    fn default() -> Self {
        Self(SeqSlot::new())
    }
}

impl PoseSlot {
    /// The generation that a writer must hold now.
    pub fn generation(&self) -> u32 {
        self.0.generation()
    }

    /// Stores `pose`. Takes no lock, allocates nothing.
    ///
    /// # Errors
    /// [`StoreRefused`] if the slot belongs to another generation or is being written.
    #[inline]
    pub fn store(&self, generation: u32, pose: &Pose) -> Result<(), StoreRefused> {
        let mut words = [0; POSE_WORDS];
        let mut flags = write_part(&pose.head, 0, &mut words);
        let mut used = 1 + PART_WORDS;
        if let Some(hand) = &pose.left_hand {
            flags |= HAS_LEFT | write_part(hand, 1, &mut words);
            used = 1 + 2 * PART_WORDS;
        }
        if let Some(hand) = &pose.right_hand {
            flags |= HAS_RIGHT | write_part(hand, 2, &mut words);
            used = POSE_WORDS;
        }
        words[0] = flags;
        self.0.store(generation, &words[..used])
    }

    /// The newest pose, or `None` if writes kept coming between.
    #[inline]
    pub fn load(&self) -> Option<Pose> {
        let words = self.0.load()?;
        let flags = words[0];
        Some(Pose {
            head: read_part(&words, 0),
            left_hand: (flags & HAS_LEFT != 0).then(|| read_part(&words, 1)),
            right_hand: (flags & HAS_RIGHT != 0).then(|| read_part(&words, 2)),
        })
    }

    /// See [`SeqSlot::retire`].
    pub(crate) fn retire(&self) -> bool {
        self.0.retire()
    }
}

fn write_part(part: &Part, index: usize, words: &mut [u32; POSE_WORDS]) -> u32 {
    let at = 1 + index * PART_WORDS;
    for (word, value) in words[at..at + 3].iter_mut().zip(part.position) {
        *word = value.to_bits();
    }
    let (rotation, flag): ([f32; 4], u32) = match part.rotation {
        Rotation::Euler([x, y, z]) => ([x, y, z, 0.0], 0),
        Rotation::Quaternion(q) => (q, QUATERNION[index]),
    };
    for (word, value) in words[at + 3..at + 7].iter_mut().zip(rotation) {
        *word = value.to_bits();
    }
    flag
}

fn read_part(words: &[u32; POSE_WORDS], index: usize) -> Part {
    let at = 1 + index * PART_WORDS;
    let value = |i: usize| f32::from_bits(words[at + i]);
    let rotation = if words[0] & QUATERNION[index] != 0 {
        Rotation::Quaternion([value(3), value(4), value(5), value(6)])
    } else {
        Rotation::Euler([value(3), value(4), value(5)])
    };
    Part { position: [value(0), value(1), value(2)], rotation }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;

    fn pose(x: f32) -> Pose {
        let part = |rotation| Part { position: [x, x + 1.0, x + 2.0], rotation };
        Pose {
            head: part(Rotation::Euler([x, 0.0, 0.0])),
            left_hand: None,
            right_hand: Some(part(Rotation::Quaternion([0.0, 0.0, x, 1.0]))),
        }
    }

    #[test]
    fn the_newest_pose_is_read_back_in_its_form() {
        let slot = PoseSlot::default();
        for x in 0..5 {
            slot.store(0, &pose(x as f32)).unwrap();
            assert_eq!(slot.load(), Some(pose(x as f32)));
        }
        slot.store(0, &Pose::INITIAL).unwrap();
        assert_eq!(slot.load(), Some(Pose::INITIAL), "hands of an older pose must not show through");
    }

    #[test]
    fn who_has_left_writes_no_more() {
        let slot = PoseSlot::default();
        slot.store(0, &pose(1.0)).unwrap();
        assert!(slot.retire());
        assert_eq!(slot.store(0, &pose(2.0)), Err(StoreRefused::Retired));
        slot.store(slot.generation(), &pose(3.0)).unwrap();
        assert_eq!(slot.load(), Some(pose(3.0)));
    }

    #[test]
    fn the_sequence_wraps_inside_its_half() {
        let version = (7 << GENERATION_SHIFT) | 0xFFFF_FFFF;
        assert_eq!(generation(next(version)), 7);
        assert_eq!(next(version) as u32, 0);
    }
}

#[cfg(all(test, loom_model))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Readers see whole writes only: both words are always equal.
    #[test]
    fn loom_a_reader_never_sees_half_a_write() {
        loom::model(|| {
            let slot = Arc::new(SeqSlot::<2>::new());
            let writer = {
                let slot = slot.clone();
                thread::spawn(move || {
                    for value in 1..=2 {
                        slot.store(0, &[value, value]).unwrap();
                    }
                })
            };
            if let Some([a, b]) = slot.load() {
                assert_eq!(a, b);
            }
            writer.join().unwrap();
            assert_eq!(slot.load(), Some([2, 2]));
        });
    }

    /// Two writers at once: one may be refused, none mixes with the other.
    #[test]
    fn loom_two_writers_do_not_mix() {
        loom::model(|| {
            let slot = Arc::new(SeqSlot::<2>::new());
            let other = {
                let slot = slot.clone();
                thread::spawn(move || slot.store(0, &[1, 1]).is_ok())
            };
            let mine = slot.store(0, &[2, 2]).is_ok();
            let theirs = other.join().unwrap();
            assert!(mine || theirs);
            let [a, b] = slot.load().unwrap();
            assert_eq!(a, b);
        });
    }

    /// Once the slot is retired, nothing of the old generation is written into it.
    ///
    /// The writer is the first thread on purpose: begun the other way round, the model checker never lets the
    /// retirement fall into the middle of the write, which is what this is about.
    #[test]
    fn loom_a_retired_slot_stays_as_it_is() {
        loom::model(|| {
            let slot = Arc::new(SeqSlot::<2>::new());
            let next = {
                let slot = slot.clone();
                thread::spawn(move || {
                    let retired = slot.retire();
                    if retired {
                        slot.store(slot.generation(), &[9, 9]).unwrap();
                    }
                    retired
                })
            };
            let _ = slot.store(0, &[1, 1]);
            if next.join().unwrap() {
                assert_eq!(slot.load(), Some([9, 9]));
            }
        });
    }
}
