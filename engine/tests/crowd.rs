//! Crowds: whoever comes, goes, walks, jumps or looks elsewhere, and however large the hall is, everybody is shown
//! the truth in time, at no more than it may cost, and nobody who is not there.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod hall;

use engine::options::{MIN_TICK_BYTES, VIEW_BUDGET_RANGE};
use hall::rings::Rings;
use hall::run::{Hall, PEOPLE_MAX};
use hall::script::{Act, Setup, acts, join, setup};
use hall::small::check_shared;
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::frame::{ENTRY_BYTES_MAX, GROUP_HEADER_BYTES};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 2_000,
        // Milliseconds.
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Metres that a room lets its members see.
fn room_radius() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![3 => Just(None), 1 => (1.0_f32..300.0).prop_map(Some)]
}

/// Rooms with at most so many bytes a tick, and at least as many as a room must have.
fn some_hall(most: u32) -> impl Strategy<Value = Setup> {
    (setup(1..=90_u32, room_radius()), MIN_TICK_BYTES..most).prop_map(|(mut setup, per_tick)| {
        setup.view.budget = (setup.hz * per_tick).max(*VIEW_BUDGET_RANGE.start());
        setup
    })
}

/// Members with both hands, each in a group of its own, who fit into the part of a second's budget that repeats may
/// take.
fn people_who_fit(hall: &Hall) -> usize {
    let per_tick = (hall.tick_budget() * 3 / 4).saturating_sub(GROUP_HEADER_BYTES);
    per_tick * hall.setup.hz as usize / (ENTRY_BYTES_MAX + GROUP_HEADER_BYTES)
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn everybody_sees_the_truth_a_second_after_the_last_move(setup in some_hall(2_000), acts in acts()) {
        let mut hall = Hall::new(setup);
        hall.people_max = people_who_fit(&hall).min(PEOPLE_MAX);
        for act in &acts {
            hall.act(act);
        }
        assert_eq!(hall.turn_ticks(), hall.setup.hz, "the hall is no fuller than it may be for this");
        hall.settle();
    }

    #[test]
    fn in_a_hall_that_is_too_full_it_takes_longer(setup in some_hall(500), acts in acts()) {
        let mut hall = Hall::new(setup);
        hall.people_max = (people_who_fit(&hall) * 4).clamp(1, PEOPLE_MAX);
        for act in &acts {
            hall.act(act);
        }
        hall.settle();
    }

}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn who_is_nearer_is_shown_oftener(setup in some_hall(1_500), joins in vec(join(), 2..100)) {
        let mut rings = Rings::new(setup, &joins);
        (0..2 * rings.hall.setup.hz.max(20)).for_each(|_| rings.tick());
    }

    #[test]
    fn a_small_room_shows_everybody_at_every_tick(setup in setup(1..=60_u32, Just(None)), joins in vec(join(), 2..20)) {
        let mut hall = Hall::new(setup);
        for join in &joins {
            let Act::Join { encoding, at, look } = join else { unreachable!() };
            let look = hall::script::Look { radius_m: None, ..*look };
            hall.act(&Act::Join { encoding: *encoding, at: *at, look });
        }
        // Until everybody has been welcomed.
        hall.act(&Act::Tick { times: hall.setup.hz.div_ceil(20) });
        for _ in 0..2 * hall.setup.hz {
            hall.walk();
            let poses = hall.tick().expect("everybody has moved");
            check_shared(&hall, &poses);
        }
    }
}
