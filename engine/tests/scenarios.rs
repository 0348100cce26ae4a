//! Whole engines on one paused clock: crowds, full rooms, slow and broken clients.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::time::Duration;

use common::ports::{MemoryStore, Reading, pass};
use common::world::World;
use engine::limits::{
    EVENT_BURST, EVENTS_PER_SECOND, MAILBOX_CAPACITY, PRESENCE_INTERVAL, STALLED_VIEWER_TIMEOUT,
    SWEEP_INTERVAL, UNENTERED_ROOM_TTL,
};
use engine::ports::CloseReason;
use engine::{RoomDefaults, RoomRequest};

const A_MOMENT: Duration = Duration::from_millis(200);

#[tokio::test(start_paused = true)]
async fn a_room_takes_exactly_as_many_as_it_may() {
    const JOINS: usize = 1_500;
    const SEATS: usize = 700;
    let mut world = World::with_users(50);
    let request = RoomRequest { max_users: Some(SEATS), ..RoomRequest::default() };
    world.create_room("arena", request).await;
    let everybody: Vec<usize> = (0..JOINS).map(|_| world.connect()).collect();
    for &index in &everybody[1..] {
        world.people[index].outbox.client().answers_only = true;
    }
    let acks: Vec<u64> = everybody.iter().map(|&index| world.people[index].join("arena", "json")).collect();
    pass(Duration::from_secs(1)).await;
    let outcomes: Vec<String> =
        everybody.iter().zip(&acks).map(|(&index, &ack)| world.people[index].outcome(ack)).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "ok").count(), SEATS);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "room_full").count(), JOINS - SEATS);
    assert_eq!(world.engine.room("arena").unwrap().members(), SEATS);
    assert_eq!(world.people[0].outbox.client().viewer.users.len(), SEATS, "as one who is in sees it");
    let slots = world.people[0].outbox.client().viewer.users.values().map(|user| user["slot"].as_u64()).max();
    assert!(slots.unwrap() < Some(SEATS as u64));
    // One goes, one of those who were refused comes in its place, a second one does not.
    world.people[0].leave();
    let refused: Vec<usize> = (0..JOINS).filter(|&index| outcomes[index] == "room_full").collect();
    let first = world.people[refused[0]].join("arena", "json");
    let second = world.people[refused[1]].join("arena", "json");
    pass(A_MOMENT).await;
    assert_eq!(world.people[refused[0]].outcome(first), "ok");
    assert_eq!(world.people[refused[1]].outcome(second), "room_full");
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_room_goes_and_its_id_is_free_at_once() {
    let mut world = World::with_users(50);
    let [first, second] = world.connect_into(2, "lobby")[..] else { unreachable!() };
    pass(A_MOMENT).await;
    let key = world.engine.room("lobby").unwrap().key;
    world.people[first].emit("object-create", &serde_json::json!({ "id": "lamp" }));
    world.people[first].leave();
    world.people[second].disconnect();
    let third = world.connect_into(1, "lobby")[0];
    pass(A_MOMENT).await;
    world.check_people_only(third, 1);
    world.people[third].leave();
    pass(A_MOMENT).await;
    assert_eq!(world.engine.room_count(), 0, "nobody is there: no room");
    world.people[third].join("lobby", "json");
    world.people[first].join("lobby", "json");
    pass(A_MOMENT).await;
    assert_ne!(world.engine.room("lobby").unwrap().key, key);
    world.check();
    assert!(
        world.people[third].outbox.client().viewer.objects.is_empty(),
        "its objects went with the old room"
    );
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_ended_and_nobody_else_notices() {
    let mut world = World::with_users(50);
    let people = world.connect_into(6, "lobby");
    pass(A_MOMENT).await;
    let stalled = people[2];
    world.people[stalled].outbox.client().reading = Reading::Stalled(1_000);
    let (since, mut number) = (world.engine.now(), 0);
    while world.engine.now().since(since) < STALLED_VIEWER_TIMEOUT * 2 {
        for &index in &people {
            number += 1;
            if world.people[index].outbox.client().closed.is_none() {
                world.people[index].move_to(number);
            }
        }
        pass(Duration::from_millis(25)).await;
        if world.people[stalled].outbox.client().closed.is_some() {
            world.people[stalled].gone();
        }
    }
    {
        let client = world.people[stalled].outbox.client();
        assert_eq!((client.closed, client.close_calls), (Some(CloseReason::SlowReader), 1));
        let after = client.closed_at.since(since);
        assert!((STALLED_VIEWER_TIMEOUT..STALLED_VIEWER_TIMEOUT + A_MOMENT).contains(&after), "{after:?}");
    }
    pass(A_MOMENT).await;
    world.check();
    let period = Duration::from_millis(50);
    for &index in people.iter().filter(|&&index| index != stalled) {
        let client = world.people[index].outbox.client();
        let gaps = client.ticks.windows(2).map(|pair| pair[1].since(pair[0]));
        let last = gaps.clone().count();
        // The last of all may be long: nobody moved any more.
        let longest = gaps.take(last - 1).max().unwrap();
        assert!(longest <= period + Duration::from_millis(2), "a tick came {longest:?} after the one before");
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_again_in_time_is_kept_and_right() {
    let mut world = World::with_users(50);
    let people = world.connect_into(6, "lobby");
    pass(A_MOMENT).await;
    world.people[people[0]].outbox.client().reading = Reading::Stalled(1_000);
    for (number, &index) in people.iter().enumerate() {
        world.people[index].move_to(number as u32);
    }
    pass(STALLED_VIEWER_TIMEOUT / 2).await;
    world.people[people[0]].outbox.resume();
    pass(Duration::from_secs(1)).await;
    // They have stood still since, so it is told again what it missed.
    world.check();
    // A second, unrelated hiccup long after does not add up with the first.
    for number in 100..120 {
        world.people[people[1]].move_to(number);
        pass(STALLED_VIEWER_TIMEOUT / 4).await;
        let reading = if number % 2 == 0 { Reading::Stalled(1_000) } else { Reading::Prompt };
        world.people[people[0]].outbox.client().reading = reading;
    }
    world.people[people[0]].outbox.resume();
    pass(Duration::from_secs(1)).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_after_the_others_have_gone_and_come_again_is_the_first() {
    let mut world = World::with_users(50);
    let people = world.connect_into(2, "lobby");
    pass(A_MOMENT).await;
    world.people[people[0]].outbox.client().reading = Reading::Stalled(1_000);
    world.people[people[1]].move_to(1);
    pass(A_MOMENT).await;
    world.people[people[1]].leave();
    pass(A_MOMENT).await;
    world.people[people[0]].outbox.resume();
    pass(STALLED_VIEWER_TIMEOUT * 2).await;
    world.people[people[1]].join("lobby", "json");
    pass(A_MOMENT).await;
    world.people[people[0]].outbox.client().reading = Reading::Stalled(1_000);
    world.people[people[1]].move_to(2);
    pass(A_MOMENT).await;
    world.people[people[0]].outbox.resume();
    assert_eq!(world.people[people[0]].outbox.client().closed, None);
    pass(Duration::from_secs(1)).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_ends_its_session_once() {
    let mut world = World::with_users(50);
    let people = world.connect_into(5, "lobby");
    pass(A_MOMENT).await;
    world.people[people[3]].outbox.client().reading = Reading::Stalled(4);
    for _ in 0..20 {
        world.people[people[0]].say();
    }
    pass(A_MOMENT).await;
    assert_eq!(world.people[people[3]].outbox.client().closed, Some(CloseReason::SlowReader));
    assert_eq!(world.people[people[3]].outbox.client().close_calls, 1);
    world.people[people[3]].session.closed();
    world.people[people[3]].session.end(CloseReason::Draining);
    world.people[people[3]].gone();
    pass(A_MOMENT).await;
    world.check();
    assert_eq!(world.metric("sessions_closed_total"), 1.0);
    for index in [0, 1, 2, 4] {
        let client = world.people[people[index]].outbox.client();
        assert_eq!(client.viewer.log.iter().filter(|line| *line == "left u3").count(), 1);
        let heard = client.viewer.log.iter().filter(|line| line.starts_with("message")).count();
        assert_eq!(heard, if index == 0 { 0 } else { 20 });
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_arrives_at_once_goes_out_in_a_few_bursts() {
    let mut world = World::with_users(1_000);
    let early = world.connect_into(10, "stage");
    pass(Duration::from_secs(1)).await;
    for &index in &early {
        world.people[index].outbox.client().arrivals.clear();
    }
    let mut crowd = Vec::new();
    let batches = 10;
    for _ in 0..batches {
        let arrivals = world.connect_into(500 / batches, "stage");
        // When something comes is counted for all of them; what it is, for a few.
        for &index in &arrivals[3..] {
            world.people[index].outbox.client().answers_only = true;
        }
        crowd.extend(arrivals);
        pass(PRESENCE_INTERVAL / (batches as u32 + 2)).await;
    }
    pass(Duration::from_secs(1)).await;
    world.check();
    for &index in early.iter().chain(&crowd) {
        let bursts = world.people[index].outbox.client().arrivals.len();
        assert!((1..=3).contains(&bursts), "{bursts} bursts for {}", world.people[index].name);
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_events_are_refused_and_time_heals_it() {
    let mut world = World::with_users(50);
    let people = world.connect_into(2, "lobby");
    let acks: Vec<u64> = (0..EVENT_BURST + 49).map(|_| world.people[people[0]].say()).collect();
    pass(A_MOMENT).await;
    let refused = |world: &World, acks: &[u64]| {
        acks.iter().filter(|ack| world.people[people[0]].outcome(**ack) == "rate_limited").count()
    };
    // The join was the first of its events.
    assert_eq!(refused(&world, &acks), 50);
    world.people[people[0]].next_message -= 50;
    pass(Duration::from_secs(1) - A_MOMENT).await;
    let acks: Vec<u64> = (0..EVENTS_PER_SECOND + 7).map(|_| world.people[people[0]].say()).collect();
    // Poses are not events: they are never refused.
    for number in 0..2_000 {
        world.people[people[0]].move_to(number);
    }
    pass(A_MOMENT).await;
    assert_eq!(refused(&world, &acks), 7);
    world.check();
    world.close_all().await;
}

/// Fills the mailbox of the shard on which `lobby` lives, and returns who did so.
fn fill_mailbox(world: &mut World) -> usize {
    let mut sent = 0;
    loop {
        let talker = world.connect_into(1, "lobby")[0];
        world.people[talker].outbox.client().answers_only = true;
        for _ in 0..EVENT_BURST - 10 {
            let ack = world.people[talker].say();
            if world.people[talker].outcome(ack) == "overloaded" {
                return sent;
            }
            sent += 1;
            assert!(sent <= MAILBOX_CAPACITY);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_loses_nobody() {
    let mut world = World::with_users(500);
    let people = world.connect_into(6, "lobby");
    for &index in &people {
        world.people[index].outbox.client().answers_only = true;
    }
    pass(A_MOMENT).await;
    fill_mailbox(&mut world);
    // Joins again: refused, but still a member.
    let again = world.people[people[0]].join("lobby", "json");
    world.people[people[1]].join("lobby", "json");
    world.people[people[1]].disconnect();
    let left = world.people[people[2]].leave();
    world.people[people[3]].disconnect();
    let elsewhere = world.people[people[4]].join("quiet", "json");
    assert_eq!(world.people[people[0]].outcome(again), "overloaded");
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.people[people[2]].outcome(left), "ok");
    assert_eq!(world.people[people[4]].outcome(elsewhere), "ok");
    let still = world.people[people[0]].say();
    let seen = world.connect_into(1, "lobby")[0];
    pass(A_MOMENT).await;
    assert_eq!(world.people[people[0]].outcome(still), "ok");
    let there: Vec<String> = world.people[seen].outbox.client().viewer.users.keys().cloned().collect();
    let expected = |index: usize| world.people[people[index]].room.as_deref() == Some("lobby");
    for index in 0..6 {
        assert_eq!(there.contains(&format!("s{index}")), expected(index), "s{index}");
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_join_that_finds_no_place_changes_nothing() {
    let mut world = World::with_users(500);
    // Each on a core of its own.
    let home = world.connect_into(2, "home");
    world.connect_into(1, "lobby");
    world.connect_into(3, "garden");
    pass(A_MOMENT).await;
    fill_mailbox(&mut world);
    let elsewhere = world.people[home[0]].emit("join-room", &serde_json::json!({ "roomId": "lobby" }));
    assert_eq!(world.people[home[0]].outcome(elsewhere), "overloaded");
    // The core with the fewest people gets new rooms.
    for id in ["new", "newer"] {
        let refused = world.people[home[1]].emit("join-room", &serde_json::json!({ "roomId": id }));
        assert_eq!(world.people[home[1]].outcome(refused), "overloaded");
        assert!(world.engine.room(id).is_none());
    }
    pass(Duration::from_secs(2)).await;
    for index in home {
        let said = world.people[index].say();
        pass(A_MOMENT).await;
        assert_eq!(world.people[index].outcome(said), "ok", "it is still at home");
    }
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_does_not_take_the_room_away() {
    let mut world = World::new(RoomDefaults::default(), &MemoryStore::new(Duration::ZERO, []));
    let request = RoomRequest { password: Some("sesame".into()), ..RoomRequest::default() };
    world.create_room("cave", request).await;
    let thief = world.connect();
    for _ in 0..3 {
        let ack = world.people[thief].join("cave", "json");
        // It gives up before it knows; both are answered.
        let left = world.people[thief].leave();
        pass(A_MOMENT).await;
        assert_eq!(world.people[thief].outcome(ack), "wrong_password");
        assert_eq!(world.people[thief].outcome(left), "ok");
    }
    let owner = world.connect();
    let payload = serde_json::json!({ "roomId": "cave", "password": "sesame" });
    world.people[owner].room = Some("cave".into());
    world.people[owner].emit("join-room", &payload);
    pass(A_MOMENT).await;
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_may_enter_is_forgotten_in_the_end() {
    let mut world = World::with_users(50);
    let request = RoomRequest { password: Some("sesame".into()), ..RoomRequest::default() };
    world.create_room("cave", request).await;
    world.create_room("garden", RoomRequest::default()).await;
    let visitors = world.connect_into(2, "garden");
    let ack = world.people[visitors[0]].join("cave", "json");
    world.people[visitors[0]].room = None;
    pass(UNENTERED_ROOM_TTL / 2).await;
    assert_eq!(world.people[visitors[0]].outcome(ack), "wrong_password");
    assert_eq!(world.engine.room_count(), 2);
    pass(UNENTERED_ROOM_TTL / 2 + SWEEP_INTERVAL).await;
    assert!(world.engine.room("cave").is_none());
    world.check();
    world.close_all().await;
}
