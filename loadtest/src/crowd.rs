//! Who is in which room, and where they all are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::stamp::SENDERS_MAX;

/// Who is in which room. Users are dealt out to the rooms in turn, so that each room's phases are spread too.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    pub(crate) users: u32,
    pub(crate) rooms: u32,
    /// What the rooms' names begin with; different for each run.
    pub(crate) room_prefix: String,
    /// How many receivers are judged pose by pose; at most as many as there are users.
    pub(crate) judges: u32,
}

impl Crowd {
    pub(crate) fn room_name(&self, room: u32) -> String {
        format!("{}-{room}", self.room_prefix)
    }

    pub(crate) fn room(&self, index: u32) -> u32 {
        index % self.rooms
    }

    pub(crate) fn share_a_room(&self, a: u32, b: u32) -> bool {
        self.room(a) == self.room(b)
    }

    pub(crate) fn place_in_room(&self, index: u32) -> u32 {
        index / self.rooms
    }

    /// The user of that place in that room.
    pub(crate) fn at_place(&self, room: u32, place: u32) -> u32 {
        place * self.rooms + room
    }

    /// How many are in the room of the user `index`.
    pub(crate) fn room_size(&self, index: u32) -> u32 {
        self.users / self.rooms + u32::from(self.room(index) < self.users % self.rooms)
    }

    /// Whether the user `index` is one of those that are judged pose by pose. They are spread evenly over each
    /// room, but not in step with the users' numbers, so that every core has its share of them.
    pub(crate) fn is_judged(&self, index: u32) -> bool {
        let (users, judges) = (u64::from(self.users), u64::from(self.judges));
        // Users in the order of rooms; the k-th judge is somewhere in the k-th of as many equal parts.
        let larger = u64::from(self.users % self.rooms).min(u64::from(self.room(index)));
        let before = u64::from(self.room(index)) * u64::from(self.users / self.rooms) + larger;
        let rank = before + u64::from(self.place_in_room(index));
        let part = |k: u64| (k * users).div_ceil(judges.max(1));
        let k = rank * judges / users;
        let length = part(k + 1) - part(k);
        judges > 0 && rank == part(k) + k % length
    }

    /// How many arrivals one pose of everybody makes at those who are judged.
    pub(crate) fn deliveries(&self) -> u64 {
        let judged = (0..self.users).filter(|index| self.is_judged(*index));
        judged.map(|index| u64::from(self.room_size(index) - 1)).sum()
    }
}

/// Slots that a room can have: a pose frame has 16 bits for them.
const SLOTS: usize = 1 << 16;
// A user's index and one more fits beside them.
const _: () = assert!(SENDERS_MAX < u16::MAX as u32);

/// What all cores know of everybody: which slot in the room is whose, and where everybody is at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// By room and slot: one more than the user's index, 0 for nobody. Empty if no slots are used.
    slots: Arc<[AtomicU16]>,
    /// By user: the bits of x and z as float32.
    places: Arc<[AtomicU64]>,
    /// How many are in.
    entered: Arc<AtomicU32>,
}

impl Board {
    /// A board for `crowd`; `slots` says whether people are known by them.
    pub(crate) fn new(crowd: &Crowd, slots: bool) -> Self {
        let slots = if slots { crowd.rooms as usize * SLOTS } else { 0 };
        Self {
            slots: (0..slots).map(|_| AtomicU16::new(0)).collect(),
            places: (0..crowd.users).map(|_| AtomicU64::new(0)).collect(),
            entered: Arc::default(),
        }
    }

    /// Notes that one more is in.
    pub(crate) fn enter(&self) {
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are in.
    pub(crate) fn entered(&self) -> u32 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Notes that `slot` of `room` is the user `index`.
    pub(crate) fn take_slot(&self, room: u32, slot: u16, index: u32) {
        // Nobody is known by a slot in runs that have no use for it.
        if let Some(user) = self.slots.get(room as usize * SLOTS + usize::from(slot)) {
            user.store(index as u16 + 1, Ordering::Relaxed);
        }
    }

    /// Whose slot that is.
    #[inline]
    pub(crate) fn user_in(&self, room: u32, slot: u16) -> Option<u32> {
        let user = self.slots[room as usize * SLOTS + usize::from(slot)].load(Ordering::Relaxed);
        u32::from(user).checked_sub(1)
    }

    /// Notes where the user `index` is: x and z in metres.
    pub(crate) fn put(&self, index: u32, [x, z]: [f32; 2]) {
        let bits = u64::from(x.to_bits()) << 32 | u64::from(z.to_bits());
        self.places[index as usize].store(bits, Ordering::Relaxed);
    }

    /// Where the user `index` is: x and z in metres.
    #[inline]
    pub(crate) fn place(&self, index: u32) -> [f32; 2] {
        let bits = self.places[index as usize].load(Ordering::Relaxed);
        [f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(users: u32, rooms: u32, judges: u32) -> Crowd {
        Crowd { users, rooms, room_prefix: "test".to_owned(), judges }
    }

    #[test]
    fn everybody_has_a_place_in_a_room() {
        for (users, rooms) in [(100, 1), (10, 3), (3, 3)] {
            let crowd = crowd(users, rooms, users);
            for room in 0..rooms {
                let of_room: Vec<u32> = (0..users).filter(|&u| crowd.room(u) == room).collect();
                let places: Vec<u32> = of_room.iter().map(|&u| crowd.place_in_room(u)).collect();
                assert_eq!(places, (0..crowd.room_size(room)).collect::<Vec<_>>(), "{users} in {rooms}");
                let back: Vec<u32> = places.iter().map(|&place| crowd.at_place(room, place)).collect();
                assert_eq!(back, of_room);
            }
            let pairs = (0..users).flat_map(|a| (0..users).map(move |b| (a, b)));
            let deliveries = pairs.filter(|&(a, b)| a != b && crowd.share_a_room(a, b)).count();
            assert_eq!(crowd.deliveries(), deliveries as u64);
        }
    }

    #[test]
    fn as_many_are_judged_as_asked_for_and_in_every_room() {
        for (users, rooms, judges) in
            [(5_000, 1, 200), (100, 1, 100), (1_000, 5, 200), (103, 10, 20), (7, 3, 5), (6, 1, 0)]
        {
            let crowd = crowd(users, rooms, judges);
            let judged: Vec<u32> = (0..users).filter(|&u| crowd.is_judged(u)).collect();
            assert_eq!(judged.len(), judges as usize, "{users} {rooms} {judges}");
            for room in 0..rooms {
                let there = judged.iter().filter(|&&u| crowd.room(u) == room).count() as u32;
                assert!(there.abs_diff(judges / rooms) <= 1, "{there} of {judges} in room {room} of {rooms}");
            }
        }
        let odd = (0..5_000).filter(|&u| crowd(5_000, 1, 200).is_judged(u) && u % 2 == 1).count();
        assert!((80..=120).contains(&odd), "two cores share the judges: {odd}");
    }

    #[test]
    fn the_board_gives_back_what_was_put_there() {
        let crowd = crowd(10, 2, 10);
        let board = Board::new(&crowd, true);
        board.take_slot(1, u16::MAX, 9);
        assert_eq!((board.user_in(1, u16::MAX), board.user_in(0, u16::MAX)), (Some(9), None));
        board.put(3, [-1.5, 1e6]);
        assert_eq!((board.place(3), board.place(2)), ([-1.5, 1e6], [0.0, 0.0]));
    }
}
