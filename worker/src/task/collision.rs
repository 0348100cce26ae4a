//! `collision-detection`: which bodies touch, where, and how deep they are in each other.

use parry3d_f64::bounding_volume::{Aabb, BoundingVolume as _};
use parry3d_f64::math::{Pose, Rotation, Vector};
use parry3d_f64::partitioning::{Bvh, BvhBuildStrategy};
use parry3d_f64::query::details::{
    contact_ball_ball, contact_manifold_cuboid_cuboid, intersection_test_cuboid_cuboid,
};
use parry3d_f64::query::sat::cuboid_cuboid_compute_separation_wrt_local_line;
use parry3d_f64::query::{ContactManifold, PointQuery as _};
use parry3d_f64::shape::{Ball, Cuboid, SupportMap as _};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::vector::GivenVector;
use crate::limits::{MAX_BODIES, MAX_CANDIDATES, MAX_COORDINATE, MAX_PAIRS, MIN_EXTENT};

/// Lengths of quaternions below this have no direction to speak of.
const MIN_QUATERNION: f64 = 1e-6;

/// Contacts whose depths differ by less than this part of the boxes' size are one patch.
const PATCH_TOLERANCE: f64 = 1e-6;

/// The input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    bodies: Vec<GivenBody>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "shape", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum GivenBody {
    Sphere { position: GivenVector, radius: f64 },
    Box { position: GivenVector, half_extents: GivenVector, rotation: Option<GivenRotation> },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, expecting = "[x, y, z, w] or {x, y, z, w}")]
struct GivenRotation {
    x: f64,
    y: f64,
    z: f64,
    w: f64,
}

/// Bodies to be held against each other.
#[derive(Debug)]
pub struct CollisionTask {
    bodies: Vec<Body>,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    pose: Pose,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Sphere(Ball),
    Box(Cuboid),
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Collisions {
    pairs: Vec<Pair>,
    /// Whether there are more than these.
    truncated: bool,
}

/// Two bodies that touch.
#[derive(Debug, Clone, Serialize)]
struct Pair {
    /// Their places in the input; `a` is less than `b`.
    a: usize,
    b: usize,
    /// The middle of the contact.
    point: [f64; 3],
    /// From `a` to `b`, of length 1.
    normal: [f64; 3],
    /// How far `b` would have to move along the normal to be free.
    depth: f64,
}

/// Where two bodies touch, in the world.
#[derive(Debug, Clone, Copy)]
struct Touch {
    point: Vector,
    normal: Vector,
    depth: f64,
}

impl CollisionTask {
    /// The task that `given` describes.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(super) fn new(given: Given) -> Result<Self, Invalid> {
        if given.bodies.len() > MAX_BODIES {
            return Err(Invalid(format!("payload.bodies: at most {MAX_BODIES} are taken")));
        }
        let bodies = given.bodies.into_iter().enumerate().map(|(index, body)| Body::new(index, body));
        Ok(Self { bodies: bodies.collect::<Result<_, _>>()? })
    }

    /// All pairs that touch, in the order of the input.
    pub(super) fn run(&self) -> Result<Collisions, String> {
        let mut pairs = Vec::new();
        for (a, b) in self.candidates()? {
            let Some(touch) = touch(&self.bodies[a], &self.bodies[b]) else { continue };
            if pairs.len() == MAX_PAIRS {
                return Ok(Collisions { pairs, truncated: true });
            }
            let Touch { point, normal, depth } = touch;
            pairs.push(Pair { a, b, point: point.into(), normal: normal.into(), depth });
        }
        Ok(Collisions { pairs, truncated: false })
    }

    /// All pairs whose bounding boxes overlap, in order.
    fn candidates(&self) -> Result<Vec<(usize, usize)>, String> {
        // A hair wider, so that rounding loses no pair that only just touches.
        let boxes: Vec<Aabb> = self.bodies.iter().map(|body| body.aabb().loosened(MIN_EXTENT)).collect();
        let tree = Bvh::from_leaves(BvhBuildStrategy::Binned, &boxes);
        let mut candidates = Vec::new();
        for (a, aabb) in boxes.iter().enumerate() {
            let others = tree.intersect_aabb(aabb).map(|b| b as usize).filter(|b| *b > a);
            candidates.extend(others.map(|b| (a, b)).take(MAX_CANDIDATES + 1));
            if candidates.len() > MAX_CANDIDATES {
                return Err(format!("More than {MAX_CANDIDATES} pairs of bounding boxes overlap"));
            }
        }
        candidates.sort_unstable();
        Ok(candidates)
    }
}

impl Body {
    fn new(index: usize, given: GivenBody) -> Result<Self, Invalid> {
        let place = |member: &str| format!("payload.bodies[{index}].{member}");
        match given {
            GivenBody::Sphere { position, radius } => {
                let position = position.check(|| place("position"))?;
                let radius = extent(radius, || place("radius"))?;
                Ok(Self { pose: Pose::from_translation(position), shape: Shape::Sphere(Ball::new(radius)) })
            }
            GivenBody::Box { position, half_extents, rotation } => {
                let position = position.check(|| place("position"))?;
                let half = half_extents.check(|| place("halfExtents"))?;
                for part in [half.x, half.y, half.z] {
                    extent(part, || place("halfExtents"))?;
                }
                let rotation =
                    rotation.map_or(Ok(Rotation::IDENTITY), |given| given.check(|| place("rotation")))?;
                Ok(Self { pose: Pose::from_parts(position, rotation), shape: Shape::Box(Cuboid::new(half)) })
            }
        }
    }

    fn aabb(&self) -> Aabb {
        match &self.shape {
            Shape::Sphere(ball) => ball.aabb(&self.pose),
            Shape::Box(cuboid) => cuboid.aabb(&self.pose),
        }
    }
}

impl GivenRotation {
    fn check(self, place: impl FnOnce() -> String) -> Result<Rotation, Invalid> {
        let Self { x, y, z, w } = self;
        let length = (x * x + y * y + z * z + w * w).sqrt();
        if !length.is_finite() || length < MIN_QUATERNION {
            return Err(Invalid(format!("{}: a quaternion of zero or endless length", place())));
        }
        Ok(Rotation::from_xyzw(x / length, y / length, z / length, w / length))
    }
}

fn extent(value: f64, place: impl FnOnce() -> String) -> Result<f64, Invalid> {
    if (MIN_EXTENT..=MAX_COORDINATE).contains(&value) {
        return Ok(value);
    }
    Err(Invalid(format!("{}: must be from {MIN_EXTENT} to {MAX_COORDINATE}", place())))
}

fn touch(a: &Body, b: &Body) -> Option<Touch> {
    match (&a.shape, &b.shape) {
        (Shape::Sphere(one), Shape::Sphere(two)) => touch_of_spheres(a, b, one, two),
        (Shape::Box(one), Shape::Sphere(two)) => touch_of_box_and_sphere(a, one, b, two),
        (Shape::Sphere(one), Shape::Box(two)) => {
            let touch = touch_of_box_and_sphere(b, two, a, one)?;
            Some(Touch { normal: -touch.normal, ..touch })
        }
        (Shape::Box(one), Shape::Box(two)) => touch_of_boxes(a, &a.pose.inv_mul(&b.pose), one, two),
    }
}

fn touch_of_spheres(a: &Body, b: &Body, one: &Ball, two: &Ball) -> Option<Touch> {
    // Spheres look the same from all sides, so they need not be turned.
    let offset = b.pose.translation - a.pose.translation;
    let contact = contact_ball_ball(&Pose::from_translation(offset), one, two, 0.0)?;
    let normal = contact.normal1;
    let depth = (-contact.dist).max(0.0);
    let point = a.pose.translation + normal * (one.radius - depth / 2.0);
    Some(Touch { point, normal, depth })
}

/// The library's own contact has a wrong normal if the centre is just on a face, so only its projection is used.
fn touch_of_box_and_sphere(of_box: &Body, cuboid: &Cuboid, of_ball: &Body, ball: &Ball) -> Option<Touch> {
    let centre = of_box.pose.inverse_transform_point(of_ball.pose.translation);
    let projection = cuboid.project_local_point(centre, false);
    let (direction, length) = (centre - projection.point).normalize_and_length();
    let (normal, distance) = match projection.is_inside {
        _ if length == 0.0 => (face_normal(cuboid, centre), 0.0),
        true => (-direction, -length),
        false => (direction, length),
    };
    let depth = ball.radius - distance;
    (depth >= 0.0).then(|| Touch {
        point: of_box.pose * (projection.point - normal * (depth / 2.0)),
        normal: of_box.pose.rotation * normal,
        depth,
    })
}

/// The normal of the face that a point on the surface of a box belongs to; one of them at an edge.
fn face_normal(cuboid: &Cuboid, point: Vector) -> Vector {
    let beyond = point.abs() - cuboid.half_extents;
    let axis = match beyond.max_element() {
        most if most == beyond.x => Vector::X,
        most if most == beyond.y => Vector::Y,
        _ => Vector::Z,
    };
    axis * point.dot(axis).signum()
}

/// The library's single contact of two boxes is not used: it says that there is none where edges cross, and where a
/// face lies on a smaller one. The clipped contacts, which simulations use, have neither fault.
fn touch_of_boxes(a: &Body, from_a: &Pose, one: &Cuboid, two: &Cuboid) -> Option<Touch> {
    if !intersection_test_cuboid_cuboid(from_a, one, two) {
        return None;
    }
    let mut manifold: ContactManifold<(), ()> = ContactManifold::new();
    // They do overlap, so what rounding may say otherwise is within this.
    contact_manifold_cuboid_cuboid(from_a, one, two, MIN_EXTENT, &mut manifold);
    let normal = manifold.local_n1;
    let (separation, _) = cuboid_cuboid_compute_separation_wrt_local_line(one, two, from_a, normal);
    let deepest = manifold.points.iter().map(|point| point.dist).fold(f64::INFINITY, f64::min);
    let tolerance = PATCH_TOLERANCE * one.half_extents.max_element().min(two.half_extents.max_element());
    let patch = manifold.points.iter().filter(|point| point.dist <= deepest + tolerance);
    let middles = patch.map(|point| (point.local_p1 + *from_a * point.local_p2) * 0.5);
    let (sum, count) = middles.fold((Vector::ZERO, 0.0), |(sum, count), middle| (sum + middle, count + 1.0));
    let point = if count > 0.0 {
        sum / count
    } else {
        // Clipping left nothing over: then the outermost corners must do.
        let outermost = one.local_support_point(normal) + two.support_point(from_a, -normal);
        outermost * 0.5
    };
    Some(Touch { point: a.pose * point, normal: a.pose.rotation * normal, depth: (-separation).max(0.0) })
}

#[cfg(test)]
mod tests;
