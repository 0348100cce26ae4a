//! A room's options.

use protocol::error::ClientError;
use protocol::limits::{MAX_PASSWORD_BYTES, TICK_HZ_RANGE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What can be chosen for a room when it is created. It stays so for the room's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomOptions {
    /// How many may be in it at once.
    pub max_users: usize,
    /// Whether the room and its objects survive being empty and the server's end.
    pub persistent: bool,
    /// Ticks per second.
    pub tick_hz: u32,
    /// What a join must bring along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}

/// Options as they are asked for: what is absent takes the server's default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomRequest {
    /// See [`RoomOptions::max_users`].
    pub max_users: Option<usize>,
    /// See [`RoomOptions::persistent`].
    pub persistent: Option<bool>,
    /// See [`RoomOptions::tick_hz`].
    pub tick_hz: Option<u32>,
    /// In clear, as the creator sent it.
    pub password: Option<String>,
}

/// What the server gives a room that does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomDefaults {
    /// Users in a room whose creator names no number.
    pub max_users: usize,
    /// The most that a creator may name.
    pub max_users_limit: usize,
    /// Ticks per second of a room whose creator names no rate.
    pub tick_hz: u32,
    /// Objects in one room.
    pub max_objects: usize,
}

impl Default for RoomDefaults {
    fn default() -> Self {
        Self { max_users: 50, max_users_limit: 10_000, tick_hz: 20, max_objects: 4_096 }
    }
}

impl RoomDefaults {
    /// The options of a room that nobody has chosen any for.
    pub fn options(&self) -> RoomOptions {
        RoomOptions {
            max_users: self.max_users.min(self.max_users_limit),
            persistent: false,
            tick_hz: self.tick_hz,
            password: None,
        }
    }

    /// The options that `request` asks for. `salt` is sixteen random bytes for the password's digest.
    ///
    /// # Errors
    /// A `bad_request` that names the option which is out of range.
    pub fn accept(&self, request: &RoomRequest, salt: [u8; 16]) -> Result<RoomOptions, ClientError> {
        let options = self.options();
        let max_users = request.max_users.unwrap_or(options.max_users);
        if !(1..=self.max_users_limit).contains(&max_users) {
            return Err(ClientError::bad_request(format!("maxUsers must be 1 to {}", self.max_users_limit)));
        }
        let tick_hz = request.tick_hz.unwrap_or(options.tick_hz);
        if !TICK_HZ_RANGE.contains(&tick_hz) {
            return Err(ClientError::bad_request("tickHz must be 1 to 90"));
        }
        let password = match request.password.as_deref() {
            None | Some("") => None,
            Some(text) if text.len() > MAX_PASSWORD_BYTES => {
                return Err(ClientError::bad_request("password must be at most 128 bytes"));
            }
            Some(text) => Some(Password::new(text, salt)),
        };
        Ok(RoomOptions { max_users, persistent: request.persistent.unwrap_or(false), tick_hz, password })
    }
}

impl RoomOptions {
    /// Whether a room with these options is what `wanted` (whose password is `password` in clear) asks for.
    /// Two digests of one password differ by their salt, so the clear text is compared with the digest.
    pub fn matches(&self, wanted: &RoomOptions, password: Option<&str>) -> bool {
        let same_password = match (&self.password, password.filter(|text| !text.is_empty())) {
            (None, None) => true,
            (Some(own), Some(text)) => own.is(text),
            _ => false,
        };
        same_password
            && (self.max_users, self.persistent, self.tick_hz)
                == (wanted.max_users, wanted.persistent, wanted.tick_hz)
    }

    /// Whether `given` opens the room.
    pub fn admits(&self, given: Option<&str>) -> bool {
        self.password.as_ref().is_none_or(|password| given.is_some_and(|text| password.is(text)))
    }
}

/// A room's password as a salted SHA-256 digest.
///
/// Not a slow hash on purpose: it is checked on a core that moves people's poses, at the request of anybody who
/// has a token, and a hash that costs milliseconds would be a way to stop that core. It guards a room, whose
/// content lies beside it in the same database, and the salt keeps equal passwords apart.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    salt: [u8; 16],
    digest: [u8; 32],
}

impl Password {
    /// The digest of `text` under `salt`.
    pub fn new(text: &str, salt: [u8; 16]) -> Self {
        Self { salt, digest: digest(&salt, text) }
    }

    /// Whether this is the digest of `text`, in a time that does not tell how near a wrong one is.
    pub fn is(&self, text: &str) -> bool {
        let other = digest(&self.salt, text);
        self.digest.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

fn digest(salt: &[u8; 16], text: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(text).finalize().into()
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: RoomDefaults =
        RoomDefaults { max_users: 50, max_users_limit: 100, tick_hz: 20, max_objects: 10 };

    #[test]
    fn what_is_not_asked_for_takes_the_default() {
        assert_eq!(DEFAULTS.accept(&RoomRequest::default(), [0; 16]).unwrap(), DEFAULTS.options());
    }

    #[test]
    fn out_of_range_options_are_refused() {
        for request in [
            RoomRequest { max_users: Some(0), ..RoomRequest::default() },
            RoomRequest { max_users: Some(101), ..RoomRequest::default() },
            RoomRequest { tick_hz: Some(0), ..RoomRequest::default() },
            RoomRequest { tick_hz: Some(91), ..RoomRequest::default() },
            RoomRequest { password: Some("x".repeat(129)), ..RoomRequest::default() },
        ] {
            assert!(DEFAULTS.accept(&request, [0; 16]).is_err(), "{request:?}");
        }
    }

    #[test]
    fn a_password_opens_its_room_only() {
        let request = RoomRequest { password: Some("sesame".into()), ..RoomRequest::default() };
        let options = DEFAULTS.accept(&request, [7; 16]).unwrap();
        assert!(options.admits(Some("sesame")));
        assert!(!options.admits(Some("Sesame")) && !options.admits(Some("")) && !options.admits(None));
        assert!(DEFAULTS.options().admits(Some("anything")), "a room without a password takes any");
        let again = DEFAULTS.accept(&request, [8; 16]).unwrap();
        assert!(options.matches(&again, Some("sesame")), "another salt is no other password");
        assert!(!options.matches(&again, Some("other")) && !options.matches(&DEFAULTS.options(), None));
        let stored = serde_json::to_string(&options).unwrap();
        assert!(!stored.contains("sesame"));
        assert_eq!(serde_json::from_str::<RoomOptions>(&stored).unwrap(), options);
    }
}
