//! Who somebody is: tokens, made at login and checked at every door.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::error::ClientError;
use protocol::event::check_username;
use serde::{Deserialize, Serialize};

use crate::passwords::Passwords;

/// How long a token is good for, in seconds.
pub const TOKEN_LIFETIME_S: u64 = 24 * 60 * 60;

/// Bytes of the longest token that is looked at. Above: refused unread.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// Bytes of a user's id in a token. Above: refused.
pub const MAX_USER_ID_BYTES: usize = 128;

/// Makes and checks tokens with one secret.
pub struct Auth {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    passwords: Passwords,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The user's id.
    pub user_id: String,
    /// What people call the user.
    pub username: String,
    /// When the token was made, Unix seconds.
    pub iat: u64,
    /// From when on it is no good, Unix seconds.
    pub exp: u64,
    /// From when on it is good, Unix seconds, for tokens that somebody else made with this secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
}

/// The answer to a login.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// What the user shows from now on.
    pub token: String,
    /// The user's id, a new one for each login.
    pub user_id: String,
    /// The name that was given.
    pub username: String,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("Authentication required")]
    Missing,
    /// It is not one of ours, is too old, or says what no token of ours says.
    #[error("Invalid token")]
    Invalid,
}

impl Auth {
    /// Tokens are signed with `secret`.
    pub fn new(secret: &[u8]) -> Self {
        // The algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are compared in `verify`, with the caller's clock and to the second.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            passwords: Passwords::default(),
        }
    }

    /// The tries of rooms' passwords at all doors.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// A token for a user of that name, good from `now_unix_s` for [`TOKEN_LIFETIME_S`].
    ///
    /// # Errors
    /// `bad_request` if the name is empty or too long.
    pub fn login(&self, username: &str, now_unix_s: u64) -> Result<Login, ClientError> {
        if username.trim().is_empty() {
            return Err(ClientError::bad_request("Username required"));
        }
        check_username(username)?;
        let random: u128 = rand::random();
        let claims = Claims {
            user_id: format!("user_{random:032x}"),
            username: username.to_owned(),
            iat: now_unix_s,
            exp: now_unix_s.saturating_add(TOKEN_LIFETIME_S),
            nbf: None,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("plain claims and an HMAC key always make a token");
        Ok(Login { token, user_id: claims.user_id, username: claims.username })
    }

    /// What `token` says, if it is one of ours and good at `now_unix_s`.
    ///
    /// # Errors
    /// [`AuthError`]: `Missing` for an empty one, `Invalid` for any other that is not good.
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<Claims, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| AuthError::Invalid)?
            .claims;
        let is_current = now_unix_s < claims.exp && claims.nbf.is_none_or(|from| from <= now_unix_s);
        let is_named = check_username(&claims.username).is_ok()
            && (1..=MAX_USER_ID_BYTES).contains(&claims.user_id.len());
        if is_current && is_named { Ok(claims) } else { Err(AuthError::Invalid) }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(…)")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    fn signed(algorithm: Algorithm, claims: &Value, secret: &[u8]) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    /// What becomes of a token with these claims.
    fn verified(claims: Value) -> Result<Claims, AuthError> {
        Auth::new(SECRET).verify(&signed(Algorithm::HS256, &claims, SECRET), NOW)
    }

    fn claims(member: &str, value: Value) -> Value {
        let mut claims = json!({"userId": "user_1", "username": "ada", "iat": NOW, "exp": NOW + 60});
        claims[member] = value;
        claims
    }

    #[test]
    fn a_login_is_good_for_a_day() {
        let auth = Auth::new(SECRET);
        let login = auth.login("Ada", NOW).unwrap();
        assert!(login.user_id.starts_with("user_") && login.username == "Ada");
        assert_ne!(login.user_id, auth.login("Ada", NOW).unwrap().user_id);
        let found = auth.verify(&login.token, NOW + TOKEN_LIFETIME_S - 1).unwrap();
        assert_eq!((found.user_id, found.username), (login.user_id, login.username));
        assert_eq!((found.iat, found.exp), (NOW, NOW + TOKEN_LIFETIME_S));
        assert_eq!(auth.verify(&login.token, NOW + TOKEN_LIFETIME_S), Err(AuthError::Invalid));
    }

    #[test]
    fn a_login_wants_a_name() {
        let auth = Auth::new(SECRET);
        for name in ["", " \t"] {
            assert_eq!(auth.login(name, NOW).unwrap_err().message, "Username required");
        }
        assert!(auth.login(&"x".repeat(129), NOW).is_err());
        assert!(auth.login(&"x".repeat(128), NOW).is_ok());
    }

    #[test]
    fn only_tokens_of_this_secret_and_algorithm_are_taken() {
        let auth = Auth::new(SECRET);
        let good = claims("iat", json!(NOW));
        assert!(auth.verify(&signed(Algorithm::HS256, &good, SECRET), NOW).is_ok());
        for token in [
            signed(Algorithm::HS512, &good, SECRET),
            signed(Algorithm::HS384, &good, SECRET),
            signed(Algorithm::HS256, &good, b"another secret of thirty-two bytes"),
            // {"alg":"none","typ":"JWT"} and no signature.
            format!(
                "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.",
                signed(Algorithm::HS256, &good, SECRET).split('.').nth(1).unwrap()
            ),
            "a.b.c".into(),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert_eq!(auth.verify(&token, NOW), Err(AuthError::Invalid), "{token}");
        }
        assert_eq!(auth.verify("", NOW), Err(AuthError::Missing));
    }

    #[test]
    fn claims_of_the_wrong_type_or_size_are_refused() {
        assert!(verified(claims("iat", json!(NOW))).is_ok());
        for (member, value) in [
            ("userId", json!(7)),
            ("userId", json!("")),
            ("userId", json!("x".repeat(MAX_USER_ID_BYTES + 1))),
            ("userId", json!(null)),
            ("username", json!(["ada"])),
            ("username", json!("")),
            ("username", json!("x".repeat(129))),
            ("exp", json!((NOW + 60).to_string())),
            ("exp", json!(null)),
            ("exp", json!(-1)),
            ("iat", json!("now")),
            ("nbf", json!("later")),
        ] {
            assert_eq!(verified(claims(member, value.clone())), Err(AuthError::Invalid), "{member} {value}");
        }
        let mut endless = claims("iat", json!(NOW));
        endless.as_object_mut().unwrap().remove("exp");
        assert_eq!(verified(endless), Err(AuthError::Invalid));
    }

    #[test]
    fn times_are_compared_to_the_second() {
        assert_eq!(verified(claims("exp", json!(NOW))), Err(AuthError::Invalid));
        assert!(verified(claims("exp", json!(NOW + 1))).is_ok());
        assert!(verified(claims("nbf", json!(NOW))).is_ok());
        assert_eq!(verified(claims("nbf", json!(NOW + 1))), Err(AuthError::Invalid));
    }

    #[test]
    fn nothing_shows_a_token_by_accident() {
        let auth = Auth::new(SECRET);
        let login = auth.login("Ada", NOW).unwrap();
        assert!(!format!("{login:?} {auth:?}").contains(&login.token));
    }
}
