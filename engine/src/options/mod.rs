//! A room's options.

mod password;
mod rate;
mod stored;
mod view;

use protocol::error::ClientError;
use protocol::limits::MAX_PASSWORD_BYTES;
use serde::{Deserialize, Serialize};

pub use password::Password;
pub use rate::{AUTO_SENDS_PER_SECOND, AUTO_STEPS, InvalidTickRate, TICK_RATE_RULE, TickRate};
use stored::StoredOptions;
pub use view::{
    DEFAULT_VIEW_BUDGET, InvalidPeriods, MAX_VIEW_PERIODS, MIN_TICK_BYTES, VIEW_BUDGET_RANGE,
    VIEW_PERIOD_RANGE, VIEW_PERIODS_RULE, VIEW_RADIUS_RANGE_M, ViewOptions, ViewPeriods,
};

/// What can be chosen for a room when it is created. It stays so for the room's life.
///
/// As JSON it is what the store keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredOptions", into = "StoredOptions")]
pub struct RoomOptions {
    /// How many may be in it at once.
    pub max_users: usize,
    /// Whether the room and its objects survive being empty and the server's end.
    pub persistent: bool,
    /// Ticks per second.
    pub tick_hz: TickRate,
    /// How much of it its members see.
    pub view: ViewOptions,
    /// What a join must bring along.
    pub password: Option<Password>,
    /// Whether what happens in it is written down, on a server that writes down anything.
    pub record: bool,
    /// Whether that includes messages to everybody.
    pub record_messages: bool,
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
    pub tick_hz: Option<TickRate>,
    /// See [`ViewOptions::radius_m`].
    pub view_radius: Option<f32>,
    /// See [`ViewOptions::periods`].
    pub view_periods: Option<ViewPeriods>,
    /// See [`ViewOptions::budget`].
    pub view_budget: Option<u32>,
    /// In clear, as the creator sent it.
    pub password: Option<String>,
    /// See [`RoomOptions::record`]. Absent: only without a password.
    pub record: Option<bool>,
    /// See [`RoomOptions::record_messages`].
    pub record_messages: Option<bool>,
}

/// What the server gives a room that does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomDefaults {
    /// Users in a room whose creator names no number.
    pub max_users: usize,
    /// The most that a creator may name.
    pub max_users_limit: usize,
    /// Ticks per second of a room whose creator names no rate.
    pub tick_hz: TickRate,
    /// Objects in one room.
    pub max_objects: usize,
}

impl Default for RoomDefaults {
    fn default() -> Self {
        Self { max_users: 50, max_users_limit: 10_000, tick_hz: TickRate::Fixed(20), max_objects: 4_096 }
    }
}

impl RoomDefaults {
    /// The options of a room that nobody has chosen any for.
    pub fn options(&self) -> RoomOptions {
        RoomOptions {
            max_users: self.max_users.min(self.max_users_limit),
            persistent: false,
            tick_hz: self.tick_hz,
            view: ViewOptions::default(),
            password: None,
            record: true,
            record_messages: false,
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
        let tick_hz = request.tick_hz.unwrap_or(options.tick_hz).check().map_err(|InvalidTickRate| {
            ClientError::bad_request(format!("tickHz must be {}", TICK_RATE_RULE))
        })?;
        let view = ViewOptions {
            radius_m: request.view_radius,
            periods: request.view_periods.unwrap_or(options.view.periods),
            budget: request.view_budget.unwrap_or(options.view.budget),
        };
        let view = view.check(tick_hz)?;
        let password = match request.password.as_deref() {
            None | Some("") => None,
            Some(text) if text.len() > MAX_PASSWORD_BYTES => {
                return Err(ClientError::bad_request("password must be at most 128 bytes"));
            }
            Some(text) => Some(Password::new(text, salt)),
        };
        Ok(RoomOptions {
            max_users,
            persistent: request.persistent.unwrap_or(false),
            tick_hz,
            view,
            // Whoever wants a password wants no record that others can read, unless it says so.
            record: request.record.unwrap_or(password.is_none()),
            password,
            record_messages: request.record_messages.unwrap_or(options.record_messages),
        })
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
            && (self.record, self.record_messages) == (wanted.record, wanted.record_messages)
            && (self.max_users, self.persistent, self.tick_hz, self.view)
                == (wanted.max_users, wanted.persistent, wanted.tick_hz, wanted.view)
    }

    /// Whether `given` opens the room.
    pub fn admits(&self, given: Option<&str>) -> bool {
        self.password.as_ref().is_none_or(|password| given.is_some_and(|text| password.is(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: RoomDefaults =
        RoomDefaults { max_users: 50, max_users_limit: 100, tick_hz: TickRate::Fixed(20), max_objects: 10 };

    #[test]
    fn what_is_not_asked_for_takes_the_default() {
        assert_eq!(DEFAULTS.accept(&RoomRequest::default(), [0; 16]).unwrap(), DEFAULTS.options());
    }

    #[test]
    fn out_of_range_options_are_refused() {
        for request in [
            RoomRequest { max_users: Some(0), ..RoomRequest::default() },
            RoomRequest { max_users: Some(101), ..RoomRequest::default() },
            RoomRequest { tick_hz: Some(TickRate::Fixed(0)), ..RoomRequest::default() },
            RoomRequest { tick_hz: Some(TickRate::Fixed(91)), ..RoomRequest::default() },
            RoomRequest { password: Some("x".repeat(129)), ..RoomRequest::default() },
            RoomRequest { view_radius: Some(0.5), ..RoomRequest::default() },
            RoomRequest { view_budget: Some(4_095), ..RoomRequest::default() },
        ] {
            assert!(DEFAULTS.accept(&request, [0; 16]).is_err(), "{request:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_what_the_room_has() {
        let request = RoomRequest {
            tick_hz: Some(TickRate::Auto),
            view_radius: Some(12.5),
            view_periods: Some(ViewPeriods::new(&[1, 3]).unwrap()),
            view_budget: Some(81_920),
            record: Some(false),
            record_messages: Some(true),
            ..RoomRequest::default()
        };
        let options = DEFAULTS.accept(&request, [0; 16]).unwrap();
        assert_eq!(options.tick_hz, TickRate::Auto);
        assert_eq!((options.record, options.record_messages), (false, true));
        assert_eq!((options.view.radius_m, options.view.budget), (Some(12.5), 81_920));
        assert_eq!(options.view.periods.as_slice(), [1, 3]);
        assert!(options.matches(&options.clone(), None));
        for other in [
            RoomRequest { tick_hz: Some(TickRate::Fixed(90)), ..request.clone() },
            RoomRequest { view_radius: None, ..request.clone() },
            RoomRequest { view_periods: None, ..request.clone() },
            RoomRequest { view_budget: None, ..request.clone() },
            RoomRequest { record: None, ..request.clone() },
            RoomRequest { record_messages: None, ..request.clone() },
        ] {
            assert!(!options.matches(&DEFAULTS.accept(&other, [0; 16]).unwrap(), None), "{other:?}");
        }
        let stored = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<RoomOptions>(&stored).unwrap(), options);
    }

    #[test]
    fn a_room_with_a_password_is_recorded_only_if_that_is_asked_for() {
        for (password, record, expected) in [
            (None, None, true),
            (Some(""), None, true),
            (Some("sesame"), None, false),
            (Some("sesame"), Some(true), true),
            (Some("sesame"), Some(false), false),
            (None, Some(false), false),
        ] {
            let request =
                RoomRequest { password: password.map(str::to_owned), record, ..RoomRequest::default() };
            let options = DEFAULTS.accept(&request, [0; 16]).unwrap();
            assert_eq!(options.record, expected, "{password:?} {record:?}");
        }
    }

    #[test]
    fn what_was_stored_is_recorded_only_if_that_was_asked_for() {
        let password = format!(r#","password":{{"salt":{:?},"digest":{:?}}}"#, [0; 16], [0; 32]);
        let record = |members: &str| {
            let stored = format!(r#"{{"maxUsers":50,"persistent":true,"tickHz":20{members}}}"#);
            serde_json::from_str::<RoomOptions>(&stored).unwrap().record
        };
        // As earlier versions stored it: with a password nobody knows what was asked for.
        for (member, expected) in [("", true), (r#","record":true"#, true), (r#","record":false"#, false)] {
            assert_eq!(record(member), expected, "{member}");
            assert!(!record(&format!("{password}{member}")), "{member}");
        }
        for asked in [true, false] {
            let password = Some("sesame".to_owned());
            let request = RoomRequest { password, record: Some(asked), ..RoomRequest::default() };
            let options = DEFAULTS.accept(&request, [0; 16]).unwrap();
            let stored = serde_json::to_string(&options).unwrap();
            assert_eq!(serde_json::from_str::<RoomOptions>(&stored).unwrap(), options, "{stored}");
            let members: serde_json::Value = serde_json::from_str(&stored).unwrap();
            assert_eq!(members["record"], asked, "earlier versions look there: {stored}");
        }
    }

    #[test]
    fn a_room_that_was_stored_before_there_were_views_and_recordings_still_loads() {
        let stored = r#"{"maxUsers":50,"persistent":true,"tickHz":20}"#;
        let expected = RoomOptions { persistent: true, ..DEFAULTS.options() };
        assert_eq!(serde_json::from_str::<RoomOptions>(stored).unwrap(), expected);
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
