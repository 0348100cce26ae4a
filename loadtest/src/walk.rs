//! How people move: they stroll about, turn where they go, and their heads bob.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Side of the square that people stay in unless told otherwise, in metres.
pub(crate) const SIDE_M: f32 = 40.0;
/// How fast people walk, in metres per second.
pub(crate) const SPEED_M_PER_S: f32 = 1.2;
/// How far a step may turn, in radians either way.
const TURN_RAD: f32 = 0.15;
/// Height of the eyes, in metres.
pub(crate) const EYES_M: f32 = 1.6;

/// Where somebody stands and looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
    /// Radians around the vertical axis.
    pub(crate) yaw: f32,
}

/// One person's random walk, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Walk {
    place: Place,
    half_side_m: f32,
    step_m: f32,
    random: SmallRng,
}

impl Walk {
    /// The user `index`, somewhere in a square of `side_m` metres around the origin, who will take `hz` steps per
    /// second.
    pub(crate) fn new(seed: u64, index: u32, side_m: f32, hz: u32) -> Self {
        let mut random = SmallRng::seed_from_u64(seed << 32 | u64::from(index));
        let half_side_m = side_m / 2.0;
        let mut within = |half: f32| random.random_range(-half..half);
        let place = Place {
            x: within(half_side_m),
            y: EYES_M,
            z: within(half_side_m),
            yaw: within(std::f32::consts::PI),
        };
        Self { place, half_side_m, step_m: SPEED_M_PER_S / hz as f32, random }
    }

    /// Takes a step and says where it led.
    pub(crate) fn step(&mut self) -> Place {
        let Self { place, half_side_m, step_m, random } = self;
        place.yaw += random.random_range(-TURN_RAD..TURN_RAD);
        let (dx, dz) = (place.yaw.sin() * *step_m, place.yaw.cos() * *step_m);
        if (place.x + dx).abs() > *half_side_m || (place.z + dz).abs() > *half_side_m {
            place.yaw += std::f32::consts::PI;
        } else {
            place.x += dx;
            place.z += dz;
        }
        place.yaw = wrapped(place.yaw);
        place.y = EYES_M + random.random_range(-0.02..0.02);
        *place
    }
}

fn wrapped(angle: f32) -> f32 {
    use std::f32::consts::{PI, TAU};
    (angle + PI).rem_euclid(TAU) - PI
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_keep_moving_and_stay_inside() {
        for side in [SIDE_M, 400.0] {
            let mut walk = Walk::new(1, 7, side, 20);
            let mut before = walk.place;
            let mut still = 0;
            for _ in 0..10_000 {
                let place = walk.step();
                assert!(place.x.abs() <= side / 2.0 && place.z.abs() <= side / 2.0, "{place:?}");
                assert!(place.yaw.abs() <= 3.15, "{place:?}");
                let step = (place.x - before.x).hypot(place.z - before.z);
                assert!(step <= SPEED_M_PER_S / 20.0 + 1e-4, "{step} m");
                still += u32::from(step == 0.0);
                before = place;
            }
            assert!(still < 1_000, "turning round at the edge takes a step now and then: {still}");
        }
    }

    #[test]
    fn people_are_spread_over_the_whole_area_and_alike_for_one_seed() {
        let places =
            |seed| (0..1_000).map(|index| Walk::new(seed, index, 200.0, 20).place).collect::<Vec<_>>();
        let first = places(1);
        assert_eq!(first, places(1));
        assert_ne!(first, places(2));
        assert!(first.iter().any(|place| place.x > 90.0) && first.iter().any(|place| place.z < -90.0));
        // A quarter of them is in each quarter of the square, give or take four standard deviations.
        for (right, front) in [(true, true), (true, false), (false, true), (false, false)] {
            let there = first.iter().filter(|place| (place.x > 0.0) == right && (place.z > 0.0) == front);
            assert!((195..=305).contains(&there.count()));
        }
    }
}
