//! What it allocates to write down a room's poses: a buffer a second, however many move.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use engine::directory::RoomShared;
use engine::room::{Command, Effect, Room};
use engine::{RoomDefaults, RoomOptions, SessionId, Time, User};
use protocol::Pose;
use protocol::event::{Encoding, View};
use replay::{Content, PoseSample};

thread_local! {
    // Per thread, because the test harness allocates on its own ones.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // During a thread's end the counters are gone already, and nobody asks any more.
    let _ = COUNT.try_with(|total| total.set(total.get() + 1));
    let _ = BYTES.try_with(|total| total.set(total.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECONDS: usize = 5;
const TICKS_PER_SECOND: usize = 20;
const POSE_HZ: usize = 10;

struct Hall {
    room: Room<u64>,
    shared: Arc<RoomShared>,
    seats: Vec<(u16, u32)>,
    now: Time,
    effects: Vec<Effect<u64>>,
    step: u16,
}

impl Hall {
    fn new(members: u64, is_recorded: bool) -> Self {
        let options = RoomOptions { max_users: 1_000, ..RoomDefaults::default().options() };
        let now = Time::from_micros(1_700_000_000_000_000);
        let shared = RoomShared::detached("hall", options, now);
        let mut room = Room::new(shared.clone(), 0, Vec::new());
        let mut effects = Vec::with_capacity(10_000);
        if is_recorded {
            room.begin_recording(now, 0, &mut effects);
            room.sample_poses_at(POSE_HZ as u32);
        }
        for id in 0..members {
            let name: Arc<str> = format!("s{id}").into();
            let user = User { id: name.clone(), socket_id: name.clone(), username: name };
            let join =
                Command::Join { user, encoding: Encoding::Binary, password: None, view: View::default() };
            room.handle_command(now, SessionId(id), &id, join, None, &mut effects);
        }
        let mut seats = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Admit { slot, generation, .. } => seats.push((slot, generation)),
                Effect::Record(record) => {
                    record.awaits.into_iter().for_each(|awaits| room.recorded(awaits, true));
                }
                _ => {}
            }
        }
        Self { room, shared, seats, now, effects, step: 0 }
    }

    /// So many seconds, in which everybody moves before each tick. Gives the number of allocations, of bytes and of
    /// samples.
    fn run(&mut self, seconds: usize) -> [usize; 3] {
        let (mut samples, before) = (0, (COUNT.get(), BYTES.get()));
        for _ in 0..seconds * TICKS_PER_SECOND {
            self.step += 1;
            for &(slot, generation) in &self.seats {
                let mut pose = Pose::INITIAL;
                pose.head.position[0] = f32::from(self.step % 1_000) * 0.01;
                self.shared.table.store(slot, generation, &pose).unwrap();
            }
            self.now = self.now + Duration::from_millis(1_000 / TICKS_PER_SECOND as u64);
            self.room.handle_tick(self.now, &mut self.effects);
            for effect in self.effects.drain(..) {
                if let Effect::Record(record) = effect
                    && let Content::Poses(poses) = record.record.content
                {
                    samples += poses.samples.len();
                }
            }
        }
        [COUNT.get() - before.0, BYTES.get() - before.1, samples]
    }
}

#[test]
fn samples_of_poses_take_one_buffer_a_second() {
    for members in [2, 100, 1_000] {
        let [mut plain, mut recorded] = [false, true].map(|is_recorded| Hall::new(members, is_recorded));
        // The first second is the one in which it is found out how much a second takes.
        plain.run(2);
        recorded.run(2);
        let [plain, recorded] = [&mut plain, &mut recorded].map(|hall| hall.run(SECONDS));
        let samples = members as usize * POSE_HZ * SECONDS;
        assert!(recorded[2].abs_diff(samples) <= members as usize * POSE_HZ, "{} samples", recorded[2]);
        // A list of samples, one of instants, and one of what is handed over.
        let more = recorded[0] - plain[0];
        assert!(more <= 3 * SECONDS, "{more} allocations more with {members} members");
        let bytes = recorded[1] - plain[1];
        let allowed =
            (samples + members as usize * SECONDS) * size_of::<PoseSample>() * 9 / 8 + SECONDS * 1_024;
        assert!(bytes <= allowed, "{bytes} bytes more with {members} members, {allowed} allowed");
    }
}
