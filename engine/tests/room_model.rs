//! A room against a naive model: whatever its members do and whenever it speaks, everybody hears exactly what the
//! model says, in that order, and sees the same picture.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;
mod model;

use model::operation::{Case, case};
use model::run::Run;
use proptest::prelude::*;

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
}
