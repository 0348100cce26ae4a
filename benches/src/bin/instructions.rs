//! Does one hot part of the server a fixed number of times with fixed inputs, so that callgrind can count its
//! instructions: those inside of [`counted`], and no others.
//!
//! Without an argument it lists the parts. With the name of one it does that, and prints how many times. `cargo xtask
//! instructions` runs it and compares the counts with those in `benches/instructions.txt`.
#![allow(clippy::print_stdout, reason = "what it has done is its answer")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use benches::{FullRoom, Hall, JOIN, MESSAGE, UPDATE_OBJECT, crowd_side_m, event};
use protocol::Outgoing;
use protocol::event::Encoding;
use replay::{Content, Encoder, Record};

#[path = "../../../replay/tests/people/mod.rs"]
#[allow(dead_code, reason = "others use all of it")]
mod people;

use people::People;

/// A crowd: not everybody sees everybody.
const MEMBERS: u16 = 1_000;

/// How often what takes long is done: for as many ticks everything has had its turn once.
const TICKS: u64 = 20;

/// One part, by name, and what does it and says how many times.
type Part = (&'static str, fn() -> u64);

const PARTS: &[Part] = &[
    ("way-in/json", || way_in(false)),
    ("way-in/binary", || way_in(true)),
    ("packet/events", packets),
    ("tick/1000", tick),
    ("fan-out/1000", fan_out),
    ("chunk/1000", chunk),
];

fn main() -> Result<()> {
    let Some(wanted) = std::env::args().nth(1) else {
        PARTS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, part) = PARTS.iter().find(|(name, _)| *name == wanted).context("no part has that name")?;
    println!("{}", part());
    Ok(())
}

/// All that is done in here is counted. Callgrind knows it by its name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // So that the call above is no jump, which callgrind would take for the end of this function.
    black_box(());
}

/// A pose's way from a client's WebSocket frame into its slot.
fn way_in(is_binary: bool) -> u64 {
    let mut hall = Hall::new(MEMBERS, crowd_side_m(MEMBERS), |turn| turn());
    let mut poses = 0;
    // The first time is not counted: it also finds out about the processor, once.
    for is_counted in [false, true] {
        let mut frames = hall.frames(is_binary);
        let mut take = || poses = hall.take(&mut frames);
        if is_counted { counted(&mut take) } else { take() }
    }
    poses as u64
}

/// Three events from their text to their type, and the answer to each.
fn packets() -> u64 {
    const TIMES: u64 = 100;
    let answer = serde_json::json!({ "ok": true, "id": "chair-by-the-window", "version": 13 });
    counted(&mut || {
        for _ in 0..TIMES {
            for text in [UPDATE_OBJECT, MESSAGE, JOIN] {
                black_box(event(black_box(text)));
                black_box(Outgoing::ack("/", 17, black_box(&answer)));
            }
        }
    });
    TIMES
}

/// A room's part of a tick in which everybody has moved: reading the slots, who sees whom, encoding.
fn tick() -> u64 {
    let mut room = FullRoom::new(MEMBERS, Encoding::Binary);
    for _ in 0..TICKS {
        room.move_crowd(crowd_side_m(MEMBERS));
        counted(&mut || {
            black_box(room.tick());
        });
    }
    TICKS
}

/// The fan-out's part of a tick: putting together what each cell of viewers shares, and handing it to each.
fn fan_out() -> u64 {
    let is_counting = Arc::new(AtomicBool::new(false));
    let is_counted = is_counting.clone();
    let mut hall = Hall::new(MEMBERS, crowd_side_m(MEMBERS), move |turn| {
        if is_counted.load(Ordering::Relaxed) { counted(turn) } else { turn() }
    });
    is_counting.store(true, Ordering::Relaxed);
    for _ in 0..TICKS {
        hall.move_all();
        black_box(hall.tick());
    }
    TICKS
}

/// A second of a recorded room, encoded.
fn chunk() -> u64 {
    let mut people = People::new(MEMBERS.into(), 7);
    let mut encoder = Encoder::new();
    for is_counted in [false, true] {
        let poses = people.second(10);
        let record = Record { at_ms: poses.last_ms(), content: Content::Poses(poses) };
        let mut encode = || {
            black_box(encoder.encode(black_box(&record)).is_ok());
        };
        if is_counted { counted(&mut encode) } else { encode() }
    }
    1
}
