//! Redis as a place for rooms, objects and recordings, with real servers that are stopped, filled and emptied.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod elsewhere;
mod export;
mod journal;
mod outages;
mod programs;
mod rooms;
mod site;

use replay::RecordId;
use server::redis::{RoomKeys, hour_of};

use programs::RedisServer;

/// The ids of all reliable records that the server has of a room, from two hours ago on.
fn ids_in(server: &RedisServer, room: &str) -> Vec<RecordId> {
    let (keys, now) = (RoomKeys::of(room), hour_of(site::now_ms()));
    let hours = [now - 7_200_000, now - 3_600_000, now, now + 3_600_000];
    let mut ids = Vec::new();
    for hour in hours {
        let found: Vec<(String, Vec<Vec<u8>>)> = server.command(&["XRANGE", &keys.stream(hour), "-", "+"]);
        let reliable = found.into_iter().filter(|(_, fields)| fields[1] != b"2");
        ids.extend(reliable.map(|(id, _)| id.parse::<RecordId>().unwrap()));
    }
    ids
}
