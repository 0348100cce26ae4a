//! Walking inside the past, from the client's packets to what it is told, with recordings in memory and a clock that
//! moves on only when nothing else has anything to do.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod client;
mod live;
mod recording;
mod refusals;
mod script;
mod seeks;
mod world;

use std::time::Duration;

use client::{Inbox, is_near, pass};
use protocol::Pose;
use script::{BEGIN_MS, Script, socket_id};
use serde_json::{Value, json};
use tokio::time::Instant;
use world::{ENCODINGS, ROOM, World};

const A_MOMENT: Duration = Duration::from_millis(300);
/// Between two samples of a pose.
const SAMPLE_MS: u64 = 100;

#[tokio::test(start_paused = true)]
async fn a_recording_is_seen_as_it_was_at_any_speed() {
    let script = Script::eventful();
    let fast = [1.0, 8.0].into_iter().flat_map(|speed| ENCODINGS.map(|encoding| (speed, encoding)));
    for (speed, encoding) in fast.chain([(0.25, "json")]) {
        let mut world = World::new(script.records());
        let mut client = world.connect();
        let replay = json!({ "from": BEGIN_MS - 1_000, "to": BEGIN_MS + 1_000_000, "speed": speed });
        let join = json!({ "roomId": ROOM, "encoding": encoding, "replay": replay });
        let answer = client.call("join-room", &join).await;
        let began = Instant::now();
        assert_eq!(
            (&answer["ok"], &answer["roomId"], &answer["slot"]),
            (&json!(true), &json!(ROOM), &json!(0))
        );
        let [from, to] = ["from", "to"].map(|name| answer["replay"][name].as_u64().unwrap());
        let first =
            json!({ "time": from, "from": from, "to": to, "speed": speed, "paused": false, "ended": false });
        client.until(|inbox| !inbox.states.is_empty()).await;
        assert_eq!(client.inbox().states[0], first);
        let end = |inbox: &Inbox| inbox.states.last().is_some_and(|state| state["ended"] == true);
        while !end(&client.inbox()) {
            pass(Duration::from_secs(1)).await;
            assert!(began.elapsed() < Duration::from_secs(200), "it should have ended");
        }
        pass(A_MOMENT).await;
        let (from_ms, to_ms) = (from - BEGIN_MS, to - BEGIN_MS);
        client.assert_sees(&script.truth(to_ms));
        assert_eq!(client.inbox().states.len(), 2);
        let last =
            json!({ "time": to, "from": from, "to": to, "speed": speed, "paused": false, "ended": true });
        assert_eq!(client.inbox().states[1], last);
        check_told(&client.inbox(), &script, (from_ms, to_ms), speed, began);
        check_poses(&client.inbox(), &script, speed, encoding);
        world.close([client]).await;
    }
}

/// All that was told then was told again, in its time.
fn check_told(inbox: &Inbox, script: &Script, (from_ms, to_ms): (u64, u64), speed: f64, began: Instant) {
    assert_eq!(inbox.told, script.told(from_ms, to_ms), "at {speed}");
    let due = script.events.iter().map(|(at, ..)| (at - from_ms) as f64 / 1_000.0 / speed);
    for (told, due) in inbox.told_at.iter().zip(due) {
        let late = told.duration_since(began).as_secs_f64() - due;
        assert!((-0.1..0.2).contains(&late), "at {speed}: due after {due} s, {late} s late");
    }
}

/// Everybody was shown wherever it was recorded, in order; where ticks are too few for that, somewhere of these.
fn check_poses(inbox: &Inbox, script: &Script, speed: f64, encoding: &str) {
    assert_eq!(inbox.ticks.map(|ticks| ticks > 0), ENCODINGS.map(|one| one == encoding));
    for member in 1..=5 {
        let is_in = |sample: &u64| {
            script.truth(sample * SAMPLE_MS).poses.get(&member).is_some_and(|pose| *pose != Pose::INITIAL)
        };
        let mut recorded =
            (0..=script.length_ms / SAMPLE_MS).filter(is_in).map(|sample| script::pose(member, sample));
        let mut shown = inbox.shown[&socket_id(member)].iter().peekable();
        // Where everybody is who has not moved yet.
        shown.next_if(|pose| is_near(pose, &Pose::INITIAL));
        let count = shown.len();
        let total = recorded.clone().count();
        for pose in shown {
            let found = recorded.find(|recorded| is_near(pose, recorded));
            assert!(found.is_some(), "{member} was never at {pose:?}, or before");
        }
        // Of one who goes, what happens within its last ticks may stay unseen.
        let unseen = recorded.count();
        let is_gone = !script.truth(script.length_ms).users.contains_key(&member);
        let unseen_max = if is_gone { 1 + speed as usize } else { 0 };
        assert!(unseen <= unseen_max, "{speed} {encoding}: {member} was not shown where it was last");
        let expected = if speed > 1.0 { total / 8 } else { total - unseen_max };
        assert!(count >= expected, "{speed} {encoding}: {member} was shown at {count} of {total} places");
    }
}

#[tokio::test(start_paused = true)]
async fn it_stands_still_goes_on_and_changes_its_speed() {
    let script = Script::eventful();
    let mut world = World::new(script.records());
    let mut client = world.watch("batch", json!({ "from": BEGIN_MS + 4_000 })).await;
    pass(Duration::from_secs(2)).await;
    let paused = client.call("replay-pause", &json!({})).await;
    assert_eq!((&paused["ok"], &paused["paused"]), (&json!(true), &json!(true)));
    pass(A_MOMENT).await;
    let time = paused["time"].as_u64().unwrap();
    assert!((5_900..6_300).contains(&(time - BEGIN_MS)), "{paused}");
    client.assert_sees(&script.truth(time - BEGIN_MS));
    let told = client.inbox().told.len();
    pass(Duration::from_secs(60)).await;
    assert_eq!(client.inbox().told.len(), told, "nothing happens while it stands still");
    assert_eq!(client.inbox().states.last().unwrap()["time"], time);
    let faster = client.call("replay-speed", &json!({ "speed": 4 })).await;
    assert_eq!((&faster["speed"], &faster["time"]), (&json!(4.0), &json!(time)));
    client.call("replay-pause", &json!({ "paused": false })).await;
    pass(Duration::from_secs(4)).await;
    let paused = client.call("replay-pause", &json!({ "paused": true })).await;
    let went = paused["time"].as_u64().unwrap() - time;
    assert!((15_800..16_900).contains(&went), "{went} ms in 4 s at four times the speed");
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(time + went - BEGIN_MS));
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_pose_is_shown_whatever_else_happens_in_that_moment() {
    let mut script = Script::eventful();
    // Somebody takes its last step, and renames itself in the same tick.
    script.still_ms = 4_100;
    let mut world = World::new(script.records());
    let part = json!({ "from": BEGIN_MS + 2_000, "to": BEGIN_MS + 6_000, "speed": 8 });
    let client = world.watch("json", part).await;
    client.until(|inbox| inbox.states.last().is_some_and(|state| state["ended"] == true)).await;
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(6_000));
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn a_part_is_played_again_and_again() {
    let script = Script::eventful();
    let mut world = World::new(script.records());
    let part = json!({ "from": BEGIN_MS + 1_000, "to": BEGIN_MS + 9_200, "loop": true, "speed": 2 });
    let mut client = world.watch("json", part).await;
    let is_beginning = |state: &&Value| state["time"] == BEGIN_MS + 1_000;
    while client.inbox().states.iter().filter(is_beginning).count() < 4 {
        pass(Duration::from_secs(1)).await;
    }
    assert!(client.inbox().states.iter().all(|state| state["ended"] == false));
    let lamps = client.inbox().told.iter().filter(|(event, _)| event == "object-created").count();
    assert!((3 * 2..=4 * 2).contains(&lamps), "two each time round, and not {lamps}");
    let paused = client.call("replay-pause", &json!({})).await;
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(paused["time"].as_u64().unwrap() - BEGIN_MS));
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_been_deleted_meanwhile_is_the_end() {
    let mut world = World::new(Script::long(20, 1_200_000).records());
    let mut client = world.watch("binary", json!({ "from": BEGIN_MS + 100_000, "speed": 8 })).await;
    pass(Duration::from_secs(2)).await;
    world.recordings.forget();
    client.until(|inbox| inbox.states.last().is_some_and(|state| state["ended"] == true)).await;
    let end = client.inbox().states.last().unwrap().clone();
    let [time, to] = ["time", "to"].map(|name| end[name].as_u64().unwrap());
    assert!(time > BEGIN_MS + 116_000 && time < to, "it ends with what was read ahead: {end}");
    let seek = client.call("replay-seek", &json!({ "time": BEGIN_MS + 100_000 })).await;
    assert_eq!(seek["ok"], true);
    client.until(|inbox| inbox.users.len() == 1).await;
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_those_who_have_gone() {
    let mut world = World::new(Script::eventful().records());
    let tasks = world.tasks();
    let mut clients = Vec::new();
    for index in 0..30 {
        let encoding = ENCODINGS[index % 3];
        clients.push(
            world.watch(encoding, json!({ "from": BEGIN_MS, "loop": true, "to": BEGIN_MS + 2_000 })).await,
        );
    }
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (30, 30));
    assert_eq!(world.engine.rooms().len(), 0, "nobody finds them");
    pass(Duration::from_secs(10)).await;
    // A playback that does nothing notices too.
    for client in clients.iter_mut().skip(15) {
        client.call("replay-pause", &json!({})).await;
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let answer = match index % 4 {
            0 => client.call("leave-room", &json!({})).await,
            1 => client.call("join-room", &json!({ "roomId": "hall" })).await,
            2 => {
                let replay = json!({ "from": BEGIN_MS + 1 });
                client.call("join-room", &json!({ "roomId": ROOM, "replay": replay })).await
            }
            _ => {
                client.disconnect();
                json!({ "ok": true })
            }
        };
        assert_eq!(answer["ok"], true, "{index}: {answer}");
    }
    pass(A_MOMENT).await;
    let on_elsewhere = (0..clients.len()).filter(|index| index % 4 == 2).count();
    assert_eq!((world.playbacks.count(), world.engine.private_room_count()), (on_elsewhere, on_elsewhere));
    world.close(clients).await;
    assert_eq!(world.tasks(), tasks);
}
