//! A room's password.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
