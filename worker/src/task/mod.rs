//! What a worker can do. Each task has a file of its own: what it takes, what it checks, what it answers.

mod collision;
mod hull;
mod path;
mod vector;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use collision::CollisionTask;
pub use hull::HullTask;
pub use path::PathTask;

/// A task whose input has been checked.
#[derive(Debug)]
pub enum Task {
    /// Which bodies touch.
    Collision(CollisionTask),
    /// The smallest convex body around points.
    Hull(HullTask),
    /// The cheapest way through a grid.
    Path(PathTask),
}

/// Why an input is not accepted, for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Task {
    /// The types of tasks, as they are asked for.
    pub const NAMES: [&str; 3] = ["collision-detection", "convex-hull", "path"];

    /// The task of type `name` that the JSON `payload` describes.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong, and where.
    pub fn parse(name: &str, payload: &str) -> Result<Self, Invalid> {
        match name {
            "collision-detection" => CollisionTask::new(read(payload)?).map(Self::Collision),
            "convex-hull" => HullTask::new(read(payload)?).map(Self::Hull),
            "path" => PathTask::new(read(payload)?).map(Self::Path),
            _ => {
                let known = Self::NAMES.join(", ");
                Err(Invalid(format!("There is no task of type {name:?}; there are {known}")))
            }
        }
    }

    /// Its type.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Collision(_) => Self::NAMES[0],
            Self::Hull(_) => Self::NAMES[1],
            Self::Path(_) => Self::NAMES[2],
        }
    }

    /// Does it. Takes long: milliseconds to seconds.
    ///
    /// # Errors
    /// If there is no result, for a reason that only the work itself could show.
    ///
    /// # Panics
    /// The libraries underneath may, on input that they cannot cope with.
    pub fn run(self) -> Result<Box<RawValue>, String> {
        match self {
            Self::Collision(task) => write(&task.run()?),
            Self::Hull(task) => write(&task.run()?),
            Self::Path(task) => write(&task.run()),
        }
    }
}

fn read<T: DeserializeOwned>(payload: &str) -> Result<T, Invalid> {
    // Serde would also take the members in a row, without their names.
    if !payload.trim_start().starts_with('{') {
        return Err(Invalid("payload: must be an object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(payload);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { "payload".to_owned() } else { format!("payload.{path}") };
        Invalid(format!("{place}: {}", error.inner()))
    })
}

fn write<T: Serialize>(result: &T) -> Result<Box<RawValue>, String> {
    serde_json::value::to_raw_value(result).map_err(|error| format!("The result is no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong_and_where() {
        let cases = [
            ("paint", "{}", "no task of type \"paint\""),
            ("path", "[]", "payload: must be an object"),
            ("path", "{\"rows\":[\".\"],\"start\":[0,0]}", "missing field `goal`"),
            ("convex-hull", "{\"points\":[[0,0,0],[0,\"1\",0]]}", "payload.points[1]"),
            ("convex-hull", "{\"points\":[[0,0]]}", "payload.points[0]"),
            ("convex-hull", "{\"points\":[[0,0,1e999]]}", "out of range"),
            ("convex-hull", "{\"points\":[[0,0,NaN]]}", "payload.points[0]"),
            ("convex-hull", "{\"points\":[],\"point\":1}", "unknown field `point`"),
            ("collision-detection", "{\"bodies\":[{\"shape\":\"cone\"}]}", "payload.bodies[0]"),
        ];
        for (name, payload, part) in cases {
            let error = Task::parse(name, payload).expect_err(payload).0;
            assert!(error.contains(part), "{payload}: {error}");
        }
        for name in Task::NAMES {
            let error = Task::parse(name, "null").expect_err(name).0;
            assert!(error.starts_with("payload: "), "{error}");
        }
    }
}
