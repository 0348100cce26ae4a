//! A room against a naive model: whatever its members do and whenever it speaks, everybody hears exactly what the
//! model says, in that order, and sees the same picture.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;
mod model;

use model::operation::{Case, Operation, Password, Setup, case};
use model::run::Run;
use model::twin::Twin;
use proptest::prelude::*;
use protocol::event::Encoding;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_does_what_the_model_does(case in case()) {
        let Case { setup, operations } = case;
        let mut run = Run::new(setup);
        for operation in operations {
            run.step(&operation);
        }
        run.finish();
    }

    #[test]
    fn whether_a_room_is_recorded_is_not_to_be_seen(case in case()) {
        let Case { setup, operations } = case;
        let mut twins = [Twin::new(setup, false), Twin::new(setup, true)];
        for (number, operation) in (1..).zip(&operations) {
            let [plain, recorded] = twins.each_mut().map(|twin| twin.step(operation, number));
            prop_assert_eq!(plain, recorded, "{:?}", operation);
        }
        for _ in 0..30 {
            let [plain, recorded] = twins.each_mut().map(Twin::tick);
            prop_assert_eq!(plain, recorded, "a tick afterwards");
        }
    }
}

/// A tick that is late, because one before it is still going out or its core was busy.
#[test]
fn who_leaves_before_a_late_tick_is_in_no_chunk_of_long_ago() {
    let setup = Setup { max_users: 2, max_objects: 1, persistent: false, password: false, recorded: true };
    let mut run = Run::new(setup);
    for who in 0..2 {
        run.step(&Operation::Join { who, encoding: Encoding::Json, password: Password::Absent, ack: false });
    }
    run.step(&Operation::Move { who: 0 });
    run.step(&Operation::Tick);
    run.step(&Operation::Pass { millis: 5_000 });
    run.step(&Operation::Move { who: 1 });
    // Reading checks how long a chunk is.
    run.step(&Operation::Leave { who: 1, ack: false });
    run.finish();
}

#[test]
fn the_twins_see_something() {
    let setup = Setup { max_users: 3, max_objects: 1, persistent: false, password: false, recorded: false };
    let mut twin = Twin::new(setup, true);
    let encodings = [Encoding::Json, Encoding::Batch, Encoding::Binary];
    for (who, encoding) in (0..).zip(encodings) {
        let join = Operation::Join { who, encoding, password: Password::Absent, ack: true };
        twin.step(&join, who as u32);
    }
    twin.tick();
    for who in 0..3 {
        twin.step(&Operation::Move { who }, 10);
    }
    let out = twin.tick().concat();
    assert!(out.contains("user-moved") && out.contains("users-moved") && out.contains("[b\""), "{out}");
}
