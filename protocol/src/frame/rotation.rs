//! Rotations in 32 bits.

/// The highest step of a rotation's component.
const ROTATION_STEPS: f64 = 1023.0;
/// The components that stay when the one of that index is dropped.
const OTHERS: [[usize; 3]; 4] = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];
/// The angle of error, in radians (0.23°), from which on plain rounding is not good enough.
const ROUNDING_ANGLE_MAX: f64 = 0.004;

/// A quaternion (x, y, z, w; any length) in 32 bits, "smallest three".
///
/// Each of the three components is rounded to the nearest step, except where the three errors would add up:
/// then one of them goes to the step on its other side. That keeps the angle within 0.25°, where plain
/// rounding reaches 0.28°.
pub fn quantise_rotation(quaternion: [f32; 4]) -> u32 {
    let unit = normalised(quaternion.map(f64::from));
    let largest = (1..4).fold(0, |best, at| if unit[at].abs() > unit[best].abs() { at } else { best });
    // A quaternion and its negative are the same rotation; the one whose dropped component is positive is sent.
    let sign = if unit[largest] < 0.0 { -1.0 } else { 1.0 };
    let small = OTHERS[largest].map(|at| sign * unit[at]);
    let dropped = unit[largest].abs();
    let mut steps = small.map(|c| ((c * std::f64::consts::SQRT_2 + 1.0) / 2.0 * ROTATION_STEPS).round());
    if angle_squared(&steps, &small, dropped) > ROUNDING_ANGLE_MAX * ROUNDING_ANGLE_MAX {
        steps = best_neighbour(steps, &small, dropped);
    }
    steps.iter().fold(largest as u32, |bits, step| (bits << 10) | step.clamp(0.0, ROTATION_STEPS) as u32)
}

/// The unit quaternion (x, y, z, w) that 32 bits stand for. Every value of `bits` stands for one.
pub fn dequantise_rotation(bits: u32) -> [f32; 4] {
    let largest = (bits >> 30) as usize;
    let small = [20, 10, 0].map(|shift| step_value(f64::from((bits >> shift) & 1023)));
    let squares: f64 = small.iter().map(|c| c * c).sum();
    let mut unit = [0.0; 4];
    unit[largest] = (1.0 - squares).max(0.0).sqrt();
    for (at, value) in OTHERS[largest].iter().zip(small) {
        unit[*at] = value;
    }
    // No writer makes three components longer than 1, but a hostile one may.
    normalised(unit).map(|component| component as f32)
}

fn step_value(step: f64) -> f64 {
    (step / ROTATION_STEPS * 2.0 - 1.0) / std::f64::consts::SQRT_2
}

/// The angle between what the steps stand for and the truth, squared, in first order.
fn angle_squared(steps: &[f64; 3], small: &[f64; 3], dropped: f64) -> f64 {
    let errors = [0, 1, 2].map(|at| step_value(steps[at]) - small[at]);
    let squares: f64 = errors.iter().map(|error| error * error).sum();
    // The receiver works out the dropped component from the others, so their errors meet in it.
    let in_dropped = errors.iter().zip(small).map(|(error, c)| error * c).sum::<f64>() / dropped;
    4.0 * (squares + in_dropped * in_dropped)
}

/// `steps` with one of them moved to the other side of the truth, where that makes the angle smaller.
fn best_neighbour(steps: [f64; 3], small: &[f64; 3], dropped: f64) -> [f64; 3] {
    let mut best = steps;
    for at in 0..3 {
        let mut candidate = steps;
        candidate[at] += if step_value(steps[at]) > small[at] { -1.0 } else { 1.0 };
        let inside = (0.0..=ROTATION_STEPS).contains(&candidate[at]);
        let angle = angle_squared(&candidate, small, dropped);
        if inside && angle < angle_squared(&best, small, dropped) {
            best = candidate;
        }
    }
    best
}

/// Of unit length; no rotation if there is no direction in it.
fn normalised(quaternion: [f64; 4]) -> [f64; 4] {
    let length = quaternion.iter().map(|c| c * c).sum::<f64>().sqrt();
    if length.is_finite() && length > 1e-9 { quaternion.map(|c| c / length) } else { [0.0, 0.0, 0.0, 1.0] }
}
