//! What things are called in Redis.
//!
//! A room's id is never part of a key, only its hash is: it cannot steer where something lies. The braces keep all keys
//! of a room on one node of a cluster.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Every persistent room: its id, and `{"createdMs", "options"}`.
pub const ROOMS: &str = "copresence:rooms";

/// Who writes here, and how far it has come.
pub const WRITER: &str = "copresence:writer";

/// Every room that has a recording, by its newest hour.
pub const RECORDED: &str = "copresence:recorded";

/// Milliseconds of the hours that recordings are cut into.
pub const HOUR_MS: u64 = 3_600_000;

/// Bytes of the hash that a key has: enough that no two rooms ever share one.
const HASH_BYTES: usize = 16;

/// The keys of one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomKeys {
    prefix: String,
}

impl RoomKeys {
    /// The keys of the room of that id.
    pub fn of(room: &str) -> Self {
        let digest = Sha256::digest(room.as_bytes());
        let mut prefix = String::from("copresence:{");
        for byte in &digest[..HASH_BYTES] {
            // Writing to a text cannot fail.
            let _ = write!(prefix, "{byte:02x}");
        }
        prefix.push('}');
        Self { prefix }
    }

    /// The room's objects: a hash by their ids.
    pub fn objects(&self) -> String {
        format!("{}:objects", self.prefix)
    }

    /// The records of one hour: a stream.
    pub fn stream(&self, hour_ms: u64) -> String {
        format!("{}:replay:{hour_ms}", self.prefix)
    }

    /// The ids of that stream's keyframes: another one.
    pub fn keyframes(&self, hour_ms: u64) -> String {
        format!("{}:keyframes:{hour_ms}", self.prefix)
    }

    /// The hours that there are: a sorted set.
    pub fn hours(&self) -> String {
        format!("{}:hours", self.prefix)
    }
}

/// The beginning of the hour that a time lies in.
pub fn hour_of(ms: u64) -> u64 {
    ms - ms % HOUR_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rooms_id_cannot_steer_its_keys() {
        for id in ["a", "{a}:b", "copresence:rooms", "*\r\nFLUSHALL\r\n", "ü"] {
            let key = RoomKeys::of(id).stream(7_200_000);
            let rest = key.strip_prefix("copresence:{").unwrap();
            let (hash, rest) = rest.split_once('}').unwrap();
            assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
            assert_eq!(rest, ":replay:7200000");
        }
        assert_ne!(RoomKeys::of("a"), RoomKeys::of("b"));
    }
}
