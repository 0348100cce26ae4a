//! Who tries passwords of rooms, and how often.
//!
//! Passwords of rooms are short, and to check one takes next to nothing. So wrong ones are counted, for each user in
//! each room, and, since anybody may be as many users as it likes, for each room. The room's count is kept with the room:
//! nobody can push it out by tries at other rooms. Who has once had it right is not shut out by what others try.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{RoomShared, Time};
use protocol::error::{ClientError, ErrorCode};

use crate::auth::TOKEN_LIFETIME_S;
use crate::windows::{Rule, Windows};

/// Wrong passwords of one user for one room within [`TRIES_WINDOW`] of the first. Above: `rate_limited`, over HTTP 429,
/// whether the next one is right or not.
pub const MAX_WRONG_OF_USER: u32 = 10;

/// Wrong passwords for one room, of all users together. Above: the same, for whoever has not had it right before.
pub const MAX_WRONG_OF_ROOM: u32 = 300;

/// How long wrong passwords are counted, from the first on. After that the count begins anew.
pub const TRIES_WINDOW: Duration = Duration::from_secs(60);

/// Users in rooms of which wrong passwords are counted, and users in rooms who have had it right. Full: the oldest of the
/// kind are forgotten. What somebody gains by that still counts for the room.
pub const MAX_TRIES_KNOWN: usize = 10_000;

/// The tries of late.
#[derive(Debug)]
pub struct Passwords(Mutex<State>);

#[derive(Debug)]
struct State {
    by_user: Windows,
    right: Windows,
}

/// As many wrong passwords were given as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too many wrong passwords, try again in {} s", self.wait_s())]
pub struct TooManyTries {
    /// How long until the next may be given.
    pub wait: Duration,
}

impl TooManyTries {
    /// How long to wait, in whole seconds.
    pub fn wait_s(&self) -> u64 {
        self.wait.as_secs() + 1
    }
}

impl From<TooManyTries> for ClientError {
    fn from(error: TooManyTries) -> Self {
        Self::new(ErrorCode::RateLimited, error.to_string())
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let rule = |most, within| Windows::new(Rule { most, within, names_max: MAX_TRIES_KNOWN });
        Self(Mutex::new(State {
            by_user: rule(MAX_WRONG_OF_USER, TRIES_WINDOW),
            right: rule(u32::MAX, Duration::from_secs(TOKEN_LIFETIME_S)),
        }))
    }
}

impl Passwords {
    /// Whether `given` opens the room for `user`. Who gives nothing tries nothing.
    ///
    /// # Errors
    /// [`TooManyTries`]; then it is not looked at.
    pub fn check(
        &self,
        room: &RoomShared,
        user: &str,
        given: Option<&str>,
        now: Time,
    ) -> Result<bool, TooManyTries> {
        if room.options.password.is_none() || given.is_none() {
            return Ok(room.options.admits(given));
        }
        // By the key, not by the id: who was in a room of that name has not been in the next one.
        let both = format!("{} {user}", room.key);
        let mut state = self.state();
        let is_known = state.right.knows(&both);
        // Counted before it is known to be wrong, so that many at once are not more than one after the other.
        state.by_user.take(&both, now).map_err(|wait| TooManyTries { wait })?;
        if !is_known && let Err(wait) = room.wrong_passwords.take(MAX_WRONG_OF_ROOM, TRIES_WINDOW, now) {
            state.by_user.give_back(&both);
            return Err(TooManyTries { wait });
        }
        drop(state);
        let is_right = room.options.admits(given);
        if is_right {
            let mut state = self.state();
            state.by_user.give_back(&both);
            if !is_known {
                room.wrong_passwords.give_back();
            }
            // As often as it likes.
            let _ = state.right.take(&both, now);
        }
        Ok(is_right)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::{Recorded, RoomDefaults, RoomRequest};

    use super::*;

    const NOW: Time = Time::from_micros(1_000_000);

    fn room(key: u64, password: Option<&str>) -> Arc<RoomShared> {
        let request = RoomRequest { password: password.map(str::to_owned), ..RoomRequest::default() };
        let options = RoomDefaults::default().accept(&request, [7; 16]).unwrap();
        RoomShared::private("room", key, 0, options, NOW, Recorded { from: 0, to: 0 })
    }

    #[test]
    fn a_user_has_so_many_tries_and_then_not_even_the_right_one_helps() {
        let (passwords, rooms) = (Passwords::default(), [1, 2].map(|key| room(key, Some("sesame"))));
        let check = |room: usize, user, given, now| passwords.check(&rooms[room - 1], user, given, now);
        for _ in 0..MAX_WRONG_OF_USER {
            assert_eq!(check(1, "eve", None, NOW), Ok(false));
            assert_eq!(check(1, "eve", Some("Sesame"), NOW), Ok(false));
            assert_eq!(check(2, "ada", Some("sesame"), NOW), Ok(true));
        }
        let later = NOW + TRIES_WINDOW / 2;
        assert_eq!(check(1, "eve", Some("sesame"), later), Err(TooManyTries { wait: TRIES_WINDOW / 2 }));
        assert_eq!(check(1, "eve", None, later), Ok(false));
        assert_eq!(check(2, "eve", Some("sesame"), later), Ok(true), "another room");
        assert_eq!(check(1, "ada", Some("sesame"), later), Ok(true), "another user");
        assert_eq!(check(1, "eve", Some("sesame"), NOW + TRIES_WINDOW), Ok(true));
    }

    #[test]
    fn many_users_together_have_so_many_and_who_was_in_comes_in_again() {
        let (passwords, room) = (Passwords::default(), room(1, Some("sesame")));
        let check = |user: &str, given| passwords.check(&room, user, Some(given), NOW);
        assert_eq!(check("ada", "sesame"), Ok(true));
        for user in 0..MAX_WRONG_OF_ROOM {
            assert_eq!(check(&user.to_string(), "guess"), Ok(false));
        }
        assert_eq!(check("new", "sesame"), Err(TooManyTries { wait: TRIES_WINDOW }));
        assert_eq!(check("ada", "sesame"), Ok(true));
        for _ in 0..MAX_WRONG_OF_USER {
            assert_eq!(check("ada", "guess"), Ok(false));
        }
        assert!(check("ada", "sesame").is_err());
    }

    #[test]
    fn tries_at_other_rooms_do_not_make_a_room_forget_its_own() {
        let (passwords, target) = (Passwords::default(), room(0, Some("sesame")));
        let guess = |room: &RoomShared, user: &str| passwords.check(room, user, Some("guess"), NOW);
        for user in 0..MAX_WRONG_OF_ROOM {
            assert_eq!(guess(&target, &user.to_string()), Ok(false));
        }
        for key in 1..=MAX_TRIES_KNOWN as u64 {
            assert_eq!(guess(&room(key, Some("mine")), "eve"), Ok(false));
        }
        assert_eq!(guess(&target, "eve"), Err(TooManyTries { wait: TRIES_WINDOW }));
    }

    #[test]
    fn where_there_is_no_password_nothing_is_counted() {
        let (passwords, room) = (Passwords::default(), room(1, None));
        for _ in 0..=MAX_WRONG_OF_ROOM {
            assert_eq!(passwords.check(&room, "ada", Some("x"), NOW), Ok(true));
        }
    }
}
