//! Which workers there are, as the operator names them.

use std::time::Duration;

use super::limits::{MAX_NAME_BYTES, Times};
use crate::config::Secret;

/// One worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// What status, metrics and logs call it.
    pub name: String,
    /// Where it is called. Nothing else ever is.
    pub origin: Origin,
    /// What it wants to be shown as a bearer token.
    pub secret: Option<Secret>,
    /// How long it may take for one task, if it has less time than any task has.
    pub timeout: Option<Duration>,
}

/// All that the bridge is told.
#[derive(Debug, Clone, Default)]
pub struct BridgeSettings {
    /// The workers, in the order in which status shows them.
    pub workers: Vec<WorkerSettings>,
    /// Tasks that one worker has at once.
    pub concurrency: usize,
    /// How long things may take.
    pub times: Times,
    /// Who is trusted to say who a worker is, over https. `None`: those whom the system trusts.
    pub authorities: Option<Vec<reqwest::Certificate>>,
}

/// Scheme, host and port of a worker: `https://worker.example` or `http://127.0.0.1:5001`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(reqwest::Url);

impl Origin {
    /// The origin that `text` is. `None` if it is none, or more than that: a user, a path or a query has no place in
    /// it.
    pub fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text.trim()).ok()?;
        let is_origin = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && !text.contains('@');
        is_origin.then_some(Self(url))
    }

    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The name or address of the machine.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether what goes there can be read on its way.
    pub fn is_plain(&self) -> bool {
        let is_here = self.host() == "localhost"
            || self
                .host()
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        self.0.scheme() == "http" && !is_here
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Whether a worker may be called so: 1 to 32 letters, digits, `-` and `_`.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, origin) in [
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
            ("https://Worker.Example/", "https://worker.example"),
            (" https://worker.example:443 ", "https://worker.example"),
            ("http://[::1]:5001", "http://[::1]:5001"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().as_str(), origin);
        }
        for text in [
            "",
            "worker.example",
            "worker.example:5001",
            "ftp://worker.example",
            "file:///etc/passwd",
            "https://",
            "https://me@worker.example",
            "https://me:pass@worker.example",
            "https://@worker.example",
            "https://worker.example/base",
            "https://worker.example/?a=1",
            "https://worker.example#a",
            "https:\\\\evil@worker.example",
            "unix:/run/worker",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_stays_on_the_machine_or_is_encrypted_is_not_plain() {
        for text in ["https://worker.example", "http://localhost:1", "http://127.0.0.2", "http://[::1]"] {
            assert!(!Origin::parse(text).unwrap().is_plain(), "{text}");
        }
        assert!(Origin::parse("http://worker.internal:5001").unwrap().is_plain());
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_name("railway") && is_name("gpu_1-a"));
        for text in ["", "a b", "ü", "a/b", "a=b", &"a".repeat(33)] {
            assert!(!is_name(text), "{text}");
        }
    }
}
