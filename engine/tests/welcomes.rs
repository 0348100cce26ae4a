//! Who joins is welcomed with lists that cost the more the fuller the room is. However often somebody joins and
//! whatever is said meanwhile, these are made only so often, and nobody misses anything by that.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::time::Duration;

use common::ports::{MemoryStore, pass};
use common::world::World;
use engine::directory::RoomShared;
use engine::limits::PRESENCE_INTERVAL;
use engine::room::{Command, Effect, Flush, Room};
use engine::{RoomDefaults, RoomRequest, SessionId, TickRate, Time, User};
use protocol::Outgoing;
use protocol::event::{Encoding, View};

const START: Time = Time::from_micros(1_000_000_000);
const STEP: Duration = Duration::from_millis(1);

fn join(name: &str) -> Command {
    let user = User { id: name.into(), socket_id: name.into(), username: name.into() };
    Command::Join { user, encoding: Encoding::Json, password: None, view: View::default() }
}

fn flushes(effects: &mut Vec<Effect<u64>>) -> Vec<Flush<u64>> {
    effects
        .drain(..)
        .filter_map(|effect| match effect {
            Effect::Flush(flush) => Some(flush),
            _ => None,
        })
        .collect()
}

#[test]
fn joining_again_and_again_makes_the_lists_no_oftener() {
    const STEPS: u32 = 500;
    let shared = RoomShared::detached("hall", RoomDefaults::default().options(), START);
    let mut room = Room::new(shared, 10, Vec::new());
    let mut effects = Vec::new();
    let mut welcomed_at = Vec::new();
    let (mut heard, mut welcomes) = (0, 0);
    for step in 0..STEPS {
        let now = START + STEP * step;
        room.handle_command(now, SessionId(1), &1, join("ada"), Some(step.into()), &mut effects);
        let packet = Outgoing::event("room-message", &step);
        let message = Command::Relay { to: None, packet, volatile: false };
        room.handle_command(now, SessionId(1), &1, message, None, &mut effects);
        // Twice, as by a fast tick.
        room.flush(now, &mut effects);
        room.flush(now, &mut effects);
        for flush in flushes(&mut effects) {
            assert_eq!(
                (flush.users.is_some(), flush.objects.is_some()),
                [!flush.joined.is_empty(); 2].into()
            );
            heard += flush.entries.iter().filter(|entry| !entry.in_welcome).count();
            welcomes += flush.joined.len();
            welcomed_at.extend(flush.users.map(|_| now));
        }
        assert_eq!(heard, step as usize + 1, "a message is not held back");
    }
    assert!(
        welcomed_at.windows(2).all(|pair| pair[1].since(pair[0]) >= PRESENCE_INTERVAL),
        "{welcomed_at:?}"
    );
    let due = room.flush_due().unwrap();
    assert_eq!(due, *welcomed_at.last().unwrap() + PRESENCE_INTERVAL);
    room.flush(due, &mut effects);
    welcomes += flushes(&mut effects)[0].joined.len();
    assert_eq!(welcomes, STEPS as usize, "every join is answered");
}

#[test]
fn who_waits_for_its_welcome_misses_no_message() {
    let shared = RoomShared::detached("hall", RoomDefaults::default().options(), START);
    let mut room = Room::new(shared, 10, Vec::new());
    let mut effects = Vec::new();
    let mut number = 0;
    let mut say = |room: &mut Room<u64>, now: Time, effects: &mut Vec<Effect<u64>>| {
        number += 1;
        let packet = Outgoing::event("room-message", &number);
        let message = Command::Relay { to: None, packet, volatile: false };
        room.handle_command(now, SessionId(1), &1, message, None, effects);
        room.flush(now, effects);
    };
    room.handle_command(START, SessionId(1), &1, join("ada"), None, &mut effects);
    room.flush(START, &mut effects);
    assert_eq!(flushes(&mut effects)[0].joined.len(), 1, "the first is welcomed at once");
    for (session, name) in [(2, "bob"), (3, "eve")] {
        room.handle_command(START + STEP, SessionId(session), &session, join(name), None, &mut effects);
        say(&mut room, START + STEP, &mut effects);
    }
    say(&mut room, START + STEP * 2, &mut effects);
    assert!(flushes(&mut effects).iter().all(|flush| flush.joined.is_empty() && flush.missed.is_empty()));
    assert_eq!(room.flush_due(), Some(START + PRESENCE_INTERVAL));
    say(&mut room, START + PRESENCE_INTERVAL, &mut effects);
    let [flush] = &flushes(&mut effects)[..] else { panic!("one flush") };
    let heard: Vec<Vec<&str>> = flush
        .joined
        .iter()
        .map(|joined| {
            let since = flush.missed.iter().chain(&flush.entries).skip(joined.since);
            since.filter(|entry| !entry.in_welcome).map(|entry| entry.packet.text()).collect()
        })
        .collect();
    let message = |number: u32| format!("2[\"room-message\",{number}]");
    assert_eq!(heard[0], [1, 2, 3, 4].map(message));
    assert_eq!(heard[1], [2, 3, 4].map(message));
    assert_eq!(room.flush_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_welcome_does_not_wait_for_the_tick() {
    let mut world = World::new(RoomDefaults::default(), &MemoryStore::new(Duration::ZERO, []));
    let request = RoomRequest { tick_hz: Some(TickRate::Fixed(1)), ..RoomRequest::default() };
    world.create_room("hall", request).await;
    // Whenever the tick comes, it comes between at most one of these pairs.
    for _ in 0..5 {
        let speaker = world.connect_into(1, "hall")[0];
        pass(STEP).await;
        let joiner = world.connect_into(1, "hall")[0];
        world.people[speaker].say();
        pass(PRESENCE_INTERVAL * 2).await;
        let answers = world.people[joiner].outbox.client().viewer.acks.len();
        assert_eq!(answers, 1);
        world.check();
    }
    world.close_all().await;
}
