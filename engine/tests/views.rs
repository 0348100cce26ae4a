//! Whole engines on one paused clock: people who look from elsewhere, or not far, and crowds of whom some are behind.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::time::Duration;

use common::ports::{Reading, pass};
use common::poses::pose_numbered;
use common::world::World;
use engine::RoomRequest;
use engine::limits::REFRESH_INTERVAL;
use proptest::prelude::*;
use serde_json::{Value, json};

const TICK: Duration = Duration::from_millis(50);
const A_MOMENT: Duration = Duration::from_millis(200);
const ENCODINGS: [&str; 3] = ["json", "batch", "binary"];
/// Poses of these numbers lie 4 km and more from those of small numbers.
const FAR: u32 = 4_000;

/// Whether `person` has seen this pose of `other`.
fn sees(world: &World, person: usize, other: usize, number: u32) -> bool {
    let client = world.people[person].outbox.client();
    client.viewer.sees(&world.people[other].name, &pose_numbered(number))
}

#[tokio::test(start_paused = true)]
async fn who_looks_elsewhere_sees_what_is_there() {
    let mut world = World::with_users(50);
    let viewers = world.connect_all(&ENCODINGS, "lobby");
    let others = world.connect_into(2, "lobby");
    let [near, far] = [others[0], others[1]];
    pass(A_MOMENT).await;
    for &viewer in &viewers {
        world.people[viewer].outbox.client().viewer.is_limited = true;
        world.people[viewer].move_to(10);
    }
    let mut number = 0;
    // What each of the steps asks for, and who of those near and far is seen then.
    let there = json!({ "x": FAR, "y": 1.6, "z": 0 });
    let steps = [
        (json!({}), true, true),
        (json!({ "radius": 300 }), true, false),
        (json!({ "radius": 300, "position": there }), false, true),
        (json!({ "position": there }), true, true),
        (json!({ "radius": 300, "position": null }), true, false),
        (Value::Null, true, true),
    ];
    for (view, sees_near, sees_far) in steps {
        let acks: Vec<u64> = viewers.iter().map(|&viewer| world.people[viewer].emit("view", &view)).collect();
        pass(A_MOMENT).await;
        number += 2;
        world.people[near].move_to(number);
        world.people[far].move_to(FAR + number);
        pass(Duration::from_secs(1)).await;
        for (&viewer, ack) in viewers.iter().zip(acks) {
            let name = &world.people[viewer].name;
            assert_eq!(world.people[viewer].answer(ack), Some(json!({ "ok": true })), "{name}");
            let seen = (sees(&world, viewer, near, number), sees(&world, viewer, far, FAR + number));
            assert_eq!(seen, (sees_near, sees_far), "{name} with {view}");
        }
    }
    world.check();
    world.close_all().await;
}

/// A viewer that sees 100 m far, and somebody who has come to stand still beyond that.
async fn one_out_of_sight(encoding: &str) -> (World, [usize; 2]) {
    let mut world = World::with_users(50);
    let [viewer, other] = world.connect_all(&[encoding, "json"], "lobby")[..] else { unreachable!() };
    pass(A_MOMENT).await;
    world.people[viewer].outbox.client().viewer.is_limited = true;
    world.people[viewer].emit("view", &json!({ "radius": 100 }));
    pass(A_MOMENT).await;
    world.people[other].move_to(FAR);
    pass(Duration::from_secs(2)).await;
    assert!(!sees(&world, viewer, other, FAR), "{encoding}: too far away");
    (world, [viewer, other])
}

#[tokio::test(start_paused = true)]
async fn who_walks_up_to_somebody_who_stands_still_sees_where() {
    for encoding in ENCODINGS {
        let (mut world, [viewer, other]) = one_out_of_sight(encoding).await;
        world.people[viewer].move_to(FAR + 4);
        pass(Duration::from_secs(1) + TICK).await;
        assert!(sees(&world, viewer, other, FAR), "{encoding}: it is near now");
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_farther_than_before_sees_who_stands_still_there() {
    for encoding in ENCODINGS {
        let (mut world, [viewer, other]) = one_out_of_sight(encoding).await;
        world.people[viewer].emit("view", &json!({}));
        pass(REFRESH_INTERVAL + Duration::from_secs(1) + TICK).await;
        assert!(sees(&world, viewer, other, FAR), "{encoding}: it is not too far away now");
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_view_is_refused() {
    let mut world = World::with_users(50);
    let person = world.connect();
    let ack = world.people[person].emit("view", &json!({ "radius": 10 }));
    pass(A_MOMENT).await;
    assert_eq!(world.people[person].outcome(ack), "not_in_room");
    world.people[person].join("lobby", "binary");
    pass(A_MOMENT).await;
    for view in [
        json!({ "radius": -1 }),
        json!({ "radius": "far" }),
        json!({ "position": { "x": 1, "y": 2 } }),
        json!({ "position": { "x": 2_000_000, "y": 0, "z": 0 } }),
        json!(7),
    ] {
        let ack = world.people[person].emit("view", &view);
        pass(A_MOMENT).await;
        assert_eq!(world.people[person].outcome(ack), "bad_request", "{view}");
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_may_limit_how_far_its_members_see() {
    let mut world = World::with_users(50);
    let request = RoomRequest { view_radius: Some(300.0), ..RoomRequest::default() };
    world.create_room("lobby", request).await;
    let people = world.connect_all(&ENCODINGS, "lobby");
    let far = world.connect_into(1, "lobby")[0];
    pass(A_MOMENT).await;
    for (number, &person) in (0..).zip(&people) {
        world.people[person].outbox.client().viewer.is_limited = true;
        world.people[person].move_to(10 + number);
        // Who asks for more than the room allows gets no more than who asks for nothing.
        if number == 0 {
            world.people[person].emit("view", &json!({ "radius": 1_000_000 }));
        }
    }
    world.people[far].move_to(FAR);
    pass(Duration::from_secs(1)).await;
    for &person in &people {
        assert!(!sees(&world, person, far, FAR), "{}", world.people[person].name);
        for (number, &other) in (0..).zip(&people).filter(|(_, other)| **other != person) {
            assert!(sees(&world, person, other, 10 + number), "{}", world.people[person].name);
        }
    }
    world.close_all().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// A crowd that does not fit into its budget, and viewers who take nothing of some ticks: when all take everything
    /// again and nobody moves, everybody is right after the next refresh and a second.
    #[test]
    fn who_skips_ticks_catches_up(
        count in 2..60_usize, budget in 5_120..30_000_u32, spread in 1..40_u32,
        steps in prop::collection::vec((any::<u32>(), any::<u32>(), 1..80_u64), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::with_users(100);
            let request = RoomRequest { view_budget: Some(budget), ..RoomRequest::default() };
            world.create_room("lobby", request).await;
            let encodings: Vec<&str> = ENCODINGS.iter().copied().cycle().take(count).collect();
            let people = world.connect_all(&encodings, "lobby");
            pass(A_MOMENT).await;
            let mut number = 0;
            for (moving, stalling, wait_ms) in steps {
                for (index, &person) in people.iter().enumerate() {
                    if moving.rotate_left(index as u32) & 1 == 1 {
                        number += spread;
                        world.people[person].move_to(number);
                    }
                    if stalling.rotate_left(index as u32) & 7 == 7 {
                        world.people[person].outbox.client().reading = Reading::Stalled(1_000);
                    } else {
                        world.people[person].outbox.resume();
                    }
                }
                pass(Duration::from_millis(wait_ms)).await;
            }
            people.iter().for_each(|&person| world.people[person].outbox.resume());
            pass(REFRESH_INTERVAL + Duration::from_secs(1) + TICK).await;
            world.check();
            world.close_all().await;
        });
    }
}
