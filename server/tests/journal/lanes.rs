//! The two lanes and the thread behind them, with a backend that does what it is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::journal::{Journal as _, NotRecorded};
use replay::{RecordId, RecordKind, decode};
use server::journal::backend::Entry;
use server::journal::{BATCH_RECORDS, LOSSY_BYTES, RELIABLE_BYTES};
use tokio::sync::oneshot::error::TryRecvError;

use crate::common::{HOUR, PATIENCE, close, event, poses, receipt, scripted};

fn room() -> Arc<str> {
    "a".into()
}

#[tokio::test]
async fn a_receipt_comes_after_the_commit_and_not_before() {
    let (journal, script) = scripted(None);
    let (waiting, mut durable) = receipt();
    journal.try_record(&room(), event(HOUR, "one"), Some(waiting)).unwrap();
    assert_eq!(script.call().len(), 1);
    assert_eq!(durable.try_recv(), Err(TryRecvError::Empty), "the disk has not answered yet");
    // It shares the next write with what comes meanwhile.
    let (waiting, mut second) = receipt();
    journal.try_record(&room(), event(HOUR, "two"), Some(waiting)).unwrap();
    journal.try_record(&room(), event(HOUR, "three"), None).unwrap();
    script.succeed();
    tokio::time::timeout(PATIENCE, &mut durable).await.unwrap().unwrap();
    assert_eq!(script.call().len(), 2);
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    script.succeed();
    tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_failed_is_tried_again_with_the_same_ids() {
    let (journal, script) = scripted(None);
    let (waiting, mut durable) = receipt();
    journal.try_record(&room(), event(HOUR, "one"), Some(waiting)).unwrap();
    let first = script.call();
    script.fail();
    let second = script.call();
    assert!(journal.health().is_degraded, "it has failed once");
    assert_eq!(journal.health().told["lastError"], "the disk is full");
    script.fail();
    let third = script.call();
    for again in [second, third] {
        assert_eq!((again.len(), again[0].id, &again[0].payload), (1, first[0].id, &first[0].payload));
    }
    assert_eq!(durable.try_recv(), Err(TryRecvError::Empty));
    journal.try_record(&room(), event(HOUR, "two"), None).unwrap();
    script.succeed();
    tokio::time::timeout(PATIENCE, durable).await.unwrap().unwrap();
    let next = script.call();
    assert_eq!((next.len(), next[0].id), (1, first[0].id.next()));
    assert!(!journal.health().is_degraded);
    script.succeed();
}

#[tokio::test]
async fn ids_go_on_from_what_the_backend_has() {
    let before = RecordId { ms: HOUR + 5_000, seq: 8 };
    let (journal, script) = scripted(Some(before));
    for at_ms in [HOUR, HOUR + 5_000, HOUR + 5_001] {
        journal.try_record(&room(), event(at_ms, "x"), None).unwrap();
    }
    let ids: Vec<_> = script.written(3).iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [before.next(), before.next().next(), RecordId::at(HOUR + 5_001)]);
}

#[tokio::test]
async fn both_lanes_are_written_in_the_order_in_which_they_were_given() {
    let (journal, script) = scripted(None);
    journal.try_record(&room(), event(HOUR, "first"), Some(receipt().0)).unwrap();
    let first = script.call();
    assert_eq!(first.len(), 1);
    for index in 1..=20 {
        let record = if index % 3 == 0 { poses(HOUR + index, 1) } else { event(HOUR + index, "x") };
        journal.try_record(&room(), record, None).unwrap();
    }
    script.succeed();
    let entries = script.written(20);
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.ms - HOUR).collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
    assert!(
        entries
            .iter()
            .all(|entry| (entry.kind == RecordKind::Poses) == (entry.id.ms - HOUR).is_multiple_of(3))
    );
}

#[tokio::test]
async fn poses_are_not_passed_by_what_came_after_them_however_much_that_is() {
    let (journal, script) = scripted(None);
    journal.try_record(&room(), event(HOUR, "first"), None).unwrap();
    assert_eq!(script.call().len(), 1);
    journal.try_record(&room(), event(HOUR + 1, "x"), None).unwrap();
    journal.try_record(&room(), poses(HOUR + 2, 1), None).unwrap();
    for at_ms in HOUR + 3..HOUR + 3 + BATCH_RECORDS as u64 {
        journal.try_record(&room(), event(at_ms, "x"), None).unwrap();
    }
    script.succeed();
    let entries = script.written(BATCH_RECORDS + 2);
    assert!(entries.iter().zip(HOUR + 1..).all(|(entry, at_ms)| entry.id == RecordId::at(at_ms)));
    assert_eq!(entries[1].kind, RecordKind::Poses);
}

#[tokio::test]
async fn rooms_hear_of_what_the_backend_has_lost() {
    let (journal, script) = scripted(None);
    script.losses.store(2, Ordering::Relaxed);
    let (waiting, durable) = receipt();
    journal.try_record(&room(), event(HOUR, "one"), Some(waiting)).unwrap();
    assert_eq!(script.written(1).len(), 1);
    tokio::time::timeout(PATIENCE, durable).await.unwrap().unwrap();
    assert_eq!(journal.losses(), 2);
}

#[tokio::test]
async fn a_full_reliable_lane_refuses_and_keeps_what_it_has() {
    const EACH: usize = 1024 * 1024;
    let (journal, script) = scripted(None);
    let large = "x".repeat(EACH);
    journal.try_record(&room(), event(HOUR, "first"), Some(receipt().0)).unwrap();
    assert_eq!(script.call().len(), 1, "it hangs in there");
    let mut taken = 0;
    let refused = loop {
        let (waiting, durable) = receipt();
        match journal.try_record(&room(), event(HOUR, &large), Some(waiting)) {
            Ok(()) => taken += 1,
            Err(error) => break (error, durable),
        }
    };
    assert_eq!(refused.0, NotRecorded);
    refused.1.await.expect_err("its receipt is dropped");
    assert_eq!(taken, RELIABLE_BYTES / EACH - 1);
    let told = journal.health().told;
    assert_eq!((&told["reliable"]["dropped"], &told["lossy"]["dropped"]), (&1.into(), &0.into()));
    let waiting = told["reliable"]["waitingBytes"].as_u64().unwrap() as usize;
    assert!((RELIABLE_BYTES - 2 * EACH..=RELIABLE_BYTES).contains(&waiting), "{waiting}");
    journal.try_record(&room(), poses(HOUR, 10), None).expect("the other lane has room");
    script.succeed();
    let written = script.written(taken + 1);
    assert_eq!(written.iter().filter(|entry| entry.payload.len() < EACH).count(), written.len(), "packed");
    journal.try_record(&room(), event(HOUR, &large), None).expect("there is room again");
    script.written(1);
}

#[tokio::test]
async fn a_full_lossy_lane_asks_for_fewer_and_drops_the_oldest() {
    let (journal, script) = scripted(None);
    journal.try_record(&room(), event(HOUR, "first"), Some(receipt().0)).unwrap();
    assert_eq!(script.call().len(), 1, "it hangs in there");
    let dropped = || journal.health().told["lossy"]["dropped"].as_u64().unwrap();
    let mut given = 0;
    let mut rates = vec![journal.pose_hz()];
    while dropped() < 5 {
        given += 1;
        journal.try_record(&room(), poses(HOUR + given * 1_000, 5_000), None).unwrap();
        if rates.last() != Some(&journal.pose_hz()) {
            rates.push(journal.pose_hz());
        }
    }
    assert_eq!(rates, [10, 5, 2, 1]);
    assert!(journal.health().is_degraded);
    assert!(journal.health().told["lossy"]["waitingBytes"].as_u64().unwrap() <= LOSSY_BYTES as u64);
    journal.try_record(&room(), event(HOUR + given * 1_000, "x"), None).expect("the other lane has room");
    script.succeed();
    let written = script.written((given - 5) as usize + 1);
    let seconds = written.iter().filter(|entry| entry.kind == RecordKind::Poses);
    // By when they were taken. The event went before them, so their ids are not less than its own.
    let taken = |entry: &Entry| decode(entry.kind, &entry.payload).unwrap().at_ms;
    let seconds: Vec<_> = seconds.map(|entry| (taken(entry) - HOUR) / 1_000).collect();
    assert!(written.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(seconds, (6..=given).collect::<Vec<_>>(), "the newest are there");
    for second in given + 1..given + 60 {
        journal.try_record(&room(), poses(HOUR + second * 1_000, 1), None).unwrap();
    }
    assert_eq!(journal.pose_hz(), 10, "there is room again");
    script.written(59);
}

#[tokio::test]
async fn what_waits_is_written_at_the_end_and_then_no_more() {
    let (journal, script) = scripted(None);
    journal.try_record(&room(), event(HOUR, "first"), Some(receipt().0)).unwrap();
    assert_eq!(script.call().len(), 1);
    let (waiting, durable) = receipt();
    journal.try_record(&room(), event(HOUR, "second"), None).unwrap();
    journal.try_record(&room(), poses(HOUR, 1), Some(waiting)).unwrap();
    let closing = journal.close(std::time::Instant::now() + PATIENCE);
    journal.try_record(&room(), event(HOUR, "late"), None).unwrap_err();
    script.succeed();
    assert_eq!(script.written(2).len(), 2);
    tokio::time::timeout(PATIENCE, closing).await.unwrap();
    durable.await.unwrap();
    journal.try_record(&room(), event(HOUR, "late"), None).unwrap_err();
    assert_eq!(journal.health().told["reliable"]["dropped"], 2);
    tokio::time::timeout(PATIENCE, close(&journal)).await.expect("once more does no harm");
}

#[tokio::test]
async fn a_backend_that_fails_to_the_end_is_given_up() {
    let (journal, script) = scripted(None);
    let (waiting, durable) = receipt();
    journal.try_record(&room(), event(HOUR, "first"), Some(waiting)).unwrap();
    script.call();
    let (waiting, second) = receipt();
    journal.try_record(&room(), event(HOUR, "second"), Some(waiting)).unwrap();
    let closing = journal.close(std::time::Instant::now());
    script.fail();
    tokio::time::timeout(PATIENCE, closing).await.unwrap();
    durable.await.expect_err("it never will be");
    second.await.expect_err("nor this one");
    assert_eq!(journal.health().told["reliable"]["dropped"], 2);
    assert_eq!(journal.health().told["reliable"]["waitingBytes"], 0);
}
