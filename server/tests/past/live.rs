//! What was seen live is what is seen afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Inbox, assert_near, pass};
use crate::script;
use crate::world::{ENCODINGS, ROOM, World};
use crate::{A_MOMENT, SAMPLE_MS};

/// Seconds of the meeting.
const SECONDS: u64 = 45;

fn pose_json(member: u64, step: u64) -> Value {
    let mut text = b"{".to_vec();
    script::pose(member, step).write_json_members(&mut text);
    text.push(b'}');
    serde_json::from_slice(&text).unwrap()
}

/// Three who meet: they come, move, build, and one goes again. Seen by the first of them.
async fn meet(world: &mut World) -> Vec<Client> {
    let mut people: Vec<Client> = (0..3).map(|_| world.connect()).collect();
    for person in &mut people {
        let answer = person.call("join-room", &json!({ "roomId": ROOM, "encoding": "json" })).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    for step in 0..SECONDS * 1_000 / SAMPLE_MS {
        for (member, person) in (0..).zip(&mut people) {
            person.tell("update-position", &pose_json(member, step));
            if step % 37 == 12 * member {
                person.call("object-create", &json!({ "id": format!("{member}-{step}"), "at": step })).await;
            }
            if step % 50 == 9 && member == 1 {
                person.call("object-update", &json!({ "id": "0-0", "at": step })).await;
                person.call("user-update", &json!({ "mood": step })).await;
            }
        }
        if step == 200 {
            people.pop().unwrap().disconnect();
        }
        pass(Duration::from_millis(SAMPLE_MS)).await;
    }
    pass(Duration::from_secs(3)).await;
    people
}

fn is_over(inbox: &Inbox) -> bool {
    inbox.states.last().is_some_and(|state| state["ended"] == true)
}

#[tokio::test(start_paused = true)]
async fn a_meeting_is_seen_again_as_it_was() {
    let mut world = World::recording();
    let people = meet(&mut world).await;
    let mut watching = Vec::new();
    for encoding in ENCODINGS {
        watching.push(world.watch(encoding, json!({ "from": 0, "speed": 8 })).await);
    }
    for client in &watching {
        client.until(is_over).await;
    }
    pass(A_MOMENT).await;
    compare(&people, &watching);
    world.close(people.into_iter().chain(watching)).await;
    // What is played is not recorded once more.
    let recorded = world.recordings.count();
    let client = world.watch("json", json!({ "from": 0, "speed": 8 })).await;
    client.until(is_over).await;
    assert_eq!(client.inbox().users.len(), 1, "all have gone");
    assert_eq!(world.recordings.count(), recorded);
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_a_room_that_ended_does_not_stand_in_the_next() {
    let mut world = World::recording();
    let mut ann = world.connect();
    ann.call("join-room", &json!({ "roomId": ROOM })).await;
    for id in ["cube", "lamp"] {
        assert_eq!(ann.call("object-create", &json!({ "id": id, "by": "ann" })).await["ok"], true);
    }
    pass(Duration::from_secs(2)).await;
    ann.disconnect();
    pass(Duration::from_secs(2)).await;
    let mut bob = world.connect();
    bob.call("join-room", &json!({ "roomId": ROOM })).await;
    assert_eq!(bob.inbox().objects.len(), 0, "the room is another");
    pass(Duration::from_secs(1)).await;
    assert_eq!(bob.call("object-create", &json!({ "id": "lamp", "by": "bob" })).await["ok"], true);
    pass(Duration::from_secs(2)).await;
    let mut client = world.watch("json", json!({ "from": 0 })).await;
    client.until(|inbox| inbox.objects.len() == 2).await;
    client.until(|inbox| inbox.users.len() == 2 && inbox.users.contains_key(&bob.inbox().sid)).await;
    pass(A_MOMENT).await;
    assert_eq!(client.inbox().objects.len(), 0, "beside who came later");
    client.until(is_over).await;
    pass(A_MOMENT).await;
    let played = client.inbox().objects.clone();
    assert_eq!(played.values().map(|object| &object["by"]).collect::<Vec<_>>(), ["bob"]);
    let to = client.inbox().states[0]["to"].clone();
    client.call("replay-seek", &json!({ "time": to })).await;
    pass(A_MOMENT).await;
    assert_eq!(client.inbox().objects, played, "gone to and played to is the same");
    world.close([bob, client]).await;
}

/// What those saw who were there, and those who watch.
fn compare(people: &[Client], watching: &[Client]) {
    // Whoever came first saw everything but what it did itself, and that the second one did.
    let [first, second] = [0, 1].map(|index| people[index].inbox());
    let own = |inbox: &Inbox, told: &(String, Value)| {
        told.1["socketId"] == inbox.sid.as_str() || told.1["from"] == inbox.sid.as_str()
    };
    for client in watching {
        let inbox = client.inbox();
        let [live_objects, live_users] = [&second.objects, &second.users].map(|map| map.len());
        assert!(live_objects > 0 && live_users == 2);
        for (socket, user) in &second.users {
            let seen = &inbox.users[socket];
            assert_eq!((&seen["id"], &seen["username"]), (&user["id"], &user["username"]));
        }
        assert_eq!(inbox.users.len(), 3, "the two, and who watches them");
        for (member, inbox_of) in [(0, &second), (1, &first)] {
            let socket = if member == 0 { &first.sid } else { &second.sid };
            assert_near(&inbox.poses[socket], &inbox_of.poses[socket], socket);
            let moved = inbox.shown[socket].len();
            assert!(moved as u64 > SECONDS, "{socket} was shown at {moved} places");
        }
        let told: Vec<_> = first.told.iter().filter(|told| told.0 != "room-rate").collect();
        let mut seen = inbox.told.iter();
        for told in told.into_iter().filter(|told| !own(&first, told)) {
            assert!(seen.any(|seen| seen == told), "{told:?} was not told, or not in its turn");
        }
    }
}
