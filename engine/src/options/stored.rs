//! A room's options as the store keeps them.

use serde::{Deserialize, Serialize};

use super::{Password, RoomOptions, TickRate, ViewOptions};

/// A member that is added needs a default for rooms that were stored before.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredOptions {
    max_users: usize,
    persistent: bool,
    tick_hz: TickRate,
    #[serde(default)]
    view: ViewOptions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Password>,
    /// Absent from what was stored before a password kept a room from being recorded unasked.
    #[serde(default)]
    recorded: Option<bool>,
    /// What stood there then: of a room with a password nobody can tell whether that was asked for. It is still written,
    /// because an earlier version that takes the room over would record it otherwise.
    #[serde(default)]
    record: Option<bool>,
    #[serde(default)]
    record_messages: bool,
}

impl From<StoredOptions> for RoomOptions {
    fn from(stored: StoredOptions) -> Self {
        let StoredOptions { max_users, persistent, tick_hz, view, password, record_messages, .. } = stored;
        let unasked = || password.is_none() && stored.record.unwrap_or(true);
        let record = stored.recorded.unwrap_or_else(unasked);
        Self { max_users, persistent, tick_hz, view, password, record, record_messages }
    }
}

impl From<RoomOptions> for StoredOptions {
    fn from(options: RoomOptions) -> Self {
        let RoomOptions { max_users, persistent, tick_hz, view, password, record, record_messages } = options;
        let (recorded, record) = (Some(record), Some(record));
        Self { max_users, persistent, tick_hz, view, password, recorded, record, record_messages }
    }
}
