//! A head or a hand as small whole numbers.

use std::f64::consts::PI;

use protocol::limits::MAX_POSITION_M;
use protocol::{Part, Rotation};

use super::{EULER, FLIPPED};
use crate::codec::Damaged;

/// Steps of a position per metre.
const STEPS_PER_M: f64 = 1_000.0;
/// How far a position reaches on each axis, in steps.
const POSITION_MAX: i32 = (MAX_POSITION_M as f64 * STEPS_PER_M) as i32;
/// Steps of a quaternion's component per 1. A rotation is then within 0.13° of the truth.
const ROTATION_STEPS: f64 = 1_024.0;
/// The largest of the three smaller components of a unit quaternion is √½.
const ROTATION_MAX: i32 = 725;
/// The components that stay when the one of that index is left out.
const OTHERS: [[usize; 3]; 4] = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];
/// The sine of an angle around y from which on those around x and z are one.
const GIMBAL_LOCK: f64 = 0.999_999_999_9;

/// One sample of one part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantised {
    /// Three of the position, relative to some origin, then the rotation's three smaller components.
    pub(super) values: [i32; 6],
    /// Which component of the rotation has been left out: the one of largest magnitude, taken positive.
    pub(super) largest: u8,
    /// It is its track's first.
    pub(super) starts: bool,
}

/// The form in which a sender gave a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Quaternion,
    Euler {
        /// The angle around y is beyond a quarter turn.
        is_flipped: bool,
    },
}

impl Form {
    pub(super) fn bits(self, part: usize) -> u8 {
        match self {
            Self::Quaternion => 0,
            Self::Euler { is_flipped: false } => EULER[part],
            Self::Euler { is_flipped: true } => EULER[part] | FLIPPED[part],
        }
    }

    pub(super) fn of(mask: u8, part: usize) -> Self {
        match mask & EULER[part] {
            0 => Self::Quaternion,
            _ => Self::Euler { is_flipped: mask & FLIPPED[part] != 0 },
        }
    }
}

impl Quantised {
    /// `part` relative to `origin`. What is out of range is brought to the nearest value that can be written.
    pub(super) fn new(part: &Part, origin: [i32; 3], starts: bool) -> (Self, Form) {
        let [x, y, z] = part.position.map(|metres| {
            // The cast makes 0 of NaN, and saturates.
            let steps = (f64::from(metres) * STEPS_PER_M).round() as i32;
            steps.clamp(-POSITION_MAX, POSITION_MAX)
        });
        let (largest, [a, b, c]) = smallest_three(part.rotation.to_quaternion().map(f64::from));
        let form = match part.rotation {
            Rotation::Quaternion(_) => Form::Quaternion,
            Rotation::Euler([_, y, _]) => Form::Euler { is_flipped: f64::from(y).cos() < 0.0 },
        };
        let values = [x - origin[0], y - origin[1], z - origin[2], a, b, c];
        (Self { values, largest, starts }, form)
    }

    /// A place for one that is still to be read.
    pub(super) fn unread(starts: bool) -> Self {
        Self { values: [0; 6], largest: 0, starts }
    }

    /// Where it is, relative to its origin.
    pub(super) fn position(&self) -> [i32; 3] {
        [self.values[0], self.values[1], self.values[2]]
    }

    /// The head or hand. Out of range is only what nobody has written.
    pub(super) fn part(&self, origin: [i32; 3], form: Form) -> Result<Part, Damaged> {
        let [x, y, z, a, b, c] = self.values;
        let mut position = [0.0; 3];
        for ((metres, steps), origin) in position.iter_mut().zip([x, y, z]).zip(origin) {
            let steps = steps.checked_add(origin).ok_or(Damaged)?;
            if steps.unsigned_abs() > POSITION_MAX as u32 {
                return Err(Damaged);
            }
            *metres = (f64::from(steps) / STEPS_PER_M) as f32;
        }
        if [a, b, c].iter().any(|steps| steps.unsigned_abs() > ROTATION_MAX as u32) {
            return Err(Damaged);
        }
        let unit = unit_quaternion(self.largest, [a, b, c]);
        let rotation = match form {
            Form::Quaternion => Rotation::Quaternion(unit.map(|c| c as f32)),
            Form::Euler { is_flipped } => Rotation::Euler(euler(unit, is_flipped).map(|a| a as f32)),
        };
        Ok(Part { position, rotation })
    }
}

fn smallest_three(unit: [f64; 4]) -> (u8, [i32; 3]) {
    let largest = (1..4).fold(0, |best, at| if unit[at].abs() > unit[best].abs() { at } else { best });
    // A quaternion and its negative are the same rotation.
    let steps = if unit[largest] < 0.0 { -ROTATION_STEPS } else { ROTATION_STEPS };
    (largest as u8, OTHERS[largest].map(|at| (unit[at] * steps).round() as i32))
}

fn unit_quaternion(largest: u8, steps: [i32; 3]) -> [f64; 4] {
    let largest = usize::from(largest & 3);
    let small = steps.map(|steps| f64::from(steps) / ROTATION_STEPS);
    let squares: f64 = small.iter().map(|c| c * c).sum();
    let mut unit = [0.0; 4];
    unit[largest] = (1.0 - squares).max(0.0).sqrt();
    for (at, value) in OTHERS[largest].into_iter().zip(small) {
        unit[at] = value;
    }
    if squares > 1.0 {
        // Nobody writes three components that are longer than 1 together, but they can be written.
        let length = squares.sqrt();
        unit = unit.map(|c| c / length);
    }
    unit
}

/// The angles x, y, z of the order XYZ, each within half a turn.
fn euler([x, y, z, w]: [f64; 4], is_flipped: bool) -> [f64; 3] {
    // The elements of the rotation's matrix that say it, row by row.
    let m11 = 1.0 - 2.0 * (y * y + z * z);
    let m12 = 2.0 * (x * y - z * w);
    let m13 = (2.0 * (x * z + y * w)).clamp(-1.0, 1.0);
    let m23 = 2.0 * (y * z - x * w);
    let m33 = 1.0 - 2.0 * (x * x + y * y);
    let around_y = m13.asin();
    let angles = if m13.abs() < GIMBAL_LOCK {
        [(-m23).atan2(m33), around_y, (-m12).atan2(m11)]
    } else {
        let m22 = 1.0 - 2.0 * (x * x + z * z);
        let m32 = 2.0 * (y * z + x * w);
        [m32.atan2(m22), around_y, 0.0]
    };
    if is_flipped {
        // The other three angles of the same rotation.
        let [x, y, z] = angles;
        [half_turn_on(x), PI.copysign(y) - y, half_turn_on(z)]
    } else {
        angles
    }
}

/// The angle half a turn on, again within half a turn.
fn half_turn_on(angle: f64) -> f64 {
    if angle > 0.0 { angle - PI } else { angle + PI }
}
