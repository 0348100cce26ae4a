//! Whole engines on one paused clock: private rooms in which something is played, beside the rooms that they are like.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::ports::{Reading, pass};
use common::poses::pose_numbered;
use common::world::World;
use engine::limits::STALLED_VIEWER_TIMEOUT;
use engine::private::ViewerGone;
use engine::room::Step;
use engine::{Departure, Recorded, RoomDefaults, RoomShared, Stage, User};
use protocol::event::{Encoding, View};
use protocol::{ErrorCode, Members, Outgoing};
use replay::MemberId;
use serde_json::{Value, json};
use tokio::time::timeout;

const A_MOMENT: Duration = Duration::from_millis(200);
const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::Batch, Encoding::Binary];
const GHOSTS: u64 = 12;

fn enter(ghost: u64, pose: u32) -> Step {
    let name = |kind: &str| format!("{kind}g{ghost}").as_str().into();
    let user =
        User { id: format!("g{ghost}").as_str().into(), socket_id: name("s"), username: name("name ") };
    Step::Enter { ghost: MemberId(ghost), user, profile: Members::default(), pose: pose_numbered(pose) }
}

fn step(ghost: u64, pose: u32) -> Step {
    Step::Move(MemberId(ghost), pose_numbered(pose))
}

/// Opens a private room like "lobby" for somebody, in which these steps have been taken.
fn open(world: &mut World, person: usize, encoding: Encoding, opening: Vec<Step>) -> (Stage, Departure) {
    let options = RoomDefaults::default().options();
    let recorded = Recorded { from: 5, to: 9 };
    let person = &mut world.people[person];
    let core = person.session.core();
    let (room, stage, departure) =
        world.engine.open_private("lobby", &options, recorded, core, opening).unwrap();
    person.outbox.client().viewer.step_out();
    let standing = person.session.standing();
    person
        .session
        .enter_private(standing, room, (encoding, View::default()), Some(1_000 + stage.room().key))
        .unwrap();
    (stage, departure)
}

fn weak(stage: &Stage) -> Weak<RoomShared> {
    Arc::downgrade(stage.room())
}

#[tokio::test(start_paused = true)]
async fn a_viewer_of_each_encoding_sees_what_is_played_and_nobody_else_does() {
    let mut world = World::with_users(50);
    let live = world.connect_into(2, "lobby")[0];
    world.connect();
    pass(A_MOMENT).await;
    for encoding in ENCODINGS {
        let viewer = world.connect();
        let opening = (0..GHOSTS).map(|ghost| enter(ghost, ghost as u32)).collect();
        let (stage, _) = open(&mut world, viewer, encoding, opening);
        pass(A_MOMENT).await;
        let answer = world.people[viewer].answer(1_000 + stage.room().key).unwrap();
        assert_eq!((&answer["roomId"], &answer["replay"]), (&json!("lobby"), &json!({ "from": 5, "to": 9 })));
        for round in 1..20_u32 {
            let mut steps: Vec<Step> =
                (0..GHOSTS).map(|ghost| step(ghost, 100 * round + ghost as u32)).collect();
            let said = json!({ "type": "said", "from": "g1", "data": round });
            steps.push(Step::Tell(Outgoing::event("room-message", &said)));
            stage.play(steps).await.unwrap();
            pass(A_MOMENT).await;
            let client = world.people[viewer].outbox.client();
            assert_eq!(client.viewer.users.len(), GHOSTS as usize + 1);
            for ghost in 0..GHOSTS {
                let pose = pose_numbered(100 * round + ghost as u32);
                client.viewer.assert_sees(&format!("sg{ghost}"), &pose);
            }
            assert_eq!(*client.viewer.log.last().unwrap(), format!("message {round}"));
        }
        assert_eq!(stage.room().members(), GHOSTS as usize + 1);
        world.people[viewer].outbox.client().viewer.step_out();
    }
    assert_eq!(world.engine.private_room_count(), ENCODINGS.len());
    assert_eq!(world.engine.rooms().len(), 1, "nobody finds them");
    assert_eq!(world.people[live].outbox.client().viewer.users.len(), 2, "the live room notices nothing");
    world.check();
    world.close_all().await;
    assert_eq!(world.engine.private_room_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_viewer_goes_the_room_goes_and_its_driver_knows() {
    let mut world = World::with_users(50);
    for (how, encoding) in (0..5).zip(ENCODINGS.into_iter().cycle()) {
        let viewer = world.connect();
        let (mut stage, departure) = open(&mut world, viewer, encoding, vec![enter(1, 1), enter(2, 2)]);
        let room = weak(&stage);
        pass(A_MOMENT).await;
        assert_eq!(world.engine.private_room_count(), 1);
        let mut departure = pin!(departure.wait());
        timeout(A_MOMENT, &mut departure).await.expect_err("it is still there");
        match how {
            0 => drop(world.people[viewer].leave()),
            1 => drop(world.people[viewer].join("lobby", "json")),
            2 => world.people[viewer].disconnect(),
            3 => {
                // On to another part of the same recording.
                drop(stage);
                let later;
                (stage, later) = open(&mut world, viewer, encoding, Vec::new());
                pass(A_MOMENT).await;
                assert_eq!(room.strong_count(), 0, "who goes on is in the old room no more");
                world.people[viewer].disconnect();
                later.wait().await;
            }
            // Whoever reads nothing is ended, though its room has a single member.
            _ => {
                world.people[viewer].outbox.client().reading = Reading::Stalled(1_000);
                for round in 0..STALLED_VIEWER_TIMEOUT.as_secs() as u32 * 5 + 10 {
                    if stage.play(vec![step(1, round)]).await.is_err() {
                        break;
                    }
                    pass(A_MOMENT).await;
                }
                assert!(world.people[viewer].outbox.client().closed.is_some());
                world.people[viewer].gone();
            }
        }
        timeout(A_MOMENT, departure).await.expect("it has gone");
        assert_eq!(stage.play(vec![step(1, 7)]).await, Err(ViewerGone));
        drop(stage);
        pass(A_MOMENT).await;
        assert_eq!(room.strong_count(), 0, "{how}: somebody still knows the room");
        assert_eq!(world.engine.private_room_count(), 0);
    }
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_elsewhere_meanwhile_stays_there() {
    let mut world = World::with_users(50);
    let viewer = world.connect_into(1, "lobby")[0];
    pass(A_MOMENT).await;
    let options = RoomDefaults::default().options();
    let recorded = Recorded { from: 5, to: 9 };
    let (room, stage, departure) =
        world.engine.open_private("lobby", &options, recorded, 0, Vec::new()).unwrap();
    let standing = world.people[viewer].session.standing();
    world.people[viewer].join("hall", "json");
    let entering =
        world.people[viewer].session.enter_private(standing, room, Default::default(), Some(1_000));
    assert_eq!(entering.unwrap_err().code, ErrorCode::Unavailable);
    departure.wait().await;
    assert_eq!(stage.play(Vec::new()).await, Err(ViewerGone));
    assert_eq!(world.engine.private_room_count(), 0);
    pass(A_MOMENT).await;
    world.check();
    assert_eq!(world.engine.room("hall").unwrap().members(), 1);
    world.engine.begin_drain(1);
    let refused = world.engine.open_private("lobby", &options, recorded, 0, Vec::new()).map(|_| ());
    assert_eq!(refused.unwrap_err().code, ErrorCode::Draining);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn in_the_past_nothing_can_be_changed() {
    let mut world = World::with_users(50);
    let viewer = world.connect();
    let (stage, _) = open(&mut world, viewer, Encoding::Json, vec![enter(1, 1)]);
    pass(A_MOMENT).await;
    for (name, payload) in [
        ("object-create", json!({ "id": "x" })),
        ("object-update", json!({ "id": "x" })),
        ("object-delete", json!({ "id": "x" })),
        ("user-update", json!({ "username": "x" })),
        ("room-message", json!({ "type": "x" })),
        ("signal", json!({ "to": "g1", "data": 1 })),
    ] {
        let ack = world.people[viewer].emit(name, &payload);
        pass(A_MOMENT).await;
        let answer: Value = world.people[viewer].answer(ack).unwrap();
        assert_eq!(answer["error"]["code"], "unavailable", "{name}");
        assert_eq!(answer["error"]["message"], "a recording cannot be changed", "{name}");
    }
    let ack = world.people[viewer].emit("view", &json!({ "radius": 5 }));
    pass(A_MOMENT).await;
    assert_eq!(world.people[viewer].outcome(ack), "ok");
    assert_eq!(stage.room().members(), 2);
    drop(stage);
    world.close_all().await;
    assert_eq!(world.engine.private_room_count(), 0);
}
