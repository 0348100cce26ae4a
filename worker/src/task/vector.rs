//! Vectors as they come and go.

use parry3d_f64::math::Vector;
use serde::Deserialize;

use super::Invalid;
use crate::limits::MAX_COORDINATE;

/// Three numbers, as an array or by their names.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, expecting = "[x, y, z] or {x, y, z}")]
pub(super) struct GivenVector {
    x: f64,
    y: f64,
    z: f64,
}

impl GivenVector {
    /// The vector, if it is not too far away. `place` says in an error which it is.
    pub(super) fn check(self, place: impl FnOnce() -> String) -> Result<Vector, Invalid> {
        let Self { x, y, z } = self;
        // Written so that what is no number does not pass.
        if [x, y, z].iter().all(|part| part.abs() <= MAX_COORDINATE) {
            return Ok(Vector::new(x, y, z));
        }
        Err(Invalid(format!("{}: coordinates must be within ±{MAX_COORDINATE}", place())))
    }
}
