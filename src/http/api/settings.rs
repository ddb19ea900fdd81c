//! What the edge needs to know, checked by whoever makes it.

use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::task::Tier;

/// The configured choices of the HTTP edge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Shown by health.
    pub version: String,
    /// What the service calls itself in metrics.
    pub service_name: String,
    /// The tiers that a submission or a worker may name.
    pub tiers: Vec<Tier>,
    /// Without one, every caller is let in.
    pub api_key: Option<ApiKey>,
    /// Names, without ports, under which the service is reached, beside those
    /// that are always taken; with some, others are refused.
    pub allowed_hosts: Vec<String>,
    /// Whether only this machine can connect: then other names are refused, too.
    pub is_loopback: bool,
    /// How long a lease lasts when the worker does not say.
    pub lease_default: Duration,
    /// Longest lease a worker may ask for.
    pub lease_max: Duration,
    /// Time between the comments that keep an idle stream open.
    pub heartbeat: Duration,
    /// What a client may use.
    pub limits: Limits,
}

/// What clients may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once.
    pub connections: usize,
    /// Most connections at once from one address.
    pub connections_per_address: usize,
    /// Most connections over these limits that are told so at once.
    pub reserve: usize,
    /// Most event streams at once, of tasks and of the log.
    pub streams: usize,
    /// Largest request head, in bytes; at least 8192.
    pub head_bytes: usize,
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Longest time for a request head, and so the longest an unused
    /// connection is kept open.
    pub head_timeout: Duration,
    /// Longest time for a request body.
    pub body_timeout: Duration,
    /// Longest time for the answer to a question about provenance.
    pub walk_timeout: Duration,
    /// Longest time in which a client reads nothing of what is sent to it.
    pub write_timeout: Duration,
    /// Longest time that requests have to end when the service stops.
    pub drain_timeout: Duration,
}

/// The key that callers must know. Only its digest is kept.
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

    /// Whether `given` is the key, in a time that tells nothing about it.
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

    /// Limits small enough to run into.
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
