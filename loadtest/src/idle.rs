//! Idle connections: how much memory each takes.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::crowd::{Board, Crowd};
use crate::http::Target;
use crate::options::{Encoding, IdleOptions, Protocol, RoomOptions, Transport};
use crate::process::Process;
use crate::session::Stage;
use crate::steady::log_in;
use crate::tally::Reasons;
use crate::walk::SIDE_M;
use crate::worker::Plan;
use crate::workers::Workers;

/// How many share a room when they join.
const ROOM_USERS: u32 = 50;

/// What idle connections have cost.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    pub(crate) users: u32,
    pub(crate) joined: bool,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    /// KiB of resident memory more per connection.
    pub(crate) kib_per_connection: f64,
    pub(crate) disconnects: Reasons,
}

/// Connects, holds, and weighs the server before and after.
///
/// # Errors
/// If somebody does not get in, or the server's memory cannot be read.
pub(crate) fn run(options: &IdleOptions) -> Result<IdleReport> {
    let IdleOptions { users, join, auth, .. } = *options;
    let target = Target::new(&options.url)?;
    let server = Process(options.pid);
    let rooms = if join { users.div_ceil(ROOM_USERS) } else { 1 };
    let room_prefix = format!("idle-{:08x}", rand::random::<u32>());
    let crowd = Crowd { users, rooms, room_prefix, judges: 0 };
    let rooms = join.then(RoomOptions::default);
    let tokens = log_in(&target, auth, &crowd, rooms.as_ref(), 0)?;
    let stage = if join { Stage::Joined } else { Stage::Connected };
    let board = Board::new(&crowd, false);
    let plan = Plan {
        target,
        tokens,
        protocol: Protocol::Socketio,
        transport: Transport::Websocket,
        encoding: Encoding::Json,
        asks_each: None,
        crowd,
        board,
        stage,
        hz: 1,
        ramp: None,
        seed: 0,
        side_m: SIDE_M,
        hands: 0.0,
        near_m: 0.0,
    };

    let before = server.resident_bytes()?;
    let workers = Workers::launch(&plan, options.pin.as_slice())?;
    workers.wait_for_all()?;
    // What connecting took for a moment has been given back by then.
    thread::sleep(options.hold.max(Duration::from_secs(1)));
    let after = server.resident_bytes()?;
    let tally = workers.finish()?;
    Ok(IdleReport {
        users,
        joined: join,
        rss_before_kib: before / 1024,
        rss_after_kib: after / 1024,
        kib_per_connection: (after as f64 - before as f64) / 1024.0 / f64::from(users),
        disconnects: tally.disconnects,
    })
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, joined, rss_before_kib, rss_after_kib, kib_per_connection, disconnects } = self;
        let what = if *joined { "connected and in rooms of 50" } else { "connected" };
        writeln!(f, "{users} idle sessions, {what}")?;
        writeln!(f, "  server        {rss_before_kib} KiB resident before, {rss_after_kib} KiB with them")?;
        writeln!(f, "                {kib_per_connection:.1} KiB per connection")?;
        disconnects
            .iter()
            .try_for_each(|(reason, count)| writeln!(f, "  FAULT: {count} sessions ended: {reason}"))
    }
}
