use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::advance;

use super::*;

fn number(result: usize) -> Work {
    Box::new(move || serde_json::value::to_raw_value(&result).map_err(|error| error.to_string()))
}

fn key(text: &str, fingerprint: u8) -> Option<Key> {
    Some(Key { text: text.into(), fingerprint: [fingerprint; 32] })
}

/// What a task comes to.
fn outcome(mut handle: Handle) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let state = handle.state.wait_for(|state| state.outcome().is_some()).await.unwrap();
        let outcome = state.outcome().unwrap();
        outcome.as_ref().map(|result| result.get().to_owned()).map_err(|error| error.to_string())
    })
}

#[test]
fn a_task_runs_and_its_result_is_kept() {
    let tasks = Tasks::start(2).unwrap();
    let handle = tasks.submit("path", None, number(7)).unwrap();
    assert_eq!(outcome(handle.clone()), Ok("7".into()));
    assert_eq!(outcome(tasks.find(&handle.id).unwrap()), Ok("7".into()));
    assert!(tasks.find("0").is_none());
    assert!(!tasks.is_settled(), "nobody has fetched it");
    tasks.note_fetched(&handle.id);
    assert!(tasks.is_settled());
}

#[test]
fn the_same_key_is_the_same_task() {
    let tasks = Tasks::start(1).unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = || -> Work {
        let runs = runs.clone();
        Box::new(move || number(runs.fetch_add(1, Ordering::Relaxed))())
    };
    let first = tasks.submit("path", key("a", 1), count()).unwrap();
    let again = tasks.submit("path", key("a", 1), count()).unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!((outcome(first), outcome(again)), (Ok("0".into()), Ok("0".into())));
    assert_eq!(tasks.submit("path", key("a", 2), count()).unwrap_err(), Refusal::KeyReused);
    let other = tasks.submit("path", key("b", 1), count()).unwrap();
    assert_eq!(outcome(other), Ok("1".into()), "only one has run before");
}

#[test]
fn a_panic_and_a_result_that_is_too_large_are_failures() {
    let tasks = Tasks::start(1).unwrap();
    let broken = tasks.submit("path", None, Box::new(|| panic!("inside a library"))).unwrap();
    let error = outcome(broken).unwrap_err();
    assert!(error.contains("broke off") && !error.contains("library"), "{error}");
    let large: Work = Box::new(|| {
        serde_json::value::to_raw_value(&"a".repeat(MAX_RESULT_BYTES)).map_err(|error| error.to_string())
    });
    let error = outcome(tasks.submit("path", None, large).unwrap()).unwrap_err();
    assert!(error.contains("larger than"), "{error}");
    assert_eq!(outcome(tasks.submit("path", None, number(1)).unwrap()), Ok("1".into()));
}

#[test]
fn a_full_queue_refuses_and_its_key_stays_free() {
    let tasks = Tasks::start(1).unwrap();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let (started, has_started) = std::sync::mpsc::sync_channel::<()>(1);
    let blocker: Work = Box::new(move || {
        started.send(()).unwrap();
        released.recv().unwrap();
        number(0)()
    });
    tasks.submit("path", None, blocker).unwrap();
    has_started.recv().unwrap();
    let queued: Vec<_> = (0..MAX_QUEUED).map(|i| tasks.submit("path", None, number(i)).unwrap()).collect();
    assert!(matches!(*queued[0].state.borrow(), State::Pending));
    assert_eq!(tasks.submit("path", key("a", 1), number(99)).unwrap_err(), Refusal::Busy);
    release.send(()).unwrap();
    for (i, handle) in queued.into_iter().enumerate() {
        assert_eq!(outcome(handle), Ok(i.to_string()));
    }
    assert_eq!(outcome(tasks.submit("path", key("a", 2), number(99)).unwrap()), Ok("99".into()));
}

fn ended(inner: &mut Inner, index: usize, bytes: usize, at: Instant) {
    let id: Arc<str> = format!("{index}").into();
    let key: Arc<str> = format!("key {index}").into();
    inner.keys.insert(key.clone(), ([0; 32], id.clone()));
    let progress = Arc::new(watch::Sender::new(State::Pending));
    let entry = Entry { id: id.clone(), progress, key: Some(key), asked: at, bytes, is_fetched: false };
    inner.entries.insert(id.clone(), entry);
    inner.ended.push_back((id, at));
    inner.ended_bytes += bytes;
    inner.forget(at);
}

/// That nothing is left of what was forgotten.
#[track_caller]
fn kept(inner: &Inner, first: usize, count: usize) {
    assert_eq!((inner.entries.len(), inner.keys.len(), inner.ended.len()), (count, count, count));
    assert_eq!(inner.ended_bytes, inner.entries.values().map(|entry| entry.bytes).sum::<usize>());
    assert!((first..first + count).all(|index| inner.entries.contains_key(index.to_string().as_str())));
}

#[tokio::test(start_paused = true)]
async fn results_are_forgotten_by_number_size_and_age() {
    let mut inner = Inner::default();
    for index in 0..MAX_RESULTS + 3 {
        ended(&mut inner, index, 1, Instant::now());
    }
    kept(&inner, 3, MAX_RESULTS);
    advance(RESULT_TTL).await;
    inner.forget(Instant::now());
    kept(&inner, 3, MAX_RESULTS);
    advance(Duration::from_millis(1)).await;
    inner.forget(Instant::now());
    kept(&inner, 0, 0);
    for index in 0..4 {
        ended(&mut inner, index, MAX_RESULTS_BYTES / 3, Instant::now());
    }
    kept(&inner, 1, 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_asker_that_has_gone() {
    let tasks = Tasks::start(1).unwrap();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let long = move || {
        released.recv().map_err(|error| error.to_string())?;
        number(1)()
    };
    let handle = tasks.submit("path", None, Box::new(long)).unwrap();
    advance(ASKER_PATIENCE * 2).await;
    assert!(!tasks.is_settled(), "somebody listens, as long as it may take");
    let id = handle.id.clone();
    drop(handle);
    assert!(tasks.is_settled(), "it runs on, but for nobody");
    drop(tasks.find(&id).unwrap());
    advance(ASKER_PATIENCE).await;
    assert!(!tasks.is_settled(), "somebody asked just now");
    advance(Duration::from_millis(1)).await;
    assert!(tasks.is_settled());
    release.send(()).unwrap();
}
