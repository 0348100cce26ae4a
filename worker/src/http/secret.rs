//! Who may run tasks.

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;

/// Lets in whoever sends the right token.
pub(super) struct Bearer {
    secret: Box<[u8]>,
}

impl Bearer {
    /// Everybody is let in if `secret` is empty.
    pub(super) fn new(secret: &str) -> Self {
        Self { secret: secret.as_bytes().into() }
    }

    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        if self.secret.is_empty() {
            return true;
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = match given.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => "",
        };
        // Takes as long whatever the token is; only the secret's length could be learnt.
        token.as_bytes().ct_eq(&self.secret).into()
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_whole_secret_is_let_in() {
        let admits = |secret: &str, given: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(given));
            }
            Bearer::new(secret).admits(&headers)
        };
        assert!(admits("", None) && admits("", Some("Bearer anything")));
        assert!(admits("hunter2", Some("Bearer hunter2")) && admits("hunter2", Some("bearer  hunter2")));
        for given in ["", "hunter2", "Bearer", "Bearer ", "Bearer hunter", "Bearer hunter22", "Basic hunter2"]
        {
            assert!(!admits("hunter2", Some(given)), "{given:?}");
        }
        assert!(!admits("hunter2", None));
    }
}
