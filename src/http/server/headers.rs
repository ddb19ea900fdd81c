//! Headers with a meaning of their own: versions, request ids, traces,
//! idempotency keys, media types.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::engine::{Hold, IdempotencyKey, Revision};
use crate::json;
use crate::telemetry::TraceParent;

/// `X-Request-Id`.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `Idempotent-Replayed`.
pub(in crate::http) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(in crate::http) const MAX_REQUEST_ID_BYTES: usize = 128;
pub(in crate::http) const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// A version as an entity tag.
pub(in crate::http) fn etag(version: u64) -> HeaderValue {
    text(format_args!("\"{version}\""))
}

/// What tells a task's answer from its other ones, as an entity tag: its
/// version, and the pause that holds it back, which is no change of the task.
pub(in crate::http) fn task_etag(revision: Revision) -> HeaderValue {
    let Revision { version, hold } = revision;
    match hold {
        None => etag(version),
        Some(Hold::Project) => text(format_args!("\"{version}-project-paused\"")),
        Some(Hold::Tier) => text(format_args!("\"{version}-tier-paused\"")),
        Some(Hold::Workers) => text(format_args!("\"{version}-without-workers\"")),
    }
}

/// Bytes by their hash as an entity tag.
pub(in crate::http) fn etag_of(bytes: &[u8]) -> HeaderValue {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let half = digest.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
    text(format_args!("\"{half:032x}\""))
}

/// A tag that is this text.
pub(in crate::http) fn quoted(tag: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("-"))
}

/// The longest text made here, in bytes.
const MAX_TEXT: usize = 48;

/// A value of visible ASCII; every answer has some, so they are written on the
/// stack and copied once.
fn text(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut buffer = [0; MAX_TEXT];
    let mut rest = &mut buffer[..];
    // What is written here is not longer than the buffer.
    let _ = rest.write_fmt(text);
    let length = MAX_TEXT - rest.len();
    HeaderValue::from_bytes(&buffer[..length]).unwrap_or(HeaderValue::from_static("-"))
}

/// Whether an `If-None-Match` or `If-Match` names this tag; weak tags count
/// as strong ones.
pub(in crate::http) fn matches(known: &HeaderValue, etag: &HeaderValue) -> bool {
    if known == etag {
        return true;
    }
    let known = known.to_str().unwrap_or_default();
    known.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}

/// Makes ids for requests that bring none: a random part for the process
/// and a number.
#[derive(Debug)]
pub(in crate::http) struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(in crate::http) fn new() -> Self {
        Self { process: format!("{:016x}", rand::random::<u64>()), next: AtomicU64::new(1) }
    }

    /// The id the client gave, or a new one.
    pub(in crate::http) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(REQUEST_ID).filter(|id| is_visible(id.as_bytes(), MAX_REQUEST_ID_BYTES));
        given.cloned().unwrap_or_else(|| self.make())
    }

    fn make(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        text(format_args!("{}-{number}", self.process))
    }
}

fn is_visible(text: &[u8], most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.iter().all(u8::is_ascii_graphic)
}

/// The trace a request belongs to, when its `traceparent` is valid.
pub(in crate::http) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    text.parse::<TraceParent>().is_ok().then(|| text.to_owned())
}

/// The same as the parent of what happens here.
pub(in crate::http) fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// A key that a client gave for a request to an endpoint: a hash of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct GivenKey([u8; 16]);

impl GivenKey {
    /// The key under which the answer to this body is kept.
    pub(in crate::http) fn of(self, body: &[u8]) -> IdempotencyKey {
        IdempotencyKey { key: self.0, body: half_digest(&[body]) }
    }
}

/// The key of a request, if the client gave one: bare, or quoted as in the draft.
pub(in crate::http) fn idempotency_key(headers: &HeaderMap, endpoint: &str) -> Result<Option<GivenKey>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.as_bytes();
    let bare = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if given.next().is_some() || !is_visible(bare, MAX_IDEMPOTENCY_KEY_BYTES) {
        let message = format!("must be given once, 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters");
        return Err(Problem::invalid_field("Idempotency-Key", message));
    }
    Ok(Some(GivenKey(half_digest(&[endpoint.as_bytes(), b"\0", bare]))))
}

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

/// The media type of a body without its parameters, in lower case.
pub(in crate::http) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A body must say what it is: what says nothing can be sent by a page of any
/// site, without the browser asking first.
pub(in crate::http) fn require_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(CONTENT_TYPE) {
        return Ok(());
    }
    Err(Problem::unsupported_media_type("a body needs a Content-Type, such as application/json".to_owned()))
}

/// The body must be JSON as it is; without a body, that may be left unsaid.
pub(in crate::http) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    require_plain(headers)?;
    match media_type(headers) {
        Some(other) if other != "application/json" && !other.ends_with("+json") => {
            let found = json::quoted(&other);
            Err(Problem::unsupported_media_type(format!("Content-Type must be application/json, was {found}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The body must be lines of JSON.
pub(in crate::http) fn require_lines(headers: &HeaderMap) -> Result<(), Problem> {
    require_plain(headers)?;
    match media_type(headers) {
        Some(other)
            if !matches!(other.as_ref(), "application/x-ndjson" | "application/ndjson" | "application/jsonl") =>
        {
            let found = json::quoted(&other);
            Err(Problem::unsupported_media_type(format!("Content-Type must be application/x-ndjson, was {found}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The body must not be compressed.
pub(in crate::http) fn require_plain(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::unsupported_media_type("bodies must come without Content-Encoding".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
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
    fn a_pause_makes_another_tag() {
        let tag = |hold| task_etag(Revision { version: 12, hold });
        assert_eq!(tag(None), etag(12));
        assert_eq!(tag(Some(Hold::Project)), "\"12-project-paused\"");
        assert_eq!(tag(Some(Hold::Tier)), "\"12-tier-paused\"");
    }

    #[test]
    fn request_ids_are_echoed_or_made() {
        let ids = RequestIds::new();
        assert_eq!(ids.of(&with("x-request-id", "abc")), "abc");
        let made = ids.of(&with("x-request-id", "a b"));
        assert_ne!(made, "a b");
        assert_ne!(made, ids.of(&HeaderMap::new()));
        assert_ne!(ids.of(&with("x-request-id", &"x".repeat(129))).len(), 129);
    }

    #[test]
    fn traces_are_taken_when_valid() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = |text: &str| traceparent(&with("traceparent", text));
        assert_eq!(trace(good).as_deref(), Some(good));
        assert!(trace(&good.replace("00-0a", "cc-0a")).is_some());
        assert!(trace(&good.replace("00-0a", "ff-0a")).is_none());
        assert!(trace(&good.to_uppercase()).is_none());
        assert!(trace("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_none());
        assert!(trace(&format!("{good}-x")).is_none());
        assert!(trace("x").is_none());
    }

    #[test]
    fn idempotency_keys_are_bare_or_quoted() {
        let key = |text: &str, endpoint: &str| idempotency_key(&with("idempotency-key", text), endpoint);
        let bare = key("k-1", "/tasks").unwrap().unwrap();
        assert_eq!(key("\"k-1\"", "/tasks").unwrap(), Some(bare));
        assert_ne!(key("k-1", "/tasks/batch").unwrap(), Some(bare));
        assert_eq!((bare.of(b"x").key, bare.of(b"x") == bare.of(b"y")), (bare.of(b"y").key, false));
        assert_eq!(idempotency_key(&HeaderMap::new(), "/tasks").unwrap(), None);
        for bad in ["", "\"\"", "a b", "ä"] {
            assert!(key(bad, "/tasks").is_err(), "{bad}");
        }
        assert!(key(&"x".repeat(256), "/tasks").is_err());
    }

    #[test]
    fn other_bodies_than_json_are_refused() {
        assert!(require_json(&HeaderMap::new()).is_ok());
        assert!(require_json(&with("content-type", "application/json; charset=utf-8")).is_ok());
        assert!(require_json(&with("content-type", "text/plain")).is_err());
        assert!(require_json(&with("content-encoding", "gzip")).is_err());
    }
}
