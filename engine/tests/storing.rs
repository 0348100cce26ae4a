//! Whole engines on one paused clock: what happens when the store is slow or fails, and how the engine goes down.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::ports::{MemoryStore, pass};
use common::world::{CORES, World};
use engine::limits::STORE_RETRY;
use engine::{Created, RoomDefaults, RoomRequest};
use protocol::error::ErrorCode;
use serde_json::json;

const A_MOMENT: Duration = Duration::from_millis(200);

fn persistent() -> RoomRequest {
    RoomRequest { persistent: Some(true), ..RoomRequest::default() }
}

async fn world_with(store: &Arc<MemoryStore>) -> World {
    let world = World::new(RoomDefaults::default(), store);
    world.create_room("garden", persistent()).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_persistent_room_outlives_its_people_and_its_server() {
    let store = MemoryStore::new(Duration::from_millis(30), []);
    let mut world = world_with(&store).await;
    let gardener = world.connect_into(1, "garden")[0];
    let [tree, bush] = ["tree", "bush"]
        .map(|id| world.people[gardener].emit("object-create", &json!({ "id": id, "value": 1 })));
    world.people[gardener].emit("object-update", &json!({ "id": "tree", "value": 2 }));
    world.people[gardener].emit("object-delete", &json!({ "id": "bush" }));
    pass(A_MOMENT).await;
    assert_eq!(world.people[gardener].outcome(tree), "ok");
    assert_eq!(world.people[gardener].outcome(bush), "ok");
    world.people[gardener].disconnect();
    pass(A_MOMENT).await;
    world.objects.insert("garden".into(), BTreeMap::from([("tree".into(), (2, json!(2)))]));
    for _ in 0..3 {
        // In the same room, loaded anew each time, and with everybody who asked meanwhile let in.
        let visitors = world.connect_into(5, "garden");
        world.people[visitors[0]].move_to(7);
        pass(A_MOMENT).await;
        world.check();
        visitors.into_iter().for_each(|visitor| world.people[visitor].disconnect());
        pass(A_MOMENT).await;
    }
    world.close_all().await;
    let mut next = World::new(RoomDefaults::default(), &store);
    assert_eq!(next.engine.load_rooms().await.unwrap().rooms, 1);
    next.objects = world.objects;
    next.connect_into(2, "garden");
    pass(A_MOMENT).await;
    next.check();
    next.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_told_and_tried_again() {
    // Calls: 0 makes the room, 1 reads its objects, 2 and 3 are the first write and its first repetition.
    let store = MemoryStore::new(Duration::from_millis(10), [2, 3]);
    let mut world = world_with(&store).await;
    let gardener = world.connect_into(1, "garden")[0];
    pass(A_MOMENT).await;
    let ack = world.people[gardener].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
    pass(A_MOMENT).await;
    assert_eq!(world.people[gardener].outcome(ack), "storage");
    assert!(store.versions("garden").is_empty());
    // It stands in the room all the same, and the room waits for its store.
    world.objects.insert("garden".into(), BTreeMap::from([("0-tree".into(), (1, json!(1)))]));
    world.connect_into(1, "garden");
    pass(A_MOMENT).await;
    world.check();
    world.people.iter_mut().for_each(|person| person.disconnect());
    pass(STORE_RETRY).await;
    assert!(store.versions("garden").is_empty(), "the second try fails too");
    world.engine.settle().await;
    assert_eq!(store.versions("garden"), BTreeMap::from([("0-tree".into(), 1)]));
    assert_eq!(world.metric("store_failures_total"), 2.0);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_read_lets_nobody_in_until_it_can() {
    // Calls: 0 makes the room, 1 reads it, 2 writes the tree, 3 is the read that fails.
    let store = MemoryStore::new(Duration::from_millis(10), [3]);
    let mut world = world_with(&store).await;
    let gardener = world.connect_into(1, "garden")[0];
    pass(A_MOMENT).await;
    world.people[gardener].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
    pass(A_MOMENT).await;
    world.people[gardener].disconnect();
    pass(A_MOMENT).await;
    let visitor = world.connect();
    let ack = world.people[visitor].join("garden", "json");
    let built = world.people[visitor].emit("object-create", &json!({ "id": "1-tree", "value": 1 }));
    let hasty = world.connect();
    let refused = world.people[hasty].join("garden", "json");
    world.people[hasty].leave_silently();
    pass(A_MOMENT).await;
    assert_eq!(world.people[visitor].outcome(ack), "overloaded");
    assert_eq!(world.people[visitor].outcome(built), "overloaded");
    assert_eq!(world.people[hasty].outcome(refused), "overloaded");
    assert!(world.people[hasty].outbox.client().viewer.errors.is_empty(), "a departure does not fail");
    world.people[visitor].room = None;
    let ack = world.people[visitor].join("garden", "json");
    pass(A_MOMENT).await;
    assert_eq!(world.people[visitor].outcome(ack), "ok");
    world.objects.insert("garden".into(), BTreeMap::from([("0-tree".into(), (1, json!(1)))]));
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_stored_keeps_nothing_else_from_being_stored() {
    let store = MemoryStore::new(Duration::from_millis(10), []);
    let mut world = world_with(&store).await;
    // With one shard for each core, some of these rooms share one.
    let rooms: Vec<String> = (0..2 * CORES).map(|index| format!("room {index}")).collect();
    for room in &rooms {
        world.create_room(room, persistent()).await;
    }
    let builders: Vec<usize> = rooms.iter().map(|room| world.connect_into(1, room)[0]).collect();
    pass(A_MOMENT).await;
    store.refuse_object("cursed");
    let mut build = |index: usize, id: &str| {
        world.people[builders[index]].emit("object-create", &json!({ "id": id, "value": 1 }))
    };
    let [cursed, beside] = ["cursed", "beside"].map(|id| build(0, id));
    let elsewhere: Vec<u64> = (1..rooms.len()).map(|index| build(index, "far away")).collect();
    pass(A_MOMENT).await;
    for (index, ack) in (1..).zip(elsewhere) {
        assert_eq!(world.people[builders[index]].outcome(ack), "ok", "another room");
    }
    assert_eq!(world.people[builders[0]].outcome(cursed), "storage");
    assert_eq!(world.people[builders[0]].outcome(beside), "storage");
    pass(STORE_RETRY + A_MOMENT).await;
    assert_eq!(store.versions("room 0"), BTreeMap::from([("beside".into(), 1)]));
    world.people[builders[0]].emit("object-delete", &json!({ "id": "cursed" }));
    pass(STORE_RETRY + A_MOMENT).await;
    world.engine.settle().await;
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_enters_a_room_that_is_not_stored_yet() {
    let store = MemoryStore::new(Duration::from_millis(100), [0]);
    let mut world = World::new(RoomDefaults::default(), &store);
    let visitor = world.connect();
    // The first try fails, the second is begun before that is known and succeeds.
    let make = || {
        let engine = world.engine.clone();
        tokio::spawn(async move { engine.create_room("garden", &persistent()).await })
    };
    let (first, second) = (make(), make());
    pass(Duration::from_millis(50)).await;
    assert_eq!(store.calls(), 2);
    assert!(world.engine.room("garden").is_none() && world.engine.rooms().is_empty());
    let early = world.people[visitor].emit("join-room", &json!({ "roomId": "garden" }));
    pass(A_MOMENT).await;
    assert_eq!(world.people[visitor].outcome(early), "overloaded");
    assert!(first.await.unwrap().is_err());
    assert!(matches!(second.await.unwrap().unwrap(), Created::Room(_)));
    let ack = world.people[visitor].join("garden", "json");
    pass(A_MOMENT).await;
    assert_eq!(world.people[visitor].outcome(ack), "ok");
    let calls = store.calls();
    assert!(matches!(world.engine.create_room("garden", &persistent()).await.unwrap(), Created::Room(_)));
    assert_eq!(store.calls(), calls, "what is stored is not stored again");
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_is_made_also_if_who_asked_for_it_stops_waiting() {
    let store = MemoryStore::new(Duration::from_millis(100), []);
    let mut world = World::new(RoomDefaults::default(), &store);
    let engine = world.engine.clone();
    let asking = tokio::spawn(async move { engine.create_room("garden", &persistent()).await });
    pass(Duration::from_millis(50)).await;
    asking.abort();
    pass(A_MOMENT).await;
    assert!(world.engine.room("garden").is_some());
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_while_the_room_is_read_is_not_in_it() {
    let store = MemoryStore::new(Duration::from_millis(100), []);
    let mut world = world_with(&store).await;
    let people = world.connect_into(4, "garden");
    let left = world.people[people[0]].leave();
    world.people[people[1]].disconnect();
    world.people[people[2]].join("elsewhere", "json");
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.people[people[0]].outcome(left), "ok");
    world.check();
    assert_eq!(world.engine.room("garden").unwrap().members(), 1);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_could_not_be_stored_does_not_exist() {
    let store = MemoryStore::new(Duration::ZERO, [0]);
    let mut world = World::new(RoomDefaults::default(), &store);
    assert!(world.engine.create_room("garden", &persistent()).await.is_err());
    assert_eq!(world.engine.room_count(), 0);
    let created = world.engine.create_room("garden", &persistent()).await.unwrap();
    assert!(matches!(created, Created::Room(_)));
    let other = RoomRequest { max_users: Some(3), ..persistent() };
    assert!(matches!(world.engine.create_room("garden", &other).await.unwrap(), Created::Conflict));
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_everybody_and_waits_for_the_store() {
    const SPREAD_MS: u64 = 5_000;
    let store = MemoryStore::new(Duration::from_secs(2), []);
    let mut world = world_with(&store).await;
    let people = world.connect_into(40, "garden");
    world.connect();
    pass(Duration::from_secs(5)).await;
    let acks: Vec<u64> = people
        .iter()
        .map(|&index| {
            world.people[index].emit("object-create", &json!({ "id": format!("{index}-"), "value": 1 }))
        })
        .collect();
    world.engine.begin_drain(SPREAD_MS);
    let late = world.connect();
    let refused = world.people[late].emit("join-room", &json!({ "roomId": "garden" }));
    assert_eq!(world.people[late].outcome(refused), "draining");
    let error = world.engine.create_room("new", &RoomRequest::default()).await.unwrap_err();
    let engine::CreateError::Refused(error) = error else { panic!("{error}") };
    assert_eq!(error.code, ErrorCode::Draining);
    let waits: BTreeSet<u64> = world.people[..late]
        .iter()
        .map(|person| {
            let client = person.outbox.client();
            assert_eq!(client.viewer.restarts.len(), 1, "{}", person.name);
            client.viewer.restarts[0]["reconnectInMs"].as_u64().unwrap()
        })
        .collect();
    assert!(waits.len() > 10, "they would come back together: {waits:?}");
    assert!(waits.iter().all(|wait| *wait < SPREAD_MS));
    world.engine.settle().await;
    assert_eq!(store.unanswered(), 0);
    assert_eq!(store.versions("garden").len(), people.len());
    pass(A_MOMENT).await;
    for (&index, &ack) in people.iter().zip(&acks) {
        assert_eq!(world.people[index].outcome(ack), "ok");
    }
    assert!(world.engine.is_idle());
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn rooms_that_are_known_weigh_nothing_when_they_are_loaded_again() {
    let store = Arc::new(MemoryStore::default());
    let mut world = world_with(&store).await;
    for _ in 1..CORES {
        assert_eq!(world.engine.load_rooms().await.unwrap().rooms, 1);
    }
    // All cores but one are still empty, so the next room is not put onto that one.
    world.create_room("attic", persistent()).await;
    let shard = |id| world.engine.room(id).unwrap().shard;
    assert_ne!(shard("attic"), shard("garden"));
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_options_cannot_be_understood_keeps_no_other_out() {
    let store = Arc::new(MemoryStore::default());
    let mut world = world_with(&store).await;
    world.create_room("attic", persistent()).await;
    store.spoil_room("attic");
    world.close_all().await;
    let next = World::new(RoomDefaults::default(), &store);
    let loaded = next.engine.load_rooms().await.unwrap();
    assert_eq!((loaded.rooms, loaded.unreadable), (1, vec!["attic".to_owned()]));
}
