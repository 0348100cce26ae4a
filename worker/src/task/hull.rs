//! `convex-hull`: the smallest convex body around points.

use std::collections::HashMap;

use parry3d_f64::math::Vector;
use parry3d_f64::transformation::{ConvexHullError, try_convex_hull};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::vector::GivenVector;
use crate::limits::{MAX_FACES, MAX_POINTS, MIN_EXTENT, MIN_THICKNESS};

/// The fewest points that can enclose anything.
const MIN_POINTS: usize = 4;

/// How far points are moved before the library is asked, in parts of the cloud's size, one attempt after the other.
const SHIFTS: [f64; 4] = [0.0, 1e-9, 1e-8, 1e-7];

/// How far outside of a face a point may be, in parts of the cloud's size.
const TOLERANCE: f64 = 1e-6;

/// The input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    points: Vec<GivenVector>,
}

/// Points that do enclose something.
#[derive(Debug)]
pub struct HullTask {
    points: Vec<Vector>,
}

/// A surface that may be the hull.
struct Faces {
    vertices: Vec<Vector>,
    triangles: Vec<[u32; 3]>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Hull {
    /// Those of the points that are its corners.
    vertices: Vec<[f64; 3]>,
    /// Its faces, as places in `vertices`, anticlockwise seen from outside.
    triangles: Vec<[u32; 3]>,
}

impl HullTask {
    /// The task that `given` describes.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(super) fn new(given: Given) -> Result<Self, Invalid> {
        let count = given.points.len();
        if !(MIN_POINTS..=MAX_POINTS).contains(&count) {
            let message = format!("payload.points: from {MIN_POINTS} to {MAX_POINTS} are taken, not {count}");
            return Err(Invalid(message));
        }
        let points = given.points.into_iter().enumerate();
        let checked = points.map(|(index, point)| point.check(|| format!("payload.points[{index}]")));
        let mut points: Vec<Vector> = checked.collect::<Result<_, _>>()?;
        points
            .sort_unstable_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)).then(a.z.total_cmp(&b.z)));
        points.dedup();
        if let Some(shape) = flatness(&points) {
            return Err(Invalid(format!("payload.points: they lie {shape}, and enclose nothing")));
        }
        Ok(Self { points })
    }

    /// The hull. The library goes wrong at times where many points lie in one plane, so what it says is checked, and
    /// it is asked again with the points moved a little.
    pub(super) fn run(&self) -> Result<Hull, String> {
        let size =
            self.points.iter().fold(0.0f64, |size, point| size.max((*point - self.points[0]).length()));
        let mut reason = String::new();
        for shift in SHIFTS {
            match self.attempt(shift * size) {
                Ok(hull) if hull.triangles.len() > MAX_FACES => {
                    return Err(format!("The hull has more than {MAX_FACES} faces"));
                }
                Ok(hull) if self.is_hull(&hull, TOLERANCE * size) => return Ok(hull.told()),
                Ok(_) => "the points are too close to each other or too flat".clone_into(&mut reason),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(format!("There is no hull: {reason}"))
    }

    /// What the library takes for the hull after every point was moved by less than `shift`, with the points put back.
    fn attempt(&self, shift: f64) -> Result<Faces, ConvexHullError> {
        let moved: Vec<Vector> =
            self.points.iter().zip(0..).map(|(point, index)| *point + jitter(index) * shift).collect();
        let (corners, triangles) = try_convex_hull(&moved)?;
        let bits = |point: &Vector| point.to_array().map(f64::to_bits);
        let places: HashMap<_, _> = moved.iter().map(bits).zip(&self.points).collect();
        let vertices = corners.iter().filter_map(|corner| places.get(&bits(corner)).map(|point| **point));
        Ok(Faces { vertices: vertices.collect(), triangles })
    }

    /// Whether this is a closed surface that no point lies outside of.
    fn is_hull(&self, faces: &Faces, tolerance: f64) -> bool {
        is_closed(faces.vertices.len(), &faces.triangles)
            && faces.triangles.iter().all(|triangle| {
                let [a, b, c] = triangle.map(|index| faces.vertices[index as usize]);
                let (normal, area) = (b - a).cross(c - a).normalize_and_length();
                // Slivers have no direction; their neighbours stand for them.
                let is_sliver = area < tolerance * (b - a).length().max((c - a).length());
                is_sliver || {
                    let level = a.dot(normal) + tolerance;
                    self.points.iter().all(|point| point.dot(normal) <= level)
                }
            })
    }
}

impl Faces {
    fn told(self) -> Hull {
        Hull { vertices: self.vertices.into_iter().map(Into::into).collect(), triangles: self.triangles }
    }
}

/// Parts from -1 to 1 that look random and are the same every time, so that a task has one result.
fn jitter(index: u32) -> Vector {
    // Steps of irrational length around a circle: they never meet again, and no two axes go together.
    let part = |step: f64| (f64::from(index) * step).fract() * 2.0 - 1.0;
    Vector::new(part(0.819_172_513_396), part(0.671_043_606_703), part(0.549_700_477_901))
}

/// How points lie that have no volume to speak of.
fn flatness(points: &[Vector]) -> Option<&'static str> {
    let origin = points[0];
    let farthest = |measure: &dyn Fn(Vector) -> f64| {
        let far =
            points.iter().map(|point| *point - origin).max_by(|a, b| measure(*a).total_cmp(&measure(*b)));
        far.map_or((Vector::ZERO, 0.0), |far| (far, measure(far)))
    };
    let (along, length) = farthest(&|offset| offset.length());
    if length < MIN_EXTENT {
        return Some("at one place");
    }
    let direction = along / length;
    let (across, width) = farthest(&|offset| offset.cross(direction).length());
    if width < MIN_THICKNESS * length {
        return Some("in a line");
    }
    let normal = direction.cross(across).normalize();
    let (_, height) = farthest(&|offset| offset.dot(normal).abs());
    (height < MIN_THICKNESS * length).then_some("in a plane")
}

/// Whether the triangles make one surface without a gap: each of their edges is gone along once in each direction, and
/// corners, edges and faces are as many as on any body without a hole.
fn is_closed(vertices: usize, triangles: &[[u32; 3]]) -> bool {
    let mut edges: Vec<(u32, u32)> =
        triangles.iter().flat_map(|&[a, b, c]| [(a, b), (b, c), (c, a)]).collect();
    edges.sort_unstable();
    let is_paired = |&(from, to): &(u32, u32)| from != to && edges.binary_search(&(to, from)).is_ok();
    let is_once = edges.windows(2).all(|pair| pair[0] != pair[1]);
    is_once && edges.iter().all(is_paired) && vertices + triangles.len() == edges.len() / 2 + 2
}

#[cfg(test)]
mod tests;
