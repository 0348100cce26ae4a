//! Whole engines on one paused clock: rooms change their rates, and tell.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::ports::pass;
use common::world::World;
use engine::options::AUTO_STEPS;
use engine::pace::{RAISE_AFTER, RECOVERY_AFTER};
use engine::{RoomRequest, TickRate};

const A_MOMENT: Duration = Duration::from_millis(200);
const ENCODINGS: [&str; 3] = ["json", "batch", "binary"];
const HZ: u64 = 20;

/// What `person` has been told of its room's rate since this was last asked.
fn take_rates(world: &World, person: usize) -> Vec<(u64, String)> {
    std::mem::take(&mut world.people[person].outbox.client().viewer.rates)
}

fn hz(world: &World) -> u64 {
    world.engine.room("lobby").unwrap().tick_hz().into()
}

/// Everybody moves for so long, each half a tick.
async fn walk(world: &mut World, people: &[usize], number: &mut u32, length: Duration) {
    let since = world.engine.now();
    while world.engine.now().since(since) < length {
        for &person in people {
            *number += 1;
            world.people[person].move_to(*number);
        }
        pass(Duration::from_millis(25)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_room_slows_down_and_recovers() {
    let mut world = World::with_users(50);
    let people = world.connect_all(&[&ENCODINGS[..]; 3].concat(), "lobby");
    let mut number = 0;
    walk(&mut world, &people, &mut number, A_MOMENT).await;
    assert_eq!((hz(&world), world.metric("rate_changes")), (HZ, 0.0));
    // A tick of 50 ms takes 120 ms to go out, at each rate that is faster than 8 Hz.
    world.fanout_delay_ms.store(120, Ordering::Relaxed);
    walk(&mut world, &people, &mut number, Duration::from_secs(10)).await;
    assert_eq!(hz(&world), HZ / 4);
    // What has been shown last is not older than a tick and what it takes.
    pass(Duration::from_secs(1)).await;
    world.check();
    let slower = vec![(HZ / 2, "overload".to_owned()), (HZ / 4, "overload".to_owned())];
    for &person in &people {
        assert_eq!(take_rates(&world, person), slower, "{}", world.people[person].name);
        assert_eq!(world.people[person].outbox.client().closed, None);
    }
    assert!(world.metric("ticks_missed") > 0.0);
    assert_eq!(world.metric("rate_changes_total{reason=\"overload\"}"), 2.0);
    // Who comes now is told the rate with its answer.
    let late = world.connect();
    let ack = world.people[late].join("lobby", "binary");
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.people[late].answer(ack).unwrap()["tickHz"], HZ / 4);
    world.fanout_delay_ms.store(0, Ordering::Relaxed);
    // Two steps up, each after ticks have been quick for long enough.
    walk(&mut world, &people, &mut number, RECOVERY_AFTER * 3).await;
    assert_eq!(hz(&world), HZ);
    let faster = vec![(HZ / 2, "recovered".to_owned()), (HZ, "recovered".to_owned())];
    for &person in people.iter().chain([&late]) {
        assert_eq!(take_rates(&world, person), faster, "{}", world.people[person].name);
    }
    world.people[people[0]].outbox.client().ticks.clear();
    walk(&mut world, &people, &mut number, Duration::from_secs(2)).await;
    let ticks = world.people[people[0]].outbox.client().ticks.len() as u64;
    assert!((2 * HZ - 1..=2 * HZ + 1).contains(&ticks), "{ticks} ticks in two seconds");
    pass(Duration::from_secs(1)).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_noticed_before_the_last_tick_is_through() {
    let mut world = World::with_users(50);
    let people = world.connect_all(&ENCODINGS, "lobby");
    let mut number = 0;
    walk(&mut world, &people, &mut number, A_MOMENT).await;
    world.fanout_delay_ms.store(1_000, Ordering::Relaxed);
    // The third tick in a row is late as soon as the one after it is due.
    walk(&mut world, &people, &mut number, Duration::from_millis(2_600)).await;
    assert_eq!(hz(&world), HZ / 2);
    world.fanout_delay_ms.store(0, Ordering::Relaxed);
    pass(Duration::from_secs(3)).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn one_delay_changes_nothing() {
    let mut world = World::with_users(50);
    let people = world.connect_all(&ENCODINGS, "lobby");
    let mut number = 0;
    for _ in 0..5 {
        walk(&mut world, &people, &mut number, Duration::from_secs(1)).await;
        world.fanout_delay_ms.store(400, Ordering::Relaxed);
        walk(&mut world, &people, &mut number, Duration::from_millis(60)).await;
        world.fanout_delay_ms.store(0, Ordering::Relaxed);
    }
    walk(&mut world, &people, &mut number, Duration::from_secs(1)).await;
    assert!(world.metric("ticks_missed") > 0.0);
    assert_eq!((hz(&world), take_rates(&world, people[0])), (HZ, Vec::new()));
    pass(Duration::from_secs(1)).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_of_its_own_rate_follows_its_members() {
    let mut world = World::with_users(50);
    let request =
        RoomRequest { max_users: Some(200), tick_hz: Some(TickRate::Auto), ..RoomRequest::default() };
    world.create_room("lobby", request).await;
    let mut people = world.connect_all(&["binary"], "lobby");
    pass(A_MOMENT).await;
    let first = people[0];
    assert_eq!(hz(&world), u64::from(AUTO_STEPS[0]));
    let mut expected = Vec::new();
    for count in [18, 23, 24, 47, 100, 120] {
        let more = world.connect_all(&vec!["batch"; count - people.len()], "lobby");
        people.extend(more);
        pass(A_MOMENT).await;
        let rate = u64::from(TickRate::Auto.hz_for(count));
        assert_eq!(hz(&world), rate, "{count} members");
        expected.push(rate);
    }
    let told = take_rates(&world, first);
    assert!(told.iter().all(|(_, reason)| reason == "members"), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1].0 < pair[0].0), "never faster: {told:?}");
    assert!(expected.iter().filter(|rate| **rate != 90).all(|rate| told.iter().any(|(hz, _)| hz == rate)));
    // One who leaves for a moment does not take everybody's rate along.
    for &person in &people[18..] {
        world.people[person].leave();
    }
    pass(RAISE_AFTER / 2).await;
    assert_eq!((hz(&world), take_rates(&world, first)), (20, Vec::new()));
    pass(RAISE_AFTER).await;
    assert_eq!((hz(&world), take_rates(&world, first)), (90, vec![(90, "members".to_owned())]));
    world.check();
    world.close_all().await;
}
