//! Settings of the server, checked by the code that builds them.

use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Settings of the server below the endpoints.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The key that callers must send. `None` lets every caller in.
    pub api_key: Option<ApiKey>,
    /// Names of this service, without ports, beside those that are always
    /// accepted. If there are any, requests for other names are refused.
    pub allowed_hosts: Vec<String>,
    /// Whether only this machine can connect; then requests for other names are
    /// refused even without `allowed_hosts`.
    pub is_loopback: bool,
    /// Limits on the resources that clients use.
    pub limits: Limits,
}

/// Limits on the resources that clients use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_address: usize,
    /// Connections over these limits that are answered with 503 at a time.
    pub reserve: usize,
    /// Open event streams, of tasks and of the log together.
    pub streams: usize,
    /// Size of a request's head, in bytes; at least 8192.
    pub head_bytes: usize,
    /// Size of a request's body, in bytes.
    pub body_bytes: usize,
    /// Time until a request's head is complete, and so the longest time for which
    /// an unused connection stays open.
    pub head_timeout: Duration,
    /// Time until a request's body is complete.
    pub body_timeout: Duration,
    /// Time for the answer to a search of the provenance.
    pub walk_timeout: Duration,
    /// Time after which a connection is closed whose client reads nothing.
    pub write_timeout: Duration,
    /// Time that requests have to end when the service stops.
    pub drain_timeout: Duration,
}

/// The key that callers must send. Only its digest is kept.
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; 32],
}

impl ApiKey {
    /// Keeps the digest of `key`.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self { digest: Sha256::digest(key.as_bytes()).into() }
    }

    /// Whether `given` is the key. Takes constant time, so that the time tells
    /// nothing about the key.
    pub(in crate::http) fn admits(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.digest.ct_eq(&given).into()
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use super::*;

    /// Limits that a test can reach.
    pub(in crate::http) fn limits() -> Limits {
        Limits {
            connections: 4,
            connections_per_address: 3,
            reserve: 2,
            streams: 2,
            head_bytes: 8192,
            body_bytes: 1024 * 1024,
            head_timeout: Duration::from_millis(300),
            body_timeout: Duration::from_millis(300),
            walk_timeout: Duration::from_millis(300),
            write_timeout: Duration::from_millis(300),
            drain_timeout: Duration::from_millis(500),
        }
    }

    #[test]
    fn a_key_is_compared_and_not_shown() {
        let key = ApiKey::new("secret");
        assert!(key.admits(b"secret"));
        assert!(!key.admits(b"Secret"));
        assert!(!key.admits(b""));
        assert_eq!(format!("{key:?}"), "ApiKey(..)");
    }
}
