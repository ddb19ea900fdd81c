//! The `Idempotency-Key` header.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use sha2::{Digest, Sha256};

use super::headers::is_visible_ascii;
use super::problem::Problem;
use crate::engine::IdempotencyKey;

/// Marks an answer that was stored for an earlier request with the same key.
pub(in crate::http) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes.
pub(in crate::http) const MAX_KEY_BYTES: usize = 255;

/// A hash of the key that a client gave and of the endpoint it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct GivenKey([u8; 16]);

impl GivenKey {
    /// Returns the key under which the answer to a request with `body` is stored.
    pub(in crate::http) fn with_body(self, body: &[u8]) -> IdempotencyKey {
        IdempotencyKey { key: self.0, body: half_digest(&[body]) }
    }
}

/// Reads the key of a request to `endpoint`, if the client gave one: bare, or in
/// quotes as in the draft of the header's specification.
pub(in crate::http) fn given_key(headers: &HeaderMap, endpoint: &str) -> Result<Option<GivenKey>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.as_bytes();
    let bare = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if given.next().is_some() || !is_visible_ascii(bare, MAX_KEY_BYTES) {
        let message = format!("must be given once, 1 to {MAX_KEY_BYTES} visible ASCII characters");
        return Err(Problem::invalid_field("Idempotency-Key", message));
    }
    Ok(Some(GivenKey(half_digest(&[endpoint.as_bytes(), b"\0", bare]))))
}

/// The first half of the SHA-256 digest of all parts.
fn half_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn keys_are_bare_or_quoted() {
        let key = |text: &str, endpoint: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            given_key(&headers, endpoint)
        };
        let bare = key("k-1", "/tasks").unwrap().unwrap();
        assert_eq!(key("\"k-1\"", "/tasks").unwrap(), Some(bare));
        assert_ne!(key("k-1", "/tasks/batch").unwrap(), Some(bare));
        let (one, other) = (bare.with_body(b"x"), bare.with_body(b"y"));
        assert_eq!((one.key, one == other), (other.key, false));
        assert_eq!(given_key(&HeaderMap::new(), "/tasks").unwrap(), None);
        for bad in ["", "\"\"", "a b", "ä"] {
            assert!(key(bad, "/tasks").is_err(), "{bad}");
        }
        assert!(key(&"x".repeat(256), "/tasks").is_err());
    }
}
