//! Who is in the room, as one of those inside has been told.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::first;

/// A user, as far as it matters who it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    socket_id: String,
}

/// Who is there. Each has an id of its own, so that `user-left` says all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// By id; with the id of the session.
    users: BTreeMap<String, String>,
}

/// What a view has been told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody of this id, with this session, has come.
    Joined(String, String),
    /// Somebody of this id has gone.
    Left(String),
    /// Everybody was named.
    All,
    /// Nothing about who is there.
    None,
}

impl View {
    /// Takes an event in.
    ///
    /// # Errors
    /// What cannot be, given what was told before.
    pub(super) fn take(&mut self, event: &str, args: &str) -> Result<News, &'static str> {
        match event {
            "room-users" => {
                let users: Vec<User> = first(args).ok_or("room-users cannot be read")?;
                let count = users.len();
                self.users = users.into_iter().map(|user| (user.id, user.socket_id)).collect();
                if self.users.len() < count { Err("room-users names somebody twice") } else { Ok(News::All) }
            }
            "user-joined" => {
                let user: User = first(args).ok_or("user-joined cannot be read")?;
                match self.users.insert(user.id.clone(), user.socket_id.clone()) {
                    Some(_) => Err("user-joined of somebody who is there"),
                    None => Ok(News::Joined(user.id, user.socket_id)),
                }
            }
            "user-left" => {
                let id: String = first(args).ok_or("user-left cannot be read")?;
                match self.users.remove(&id) {
                    Some(_) => Ok(News::Left(id)),
                    None => Err("user-left of somebody who is not there"),
                }
            }
            "user-moved" => {
                let user: User = first(args).ok_or("user-moved cannot be read")?;
                let known = self.users.get(&user.id).is_some_and(|session| *session == user.socket_id);
                if known { Ok(News::None) } else { Err("user-moved of somebody who is not there") }
            }
            _ => Ok(News::None),
        }
    }

    /// The sessions that are there, sorted.
    pub(super) fn sessions(&self) -> Vec<&str> {
        let mut sessions: Vec<&str> = self.users.values().map(String::as_str).collect();
        sessions.sort_unstable();
        sessions
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.users.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> String {
        format!(r#"{{"id":"{id}","socketId":"s-{id}","username":"x"}}"#)
    }

    #[test]
    fn a_view_is_what_was_told_and_what_cannot_be_is_told() {
        let mut view = View::default();
        assert_eq!(view.take("room-users", &format!("[{},{}]", user("a"), user("b"))), Ok(News::All));
        assert_eq!(view.take("user-joined", &user("c")), Ok(News::Joined("c".into(), "s-c".into())));
        assert!(view.take("user-joined", &user("c")).is_err());
        assert_eq!(view.take("user-left", "\"a\""), Ok(News::Left("a".into())));
        assert!(view.take("user-left", "\"a\"").is_err());
        assert!(view.take("user-moved", &user("a")).is_err());
        assert_eq!(view.take("user-moved", &user("b")), Ok(News::None));
        assert_eq!(view.sessions(), ["s-b", "s-c"]);
        assert!(view.take("room-users", &format!("[{},{}]", user("a"), user("a"))).is_err());
        assert!(view.take("user-joined", "7").is_err());
    }
}
