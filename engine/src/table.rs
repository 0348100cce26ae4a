//! A room's pose slots and the bitmap of those that changed since the last tick.

use std::sync::OnceLock;

use protocol::Pose;

use crate::slot::{PoseSlot, StoreRefused};
use crate::sync::{AtomicU64, Ordering};

/// Slots per chunk: one word of the dirty bitmap.
const CHUNK_SLOTS: usize = 64;

/// 64 slots and their dirty bits. The bits have a cache line of their own.
struct Chunk {
    dirty: DirtyWord,
    slots: [PoseSlot; CHUNK_SLOTS],
}

#[repr(align(128))]
struct DirtyWord(AtomicU64);

/// The pose slots of one room, allocated 64 at a time as the room fills. Sessions write, the room's tick reads.
pub struct SlotTable {
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

impl SlotTable {
    /// A table for up to `capacity` members; memory is taken only for the slots that come into use.
    pub fn new(capacity: usize) -> Self {
        Self { chunks: (0..capacity.div_ceil(CHUNK_SLOTS)).map(|_| OnceLock::new()).collect() }
    }

    fn chunk(&self, slot: u16) -> Option<&Chunk> {
        self.chunks.get(usize::from(slot) / CHUNK_SLOTS)?.get().map(|chunk| &**chunk)
    }

    /// Puts a new member's first pose into `slot` and returns the generation under which the member may write.
    pub(crate) fn open(&self, slot: u16, pose: &Pose) -> u32 {
        let chunk = self.chunks[usize::from(slot) / CHUNK_SLOTS].get_or_init(|| {
            Box::new(Chunk {
                dirty: DirtyWord(AtomicU64::new(0)),
                slots: std::array::from_fn(|_| PoseSlot::default()),
            })
        });
        let slot = &chunk.slots[usize::from(slot) % CHUNK_SLOTS];
        let generation = slot.generation();
        slot.store(generation, pose).expect("nobody else holds this generation yet");
        generation
    }

    /// Stores a member's newest pose and marks the member as moved. Takes no lock, allocates nothing.
    ///
    /// # Errors
    /// [`StoreRefused`] if the member has left the slot, or writes it twice at once.
    #[inline]
    pub fn store(&self, slot: u16, generation: u32, pose: &Pose) -> Result<(), StoreRefused> {
        let chunk = self.chunk(slot).ok_or(StoreRefused::Retired)?;
        let index = usize::from(slot) % CHUNK_SLOTS;
        chunk.slots[index].store(generation, pose)?;
        // Release: who takes the bit sees the pose.
        chunk.dirty.0.fetch_or(1 << index, Ordering::Release);
        Ok(())
    }

    /// The newest pose in `slot`, or `None` if there is none or writes kept coming between.
    #[inline]
    pub fn load(&self, slot: u16) -> Option<Pose> {
        self.chunk(slot)?.slots[usize::from(slot) % CHUNK_SLOTS].load()
    }

    /// Takes the dirty bits, clearing them, and calls `each` with every slot that was stored to since the last
    /// call.
    pub(crate) fn take_dirty(&self, mut each: impl FnMut(u16)) {
        for (index, chunk) in self.chunks.iter().enumerate() {
            // Chunks come into use in order, lowest slot first.
            let Some(chunk) = chunk.get() else { break };
            if chunk.dirty.0.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = chunk.dirty.0.swap(0, Ordering::Acquire);
            while bits != 0 {
                each((index * CHUNK_SLOTS) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
    }

    /// Marks `slot` as moved, without a new pose.
    pub(crate) fn mark_dirty(&self, slot: u16) {
        if let Some(chunk) = self.chunk(slot) {
            chunk.dirty.0.fetch_or(1 << (usize::from(slot) % CHUNK_SLOTS), Ordering::Release);
        }
    }

    /// Ends the slot's generation. `false` if a write is under way at this moment; try again later.
    pub(crate) fn retire(&self, slot: u16) -> bool {
        self.chunk(slot).is_none_or(|chunk| chunk.slots[usize::from(slot) % CHUNK_SLOTS].retire())
    }
}

impl std::fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotTable").field("capacity", &(self.chunks.len() * CHUNK_SLOTS)).finish()
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;

    fn dirty(table: &SlotTable) -> Vec<u16> {
        let mut slots = Vec::new();
        table.take_dirty(|slot| slots.push(slot));
        slots
    }

    #[test]
    fn who_moved_is_taken_once() {
        let table = SlotTable::new(200);
        let generations: Vec<u32> = (0..130).map(|slot| table.open(slot, &Pose::INITIAL)).collect();
        assert!(dirty(&table).is_empty());
        for slot in [0u16, 63, 64, 129] {
            table.store(slot, generations[usize::from(slot)], &Pose::INITIAL).unwrap();
        }
        assert_eq!(dirty(&table), [0, 63, 64, 129]);
        assert!(dirty(&table).is_empty());
    }

    #[test]
    fn a_slot_that_was_never_opened_refuses_and_holds_nothing() {
        let table = SlotTable::new(10);
        assert_eq!(table.store(3, 0, &Pose::INITIAL), Err(StoreRefused::Retired));
        assert_eq!(table.store(60_000, 0, &Pose::INITIAL), Err(StoreRefused::Retired));
        assert_eq!(table.load(3), None);
    }

    #[test]
    fn a_retired_member_marks_nothing() {
        let table = SlotTable::new(10);
        let generation = table.open(0, &Pose::INITIAL);
        assert!(table.retire(0));
        assert_eq!(table.store(0, generation, &Pose::INITIAL), Err(StoreRefused::Retired));
        assert!(dirty(&table).is_empty());
        assert_eq!(table.open(0, &Pose::INITIAL), generation.wrapping_add(1));
    }
}
