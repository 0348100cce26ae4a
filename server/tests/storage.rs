//! The store of persistent rooms, on real files.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::ports::{RoomStore as _, RoomWrite, StoredObject, StoredRoom};
use proptest::prelude::*;
use server::storage::{OpenError, QUEUE_BYTES, QUEUE_CAPACITY, SqliteStore};
use tempfile::tempdir;

fn room(id: &str, created_ms: u64) -> StoredRoom {
    StoredRoom { id: id.into(), options: format!("{{\"made\":{created_ms}}}"), created_ms }
}

fn object(id: &str, version: u64) -> StoredObject {
    StoredObject { id: id.into(), version, owner: "user_1".into(), json: format!("{{\"v\":{version}}}") }
}

fn create(id: &str) -> RoomWrite {
    RoomWrite::CreateRoom(room(id, 1))
}

fn put(room: &str, object: StoredObject) -> RoomWrite {
    RoomWrite::PutObject { room: room.into(), object }
}

fn delete(room: &str, id: &str) -> RoomWrite {
    RoomWrite::DeleteObject { room: room.into(), id: id.into() }
}

async fn objects(store: &SqliteStore, room: &str) -> Vec<StoredObject> {
    let mut objects = store.objects(room).await.unwrap();
    objects.sort_by(|a, b| a.id.cmp(&b.id));
    objects
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    assert!(store.rooms().await.unwrap().is_empty());
    store.write(vec![create("a"), put("a", object("1", u64::MAX)), put("a", object("2", 1))]).await.unwrap();
    store.write(vec![delete("a", "2"), delete("a", "never there"), create("b")]).await.unwrap();
    store.close().await.unwrap();
    store.write(vec![create("c")]).await.unwrap_err();
    store.close().await.unwrap_err();

    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(store.rooms().await.unwrap(), [room("a", 1), room("b", 1)]);
    assert_eq!(objects(&store, "a").await, [object("1", u64::MAX)]);
    assert!(objects(&store, "nowhere").await.is_empty());
    assert_eq!(store.health(), Default::default());
}

#[tokio::test]
async fn the_first_room_of_an_id_stays() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.write(vec![RoomWrite::CreateRoom(room("a", 1)), put("a", object("1", 1))]).await.unwrap();
    store.write(vec![RoomWrite::CreateRoom(room("a", 2))]).await.unwrap();
    assert_eq!(store.rooms().await.unwrap(), [room("a", 1)]);
    assert_eq!(objects(&store, "a").await, [object("1", 1)]);
}

#[tokio::test]
async fn requests_take_effect_in_the_order_of_the_calls() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let mut answers = vec![store.write(vec![create("a")])];
    let mut reads = Vec::new();
    for version in 1..=500 {
        answers.push(store.write(vec![put("a", object("1", version))]));
        reads.push((version, store.objects("a")));
    }
    // Waited for backwards: it is the calls that count, not who is waited for first.
    for (version, read) in reads.into_iter().rev() {
        assert_eq!(read.await.unwrap(), [object("1", version)]);
    }
    for answer in answers {
        answer.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_written_all_the_same() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    drop(store.write(vec![create("a"), put("a", object("1", 1))]));
    store.flush().await.unwrap();
    drop(store);
    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(objects(&store, "a").await, [object("1", 1)]);
}

#[tokio::test]
async fn a_bad_request_fails_alone_and_whole() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.write(vec![create("a")]).await.unwrap();
    let before = store.write(vec![put("a", object("1", 1))]);
    // The second of the three needs a room that is not there.
    let bad = store.write(vec![put("a", object("2", 1)), put("none", object("3", 1)), delete("a", "1")]);
    let after = store.write(vec![put("a", object("4", 1))]);
    before.await.unwrap();
    let error = bad.await.unwrap_err();
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    after.await.unwrap();
    assert_eq!(objects(&store, "a").await, [object("1", 1), object("4", 1)]);
    assert!(store.health().last_error.is_none(), "a later success says that the store works");
}

#[tokio::test]
async fn a_directory_belongs_to_one_server() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let second = SqliteStore::open(directory.path());
    assert!(matches!(&second, Err(OpenError::InUse(_))), "{second:?}");
    assert!(second.unwrap_err().to_string().contains("in use by another server"));
    store.close().await.unwrap();
    SqliteStore::open(directory.path()).unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_an_error() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = SqliteStore::open(&file).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains(file.to_str().unwrap()));
}

/// The files of `directory` whose names hold `part`.
fn files(directory: &Path, part: &str) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(part)).collect()
}

/// A store with `count` objects is closed and damaged; the next one must come up new and say so. Answers the objects
/// that are there then, each as it was.
async fn survives_damage(count: u64, damage: impl FnOnce(&Path)) -> Vec<StoredObject> {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.write(vec![create("a")]).await.unwrap();
    store.write((0..count).map(|id| put("a", object(&id.to_string(), 1))).collect()).await.unwrap();
    store.close().await.unwrap();
    let path = directory.path().join("rooms.db");
    damage(&path);
    let damaged = fs::read(&path).unwrap();

    let store = SqliteStore::open(directory.path()).unwrap();
    let moved_to = store.health().corrupt_moved_to.expect("it is told");
    assert_eq!(fs::read(&moved_to).unwrap(), damaged, "nothing of the old one is lost");
    assert!(moved_to.file_name().unwrap().to_str().unwrap().starts_with("rooms.db.corrupt-"));
    let (rooms, objects) = (store.rooms().await.unwrap(), store.objects("a").await.unwrap());
    assert!(rooms.iter().all(|found| *found == room("a", 1)));
    assert!(objects.iter().all(|found| *found == object(&found.id, 1)));
    store.write(vec![create("b")]).await.unwrap();
    store.close().await.unwrap();

    let store = SqliteStore::open(directory.path()).unwrap();
    assert!(store.health().corrupt_moved_to.is_none(), "once only");
    assert_eq!(store.rooms().await.unwrap(), [rooms, vec![room("b", 1)]].concat());
    assert_eq!(files(directory.path(), ".corrupt-").len(), 1);
    objects
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside() {
    let kept = survives_damage(1, |path| fs::write(path, "nonsense ".repeat(1000)).unwrap()).await;
    assert!(kept.is_empty());
}

#[tokio::test]
async fn of_a_database_with_a_hole_in_it_what_is_on_either_side_is_kept() {
    let kept = survives_damage(2_000, |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8_192].fill(0xa5);
        fs::write(path, bytes).unwrap();
    })
    .await;
    assert!(kept.len() > 1_000, "{}", kept.len());
}

#[tokio::test]
async fn of_a_database_that_is_cut_off_what_is_before_the_cut_is_kept() {
    let kept = survives_damage(2_000, |path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 4 * 3).unwrap();
    })
    .await;
    assert!(kept.len() > 500, "{}", kept.len());
}

#[tokio::test]
async fn a_database_whose_columns_are_called_otherwise_is_damaged() {
    survives_damage(3, |path| {
        let mut bytes = fs::read(path).unwrap();
        let column = b"options TEXT";
        let at = bytes.windows(column.len()).position(|window| window == column).unwrap();
        bytes[at] = b'p';
        fs::write(path, bytes).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_damaged_row_hides_no_other() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.write(vec![create("a"), create("b")]).await.unwrap();
    store.write((0..3).map(|id| put("a", object(&id.to_string(), 1))).collect()).await.unwrap();
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(directory.path().join("rooms.db")).unwrap();
    for sql in [
        "UPDATE objects SET json = CAST(x'7bff' AS TEXT) WHERE id = '1'",
        "UPDATE rooms SET options = CAST(x'7bff' AS TEXT) WHERE id = 'b'",
    ] {
        connection.execute(sql, []).unwrap();
    }
    drop(connection);
    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(store.rooms().await.unwrap(), [room("a", 1)]);
    let ids: Vec<_> = store.objects("a").await.unwrap().into_iter().map(|object| object.id).collect();
    assert_eq!(ids, ["0", "2"]);
}

#[tokio::test]
async fn a_database_of_a_newer_format_is_left_alone() {
    let directory = tempdir().unwrap();
    SqliteStore::open(directory.path()).unwrap().close().await.unwrap();
    let path = directory.path().join("rooms.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 99, .. }), "{error:?}");
    assert!(path.exists() && files(directory.path(), ".corrupt-").is_empty());
}

#[tokio::test]
async fn the_bytes_that_wait_have_a_limit() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.write(vec![create("a")]).await.unwrap();
    // Once only, unless this thread rests for longer than the disk takes for the large one.
    for _ in 0..100 {
        let large = StoredObject { json: "x".repeat(QUEUE_BYTES), ..object("large", 1) };
        let first = store.write(vec![put("a", large)]);
        let half = StoredObject { json: "x".repeat(QUEUE_BYTES / 2), ..object("half", 1) };
        let second = store.write(vec![put("a", half.clone())]).await;
        first.await.unwrap();
        // What was counted is taken back, also for what was refused. A little more than a half fits still.
        store.flush().await.unwrap();
        store.write(vec![put("a", half), put("a", object("small", 1))]).await.unwrap();
        if let Err(error) = second {
            assert!(error.to_string().contains("too many bytes"), "{error}");
            return;
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn the_requests_that_wait_have_a_limit() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let many = (0..1_000).map(|id| put("a", object(&id.to_string(), 1)));
    store.write(std::iter::once(create("a")).chain(many).collect()).await.unwrap();
    // Each of these takes far longer to be carried out than to be asked for.
    let refused = (0..100 * QUEUE_CAPACITY).find_map(|_| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match store.objects("a").as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    });
    assert!(refused.unwrap().to_string().contains("too many requests"));
    store.flush().await.unwrap();
    assert_eq!(store.objects("a").await.unwrap().len(), 1_000);
    assert_eq!(store.health().queued, 0);
}

#[derive(Debug, Clone)]
enum Operation {
    Write(Vec<RoomWrite>),
    Read(String),
    Flush,
    Reopen,
}

type Model = BTreeMap<String, (StoredRoom, BTreeMap<String, StoredObject>)>;

/// Applies `writes` as the port says: all of them, or none and `false`.
fn apply(model: &mut Model, writes: &[RoomWrite]) -> bool {
    let mut next = model.clone();
    for write in writes {
        match write {
            RoomWrite::CreateRoom(room) => {
                next.entry(room.id.clone()).or_insert((room.clone(), BTreeMap::new()));
            }
            RoomWrite::PutObject { room, object } => match next.get_mut(room) {
                Some((_, objects)) => {
                    objects.insert(object.id.clone(), object.clone());
                }
                None => return false,
            },
            RoomWrite::DeleteObject { room, id } => {
                if let Some((_, objects)) = next.get_mut(room) {
                    objects.remove(id);
                }
            }
        }
    }
    *model = next;
    true
}

/// Few names, so that they meet; odd ones among them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("'; --"), Just("ü\u{0}ü"), Just("A")]
        .prop_map(Into::into)
}

fn write() -> impl Strategy<Value = RoomWrite> {
    let object = (name(), any::<u64>(), name(), ".{0,40}")
        .prop_map(|(id, version, owner, json)| StoredObject { id, version, owner, json });
    prop_oneof![
        1 => (name(), any::<u64>()).prop_map(|(id, created_ms)| RoomWrite::CreateRoom(room(&id, created_ms))),
        3 => (name(), object).prop_map(|(room, object)| RoomWrite::PutObject { room, object }),
        1 => (name(), name()).prop_map(|(room, id)| RoomWrite::DeleteObject { room, id }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => prop::collection::vec(write(), 0..5).prop_map(Operation::Write),
        4 => name().prop_map(Operation::Read),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Reopen),
    ]
}

async fn check(operations: Vec<Operation>) {
    let directory = tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let mut model = Model::new();
    // Answers are waited for at the end of a run, so that requests share transactions.
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for operation in operations.into_iter().chain([Operation::Reopen]) {
        match operation {
            Operation::Write(batch) => writes.push((apply(&mut model, &batch), store.write(batch))),
            Operation::Read(room) => {
                let objects =
                    model.get(&room).map(|(_, objects)| objects.values().cloned().collect::<Vec<_>>());
                reads.push((objects.unwrap_or_default(), store.objects(&room)));
            }
            Operation::Flush => store.flush().await.unwrap(),
            Operation::Reopen => {
                drop(store);
                store = SqliteStore::open(directory.path()).unwrap();
            }
        }
    }
    for (is_good, answer) in writes {
        assert_eq!(answer.await.is_ok(), is_good);
    }
    for (expected, answer) in reads {
        let mut found = answer.await.unwrap();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(found, expected);
    }
    let mut rooms = store.rooms().await.unwrap();
    rooms.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(rooms, model.values().map(|(room, _)| room.clone()).collect::<Vec<_>>());
    for (id, (_, expected)) in &model {
        assert_eq!(objects(&store, id).await, expected.values().cloned().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_does(operations in prop::collection::vec(operation(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check(operations));
    }
}
