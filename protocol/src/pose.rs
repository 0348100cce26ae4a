//! A pose: head and hands at one moment, and its JSON form.

use serde::Deserialize;

use crate::error::ClientError;
use crate::limits::{MAX_ANGLE_RAD, MAX_POSITION_M};

/// Head and hands at one moment, in the room's coordinates (metres, right-handed, y up, as in WebXR).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Where the head is and where it looks.
    pub head: Part,
    /// The left hand, if it is tracked.
    pub left_hand: Option<Part>,
    /// The right hand, if it is tracked.
    pub right_hand: Option<Part>,
}

/// Position and rotation of the head or of one hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// x, y, z in metres.
    pub position: [f32; 3],
    /// Rotation, in the form in which its sender gave it.
    pub rotation: Rotation,
}

/// A rotation in one of the two forms that a client may send. A JSON client gets the sender's form back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rotation {
    /// x, y, z in radians, applied in the order XYZ (three.js' default).
    Euler([f32; 3]),
    /// x, y, z, w. Not necessarily of unit length, never near zero.
    Quaternion([f32; 4]),
}

impl Rotation {
    /// The rotation as a unit quaternion x, y, z, w.
    pub fn to_quaternion(self) -> [f32; 4] {
        match self {
            Self::Euler([x, y, z]) => {
                // Half angles are taken in f64: float32 would lose a tenth of a degree on large angles.
                let (sin_x, cos_x) = (f64::from(x) / 2.0).sin_cos();
                let (sin_y, cos_y) = (f64::from(y) / 2.0).sin_cos();
                let (sin_z, cos_z) = (f64::from(z) / 2.0).sin_cos();
                [
                    (sin_x * cos_y * cos_z + cos_x * sin_y * sin_z) as f32,
                    (cos_x * sin_y * cos_z - sin_x * cos_y * sin_z) as f32,
                    (cos_x * cos_y * sin_z + sin_x * sin_y * cos_z) as f32,
                    (cos_x * cos_y * cos_z - sin_x * sin_y * sin_z) as f32,
                ]
            }
            Self::Quaternion(q) => {
                let length = q.iter().map(|c| f64::from(*c) * f64::from(*c)).sum::<f64>().sqrt();
                if length < 1e-9 {
                    return [0.0, 0.0, 0.0, 1.0];
                }
                q.map(|c| (f64::from(c) / length) as f32)
            }
        }
    }

    fn is_valid(self) -> bool {
        match self {
            // NaN fails every comparison, so these also refuse what is not finite.
            Self::Euler(angles) => angles.iter().all(|a| a.abs() <= MAX_ANGLE_RAD),
            Self::Quaternion(q) => {
                let square = q.iter().map(|c| c * c).sum::<f32>();
                (1e-6..=1e6).contains(&square)
            }
        }
    }
}

impl Pose {
    /// Where a user stands before its first `update-position`: eye height, looking ahead.
    pub const INITIAL: Pose = Pose {
        head: Part { position: [0.0, 1.6, 0.0], rotation: Rotation::Euler([0.0; 3]) },
        left_hand: None,
        right_hand: None,
    };

    /// Head and tracked hands.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.head).chain(&self.left_hand).chain(&self.right_hand)
    }

    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// A `bad_request` that names what is out of range.
    pub fn validate(&self) -> Result<(), ClientError> {
        for part in self.parts() {
            if !part.position.iter().all(|c| c.abs() <= MAX_POSITION_M) {
                return Err(ClientError::bad_request(
                    "position must be finite and within 1,000 km of the origin",
                ));
            }
            if !part.rotation.is_valid() {
                return Err(ClientError::bad_request(
                    "rotation must be finite angles or a quaternion that is not zero",
                ));
            }
        }
        Ok(())
    }

    /// Reads the payload of `update-position`. Allocates nothing. `[x, y, z]` passes for `{x, y, z}`; what the
    /// pose goes out as is the contract's form either way.
    ///
    /// # Errors
    /// A `bad_request` if it is not JSON of that form or a number is out of range.
    pub fn from_json(json: &str) -> Result<Pose, ClientError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let pose = PoseJson::deserialize(&mut deserializer)
            .and_then(|pose| deserializer.end().map(|()| pose))
            .map_err(|_| {
                ClientError::bad_request(
                    "update-position takes {position: {x, y, z}, rotation: {x, y, z[, w]}}",
                )
            })?;
        pose.into_pose()
    }

    /// Appends the members `"position":{…},"rotation":{…}` and the tracked hands, without braces around them.
    pub fn write_json_members(&self, out: &mut Vec<u8>) {
        self.head.write_json_members(out);
        for (name, hand) in
            [(&b",\"leftHand\":{"[..], &self.left_hand), (b",\"rightHand\":{", &self.right_hand)]
        {
            if let Some(hand) = hand {
                out.extend_from_slice(name);
                hand.write_json_members(out);
                out.push(b'}');
            }
        }
    }
}

impl Part {
    fn write_json_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"position\":");
        let [x, y, z] = self.position;
        write_components(&[x, y, z], out);
        out.extend_from_slice(b",\"rotation\":");
        match &self.rotation {
            Rotation::Euler(angles) => write_components(angles, out),
            Rotation::Quaternion(q) => write_components(q, out),
        }
    }
}

fn write_components(components: &[f32], out: &mut Vec<u8>) {
    const NAMES: [&[u8]; 4] = [b"{\"x\":", b",\"y\":", b",\"z\":", b",\"w\":"];
    for (name, value) in NAMES.iter().zip(components) {
        out.extend_from_slice(name);
        write_number(*value, out);
    }
    out.push(b'}');
}

/// Appends a finite number in its shortest form that reads back as the same float32: 1.1 stays `1.1`, 2 is `2`.
pub fn write_number(value: f32, out: &mut Vec<u8>) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

#[derive(Deserialize)]
struct PoseJson {
    position: Vec3,
    #[serde(default)]
    rotation: AnyRotation,
    #[serde(default, rename = "leftHand")]
    left_hand: Option<PartJson>,
    #[serde(default, rename = "rightHand")]
    right_hand: Option<PartJson>,
}

#[derive(Deserialize)]
struct PartJson {
    position: Vec3,
    #[serde(default)]
    rotation: AnyRotation,
}

#[derive(Deserialize)]
struct Vec3 {
    x: f32,
    y: f32,
    z: f32,
}

#[derive(Deserialize, Default)]
struct AnyRotation {
    x: f32,
    y: f32,
    z: f32,
    w: Option<f32>,
}

impl PoseJson {
    fn into_pose(self) -> Result<Pose, ClientError> {
        let pose = Pose {
            head: part(&self.position, &self.rotation),
            left_hand: self.left_hand.map(|hand| part(&hand.position, &hand.rotation)),
            right_hand: self.right_hand.map(|hand| part(&hand.position, &hand.rotation)),
        };
        pose.validate()?;
        Ok(pose)
    }
}

fn part(position: &Vec3, rotation: &AnyRotation) -> Part {
    let AnyRotation { x, y, z, w } = *rotation;
    Part {
        position: [position.x, position.y, position.z],
        rotation: match w {
            Some(w) => Rotation::Quaternion([x, y, z, w]),
            None => Rotation::Euler([x, y, z]),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(json: &str) -> String {
        let mut out = Vec::new();
        Pose::from_json(json).unwrap().write_json_members(&mut out);
        format!("{{{}}}", String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_go_out_as_they_came_in() {
        for json in [
            r#"{"position":{"x":1.1,"y":1.6,"z":-0.25},"rotation":{"x":0,"y":0.7071,"z":3.1415927}}"#,
            r#"{"position":{"x":1000000,"y":0.001,"z":12.5},"rotation":{"x":0,"y":0,"z":0,"w":1}}"#,
            r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":0,"y":0,"z":0},"leftHand":{"position":{"x":0.1,"y":0.2,"z":0.3},"rotation":{"x":0,"y":0,"z":0,"w":1}},"rightHand":{"position":{"x":4,"y":5,"z":6},"rotation":{"x":0.5,"y":0,"z":0}}}"#,
        ] {
            assert_eq!(round(json), json);
        }
    }

    #[test]
    fn unknown_members_and_null_hands_are_passed_over() {
        let json = r#" {"t":[{}],"rotation":{"x":0,"y":0,"z":0,"order":"XYZ"},"position":{"z":3,"y":2,"x":1,"w":9},"leftHand":null} "#;
        assert_eq!(round(json), r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":0,"y":0,"z":0}}"#);
    }

    #[test]
    fn what_is_no_pose_is_refused() {
        for json in [
            "",
            "{}",
            "null",
            "[1,2,3]",
            r#"{"position":[1,2]}"#,
            r#"{"position":{"x":"1","y":2,"z":3}}"#,
            r#"{"position":{"x":1,"y":2}}"#,
            r#"{"position":{"x":1e39,"y":2,"z":3}}"#,
            r#"{"position":{"x":1e999,"y":2,"z":3}}"#,
            r#"{"position":{"x":null,"y":2,"z":3}}"#,
            r#"{"position":{"x":1000001,"y":2,"z":3}}"#,
            r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":0,"y":0,"z":0,"w":0}}"#,
            r#"{"position":{"x":1,"y":2,"z":3},"rotation":{"x":1e30,"y":0,"z":0}}"#,
            r#"{"position":{"x":1,"y":2,"z":3}}garbage"#,
            r#"{"position":{"x":1,"y":2,"z":3}"#,
        ] {
            assert!(Pose::from_json(json).is_err(), "{json}");
        }
    }

    #[test]
    fn euler_angles_become_the_same_quaternions_as_in_threejs() {
        // Expected values worked out by composing the three axis rotations X · Y · Z by hand.
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let quarter = std::f32::consts::FRAC_PI_2;
        for (angles, expected) in [
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]),
            ([quarter, 0.0, 0.0], [half, 0.0, 0.0, half]),
            ([0.0, quarter, 0.0], [0.0, half, 0.0, half]),
            ([0.0, 0.0, quarter], [0.0, 0.0, half, half]),
            ([quarter, quarter, 0.0], [0.5, 0.5, 0.5, 0.5]),
        ] {
            let q = Rotation::Euler(angles).to_quaternion();
            for (a, b) in q.iter().zip(expected) {
                assert!((a - b).abs() < 1e-6, "{angles:?}: {q:?}");
            }
        }
        assert_eq!(Rotation::Quaternion([0.0, 0.0, 0.0, 2.0]).to_quaternion(), [0.0, 0.0, 0.0, 1.0]);
    }
}
