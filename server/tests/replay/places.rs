//! Who may read, for how long, and what happens when it does not work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use replay::{RecordId, StoredRecord};
use serde_json::Value;
use server::http::{DEFAULT_REPLAY_LIMIT, READ_TIMEOUT};
use server::net::serve::BrokenOff;
use server::replay::readers::MAX_READERS;
use server::replay::recordings::{ReadError, Recordings, Span};
use server::replay::walk::STEP_BYTES;

use crate::naive::{Wish, told};
use crate::rig::{PATIENCE, Rig};
use crate::room::{Room, START_MS};

const NDJSON: &str = "application/x-ndjson";

/// A step of a clock that is moved by hand.
const STEP: Duration = Duration::from_millis(100);

/// A recording in memory that can be read so many times.
struct Frail {
    records: Vec<StoredRecord>,
    reads_left: AtomicUsize,
}

impl Frail {
    fn new(seconds: u64, reads: usize) -> Self {
        let mut room = Room::open(1, START_MS);
        room.live(seconds);
        Self { records: room.records, reads_left: AtomicUsize::new(reads) }
    }

    fn read(&self) -> Result<(), ReadError> {
        let less = |left: usize| left.checked_sub(1);
        let left = self.reads_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        left.map(drop).map_err(|_| ReadError("the disk is gone".into()))
    }
}

impl Recordings for Frail {
    fn span(&self, _: &str) -> Result<Option<Span>, ReadError> {
        self.read()?;
        let (first, last) = (self.records.first(), self.records.last());
        Ok(first.zip(last).map(|(first, last)| Span { first: first.id, last: last.id }))
    }

    /// Ten seconds or so in each.
    fn page(&self, _: &str, from: RecordId, until_ms: u64, _: usize) -> Result<Vec<StoredRecord>, ReadError> {
        self.read()?;
        let wanted = self.records.iter().filter(|record| record.id >= from && record.id.ms <= until_ms);
        Ok(wanted.take(30).cloned().collect())
    }

    fn keyframe_before(&self, _: &str, at_ms: u64) -> Result<Option<StoredRecord>, ReadError> {
        self.read()?;
        let before = self.records.iter().rev().filter(|record| record.id.ms <= at_ms);
        Ok(before.into_iter().find(|record| record.kind as u8 >= 3).cloned())
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    // Not even where it begins, not the keyframe before, not the first page.
    for reads in 0..3 {
        for form in ["*/*", NDJSON] {
            let rig = Rig::over(Arc::new(Frail::new(60, reads)));
            let path = format!("hall/replay?from={}", START_MS + 30_000);
            rig.ask(&path, form).await.check_error(503, "The recording cannot be read now");
            assert_eq!(rig.replays.counts.failed.get(), 1);
        }
    }
    let rig = Rig::over(Arc::new(Frail::new(60, 5)));
    rig.array("hall/replay").await.check_error(503, "The recording cannot be read now");
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_says_so_and_breaks_off() {
    let frail = Frail::new(60, 6);
    let expected = told(&frail.records, &Wish::default());
    let rig = Rig::over(Arc::new(frail));
    let mut body = rig.open(Method::GET, "hall/replay", NDJSON).await.into_body();
    let mut text = Vec::new();
    let end = loop {
        match body.frame().await {
            Some(Ok(frame)) => text.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    assert_eq!(end.unwrap().unwrap_err(), BrokenOff);
    let text = String::from_utf8(text).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let error: Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
    assert_eq!(
        (&error["type"], &error["error"]),
        (&"error".into(), &"The recording cannot be read now".into())
    );
    // It goes on after that, from what the last line says.
    let rig = Rig::over(Arc::new(Frail::new(60, 1_000)));
    let rest = rig.stream(&format!("hall/replay?cursor={}", error["cursor"].as_str().unwrap())).await.lines();
    assert!(!lines.is_empty() && !rest.is_empty());
    lines.extend(rest.iter().map(String::as_str));
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn only_so_many_read_at_once() {
    let rig = Rig::over(Arc::new(Frail::new(600, usize::MAX)));
    let mut open = Vec::new();
    for index in 0..MAX_READERS {
        // The text of an array takes a place until it is taken, or memory would have no bound.
        let form = if index % 2 == 0 { "*/*" } else { NDJSON };
        let response = rig.open(Method::GET, "hall/replay", form).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    for form in ["*/*", NDJSON] {
        let refused = rig.ask("hall/replay", form).await;
        refused.check_error(503, "Too many recordings are being read");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    }
    assert_eq!(rig.replays.counts.refused.get(), 2);
    // One that is read to its end makes room, and so does one that goes away.
    for places in [2, 4] {
        let whole = open.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(whole.len() > 1_000_000);
        drop(open.pop());
        rig.until("two places more", |rig| rig.replays.readers.free() == places).await;
        assert_eq!(rig.array("hall/replay?limit=1").await.items().len(), 1);
        open.rotate_left(1);
    }
}

#[tokio::test]
async fn an_array_is_handed_over_little_by_little() {
    let frail = Frail::new(600, usize::MAX);
    let expected: Vec<Value> = told(&frail.records, &Wish::default())
        .iter()
        .take(DEFAULT_REPLAY_LIMIT as usize)
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let rig = Rig::over(Arc::new(frail));
    let mut body = rig.open(Method::GET, "hall/replay", "*/*").await.into_body();
    let length = body.size_hint().exact().unwrap();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        assert!(piece.len() <= STEP_BYTES);
        text.extend_from_slice(&piece);
        assert_eq!(body.size_hint().exact(), Some(length - text.len() as u64));
        assert_eq!(body.is_end_stream(), text.len() as u64 == length);
        assert!(piece.try_into_mut().is_ok(), "a part of the text keeps all of it in memory");
    }
    assert_eq!(text.len() as u64, length);
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&text).unwrap(), expected);
    assert_eq!((rig.replays.readers.free(), rig.replays.counts.abandoned.get()), (MAX_READERS, 0));
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_loses_its_place() {
    for form in ["*/*", NDJSON] {
        loses_its_place(form).await;
    }
}

async fn loses_its_place(form: &str) {
    let rig = Rig::over(Arc::new(Frail::new(600, usize::MAX)));
    let mut body = rig.open(Method::GET, "hall/replay", form).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(rig.replays.readers.free(), MAX_READERS - 1);
    let mut waited = Duration::ZERO;
    let end = Instant::now() + PATIENCE;
    while rig.replays.counts.abandoned.get() == 0 {
        assert!(Instant::now() < end, "its place is never given up");
        tokio::time::advance(STEP).await;
        waited += STEP;
    }
    // How much later cannot be told: this clock also goes on while something is read.
    assert!(waited >= READ_TIMEOUT, "{waited:?}");
    rig.until("its place to be free", |rig| rig.replays.readers.free() == MAX_READERS).await;
    // What is left of the body does not look whole.
    let end = loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap().unwrap_err(), BrokenOff);
}
