//! Crowds: whoever comes, goes, walks, jumps or looks elsewhere, and however large the hall is, everybody is shown
//! the truth in time, at no more than it may cost, and nobody who is not there.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod hall;

use hall::run::Hall;
use hall::script::{acts, setup};
use proptest::prelude::*;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 400, max_shrink_time: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Metres that a room lets its members see.
fn room_radius() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![3 => Just(None), 1 => (1.0_f32..300.0).prop_map(Some)]
}

/// Entries of members with both hands that fit into the part of a second's budget that repeats may take.
fn people_who_fit(hall: &Hall) -> usize {
    let per_tick = hall.tick_budget() * 3 / 4;
    // A member more would need a tick of its own.
    (per_tick * hall.setup.hz as usize) / protocol::frame::ENTRY_BYTES_MAX
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn everybody_sees_the_truth_a_second_after_the_last_move(
        setup in setup(1..=90_u32, prop_oneof![10_000..65_537_u32, 16_000..30_000_u32], room_radius()), acts in acts()
    ) {
        let mut hall = Hall::new(setup);
        hall.people_max = hall.people_max.min(people_who_fit(&hall));
        for act in &acts {
            hall.act(act);
        }
        assert_eq!(hall.turn_ticks(), hall.setup.hz, "the hall is not fuller than it may be");
        hall.settle();
    }
}
