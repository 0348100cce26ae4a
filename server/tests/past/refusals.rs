//! Who is not let into the past, and what cannot be done there.

use std::sync::atomic::Ordering;

use engine::RoomRequest;
use serde_json::{Value, json};
use server::passwords::MAX_WRONG_OF_USER;
use server::replay::playback::MAX_PLAYBACKS;

use crate::A_MOMENT;
use crate::client::{Client, pass};
use crate::script::{BEGIN_MS, Script};
use crate::world::{ROOM, World};

async fn code(client: &mut Client, event: &str, payload: Value) -> String {
    let answer = client.call(event, &payload).await;
    match answer["ok"].as_bool() {
        Some(true) => "ok".into(),
        _ => answer["error"]["code"].as_str().unwrap().into(),
    }
}

async fn join(client: &mut Client, room: &str, replay: Value) -> String {
    code(client, "join-room", json!({ "roomId": room, "replay": replay })).await
}

#[tokio::test(start_paused = true)]
async fn only_what_is_recorded_can_be_watched() {
    let mut world = World::new(Script::eventful().records());
    let mut client = world.connect();
    assert_eq!(join(&mut client, "elsewhere", json!({ "from": 5 })).await, "not_found");
    assert_eq!(join(&mut client, ROOM, json!({ "from": BEGIN_MS + 60_000 })).await, "not_found");
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5, "to": BEGIN_MS - 5 })).await, "not_found");
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5, "to": 4 })).await, "bad_request");
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5, "speed": 9 })).await, "bad_request");
    world.recordings.broken.store(true, Ordering::Relaxed);
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5 })).await, "storage");
    for (event, payload) in [
        ("replay-seek", json!({ "time": 5 })),
        ("replay-pause", json!({})),
        ("replay-speed", json!({ "speed": 1 })),
    ] {
        assert_eq!(code(&mut client, event, payload).await, "not_in_room", "{event}");
    }
    assert_eq!(code(&mut client, "replay-seek", json!({ "time": "now" })).await, "bad_request");
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (0, 0));
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_stays_where_it_is() {
    let mut world = World::new(Script::eventful().records());
    let mut client = world.connect();
    assert_eq!(code(&mut client, "join-room", json!({ "roomId": "hall" })).await, "ok");
    assert_eq!(join(&mut client, "elsewhere", json!({ "from": 5 })).await, "not_found");
    assert_eq!(code(&mut client, "object-create", json!({ "id": "x" })).await, "ok");
    assert_eq!(world.engine.room("hall").unwrap().members(), 1);
    // Into the past, where nothing can be changed, and back.
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5 })).await, "ok");
    pass(A_MOMENT).await;
    assert!(world.engine.room("hall").is_none(), "it has left, and nobody else was there");
    let refused = client.call("object-create", &json!({ "id": "x" })).await;
    assert_eq!(
        refused["error"],
        json!({ "code": "unavailable", "message": "a recording cannot be changed" })
    );
    assert_eq!(code(&mut client, "join-room", json!({ "roomId": ROOM })).await, "ok");
    pass(A_MOMENT).await;
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (0, 0));
    assert_eq!(code(&mut client, "replay-pause", json!({})).await, "not_in_room");
    assert_eq!(code(&mut client, "object-create", json!({ "id": "x" })).await, "ok");
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn the_rooms_password_is_wanted_for_its_past_too() {
    let mut world = World::new(Script::eventful().records());
    let request = RoomRequest { password: Some("sesame".into()), ..RoomRequest::default() };
    world.engine.create_room(ROOM, &request).await.unwrap();
    let mut client = world.connect();
    assert_eq!(join(&mut client, ROOM, json!({ "from": 5 })).await, "wrong_password");
    for (password, expected) in [("Sesame", "wrong_password"), ("sesame", "ok")] {
        let payload = json!({ "roomId": ROOM, "password": password, "replay": { "from": 5 } });
        assert_eq!(code(&mut client, "join-room", payload).await, expected);
    }
    client.disconnect();
    pass(A_MOMENT).await;
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn after_so_many_wrong_passwords_one_waits() {
    let mut world = World::new(Script::eventful().records());
    let request = RoomRequest { password: Some("sesame".into()), ..RoomRequest::default() };
    world.engine.create_room(ROOM, &request).await.unwrap();
    let mut client = world.connect();
    let with = |password: &str| json!({ "roomId": ROOM, "password": password });
    let past = |password: &str| json!({ "roomId": ROOM, "password": password, "replay": { "from": 5 } });
    for try_of in 0..MAX_WRONG_OF_USER {
        let payload = if try_of % 2 == 0 { with("guess") } else { past("guess") };
        assert_eq!(code(&mut client, "join-room", payload).await, "wrong_password");
    }
    for payload in [with("guess"), with("sesame"), past("sesame")] {
        assert_eq!(code(&mut client, "join-room", payload).await, "rate_limited");
    }
    client.disconnect();
    pass(A_MOMENT).await;
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_playbacks_and_no_more() {
    let mut world = World::new(Script::eventful().records());
    let mut clients = Vec::new();
    for _ in 0..MAX_PLAYBACKS {
        clients.push(world.watch("json", json!({ "from": BEGIN_MS, "speed": 0.25 })).await);
    }
    let mut late = world.connect();
    assert_eq!(join(&mut late, ROOM, json!({ "from": 5 })).await, "limit");
    clients.pop().unwrap().disconnect();
    pass(A_MOMENT).await;
    assert_eq!(join(&mut late, ROOM, json!({ "from": 5 })).await, "ok");
    clients.push(late);
    world.close(clients).await;
}

#[tokio::test(start_paused = true)]
async fn one_thing_at_a_time() {
    let mut world = World::new(Script::eventful().records());
    let mut client = world.connect();
    let replay = json!({ "roomId": ROOM, "replay": { "from": 5 } });
    let first = client.send("join-room", &replay);
    let second = client.send("join-room", &replay);
    client.until(|inbox| [first, second].iter().all(|ack| inbox.acks.contains_key(ack))).await;
    assert_eq!(client.inbox().acks[&first]["ok"], true);
    assert_eq!(client.inbox().acks[&second]["error"]["code"], "overloaded");
    // Whoever has gone elsewhere meanwhile stays there.
    let past = client.send("join-room", &replay);
    let hall = client.send("join-room", &json!({ "roomId": "hall" }));
    client.until(|inbox| [past, hall].iter().all(|ack| inbox.acks.contains_key(ack))).await;
    assert_eq!(client.inbox().acks[&past]["error"]["code"], "unavailable");
    assert_eq!(client.inbox().acks[&hall]["ok"], true);
    pass(A_MOMENT).await;
    assert_eq!(world.engine.room("hall").unwrap().members(), 1);
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (0, 0));
    // Whoever goes altogether while it is prepared leaves nothing behind.
    client.send("join-room", &replay);
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_cannot_be_read_any_more_is_said_to_be_so() {
    let mut world = World::new(Script::long(3, 600_000).records());
    let mut client = world.watch("json", json!({ "from": BEGIN_MS })).await;
    world.recordings.broken.store(true, Ordering::Relaxed);
    assert_eq!(code(&mut client, "replay-seek", json!({ "time": BEGIN_MS + 300_000 })).await, "storage");
    let before = client.inbox().states.last().unwrap().clone();
    assert!(before["time"].as_u64().unwrap() < BEGIN_MS + 10_000, "it stays where it was: {before}");
    world.recordings.broken.store(false, Ordering::Relaxed);
    assert_eq!(code(&mut client, "replay-seek", json!({ "time": BEGIN_MS + 300_000 })).await, "ok");
    world.close([client]).await;
}
