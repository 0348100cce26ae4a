//! Going to other moments.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::pass;
use crate::script::{BEGIN_MS, Script, opened_anew, user_id};
use crate::world::{ENCODINGS, World};
use crate::{A_MOMENT, SAMPLE_MS};

#[tokio::test(start_paused = true)]
async fn whoever_comes_finds_everything_as_it_was() {
    let script = Script::eventful();
    for at_ms in [7, 500, 1_999, 5_000, 8_000, 12_500, 24_950, 29_999, 30_000, 30_007, 33_000, 40_000] {
        let mut world = World::new(script.records());
        // So slow that nothing happens before one has looked.
        let mut client = world.watch("json", json!({ "from": BEGIN_MS + at_ms, "speed": 0.25 })).await;
        let truth = script.truth(at_ms);
        assert_eq!(client.inbox().objects, truth.objects, "with their versions and owners, at {at_ms}");
        let paused = client.call("replay-pause", &json!({})).await;
        pass(A_MOMENT).await;
        client.assert_sees(&script.truth(paused["time"].as_u64().unwrap() - BEGIN_MS));
        world.close([client]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_moment_leads_to_any_other() {
    let script = Script::eventful();
    let mut random = 1_u64;
    for encoding in ENCODINGS {
        let mut world = World::new(script.records());
        let mut client = world.watch(encoding, json!({ "from": BEGIN_MS, "to": BEGIN_MS + 40_000 })).await;
        client.call("replay-pause", &json!({})).await;
        let mut times: Vec<u64> =
            vec![30_500, 2_100, 39_500, 7, 24_999, 25_000, 12_345, 12_345, 29_999, 30_000];
        times.extend((0..40).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            7 + (random >> 33) % 39_993
        }));
        for time in times {
            let answer = client.call("replay-seek", &json!({ "time": BEGIN_MS + time })).await;
            assert_eq!((&answer["ok"], &answer["time"]), (&json!(true), &json!(BEGIN_MS + time)));
            assert_eq!((&answer["paused"], &answer["ended"]), (&json!(true), &json!(false)));
            pass(A_MOMENT).await;
            client.assert_sees(&script.truth(time));
            assert_eq!(client.inbox().states.last().unwrap()["time"], BEGIN_MS + time);
        }
        world.close([client]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_seek_it_goes_on_from_there_also_after_its_end() {
    let script = Script::eventful();
    let mut world = World::new(script.records());
    let mut client = world.watch("json", json!({ "from": BEGIN_MS + 30_000, "to": BEGIN_MS + 38_500 })).await;
    for _ in 0..2 {
        // What lies outside of the part is its nearer end.
        client.call("replay-seek", &json!({ "time": 5 })).await;
        pass(A_MOMENT).await;
        client.inbox().told.clear();
        client.call("replay-seek", &json!({ "time": BEGIN_MS + 35_000 })).await;
        client.inbox().told.clear();
        let is_over =
            |inbox: &crate::client::Inbox| inbox.states.last().is_some_and(|state| state["ended"] == true);
        client.until(is_over).await;
        pass(A_MOMENT).await;
        client.assert_sees(&script.truth(38_500));
        let told = client.inbox().told.clone();
        let expected = script.told(35_000, 38_500);
        assert_eq!(told[told.len() - expected.len()..], expected);
    }
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn of_many_seeks_at_once_the_last_counts_and_all_are_answered() {
    let script = Script::eventful();
    let mut world = World::new(script.records());
    let mut client = world.watch("json", json!({ "from": BEGIN_MS })).await;
    client.call("replay-pause", &json!({})).await;
    let acks: Vec<u64> = (1..=10)
        .map(|index| client.send("replay-seek", &json!({ "time": BEGIN_MS + index * 3_000 })))
        .collect();
    client.until(|inbox| acks.iter().all(|ack| inbox.acks.contains_key(ack))).await;
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(30_000));
    world.close([client]).await;
}

/// Things of a room in which a seek takes some ticks.
const THINGS: u64 = 4_000;

#[tokio::test(start_paused = true)]
async fn seeks_that_come_faster_than_they_are_shown_do_not_pile_up() {
    let script = Script::of_things(THINGS);
    let mut world = World::new(script.records());
    let mut client = world.watch("json", json!({ "from": BEGIN_MS })).await;
    client.call("replay-pause", &json!({})).await;
    let before = client.inbox().told.len();
    let mut acks = Vec::new();
    for index in 1..=60 {
        let time = if index % 2 == 0 { 3_000 } else { 1_500 };
        acks.push(client.send("replay-seek", &json!({ "time": BEGIN_MS + time })));
        pass(Duration::from_millis(20)).await;
    }
    client.until(|inbox| acks.iter().all(|ack| inbox.acks.contains_key(ack))).await;
    assert!(acks.iter().all(|ack| client.inbox().acks[ack]["ok"] == true));
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(3_000));
    let told = client.inbox().told.len() - before;
    assert!(told < acks.len() / 3 * THINGS as usize, "it was told {told} things");
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_obeys_while_much_is_still_to_be_shown() {
    let script = Script::of_things(THINGS);
    let mut world = World::new(script.records());
    let mut client = world.watch("json", json!({ "from": BEGIN_MS })).await;
    let seek = client.send("replay-seek", &json!({ "time": BEGIN_MS + 3_000 }));
    client.until(|inbox| !inbox.objects.is_empty()).await;
    assert!(client.inbox().objects.len() < THINGS as usize / 2, "most of it is still to come");
    let paused = client.call("replay-pause", &json!({})).await;
    let time = paused["time"].as_u64().unwrap() - BEGIN_MS;
    assert!((3_000..3_100).contains(&time), "it stood still no sooner than at {time}");
    assert_eq!((&client.inbox().acks[&seek]["ok"], &paused["paused"]), (&json!(true), &json!(true)));
    pass(A_MOMENT).await;
    client.assert_sees(&script.truth(time));
    world.close([client]).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_opened_anew_has_only_what_stands_there_then() {
    let mut records = Script::of_things(THINGS).records();
    let lamp = json!({ "id": 7, "type": "lamp", "colour": "blue", "version": 5, "owner": user_id(1) });
    records.extend(opened_anew(30_000, &lamp));
    let mut world = World::new(records);
    let mut client = world.watch("json", json!({ "from": BEGIN_MS + 25_000, "speed": 8 })).await;
    assert_eq!(client.inbox().objects.len(), THINGS as usize);
    client.until(|inbox| inbox.states.last().is_some_and(|state| state["ended"] == true)).await;
    pass(A_MOMENT).await;
    let only_lamp = BTreeMap::from([("7".to_owned(), lamp)]);
    assert!(client.inbox().objects == only_lamp, "{} things are there", client.inbox().objects.len());
    client.call("replay-pause", &json!({})).await;
    for time in [30_000, 29_999, 30_003, 29_000, 30_500, 32_000] {
        client.call("replay-seek", &json!({ "time": BEGIN_MS + time })).await;
        pass(A_MOMENT).await;
        match time {
            ..30_000 => assert_eq!(client.inbox().objects.len(), THINGS as usize, "at {time}"),
            _ => assert!(client.inbox().objects == only_lamp, "at {time}"),
        }
    }
    world.close([client]).await;
}

/// Measured with `PAST_HOURS=24 cargo nextest run --release -p server --test past -E 'test(long)' --no-capture`, which
/// runs on the real clock. Without that a shorter recording does.
#[test]
fn a_seek_in_a_long_recording_reads_little_of_it() {
    let hours = std::env::var("PAST_HOURS").ok().map(|hours| hours.parse::<f64>().unwrap());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(hours.is_none()).build().unwrap();
    println!("{}", runtime.block_on(seek_about(hours.unwrap_or(0.1))));
}

async fn seek_about(hours: f64) -> String {
    let length_ms = (hours * 36_000.0) as u64 * SAMPLE_MS;
    let script = Script::long(50, length_ms);
    let records = script.records();
    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
    let size = format!("{hours} h, {} records of {bytes} bytes", records.len());
    let mut world = World::new(records);
    let mut client = world.watch("binary", json!({ "from": BEGIN_MS })).await;
    client.call("replay-pause", &json!({})).await;
    let mut took = Vec::new();
    for index in 0..100 {
        let time = 7 + (index * 7_919_993 + index * index * 104_729) % (length_ms - 7);
        world.recordings.reads.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let answer = client.call("replay-seek", &json!({ "time": BEGIN_MS + time })).await;
        took.push(began.elapsed());
        assert_eq!(answer["time"], BEGIN_MS + time);
        // A keyframe, its objects, what follows, and one page ahead.
        let reads = world.recordings.reads.load(Ordering::Relaxed);
        assert!(reads <= 12, "{reads} reads for one seek");
        if index % 10 == 0 {
            pass(A_MOMENT).await;
            client.assert_sees(&script.truth(time));
        }
    }
    took.sort();
    client.disconnect();
    format!(
        "{size}: a seek took {:?} in the median, {:?} at most",
        took[took.len() / 2],
        took[took.len() - 1]
    )
}
