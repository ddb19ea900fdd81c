//! Checks of fields that several endpoints share.

use serde_json::{Map, Value};
use uuid::{NoContext, Uuid};

use crate::json::Findings;
use crate::task::Timestamp;

/// The longest reason, in bytes.
pub(in crate::http) const MAX_REASON_BYTES: usize = 4096;

/// Checks a required reason, which must not be blank.
pub(in crate::http) fn required_reason(found: &mut Findings, reason: Option<String>) -> String {
    let reason = found.required("/reason", reason).unwrap_or_default();
    if found.is_empty() && reason.trim().is_empty() {
        found.add("/reason", "must not be blank");
    }
    limit_reason(found, &reason);
    reason
}

/// Checks the length of a reason.
pub(in crate::http) fn limit_reason(found: &mut Findings, reason: &str) {
    if reason.len() > MAX_REASON_BYTES {
        found.add("/reason", format!("must be at most {MAX_REASON_BYTES} bytes, was {}", reason.len()));
    }
}

/// Renders an object as compact JSON of at most `most` bytes.
pub(in crate::http) fn object_text(
    found: &mut Findings,
    pointer: &str,
    object: Option<Map<String, Value>>,
    most: usize,
) -> Option<String> {
    let text = Value::Object(object?).to_string();
    if text.len() > most {
        found.add(pointer, format!("must be at most {most} bytes of JSON, was {}", text.len()));
        return None;
    }
    Some(text)
}

/// Returns a new UUID (version 7) for an id that a request leaves out.
pub(in crate::http) fn new_uuid(now: Timestamp) -> Uuid {
    let seconds = now.as_millis() / 1000;
    let nanos = u32::try_from(now.as_millis() % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}
