//! Where a client looks from.

use serde::Deserialize;

use crate::error::ClientError;
use crate::limits::MAX_POSITION_M;

/// Payload of `view`: a viewpoint that is not the user's own place.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct View {
    /// Metres.
    pub position: Point,
    /// Metres; the room's default if absent.
    #[serde(default)]
    pub radius: Option<f32>,
}

/// A point in metres.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Point {
    /// Right.
    pub x: f32,
    /// Up.
    pub y: f32,
    /// Towards the viewer.
    pub z: f32,
}

impl View {
    pub(crate) fn parse(payload: &str) -> Result<Self, ClientError> {
        let view: Self = serde_json::from_str(payload)
            .map_err(|_| ClientError::bad_request("view takes {position: {x, y, z}[, radius]}"))?;
        view.validate()?;
        Ok(view)
    }

    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        let Point { x, y, z } = self.position;
        let in_range = [x, y, z].iter().all(|c| c.abs() <= MAX_POSITION_M)
            && self.radius.is_none_or(|radius| (0.0..=MAX_POSITION_M).contains(&radius));
        if in_range {
            Ok(())
        } else {
            Err(ClientError::bad_request("view must be within 1,000 km of the origin"))
        }
    }
}
