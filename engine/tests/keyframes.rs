//! Whole engines on one paused clock: when it is written down how a room stands and where its people are, and that it
//! is so.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::journal::{Fate, JournalPort, MemoryJournal};
use common::ports::{MemoryStore, pass};
use common::poses::{pose_json, pose_numbered};
use common::world::World;
use engine::limits::{KEYFRAME_INTERVAL, KEYFRAME_RETRY, POSE_CHUNK};
use engine::ports::StoredObject;
use engine::{RoomDefaults, RoomRequest, TickRate};
use protocol::Pose;
use replay::{Action, Content, Event, Keyframe, Objects, PoseSample, PoseSamples, Record, RecordKind};
use serde_json::{Value, json};

const A_MOMENT: Duration = Duration::from_millis(200);
const AT_ONCE: Fate = Fate::Durable(Duration::ZERO);

async fn garden(journal: &Arc<MemoryJournal>, tick_hz: u32) -> World {
    garden_in(journal, &MemoryStore::new(Duration::ZERO, []), tick_hz).await
}

async fn garden_in(journal: &Arc<MemoryJournal>, store: &Arc<MemoryStore>, tick_hz: u32) -> World {
    let world =
        World::with_journal(RoomDefaults::default(), store, Arc::new(JournalPort(journal.clone())), None);
    let tick_hz = Some(TickRate::Fixed(tick_hz));
    let request =
        RoomRequest { persistent: Some(true), max_users: Some(9), tick_hz, ..RoomRequest::default() };
    world.create_room("garden", request).await;
    world
}

fn keyframes(journal: &MemoryJournal) -> Vec<Keyframe> {
    let contents = journal.records("garden").into_iter().map(|record| record.content);
    contents
        .filter_map(|content| match content {
            Content::Keyframe(keyframe) => Some(keyframe),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_recording_begins_with_what_stands_in_the_room() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 20).await;
    let tree = r#"[{"id":"0-tree","value":1,"version":1,"owner":"u0"}]"#;
    let mut second_ms = 0;
    for (round, objects) in [(0, "[]"), (1, tree), (2, tree)] {
        let before = journal.records("garden").len();
        let visitor = world.connect_into(1, "garden")[0];
        pass(A_MOMENT).await;
        if round == 0 {
            world.people[visitor].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
            pass(A_MOMENT).await;
        }
        let records = journal.records("garden");
        // What stood there is not written down a third time.
        let objects = match round {
            2 => Objects::UnchangedSince(second_ms),
            _ => Objects::All(objects.into()),
        };
        second_ms = records[before].at_ms;
        let expected = Keyframe { opens: true, max_users: 9, members: Vec::new(), objects };
        assert_eq!(records[before].content, Content::Keyframe(expected));
        assert!(matches!(records[before + 1].content, Content::Event(_)), "then comes who comes");
        world.people[visitor].disconnect();
        // Nobody is in: nothing is written down.
        pass(A_MOMENT).await;
        let count = journal.records("garden").len();
        pass(KEYFRAME_INTERVAL * 2).await;
        assert_eq!(journal.records("garden").len(), count);
    }
    world.close_all().await;
}

/// Somebody comes into the garden, does that, and goes.
async fn visit(world: &mut World, event: Option<(&str, Value)>) {
    let visitor = world.connect_into(1, "garden")[0];
    pass(A_MOMENT).await;
    if let Some((name, argument)) = event {
        world.people[visitor].emit(name, &argument);
    }
    world.people[visitor].disconnect();
    pass(A_MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_has_nothing_written_down_again() {
    use RecordKind::{Keyframe as All, KeyframeUnchanged as Unchanged};
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 20).await;
    let kinds = || journal.keyframes("garden").into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
    visit(&mut world, Some(("object-create", json!({ "id": "0-tree", "value": 0 })))).await;
    // Not even if something is changed each time: events tell of that.
    for value in 1..20 {
        visit(&mut world, Some(("object-update", json!({ "id": "0-tree", "value": value })))).await;
    }
    assert_eq!(kinds(), [All]);
    // It has its turn with somebody in, who came before it was time.
    let visitor = world.connect_into(1, "garden")[0];
    pass(KEYFRAME_INTERVAL).await;
    assert_eq!(kinds(), [All, All]);
    world.people[visitor].disconnect();
    pass(KEYFRAME_INTERVAL).await;
    for _ in 0..20 {
        visit(&mut world, None).await;
    }
    assert_eq!(kinds(), [All, All, Unchanged]);
    let opens: Vec<_> = keyframes(&journal).iter().map(|keyframe| keyframe.opens).collect();
    assert_eq!(opens, [true, false, true]);
    pass(Duration::from_secs(3600)).await;
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All, All, Unchanged, All], "each hour can be read by itself");
    // Reading checks that each keyframe says what was known without it.
    assert_eq!(journal.replayed("garden").keyframes, 4);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_opened_again_has_all_written_down_that_may_be_unknown() {
    use RecordKind::{Keyframe as All, KeyframeUnchanged as Unchanged};
    let journal = MemoryJournal::new(AT_ONCE);
    let store = MemoryStore::new(Duration::ZERO, []);
    let mut world = garden_in(&journal, &store, 20).await;
    let kinds = || journal.keyframes("garden").into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
    visit(&mut world, Some(("object-create", json!({ "id": "0-tree", "value": 0 })))).await;
    pass(KEYFRAME_INTERVAL).await;
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All, All]);
    // An object of the same id and version comes from elsewhere.
    let object = StoredObject {
        id: "0-tree".into(),
        version: 1,
        owner: "u0".into(),
        json: r#"{"id":"0-tree","value":1}"#.into(),
    };
    store.put("garden", object);
    pass(KEYFRAME_RETRY).await;
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All; 3], "before it is time");
    // The journal loses something while nobody is in.
    journal.losses.store(1, Ordering::Relaxed);
    pass(KEYFRAME_RETRY).await;
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All; 4]);
    pass(KEYFRAME_INTERVAL).await;
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All, All, All, All, Unchanged]);
    world.close_all().await;
    // Another process knows nothing of what was written down.
    let mut world =
        World::with_journal(RoomDefaults::default(), &store, Arc::new(JournalPort(journal.clone())), None);
    world.engine.load_rooms().await.unwrap();
    visit(&mut world, None).await;
    assert_eq!(kinds(), [All, All, All, All, Unchanged, All]);
    assert!(keyframes(&journal)[5].opens);
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn objects_are_written_down_again_when_they_have_changed_and_in_every_hour() {
    use RecordKind::{Keyframe as All, KeyframeUnchanged as Unchanged};
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 5).await;
    let gardener = world.connect_into(2, "garden")[0];
    pass(KEYFRAME_INTERVAL * 2 + A_MOMENT).await;
    world.people[gardener].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
    pass(KEYFRAME_INTERVAL * 2).await;
    world.people[gardener].emit("object-delete", &json!({ "id": "0-tree" }));
    pass(KEYFRAME_INTERVAL * 2).await;
    let kinds: Vec<_> = journal.keyframes("garden").into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [All, Unchanged, Unchanged, All, Unchanged, All, Unchanged]);
    pass(Duration::from_secs(2 * 3600)).await;
    let keyframes = journal.keyframes("garden");
    let hour = |ms: u64| ms / 3_600_000;
    for pair in keyframes.windows(2).skip(kinds.len()) {
        let [(before, _), (at, kind)] = *pair else { unreachable!() };
        assert!((30_000..=30_200).contains(&(at - before)), "{before} {at}");
        assert_eq!(kind == All, hour(at) != hour(before), "{before} {at}");
    }
    assert_eq!(keyframes.len(), kinds.len() + 2 * 120);
    // Reading checks that each keyframe says what was known without it.
    assert_eq!(journal.replayed("garden").keyframes, keyframes.len());
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_keyframe_that_is_not_taken_is_made_again() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 20).await;
    for call in [0, 2] {
        // The first is refused when the room opens, and once more a second later; between them somebody joins.
        journal.set_fate(call, Fate::Refused);
    }
    let gardener = world.connect_into(1, "garden")[0];
    pass(KEYFRAME_RETRY + A_MOMENT).await;
    assert_eq!(keyframes(&journal), []);
    pass(KEYFRAME_RETRY).await;
    let [first] = &keyframes(&journal)[..] else { panic!("one keyframe") };
    assert!(first.opens && matches!(first.objects, Objects::All(_)));
    assert_eq!(first.members.len(), 1);
    world.people[gardener].emit("object-create", &json!({ "id": "0-tree", "value": 1 }));
    pass(KEYFRAME_INTERVAL - A_MOMENT * 2).await;
    journal.set_fate(0, Fate::Refused);
    pass(A_MOMENT * 3).await;
    assert_eq!(keyframes(&journal).len(), 1);
    pass(KEYFRAME_RETRY).await;
    let [_, second] = &keyframes(&journal)[..] else { panic!("two keyframes") };
    assert!(!second.opens && matches!(second.objects, Objects::All(_)), "{second:?}");
    assert_eq!(world.metric("records_refused_total{lane=\"reliable\"}"), 3.0);
    pass(KEYFRAME_INTERVAL).await;
    let third = &keyframes(&journal)[2];
    assert!(matches!(third.objects, Objects::UnchangedSince(_)), "{third:?}");
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn objects_are_written_down_again_soon_after_the_journal_has_lost_something() {
    use RecordKind::{Keyframe as All, KeyframeUnchanged as Unchanged};
    let journal = MemoryJournal::new(AT_ONCE);
    // It has lost something before there was this room, which is no reason for anything.
    journal.losses.store(3, Ordering::Relaxed);
    let mut world = garden(&journal, 20).await;
    world.connect_into(1, "garden");
    pass(KEYFRAME_INTERVAL + A_MOMENT * 10).await;
    let kinds = || journal.keyframes("garden").into_iter().map(|(_, kind)| kind).collect::<Vec<RecordKind>>();
    assert_eq!(kinds(), [All, Unchanged]);
    journal.losses.store(4, Ordering::Relaxed);
    pass(POSE_CHUNK + A_MOMENT).await;
    assert_eq!(kinds(), [All, Unchanged, All]);
    pass(KEYFRAME_INTERVAL).await;
    assert_eq!(kinds(), [All, Unchanged, All, Unchanged], "once");
    world.close_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_is_recorded_and_is_still_shown_to_who_comes_next() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 20).await;
    let first = world.connect_into(1, "garden")[0];
    pass(Duration::from_secs(3)).await;
    assert!(journal.instants("garden").is_empty(), "it has not moved");
    world.people[first].move_to(5);
    pass(Duration::from_secs(3)).await;
    assert_eq!(journal.instants("garden").len(), 1, "it has moved once");
    let of = |pose| pose_json(&pose_numbered(pose));
    let poses = |journal: &MemoryJournal| {
        let members = journal.replayed("garden").members.into_values();
        members
            .map(|stay| (stay.user["socketId"].as_str().unwrap().to_owned(), stay.pose()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(poses(&journal)["s0"], of(5));
    let encodings = ["json", "batch", "binary"];
    let others = world.connect_all(&encodings, "garden");
    pass(Duration::from_secs(2)).await;
    world.check();
    for &other in &others {
        world.people[other].move_to(10 + other as u32);
    }
    pass(Duration::from_secs(2)).await;
    world.check();
    assert_eq!(poses(&journal)["s3"], of(13));
    // Alone again, at once after a move that no sample has seen.
    world.people[first].move_to(77);
    others.iter().for_each(|&other| world.people[other].disconnect());
    pass(Duration::from_secs(2)).await;
    assert_eq!(poses(&journal), BTreeMap::from([("s0".to_owned(), of(77))]));
    world.people[first].move_to(78);
    pass(Duration::from_secs(2)).await;
    assert_eq!(poses(&journal), BTreeMap::from([("s0".to_owned(), of(78))]));
    world.connect_into(1, "garden");
    pass(A_MOMENT).await;
    world.check();
    world.close_all().await;
}

/// All samples of the garden, and when each was taken.
fn samples(journal: &MemoryJournal) -> Vec<(u64, Pose)> {
    let contents = journal.records("garden").into_iter().map(|record| record.content);
    let chunks = contents.filter_map(|content| match content {
        Content::Poses(samples) => Some(samples),
        _ => None,
    });
    chunks
        .flat_map(|PoseSamples { instants_ms, samples }| {
            let at = move |sample: PoseSample| (instants_ms[usize::from(sample.instant)], sample.pose);
            samples.into_iter().map(at).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn where_somebody_stood_last_is_recorded_before_the_departure() {
    let journal = MemoryJournal::new(AT_ONCE);
    let mut world = garden(&journal, 20).await;
    let people = world.connect_into(3, "garden");
    pass(Duration::from_secs(1)).await;
    // Two in one moment, and then the last one, who is alone by then.
    for &leaver in &people[..2] {
        world.people[leaver].move_to(40 + leaver as u32);
        world.people[leaver].disconnect();
    }
    pass(Duration::from_secs(2)).await;
    world.people[people[2]].move_to(42);
    world.people[people[2]].disconnect();
    pass(Duration::from_secs(2)).await;
    let poses: Vec<_> = samples(&journal).into_iter().map(|(_, pose)| pose).collect();
    assert_eq!(poses, [40, 41, 42].map(pose_numbered), "each once");
    let is_departure =
        |record: &&Record| matches!(&record.content, Content::Event(Event { action: Action::Leave, .. }));
    let records = journal.records("garden");
    let departures = records.iter().filter(is_departure).map(|record| record.at_ms - 1);
    assert_eq!(
        samples(&journal).into_iter().map(|(at_ms, _)| at_ms).collect::<Vec<_>>(),
        departures.collect::<Vec<_>>()
    );
    world.close_all().await;
}
