//! Tests of the directory.

use super::*;
use crate::options::RoomDefaults;

const NOW: Time = Time::from_micros(1_000_000);

fn resolve(directory: &Directory, id: &str) -> Lease {
    directory.resolve(id, || RoomDefaults::default().options(), || 0, NOW).unwrap()
}

#[test]
fn a_leased_room_is_not_closed() {
    let directory = Directory::default();
    let first = resolve(&directory, "lobby");
    let second = resolve(&directory, "lobby");
    let room = first.room().clone();
    drop(first);
    assert!(!directory.close(&room));
    drop(second);
    assert!(directory.close(&room));
    assert_ne!(resolve(&directory, "lobby").room().key, room.key, "the next one is another room");
    assert!(!directory.close(&room), "an old handle does not close the new room");
}

#[test]
fn a_lease_of_no_use_takes_the_room_with_it_that_was_made_for_it() {
    let directory = Directory::default();
    let first = resolve(&directory, "lobby");
    assert!(directory.give_back(first) && directory.is_empty());

    let (first, second) = (resolve(&directory, "lobby"), resolve(&directory, "lobby"));
    assert!(!directory.give_back(first), "another one has found it");
    assert!(!directory.give_back(second), "it was not made for that one");
    assert_eq!(directory.len(), 1);

    let first = resolve(&directory, "garden");
    first.room().set_members(0);
    assert!(!directory.give_back(first), "somebody was in it, so the shard has it");
}

#[test]
fn only_what_nobody_ever_entered_is_swept() {
    let directory = Directory::default();
    let options = RoomDefaults::default().options();
    for id in ["never", "entered", "kept"] {
        let persistent = id == "kept";
        let options = RoomOptions { persistent, ..options.clone() };
        directory.create(id, options, || 0, NOW).unwrap();
    }
    directory.room("entered").unwrap().set_members(1);
    directory.sweep(NOW);
    assert_eq!(directory.len(), 3);
    directory.sweep(NOW + UNENTERED_ROOM_TTL);
    assert!(directory.room("never").is_none());
    assert_eq!(directory.len(), 2);
}

fn create(directory: &Directory, id: &str, persistent: bool) -> Result<Lease, ErrorCode> {
    let options = RoomOptions { persistent, ..RoomDefaults::default().options() };
    directory.create(id, options, || 0, NOW).map_err(|error| error.code)
}

#[test]
fn persistent_rooms_leave_room_for_others() {
    let directory = Directory::with_limits(10, 2);
    for id in ["a", "b"] {
        create(&directory, id, true).unwrap().room().set_stored();
    }
    assert_eq!(create(&directory, "c", true).unwrap_err(), ErrorCode::Limit);
    assert!(create(&directory, "a", true).is_ok(), "it is there already");
    assert!(create(&directory, "c", false).is_ok());
    let lease = resolve(&directory, "d");
    assert!(!directory.revoke(lease.room()) && !directory.revoke(&directory.room("a").unwrap()));
    assert_eq!(create(&directory, "e", true).unwrap_err(), ErrorCode::Limit);
}

#[test]
fn a_room_that_was_not_stored_gives_its_place_back() {
    let directory = Directory::with_limits(10, 1);
    let [first, second] = [0, 1].map(|_| create(&directory, "a", true).unwrap());
    let refused = directory.resolve("a", || unreachable!(), || unreachable!(), NOW);
    assert_eq!(refused.unwrap_err().code, ErrorCode::Overloaded);
    assert!(directory.room("a").is_none() && directory.rooms().is_empty());
    let room = first.room().clone();
    drop(first);
    assert!(!directory.revoke(&room), "somebody is still trying");
    drop(second);
    assert!(directory.revoke(&room));
    assert!(create(&directory, "b", true).is_ok());
}

#[test]
fn at_the_limit_nothing_is_placed_and_what_is_there_is_found() {
    let directory = Directory::with_limits(1, 1);
    let lease = create(&directory, "a", false).unwrap();
    let options = RoomDefaults::default().options();
    let again = directory.create("a", options.clone(), || unreachable!(), NOW).unwrap();
    assert_eq!(again.room().key, lease.room().key);
    let refused = directory.create("b", options.clone(), || unreachable!(), NOW).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Limit);
    let refused = directory.resolve("b", || unreachable!(), || unreachable!(), NOW).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Limit);
    directory.restore("stored", RoomOptions { persistent: true, ..options }, || 0, NOW, NOW);
    assert!(directory.room("stored").is_some(), "what the store holds always comes in");
}
