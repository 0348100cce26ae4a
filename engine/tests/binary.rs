//! Whole engines on one paused clock: what those are sent who take poses as binary frames.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::time::Duration;

use common::ports::{Reading, pass};
use common::viewer::Frame;
use common::world::World;
use engine::limits::REFRESH_INTERVAL;

const TICK_HZ: usize = 20;
const TICK: Duration = Duration::from_millis(50);
const A_MOMENT: Duration = Duration::from_millis(200);

/// The frames that came to somebody since this was last asked.
fn take_frames(world: &World, person: usize) -> Vec<Frame> {
    std::mem::take(&mut world.people[person].outbox.client().viewer.frames)
}

#[tokio::test(start_paused = true)]
async fn every_encoding_sees_every_other() {
    let mut world = World::with_users(50);
    let people = world.connect_all(&["json", "batch", "binary", "binary", "json"], "lobby");
    pass(A_MOMENT).await;
    world.check();
    // With hands and without, in both forms of rotations.
    for number in 0..60 {
        world.people[people[number % people.len()]].move_to(number as u32);
        pass(TICK).await;
        world.check();
    }
    for (index, takes_frames) in people.iter().zip([false, false, true, true, false]) {
        assert_eq!(!take_frames(&world, *index).is_empty(), takes_frames, "{}", world.people[*index].name);
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn still_members_are_repeated_in_turns() {
    const MEMBERS: usize = 45;
    let mut world = World::with_users(MEMBERS);
    let viewer = world.connect_all(&["binary"], "stage")[0];
    let others = world.connect_into(MEMBERS - 1, "stage");
    for (number, &index) in others.iter().enumerate() {
        world.people[index].move_to(number as u32);
    }
    pass(Duration::from_secs(1)).await;
    for _ in 0..3 {
        take_frames(&world, viewer);
        world.people[others[0]].outbox.client().ticks.clear();
        pass(TICK * TICK_HZ as u32).await;
        let frames = take_frames(&world, viewer);
        assert_eq!(frames.len(), TICK_HZ, "one a tick");
        for slot in 0..MEMBERS as u16 {
            let times = frames.iter().filter(|frame| frame.slots.contains(&slot)).count();
            assert_eq!(times, 1, "slot {slot} in a second");
        }
        let largest = frames.iter().map(|frame| frame.slots.len()).max().unwrap();
        assert_eq!(largest, MEMBERS.div_ceil(TICK_HZ), "the turns are spread over the second");
        assert!(frames.iter().all(|frame| !frame.is_full));
        let ticks = world.people[others[0]].outbox.client().ticks.len();
        assert_eq!(ticks, 0, "JSON comes by a connection that loses nothing, and needs no repeating");
    }
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_skipped_frames_gets_a_full_one() {
    let mut world = World::with_users(50);
    let people = world.connect_all(&["binary", "binary", "json", "batch", "json"], "lobby");
    pass(A_MOMENT).await;
    for round in 0..8 {
        world.people[people[0]].outbox.client().reading = Reading::Stalled(1_000);
        for (number, &index) in people[2..].iter().enumerate() {
            world.people[index].move_to(round * 10 + number as u32);
        }
        pass(A_MOMENT).await;
        assert!(world.people[people[0]].outbox.client().ticks_skipped > 0);
        for &index in &people[..2] {
            take_frames(&world, index);
        }
        world.people[people[0]].outbox.resume();
        // Sooner than everybody's turn to be repeated has come.
        pass(REFRESH_INTERVAL + TICK).await;
        world.check();
        for &index in &people[..2] {
            let frames = take_frames(&world, index);
            assert!(frames.iter().any(|frame| frame.is_full), "{}: {frames:?}", world.people[index].name);
        }
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_moves_alone_gets_no_frame() {
    let mut world = World::with_users(50);
    let first = world.connect_all(&["binary"], "lobby")[0];
    for number in 0..50 {
        world.people[first].move_to(number);
        pass(TICK).await;
    }
    assert!(world.people[first].outbox.client().ticks.is_empty());
    // With somebody else there, its own pose may come along.
    let second = world.connect_all(&["json"], "lobby")[0];
    pass(A_MOMENT).await;
    take_frames(&world, first);
    world.people[first].move_to(100);
    world.people[second].move_to(101);
    pass(TICK).await;
    assert!(take_frames(&world, first).iter().any(|frame| frame.slots.len() == 2));
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_its_next_owners_at_once() {
    let mut world = World::with_users(3);
    let people = world.connect_all(&["binary", "binary"], "lobby");
    for number in 0..100 {
        let guest = world.connect_all(&["binary"], "lobby")[0];
        world.people[guest].move_to(number * 2);
        pass(TICK * (number % 4)).await;
        world.people[people[1]].move_to(number * 2 + 1);
        // Its last move and its departure fall together.
        world.people[guest].move_to(number * 2 + 1_000);
        world.people[guest].disconnect();
        if number % 5 == 0 {
            pass(TICK).await;
        }
    }
    pass(A_MOMENT).await;
    world.check();
    for &index in &people {
        let joined = world.people[index]
            .outbox
            .client()
            .viewer
            .log
            .iter()
            .filter(|line| line.starts_with("joined"))
            .count();
        assert!(joined > 50, "{joined} guests seen");
    }
    world.close_all().await;
}
