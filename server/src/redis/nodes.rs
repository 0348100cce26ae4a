//! Where the Redis server is: what `REDIS_URL` says.

use redis::{ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};

/// What a URL must look like. The text of one is never part of a message: it may hold a password.
pub const URL_RULE: &str =
    "redis://[[user]:password@]host[:port][/database][,host[:port]…], or rediss://… with TLS";

/// Nodes that may be named. One is enough to find the others.
const NODES_MAX: usize = 64;

/// The nodes to begin with, and how to speak to them.
#[derive(Clone)]
pub struct Nodes {
    urls: Vec<String>,
    /// How TLS is done, if it is.
    tls: Option<TlsCertificates>,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").field("count", &self.urls.len()).finish_non_exhaustive()
    }
}

/// A text that is no URL of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form {URL_RULE}")]
pub struct InvalidUrl;

impl Nodes {
    /// The nodes that `text` names. All but the first are hosts with perhaps a port; user, password and TLS are the
    /// first one's.
    ///
    /// # Errors
    /// [`InvalidUrl`]
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl)?;
        if !matches!(scheme, "redis" | "rediss") || rest.contains('#') {
            return Err(InvalidUrl);
        }
        let (credentials, hosts) = match rest.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), rest),
        };
        let urls: Vec<String> =
            hosts.split(',').map(|host| format!("{scheme}://{credentials}{host}")).collect();
        let is_good = |(index, url): (usize, &String)| {
            let info: Option<ConnectionInfo> = url.as_str().into_connection_info().ok();
            // A database can be chosen once only.
            info.is_some() && (index == 0 || !url[scheme.len() + 3 + credentials.len()..].contains('/'))
        };
        if urls.len() > NODES_MAX || !urls.iter().enumerate().all(is_good) {
            return Err(InvalidUrl);
        }
        let tls = (scheme == "rediss").then_some(TlsCertificates { client_tls: None, root_cert: None });
        Ok(Self { urls, tls })
    }

    /// Trusts the certificate authorities of `pem` instead of the system's.
    #[must_use]
    pub fn with_authorities(mut self, pem: Option<Vec<u8>>) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.root_cert = pem;
        }
        self
    }

    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// More than one can only be a cluster.
    pub(super) fn is_surely_cluster(&self) -> bool {
        self.urls.len() > 1
    }

    pub(super) fn tls(&self) -> Option<&TlsCertificates> {
        self.tls.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_or_several_are_named() {
        let urls = |text: &str| Nodes::parse(text).map(|nodes| nodes.urls);
        for text in ["redis://localhost", "rediss://me:hunter2@[::1]:6380/3", "redis://:p%2Cw@10.0.0.1"] {
            assert_eq!(urls(text), Ok(vec![text.to_owned()]));
        }
        assert_eq!(
            urls("redis://me:pw@a:1,b:2,c"),
            Ok(["redis://me:pw@a:1", "redis://me:pw@b:2", "redis://me:pw@c"].map(String::from).to_vec())
        );
        for text in
            ["", "localhost", "http://a", "redis://", "redis://a,", "redis://a,b/1", "rediss://a/#insecure"]
        {
            assert_eq!(urls(text), Err(InvalidUrl), "{text}");
        }
        let text = format!("{:?}", Nodes::parse("redis://me:hunter2@a").unwrap());
        assert!(!text.contains("hunter2"), "{text}");
    }
}
