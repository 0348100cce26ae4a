//! What is told, and that it is what has happened.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use proptest::prelude::*;
use replay::RecordId;
use serde_json::{Value, json};
use server::journal::folder::{Folder, Hour};
use server::passwords::{MAX_WRONG_OF_USER, TRIES_WINDOW};
use tempfile::tempdir;

use crate::naive::{Wish, told};
use crate::rig::Rig;
use crate::room::{Room, START_MS, write};

const TYPES: [&str; 8] =
    ["join", "leave", "move", "object-create", "object-update", "object-delete", "user-update", "message"];

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All that `query` is answered with, page by page, with `limit` events in each. `form` is `*/*` or NDJSON.
async fn walk(rig: &Rig, query: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rig.array(&format!("hall/replay?{query}&limit={limit}&cursor={cursor}")).await;
        let found = page.items();
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match page.header("x-next-cursor") {
            Some(next) => {
                assert_eq!(found.len(), limit, "a page that is cut is full");
                assert_ne!(next, cursor, "it goes on");
                cursor = next.to_owned();
            }
            None => return items,
        }
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let time = || prop::option::of(0..70_000u64);
    let types = prop::sample::subsequence(TYPES.to_vec(), 0..=TYPES.len());
    let users = prop::collection::vec((0..5u8).prop_map(|user| format!("user_{user}")), 0..3);
    let hz = prop::option::of(prop::sample::select(vec![0.1, 0.7, 1.0, 3.3, 5.0, 90.0]));
    (time(), time(), types, users, hz).prop_map(|(a, b, types, users, hz)| {
        let (from, to) = match (a, b) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            other => other,
        };
        let [from_ms, to_ms] = [from, to].map(|ms| ms.map(|ms| START_MS - 3_000 + ms));
        Wish { from_ms, to_ms, types, users, hz }
    })
}

async fn check(seed: u64, seconds: u64, wishes: Vec<(Wish, usize)>) {
    let directory = tempdir().unwrap();
    let mut room = Room::open(seed, START_MS);
    room.live(seconds);
    write(directory.path(), "hall", &room.records);
    let rig = Rig::over_files(directory.path());
    for (wish, limit) in wishes {
        let (expected, query) = (told(&room.records, &wish), wish.query());
        let lines = rig.stream(&format!("hall/replay?{query}")).await.lines();
        assert_eq!(lines, expected, "{query}");
        let limit = limit.max(expected.len() / 40);
        assert_eq!(walk(&rig, &query, limit).await, parsed(&expected), "{query}, {limit} at a time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_is_what_a_naive_reading_finds(
        seed: u64,
        seconds in 5..60u64,
        wishes in prop::collection::vec((wish(), 1..200usize), 4),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(seed, seconds, wishes));
    }
}

#[tokio::test]
async fn few_moves_stay_few_page_by_page() {
    let directory = tempdir().unwrap();
    let mut room = Room::open(9, START_MS);
    room.live(40);
    write(directory.path(), "hall", &room.records);
    let rig = Rig::over_files(directory.path());
    let wish = Wish { hz: Some(0.1), types: vec!["move"], ..Wish::default() };
    let expected = parsed(&told(&room.records, &wish));
    assert!(expected.len() > 10);
    assert_eq!(walk(&rig, &wish.query(), 1).await, expected);
}

#[tokio::test]
async fn a_stream_with_a_limit_says_where_to_go_on() {
    let directory = tempdir().unwrap();
    let mut room = Room::open(7, START_MS);
    room.live(40);
    write(directory.path(), "hall", &room.records);
    let rig = Rig::over_files(directory.path());
    let expected = told(&room.records, &Wish::default());
    let (mut lines, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = rig.stream(&format!("hall/replay?limit=101&cursor={cursor}")).await.lines();
        let last: Value = serde_json::from_str(page.last().unwrap()).unwrap();
        if last["type"] != "more" {
            lines.extend(page);
            break;
        }
        page.pop();
        assert_eq!(page.len(), 101);
        lines.extend(page);
        cursor = last["cursor"].as_str().unwrap().to_owned();
    }
    assert!(expected.len() > 202);
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_a_page_ends_before_is_not_lost_if_it_is_written_late() {
    let directory = tempdir().unwrap();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut room = Room::open(3, now_ms - 20_000);
    room.live(19);
    let late = room.records.iter().rposition(|record| record.kind == replay::RecordKind::Poses).unwrap();
    let (early, rest) = room.records.split_at(late);
    write(directory.path(), "hall", early);
    let rig = Rig::over_files(directory.path());
    // One event short of all that is known: the page would end in what is still fresh.
    let expected = parsed(&told(&room.records, &Wish::default()));
    let known = told(early, &Wish::default()).len();
    let first = rig.array(&format!("hall/replay?limit={}", known - 1)).await;
    let mut items = first.items();
    assert!(items.len() < known - 1, "what is fresh is left to the next page");
    write(directory.path(), "hall", rest);
    let next = first.header("x-next-cursor").unwrap();
    items.extend(walk(&rig, &format!("cursor={next}"), 50_000).await);
    assert_eq!(items, expected);
}

#[tokio::test]
async fn wrong_parameters_are_refused_and_a_room_without_records_is_empty() {
    let directory = tempdir().unwrap();
    let rig = Rig::over_files(directory.path());
    for form in ["*/*", "application/x-ndjson"] {
        rig.ask("hall/replay", form).await.check_error(404, "Room not found");
        rig.ask("hall/replay?hz=100", form).await.check_error(400, "hz must be a number from 0.1 to 90");
        rig.ask("hall/replay?from=2&to=1", form).await.check_error(400, "to must not be before from");
    }
    rig.engine.create_room("a room", &Default::default()).await.unwrap();
    let empty = rig.array("a%20room/replay").await;
    assert_eq!((empty.items(), empty.header("x-next-cursor")), (Vec::new(), None));
    assert_eq!(rig.stream("a%20room/replay").await.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn the_form_is_what_the_client_takes() {
    let directory = tempdir().unwrap();
    let mut room = Room::open(5, START_MS);
    room.live(10);
    write(directory.path(), "hall", &room.records);
    let rig = Rig::over_files(directory.path());
    for accept in ["", "*/*", "application/json", "text/html, */*;q=0.1", "application/x-ndjsonl"] {
        assert!(!rig.ask("hall/replay", accept).await.items().is_empty());
    }
    for accept in
        ["application/x-ndjson", "Application/X-NDJSON;q=0.9, */*", "application/json, application/x-ndjson"]
    {
        assert!(!rig.ask("hall/replay", accept).await.lines().is_empty());
    }
    let array = rig.array("hall/replay?limit=3").await;
    assert_eq!(array.header("access-control-allow-origin"), Some("*"));
    assert!(array.header("access-control-expose-headers").unwrap().contains("x-next-cursor"));
    let head = rig.open(Method::HEAD, "hall/replay?limit=3", "").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-length"], array.text.len().to_string());
    assert_eq!(head.headers()["x-next-cursor"], array.header("x-next-cursor").unwrap());
    let head = rig.open(Method::HEAD, "hall/replay", "application/x-ndjson").await;
    assert_eq!((head.status(), head.headers().get("content-length")), (StatusCode::OK, None));
    let all = server::replay::readers::MAX_READERS;
    rig.until("the places to be free", |rig| rig.replays.readers.free() == all).await;
}

/// One bit is turned over in a chunk of poses: before it is written, or in the file.
async fn check_damage(is_in_file: bool) {
    let directory = tempdir().unwrap();
    let mut room = Room::open(11, START_MS);
    room.live(20);
    let mut records = room.records.clone();
    let broken = records.iter().position(|record| record.kind == replay::RecordKind::Poses).unwrap();
    let RecordId { ms, seq } = records[broken].id;
    let mut payload = records[broken].payload.to_vec();
    let middle = payload.len() / 2;
    payload[middle] ^= 1;
    if is_in_file {
        write(directory.path(), "hall", &records);
        let file = Folder::in_data_dir(directory.path()).file(Hour::of(ms));
        let database = rusqlite::Connection::open(file).unwrap();
        let sql = "UPDATE records SET payload = ?1 WHERE ms = ?2 AND seq = ?3";
        assert_eq!(database.execute(sql, rusqlite::params![payload, ms as i64, seq]), Ok(1));
    } else {
        records[broken].payload = payload.into();
        write(directory.path(), "hall", &records);
    }
    let gap = json!({"type": "gap", "timestamp": ms});
    let rig = Rig::over_files(directory.path());
    let mut lines = parsed(&rig.stream("hall/replay").await.lines());
    assert_eq!(lines.iter().filter(|line| **line == gap).count(), 1);
    lines.retain(|line| *line != gap);
    assert_eq!(rig.replays.counts.damaged.get(), 1);
    let array = rig.array("hall/replay").await;
    assert_eq!((array.items(), array.header("x-replay-gaps")), (lines.clone(), Some("1")));
    records.remove(broken);
    assert_eq!(lines, parsed(&told(&records, &Wish::default())), "all else is told");
}

#[tokio::test]
async fn a_damaged_record_is_told_as_a_gap_and_counted() {
    check_damage(false).await;
    check_damage(true).await;
}

#[tokio::test]
async fn a_room_with_a_password_is_read_by_who_knows_it() {
    let directory = tempdir().unwrap();
    let mut room = Room::open(5, START_MS);
    room.live(3);
    write(directory.path(), "hall", &room.records);
    let rig = Rig::over_files(directory.path());
    assert!(!rig.array("hall/replay").await.items().is_empty(), "a room that is gone has no password");
    let request =
        engine::RoomRequest { password: Some("ö 100%".into()), record: Some(true), ..Default::default() };
    rig.engine.create_room("hall", &request).await.unwrap();
    for form in ["*/*", "application/x-ndjson"] {
        let absent = "The room has a password: it goes into the header x-room-password";
        rig.ask("hall/replay", form).await.check_error(403, absent);
        for wrong in ["", "100", "%ff", "ö 100%25 "] {
            rig.open_with(wrong.as_bytes(), "hall/replay", form).await.check_error(403, "Wrong password");
        }
        for right in ["%C3%B6%20100%25", "ö 100%25"] {
            let answer = rig.open_with(right.as_bytes(), "hall/replay", form).await;
            assert_eq!(answer.status, StatusCode::OK, "{right}");
            assert!(answer.text.contains("\"join\""));
        }
    }
    let head = rig.open(Method::HEAD, "hall/replay", "*/*").await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn after_so_many_wrong_passwords_one_waits() {
    let directory = tempdir().unwrap();
    let rig = Rig::over_files(directory.path());
    let request = engine::RoomRequest { password: Some("sesame".into()), ..Default::default() };
    rig.engine.create_room("hall", &request).await.unwrap();
    for _ in 0..MAX_WRONG_OF_USER {
        rig.open_with(b"guess", "hall/replay", "*/*").await.check_error(403, "Wrong password");
    }
    let refused = rig.open_with(b"sesame", "hall/replay", "*/*").await;
    let wait_s: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=TRIES_WINDOW.as_secs() + 1).contains(&wait_s), "{wait_s}");
    refused.check_error(429, &format!("Too many wrong passwords, try again in {wait_s} s"));
    // What is known without a password is told all the same.
    assert_eq!(rig.array("hall/replay").await.status, StatusCode::FORBIDDEN);
    rig.array("elsewhere/replay").await.check_error(404, "Room not found");
}
