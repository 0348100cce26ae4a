//! A recording, as the replay call gives it: one JSON object per line, or an array of them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Events that are taken of a recording.
const EVENTS_MAX: usize = 5_000_000;

/// What somebody did.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    Join,
    Leave,
    /// The pose, with the members of `update-position`.
    Move(Value),
    /// Another event, and its payload.
    Say(&'static str, Value),
}

/// Something that was done in a recording.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Milliseconds since the recording's first event.
    pub(super) at_ms: u64,
    /// Which of the bots does it.
    pub(super) bot: usize,
    pub(super) deed: Deed,
}

/// A recording, ready to be played.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Recording {
    /// Oldest first. Nobody does anything before it has joined, or after it has left.
    pub(super) entries: Vec<Entry>,
    pub(super) bots: usize,
    /// Events of which nothing can be played.
    pub(super) skipped: u64,
}

/// Members that say who and when, and not what.
const ENVELOPE: [&str; 4] = ["type", "userId", "socketId", "timestamp"];

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let events: Vec<Value> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).context("the recording is no JSON array")?
        } else {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let read = |(number, line)| {
                serde_json::from_str(line).with_context(|| format!("line {} of the recording", number + 1))
            };
            lines.enumerate().map(read).collect::<Result<_>>()?
        };
        ensure!(events.len() <= EVENTS_MAX, "more than {EVENTS_MAX} events");
        let mut recording = Self::default();
        let mut names: Vec<String> = Vec::new();
        let mut inside: Vec<bool> = Vec::new();
        let start = events.iter().find_map(|event| event["timestamp"].as_u64()).unwrap_or_default();
        for event in events {
            // Two sessions of one user are two bots. Older recordings tell users only.
            let who = event["socketId"].as_str().or(event["userId"].as_str());
            let (Some(who), Some(at)) = (who, event["timestamp"].as_u64()) else {
                recording.skipped += 1;
                continue;
            };
            let at_ms = at.saturating_sub(start);
            let Some(deed) = deed(&event) else {
                recording.skipped += 1;
                continue;
            };
            let bot = names.iter().position(|name| name == who).unwrap_or_else(|| {
                names.push(who.to_owned());
                inside.push(false);
                names.len() - 1
            });
            let mut add = |deed| recording.entries.push(Entry { at_ms, bot, deed });
            match (&deed, inside[bot]) {
                (Deed::Join, false) | (Deed::Leave, true) => inside[bot] = deed == Deed::Join,
                (Deed::Join, true) | (Deed::Leave, false) => continue,
                // It was there before the recording began.
                (_, false) => {
                    add(Deed::Join);
                    inside[bot] = true;
                }
                (_, true) => {}
            }
            add(deed);
        }
        recording.entries.sort_by_key(|entry| entry.at_ms);
        recording.bots = names.len();
        Ok(recording)
    }
}

/// What an event of a recording says was done; `None` if it cannot be done again.
fn deed(event: &Value) -> Option<Deed> {
    let whole = |name: &str| match event.get(name) {
        Some(payload) => payload.clone(),
        // A recording may have what was done beside the envelope.
        None => {
            let mut members = event.clone();
            if let Some(members) = members.as_object_mut() {
                ENVELOPE.iter().for_each(|name| drop(members.remove(*name)));
            }
            members
        }
    };
    Some(match event["type"].as_str()? {
        "join" => Deed::Join,
        "leave" => Deed::Leave,
        "move" => {
            let pose = whole("pose");
            (pose["position"].is_object() && pose["rotation"].is_object()).then_some(Deed::Move(pose))?
        }
        "object-create" => Deed::Say("object-create", whole("object")),
        "object-update" => Deed::Say("object-update", without_version(whole("update"))),
        "object-delete" => Deed::Say("object-delete", serde_json::json!({ "id": event.get("id")? })),
        "user-update" => Deed::Say("user-update", whole("update")),
        "room-message" | "message" if event.get("attachments").is_none() => {
            Deed::Say("room-message", whole("message"))
        }
        _ => return None,
    })
}

/// It was granted once, and versions may differ this time.
fn without_version(mut update: Value) -> Value {
    if let Some(members) = update.as_object_mut() {
        members.remove("version");
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_and_arrays_are_read_alike_and_nobody_acts_outside() {
        let events = [
            json!({ "type": "move", "userId": "a", "timestamp": 1_000,
                    "position": { "x": 1, "y": 2, "z": 3 }, "rotation": { "x": 0, "y": 0, "z": 0 } }),
            json!({ "type": "join", "userId": "b", "socketId": "s", "timestamp": 1_200, "user": {} }),
            json!({ "type": "object-create", "userId": "b", "socketId": "s", "timestamp": 1_250, "object": { "id": 1 } }),
            json!({ "type": "leave", "userId": "b", "socketId": "s", "timestamp": 1_300 }),
            json!({ "type": "leave", "userId": "b", "socketId": "s", "timestamp": 1_301 }),
            json!({ "type": "gap", "timestamp": 1_302 }),
            json!({ "type": "new-kind", "userId": "b", "socketId": "s", "timestamp": 1_303 }),
        ];
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        let recording = Recording::parse(&lines.join("\n")).unwrap();
        assert_eq!(recording, Recording::parse(&json!(events).to_string()).unwrap());
        let deeds: Vec<_> = recording.entries.iter().map(|e| (e.at_ms, e.bot, e.deed.clone())).collect();
        let pose = json!({ "position": { "x": 1, "y": 2, "z": 3 }, "rotation": { "x": 0, "y": 0, "z": 0 } });
        let expected = [
            (0, 0, Deed::Join),
            (0, 0, Deed::Move(pose)),
            (200, 1, Deed::Join),
            (250, 1, Deed::Say("object-create", json!({ "id": 1 }))),
            (300, 1, Deed::Leave),
        ];
        assert_eq!(deeds, expected);
        assert_eq!((recording.bots, recording.skipped), (2, 2));
        assert!(Recording::parse("{\"type\":").is_err());
    }
}
