//! How people move: they stroll about, turn where they go, and their heads bob.

use rand::{Rng, RngExt};

/// Half the side of the square that people stay in, in metres.
const HALF_SIDE_M: f32 = 20.0;
/// How fast people walk, in metres per second.
const SPEED_M_PER_S: f32 = 1.2;
/// How far a step may turn, in radians either way.
const TURN_RAD: f32 = 0.15;
/// Height of the eyes, in metres.
const EYES_M: f32 = 1.6;

/// Where somebody stands and looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
    /// Radians around the vertical axis.
    pub(crate) yaw: f32,
}

/// One person's random walk.
#[derive(Debug)]
pub(crate) struct Walk {
    place: Place,
    step_m: f32,
}

impl Walk {
    /// Somebody somewhere, who will take `hz` steps per second.
    pub(crate) fn new(random: &mut impl Rng, hz: u32) -> Self {
        let mut within = |half: f32| random.random_range(-half..half);
        let place = Place {
            x: within(HALF_SIDE_M),
            y: EYES_M,
            z: within(HALF_SIDE_M),
            yaw: within(std::f32::consts::PI),
        };
        Self { place, step_m: SPEED_M_PER_S / hz as f32 }
    }

    /// Takes a step and says where it led.
    pub(crate) fn step(&mut self, random: &mut impl Rng) -> Place {
        let place = &mut self.place;
        place.yaw += random.random_range(-TURN_RAD..TURN_RAD);
        let (dx, dz) = (place.yaw.sin() * self.step_m, place.yaw.cos() * self.step_m);
        if (place.x + dx).abs() > HALF_SIDE_M || (place.z + dz).abs() > HALF_SIDE_M {
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
        let mut random = rand::rng();
        let mut walk = Walk::new(&mut random, 20);
        let mut before = walk.place;
        let mut still = 0;
        for _ in 0..10_000 {
            let place = walk.step(&mut random);
            assert!(place.x.abs() <= HALF_SIDE_M && place.z.abs() <= HALF_SIDE_M, "{place:?}");
            assert!(place.yaw.abs() <= 3.15, "{place:?}");
            still += u32::from((place.x, place.z) == (before.x, before.z));
            before = place;
        }
        assert!(still < 1_000, "turning round at the edge takes a step now and then: {still}");
    }
}
