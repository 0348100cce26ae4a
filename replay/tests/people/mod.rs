//! A room of people who stroll about, whose heads bob and sway, and half of whom have hands.
//!
//! The walk is the load generator's: a random turn at every step, a random height within 4 cm. On top of it come what
//! a headset measures of anybody who stands still: millimetres of sway, degrees of nodding, arms that swing.

use protocol::{Part, Pose, Rotation};
use replay::{MemberId, PoseSample, PoseSamples};

const SIDE_M: f32 = 40.0;
const SPEED_M_PER_S: f32 = 1.2;
const EYES_M: f32 = 1.6;
/// Steps of the walk per second.
const WALK_HZ: u32 = 20;

/// People in a room, the same for the same seed.
pub(crate) struct People {
    people: Vec<Person>,
    random: Random,
    now_ms: u64,
}

struct Person {
    x: f32,
    z: f32,
    yaw: f32,
    swing: f32,
    has_hands: bool,
}

impl People {
    /// `count` people, of whom every second one has hands.
    pub(crate) fn new(count: u32, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let people = (0..count).map(|index| Person {
            x: random.within(SIDE_M / 2.0),
            z: random.within(SIDE_M / 2.0),
            yaw: random.within(std::f32::consts::PI),
            swing: random.within(3.0),
            has_hands: index % 2 == 1,
        });
        let people = people.collect();
        Self { people, random, now_ms: 1_700_000_000_000 }
    }

    /// What is recorded of one second at `hz` samples a second.
    pub(crate) fn second(&mut self, hz: u32) -> PoseSamples {
        let mut poses = PoseSamples::default();
        for instant in 0..hz {
            let steps = WALK_HZ / hz;
            self.now_ms += u64::from(1_000 / hz);
            poses.instants_ms.push(self.now_ms);
            for (person, member) in self.people.iter_mut().zip(0..) {
                for _ in 0..steps {
                    person.step(&mut self.random);
                }
                let pose = person.pose(&mut self.random);
                poses.samples.push(PoseSample { instant: instant as u16, member: MemberId(member), pose });
            }
        }
        poses
    }
}

impl Person {
    fn step(&mut self, random: &mut Random) {
        self.yaw += random.within(0.15);
        self.swing += 0.3;
        let step_m = SPEED_M_PER_S / WALK_HZ as f32;
        let (x, z) = (self.x + self.yaw.sin() * step_m, self.z + self.yaw.cos() * step_m);
        if x.abs() > SIDE_M / 2.0 || z.abs() > SIDE_M / 2.0 {
            self.yaw += std::f32::consts::PI;
        } else {
            (self.x, self.z) = (x, z);
        }
    }

    fn pose(&self, random: &mut Random) -> Pose {
        let sway = |random: &mut Random| random.within(0.004);
        let y = EYES_M + random.within(0.02);
        let angles = [random.within(0.03), self.yaw, random.within(0.02)];
        let position = [self.x + sway(random), y, self.z + sway(random)];
        if !self.has_hands {
            return Pose {
                head: Part { position, rotation: Rotation::Euler(angles) },
                left_hand: None,
                right_hand: None,
            };
        }
        let mut hand = |side: f32| {
            let ahead = 0.3 + side * 0.15 * self.swing.sin();
            let (sin, cos) = self.yaw.sin_cos();
            let offset = [side * 0.25 * cos + ahead * sin, -0.45, ahead * cos - side * 0.25 * sin];
            let mut at = position;
            for (metres, offset) in at.iter_mut().zip(offset) {
                *metres += offset + random.within(0.005);
            }
            let angles = [0.5 + random.within(0.05), self.yaw + random.within(0.05), random.within(0.05)];
            Some(Part { position: at, rotation: quaternion(angles) })
        };
        let (left_hand, right_hand) = (hand(-1.0), hand(1.0));
        Pose { head: Part { position, rotation: quaternion(angles) }, left_hand, right_hand }
    }
}

fn quaternion(angles: [f32; 3]) -> Rotation {
    Rotation::Quaternion(Rotation::Euler(angles).to_quaternion())
}

/// How many samples these are, hands counted like heads.
pub(crate) fn parts(poses: &PoseSamples) -> usize {
    poses.samples.iter().map(|sample| sample.pose.parts().count()).sum()
}

/// A xorshift generator: good enough to shake heads.
struct Random(u64);

impl Random {
    /// Evenly from `-half` to `half`.
    fn within(&mut self, half: f32) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0) * half
    }
}
