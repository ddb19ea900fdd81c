//! Header values that this service makes: entity tags and request ids.
//!
//! The `headers` crate is not used for entity tags: it compares `If-Match`
//! strongly, while weak tags count here as strong ones, and it parses on every
//! read of a task what here is one comparison of bytes.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// `X-Request-Id`.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is accepted from a client, in bytes.
pub(in crate::http) const MAX_REQUEST_ID_BYTES: usize = 128;
/// Longest value that [`header_value`] formats, in bytes.
const MAX_VALUE_BYTES: usize = 48;

/// Formats a value of visible ASCII, of at most [`MAX_VALUE_BYTES`]. Every answer
/// has such values, so they are formatted on the stack and copied once.
pub(in crate::http) fn header_value(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut buffer = [0; MAX_VALUE_BYTES];
    let mut rest = &mut buffer[..];
    // All callers format less than the buffer holds.
    let _ = rest.write_fmt(text);
    let length = MAX_VALUE_BYTES - rest.len();
    HeaderValue::from_bytes(&buffer[..length]).unwrap_or(HeaderValue::from_static("-"))
}

/// Returns the entity tag of a version number.
pub(in crate::http) fn etag(version: u64) -> HeaderValue {
    header_value(format_args!("\"{version}\""))
}

/// Returns the entity tag of a content: half of its SHA-256 digest.
pub(in crate::http) fn etag_of(bytes: &[u8]) -> HeaderValue {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let half = digest.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
    header_value(format_args!("\"{half:032x}\""))
}

/// Returns `tag` as an entity tag.
pub(in crate::http) fn quoted(tag: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("-"))
}

/// Whether an `If-None-Match` or `If-Match` names this tag. Weak tags count as
/// strong ones.
pub(in crate::http) fn matches(known: &HeaderValue, etag: &HeaderValue) -> bool {
    if known == etag {
        return true;
    }
    let known = known.to_str().unwrap_or_default();
    known.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}

/// Makes ids for requests without one: a random prefix of the process and a
/// counter.
#[derive(Debug)]
pub(in crate::http) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(in crate::http) fn new() -> Self {
        Self { prefix: format!("{:016x}", rand::random::<u64>()), next: AtomicU64::new(1) }
    }

    /// Returns the client's id if it is valid, else a new one.
    pub(in crate::http) fn id_of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(REQUEST_ID).filter(|id| is_visible_ascii(id.as_bytes(), MAX_REQUEST_ID_BYTES));
        given.cloned().unwrap_or_else(|| self.make())
    }

    fn make(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        header_value(format_args!("{}-{number}", self.prefix))
    }
}

/// Whether a text has 1 to `max_bytes` bytes, all of them visible ASCII.
pub(in crate::http) fn is_visible_ascii(text: &[u8], max_bytes: usize) -> bool {
    !text.is_empty() && text.len() <= max_bytes && text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_id(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, value.parse().unwrap());
        headers
    }

    #[test]
    fn tags_match_in_every_form() {
        let etag = etag(12);
        assert_eq!(etag, "\"12\"");
        for known in ["\"12\"", "W/\"12\"", "\"1\", \"12\"", "*"] {
            assert!(matches(&HeaderValue::from_static(known), &etag), "{known}");
        }
        for known in ["\"1\"", "12", "", "W/\"2\""] {
            assert!(!matches(&HeaderValue::from_static(known), &etag), "{known}");
        }
    }

    #[test]
    fn request_ids_are_echoed_or_made() {
        let ids = RequestIds::new();
        assert_eq!(ids.id_of(&with_id("abc")), "abc");
        let made = ids.id_of(&with_id("a b"));
        assert_ne!(made, "a b");
        assert_ne!(made, ids.id_of(&HeaderMap::new()));
        assert_ne!(ids.id_of(&with_id(&"x".repeat(129))).len(), 129);
    }
}
