//! Poses to send, and how near to them what is seen must be.

use protocol::{Part, Pose, Rotation};
use serde_json::Value;

/// Members of a user's JSON that make up its pose.
pub(crate) const POSE_MEMBERS: [&str; 4] = ["position", "rotation", "leftHand", "rightHand"];

/// Half a step of a head's position in a frame, in metres.
const HEAD_ERROR_M_MAX: f32 = 0.5 / 1024.0;
/// Half a step of a hand's.
const HAND_ERROR_M_MAX: f32 = 0.5 / 4096.0;
const ROTATION_ERROR_DEGREES_MAX: f64 = 0.25;

/// The members of a user's JSON that are its pose.
pub(crate) fn pose_of(user: &Value) -> Value {
    let members = POSE_MEMBERS.iter().filter(|name| !user[**name].is_null());
    members.map(|name| ((*name).to_owned(), user[*name].clone())).collect()
}

/// The members that a pose has as JSON.
pub(crate) fn pose_json(pose: &Pose) -> Value {
    let mut out = vec![b'{'];
    pose.write_json_members(&mut out);
    out.push(b'}');
    serde_json::from_slice(&out).unwrap()
}

/// A pose unlike every other of a different number, off the steps of a frame, with hands now and then.
pub(crate) fn pose_numbered(number: u32) -> Pose {
    let turn = number as f32 * 0.37;
    let (x, z) = (number as f32 + (number % 89) as f32 / 89.0, 40.0 * turn.sin());
    let head = if number.is_multiple_of(2) {
        Rotation::Euler([turn.sin(), turn, 0.2])
    } else {
        Rotation::Quaternion([turn.sin(), turn.cos(), 0.3, -0.4])
    };
    let hand = |offset: f32, rotation| Part { position: [x + offset, 1.1, z + offset], rotation };
    Pose {
        head: Part { position: [x, 1.55, z], rotation: head },
        left_hand: number.is_multiple_of(3).then(|| hand(0.51, Rotation::Quaternion([0.0, 0.0, 0.6, 0.8]))),
        right_hand: number.is_multiple_of(5).then(|| hand(-0.34, Rotation::Euler([turn.cos(), 0.0, turn]))),
    }
}

/// What a frame said is `truth`, but for what the frame's steps lose.
#[track_caller]
pub(crate) fn assert_near(seen: &Pose, truth: &Pose, what: &str) {
    assert_part_near(&seen.head, &truth.head, HEAD_ERROR_M_MAX, what);
    for (seen, truth) in [(seen.left_hand, truth.left_hand), (seen.right_hand, truth.right_hand)] {
        assert_eq!(seen.is_some(), truth.is_some(), "hands of {what}");
        if let (Some(seen), Some(truth)) = (seen, truth) {
            assert_part_near(&seen, &truth, HAND_ERROR_M_MAX, what);
        }
    }
}

#[track_caller]
fn assert_part_near(seen: &Part, truth: &Part, error_m_max: f32, what: &str) {
    for (seen, truth) in seen.position.into_iter().zip(truth.position) {
        // What float32 can tell apart out there is added to the step.
        let bound = error_m_max + truth.abs() * f32::EPSILON;
        assert!((seen - truth).abs() <= bound, "{what}: {seen} for {truth}");
    }
    let [seen, truth] = [seen, truth].map(|part| part.rotation.to_quaternion().map(f64::from));
    let chord = |sign: f64| {
        let squares = seen.iter().zip(truth).map(|(a, b)| (a - sign * b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let degrees = (4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin()).to_degrees();
    assert!(degrees <= ROTATION_ERROR_DEGREES_MAX, "{what}: {seen:?} for {truth:?}, {degrees}° off");
}
