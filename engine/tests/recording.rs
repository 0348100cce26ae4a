//! Whole engines on one paused clock, and a journal that is slow, full or broken: who is answered what and when, and
//! that nobody else notices.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::journal::{Fate, JournalPort, MemoryJournal};
use common::ports::{MemoryStore, Reading, pass};
use common::world::World;
use engine::limits::JOURNAL_PATIENCE;
use engine::{RoomDefaults, RoomRequest};
use replay::{Action, Content, RecordKind};
use serde_json::{Value, json};

const A_MOMENT: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(1);
const SLOWLY: Duration = Duration::from_millis(300);
const AT_ONCE: Fate = Fate::Durable(Duration::ZERO);

fn world_with(journal: &Arc<MemoryJournal>, store: &Arc<MemoryStore>) -> World {
    World::with_journal(RoomDefaults::default(), store, Arc::new(JournalPort(journal.clone())), None)
}

fn prompt_store() -> Arc<MemoryStore> {
    MemoryStore::new(Duration::ZERO, [])
}

fn request(persistent: bool) -> RoomRequest {
    RoomRequest { persistent: Some(persistent), record_messages: Some(true), ..RoomRequest::default() }
}

/// What each fate of a record makes of the ack that waits for it, and after how long.
const FATES: [(Fate, &str, Duration); 5] = [
    (Fate::Durable(SLOWLY), "ok", SLOWLY),
    (Fate::Lost(SLOWLY), "storage", SLOWLY),
    (Fate::Refused, "storage", Duration::ZERO),
    (Fate::Forgotten, "storage", JOURNAL_PATIENCE),
    (Fate::Durable(Duration::from_millis(1_100)), "storage", JOURNAL_PATIENCE),
];

/// Its ack comes after `wait`, not before, and says this.
async fn assert_answered(world: &World, person: usize, ack: u64, wait: Duration, outcome: &str, what: &str) {
    if !wait.is_zero() {
        pass(wait - STEP * 2).await;
        assert_eq!(world.people[person].outcome(ack), "none", "{what}");
    }
    pass(STEP * 5).await;
    assert_eq!(world.people[person].outcome(ack), outcome, "{what}");
}

#[tokio::test(start_paused = true)]
async fn an_ack_waits_for_the_journal_and_the_others_do_not() {
    let events: [(&str, Value, &str); 5] = [
        ("object-create", json!({ "id": "0-tree", "value": 1 }), "object-created 0-tree 1"),
        ("object-update", json!({ "id": "0-tree", "value": 2 }), "object-updated 0-tree 2"),
        ("object-delete", json!({ "id": "0-tree" }), "object-deleted 0-tree null"),
        ("user-update", json!({ "username": "Ada" }), "updated s0"),
        ("room-message", json!({ "type": "hint", "data": 7 }), "message 7"),
    ];
    for persistent in [false, true] {
        for (fate, outcome, wait) in FATES {
            let journal = MemoryJournal::new(AT_ONCE);
            let mut world = world_with(&journal, &prompt_store());
            world.create_room("garden", request(persistent)).await;
            let people = world.connect_into(2, "garden");
            pass(A_MOMENT).await;
            for (name, payload, line) in &events {
                let what = format!("{name}, {fate:?}, persistent: {persistent}");
                journal.set_fate(0, fate);
                let ack = world.people[people[0]].emit(name, payload);
                pass(STEP).await;
                let log = &world.people[people[1]].outbox.client().viewer.log.clone();
                assert_eq!(log.last().unwrap(), line, "{what}");
                assert_answered(&world, people[0], ack, wait, outcome, &what).await;
            }
            let late = if outcome == "ok" { 0.0 } else { events.len() as f64 };
            assert_eq!(world.metric("late_acks_total"), late);
            let refused = if fate == Fate::Refused { events.len() as f64 } else { 0.0 };
            assert_eq!(world.metric("records_refused_total{lane=\"reliable\"}"), refused);
            world.close_all().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_persistent_room_waits_for_store_and_journal() {
    let shorter = Duration::from_millis(100);
    // Calls of the store: 0 makes the room, 1 reads its objects, 2 is the first change, which fails if it is to.
    for (store_delay, store_fails, fate, wait, outcome) in [
        (shorter, false, Fate::Durable(SLOWLY), SLOWLY, "ok"),
        (SLOWLY, false, Fate::Durable(shorter), SLOWLY, "ok"),
        (shorter, true, Fate::Durable(SLOWLY), shorter, "storage"),
        (SLOWLY, true, Fate::Durable(shorter), SLOWLY, "storage"),
        (shorter, false, Fate::Lost(SLOWLY), SLOWLY, "storage"),
        (SLOWLY, false, Fate::Refused, SLOWLY, "storage"),
        (shorter, false, Fate::Forgotten, JOURNAL_PATIENCE, "storage"),
        // The journal's time runs while the store has the change.
        (JOURNAL_PATIENCE * 2, false, Fate::Forgotten, JOURNAL_PATIENCE * 2, "storage"),
        (JOURNAL_PATIENCE * 2, false, Fate::Durable(shorter), JOURNAL_PATIENCE * 2, "ok"),
    ] {
        let journal = MemoryJournal::new(AT_ONCE);
        let store = MemoryStore::new(store_delay, store_fails.then_some(2));
        let mut world = world_with(&journal, &store);
        world.create_room("garden", request(true)).await;
        let gardener = world.connect_into(1, "garden")[0];
        pass(store_delay * 2).await;
        journal.set_fate(0, fate);
        let ack = world.people[gardener].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
        let what = format!("store {store_delay:?} fails: {store_fails}, journal {fate:?}");
        assert_answered(&world, gardener, ack, wait, outcome, &what).await;
        world.people[gardener].disconnect();
        world.engine.settle().await;
        assert_eq!(store.versions("garden").len(), 1, "{what}");
        pass(store_delay).await;
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_welcome_waits_for_the_journal_and_comes_in_any_case() {
    for (fate, _, wait) in FATES {
        let journal = MemoryJournal::new(AT_ONCE);
        let mut world = world_with(&journal, &prompt_store());
        world.create_room("garden", request(false)).await;
        let there = world.connect_into(1, "garden")[0];
        pass(A_MOMENT).await;
        journal.set_fate(0, fate);
        let joiner = world.connect();
        // It reads nothing at first, so that all that comes can be looked at.
        world.people[joiner].outbox.client().reading = Reading::Stalled(100);
        world.people[joiner].join("garden", "json");
        pass(Duration::from_millis(60)).await;
        let seen = world.people[there].outbox.client().viewer.users.len();
        assert_eq!(seen, 2, "the others know at once");
        world.people[there].say();
        world.people[joiner].move_to(3);
        let queue = |world: &World| world.people[joiner].outbox.client().queue.clone();
        if wait > Duration::from_millis(60) {
            pass(wait - Duration::from_millis(60) - STEP).await;
            assert_eq!(queue(&world), [""; 0], "{fate:?}");
        }
        pass(Duration::from_millis(60)).await;
        let welcome = queue(&world);
        let begins: Vec<bool> = welcome
            .iter()
            .zip(["31[{\"ok\":true", "2[\"room-users\"", "2[\"room-objects\"", "2[\"room-message\""])
            .map(|(text, start)| text.starts_with(start))
            .collect();
        assert_eq!((begins, welcome.len()), (vec![true; 4], 4), "{fate:?}: {welcome:?}");
        world.people[joiner].outbox.resume();
        pass(A_MOMENT).await;
        world.check();
        let late = if fate == Fate::Durable(SLOWLY) { 0.0 } else { 1.0 };
        assert_eq!(world.metric("late_acks_total"), late);
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_departure_is_ok_in_any_case_and_so_is_the_join_before_it() {
    for (fate, _, wait) in FATES {
        let journal = MemoryJournal::new(AT_ONCE);
        let mut world = world_with(&journal, &prompt_store());
        let people = world.connect_into(2, "garden");
        pass(A_MOMENT).await;
        journal.set_fate(0, fate);
        let left = world.people[people[0]].leave();
        assert_answered(&world, people[0], left, wait, "ok", &format!("{fate:?}")).await;
        journal.set_usual(fate);
        let joined = world.people[people[0]].join("garden", "json");
        let left = world.people[people[0]].leave();
        assert_answered(&world, people[0], joined, wait, "ok", &format!("{fate:?}")).await;
        assert_eq!(world.people[people[0]].outcome(left), "ok");
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_wants_an_ack_and_who_joins_asks_for_a_receipt() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = world_with(&journal, &prompt_store());
    let people = world.connect_into(3, "garden");
    pass(A_MOMENT).await;
    assert_eq!(journal.receipts(), 3);
    world.people[people[0]].leave_silently();
    world.people[people[1]].move_to(1);
    world.people[people[2]].disconnect();
    pass(Duration::from_secs(40)).await;
    assert_eq!(journal.receipts(), 3);
    // Not a message, which this room does not record, nor what is refused.
    world.people[people[1]].say();
    world.people[people[1]].emit("object-delete", &json!({ "id": "nothing" }));
    pass(A_MOMENT).await;
    assert_eq!(journal.receipts(), 3);
    let events = journal.records("garden").into_iter().filter_map(|record| match record.content {
        Content::Event(event) => Some((event.action, event.socket_id)),
        _ => None,
    });
    let left = events.filter(|(action, _)| matches!(action, Action::Leave)).map(|(_, who)| who);
    assert_eq!(left.collect::<Vec<_>>(), ["s0".into(), "s2".into()]);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_is_recorded_only_if_it_is_to_be() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = world_with(&journal, &prompt_store());
    let secret = RoomRequest { record: Some(false), ..request(false) };
    world.create_room("secret", secret).await;
    let people = world.connect_into(2, "secret");
    pass(A_MOMENT).await;
    world.people[people[0]].move_to(1);
    let ack = world.people[people[0]].say();
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.people[people[0]].outcome(ack), "ok");
    assert_eq!(journal.kinds("secret"), []);
    journal.turn_off();
    let people = world.connect_into(2, "open");
    pass(A_MOMENT).await;
    world.people[people[0]].move_to(1);
    pass(Duration::from_secs(2)).await;
    assert_eq!(journal.kinds("open"), []);
    world.check();
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn messages_are_recorded_with_what_they_carry_and_signals_are_not() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = world_with(&journal, &prompt_store());
    world.create_room("garden", request(false)).await;
    let people = world.connect_into(2, "garden");
    pass(A_MOMENT).await;
    world.people[people[0]].say();
    world.people[people[0]].emit("room-message", &json!({ "type": "x", "data": 9, "to": "s1" }));
    world.people[people[0]].emit("signal", &json!({ "data": 9, "to": "s1" }));
    let payload = r#"{"type":"a, ]","data":{"_placeholder":true,"num":0}}"#;
    let event = protocol::ClientEvent::parse("room-message", payload).unwrap().unwrap();
    // The test's viewers read no attachments.
    world.people[people[1]].outbox.client().answers_only = true;
    world.people[people[0]].session.handle(event, vec![vec![1, 2, 3].into()], None);
    pass(A_MOMENT).await;
    let messages: Vec<(Value, Vec<bytes::Bytes>)> = journal
        .records("garden")
        .into_iter()
        .filter_map(|record| match record.content {
            Content::Event(replay::Event { action: Action::Message { message, attachments }, .. }) => {
                Some((serde_json::from_str(&message).unwrap(), attachments))
            }
            _ => None,
        })
        .collect();
    let said =
        |kind: &str, data: Value| json!({ "type": kind, "data": data, "from": "u0", "socketId": "s0" });
    let expected = [
        (said("numbered", json!(1)), Vec::new()),
        (said("a, ]", json!({ "_placeholder": true, "num": 0 })), vec![vec![1, 2, 3].into()]),
    ];
    assert_eq!(messages, expected);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_journal_but_not_for_ever() {
    for (fate, outcome) in [(Fate::Durable(SLOWLY), "ok"), (Fate::Forgotten, "storage")] {
        let journal = MemoryJournal::new(AT_ONCE);
        let mut world = world_with(&journal, &prompt_store());
        let people = world.connect_into(2, "garden");
        pass(A_MOMENT).await;
        journal.set_usual(fate);
        let ack = world.people[people[0]].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
        world.engine.begin_drain(1_000);
        let before = world.engine.now();
        world.engine.settle().await;
        let took = world.engine.now().since(before);
        let expected = if outcome == "ok" { SLOWLY } else { JOURNAL_PATIENCE };
        assert!((expected..expected + STEP * 5).contains(&took), "{took:?} for {expected:?}");
        pass(STEP).await;
        assert_eq!(world.people[people[0]].outcome(ack), outcome);
        world.people[people[1]].move_to(4);
        pass(A_MOMENT).await;
        world.people.iter_mut().for_each(|person| person.disconnect());
        pass(STEP).await;
        let [.., poses, last] = &journal.records("garden")[..] else { panic!("more than two records") };
        assert_eq!(poses.content.kind(), RecordKind::Poses, "what was gathered goes with who leaves last");
        let Content::Event(event) = &last.content else { panic!("{last:?}") };
        assert_eq!(event.action, Action::Leave);
        world.close_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_hangs_makes_no_tick_later() {
    let mut ticks = Vec::new();
    for fate in [AT_ONCE, Fate::Forgotten, Fate::Refused] {
        let journal = MemoryJournal::new(AT_ONCE);
        let mut world = world_with(&journal, &prompt_store());
        let people = world.connect_all(&["json", "batch", "binary", "json"], "garden");
        pass(A_MOMENT).await;
        journal.set_usual(fate);
        for number in 0..200 {
            world.people[people[0]].move_to(number);
            let person = &mut world.people[people[1 + number as usize % 3]];
            person.say();
            person.emit("user-update", &json!({ "username": "Eve" }));
            pass(Duration::from_millis(10)).await;
        }
        let late = world.engine.metrics().late_acks.get();
        assert_eq!(late > 0, fate != AT_ONCE);
        ticks.push(world.people[people[3]].outbox.client().ticks.clone());
        pass(Duration::from_secs(1)).await;
        world.check();
        world.close_all().await;
    }
    assert!(ticks[0].len() > 35);
    let in_step = |ticks: &Vec<engine::Time>| ticks.iter().map(|at| at.since(ticks[0])).collect::<Vec<_>>();
    assert_eq!(in_step(&ticks[0]), in_step(&ticks[1]));
    assert_eq!(in_step(&ticks[0]), in_step(&ticks[2]));
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_asked_once_a_second_how_many_poses_it_wants() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = world_with(&journal, &prompt_store());
    let person = world.connect_into(1, "garden")[0];
    let mut number = 0;
    let mut samples = Vec::new();
    for hz in [10, 5, 0, 20, 1_000] {
        journal.hz.store(hz, Ordering::Relaxed);
        pass(Duration::from_secs(2)).await;
        let asked = journal.asked.load(Ordering::Relaxed);
        let before = journal.instants("garden").len();
        for _ in 0..500 {
            number += 1;
            world.people[person].move_to(number);
            pass(Duration::from_millis(10)).await;
        }
        pass(Duration::from_secs(2)).await;
        samples.push(journal.instants("garden").len() - before);
        let asked = journal.asked.load(Ordering::Relaxed) - asked;
        assert!((6..=8).contains(&asked), "asked {asked} times in seven seconds");
    }
    // In five seconds of a room of 20 ticks a second.
    let expected = [50, 25, 0, 100, 100];
    assert!(samples.iter().zip(expected).all(|(of, expected)| of.abs_diff(expected) <= 2), "{samples:?}");
    world.close_all().await;
}
