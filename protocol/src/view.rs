//! Where a client looks from.

use serde::Deserialize;

use crate::error::ClientError;
use crate::limits::MAX_POSITION_M;

/// Payload of `view`: a viewpoint, or how far to see from it, or both. The default is to look from where one stands,
/// as far as the room lets.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
pub struct View {
    /// Metres; without, wherever the user stands.
    #[serde(default)]
    pub position: Option<Point>,
    /// Metres; the room's if absent.
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
    /// The view that `payload` asks for. None at all asks for the default, like `null` and `{}`.
    pub(crate) fn parse(payload: &str) -> Result<Self, ClientError> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let view: Option<Self> = serde_json::from_str(payload)
            .map_err(|_| ClientError::bad_request("view takes {[position: {x, y, z}][, radius]}"))?;
        let view = view.unwrap_or_default();
        view.validate()?;
        Ok(view)
    }

    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        let is_near = |Point { x, y, z }: Point| [x, y, z].iter().all(|c| c.abs() <= MAX_POSITION_M);
        if !self.position.is_none_or(is_near) {
            return Err(ClientError::bad_request("view.position must be within 1,000 km of the origin"));
        }
        if !self.radius.is_none_or(|radius| (0.0..=MAX_POSITION_M).contains(&radius)) {
            return Err(ClientError::bad_request("view.radius must be 0 to 1,000,000 metres"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Point = Point { x: 0.0, y: 0.0, z: 0.0 };

    #[test]
    fn without_a_position_one_looks_from_where_one_stands() {
        for payload in ["", "null", "{}", r#"{"position":null,"radius":null}"#, r#"{"later":1}"#] {
            assert_eq!(View::parse(payload).unwrap(), View::default(), "{payload}");
        }
        let near = View { position: None, radius: Some(2.5) };
        assert_eq!(View::parse(r#"{"radius":2.5}"#).unwrap(), near);
        let there = View { position: Some(ORIGIN), radius: Some(0.0) };
        assert_eq!(View::parse(r#"{"position":{"x":0,"y":0,"z":0},"radius":0}"#).unwrap(), there);
        assert_eq!(View::parse(r#"{"position":{"x":0,"y":-1000000,"z":0}}"#).unwrap().radius, None);
    }

    #[test]
    fn what_is_no_view_is_refused() {
        for payload in [
            "7",
            "true",
            "{",
            r#"{"position":{"x":1,"y":2}}"#,
            r#"{"position":{"x":"1","y":2,"z":3}}"#,
            r#"{"position":{"x":1000001,"y":0,"z":0}}"#,
            r#"{"position":{"x":0,"y":0,"z":1e300}}"#,
            r#"{"radius":-1}"#,
            r#"{"radius":1000001}"#,
            r#"{"radius":"far"}"#,
        ] {
            let error = View::parse(payload).expect_err(payload);
            assert_eq!(error.code, crate::error::ErrorCode::BadRequest, "{payload}");
        }
    }
}
