//! Checks of the media type and the coding of a request's body.
//!
//! The `headers` and `mime` crates are not used: a check compares one lowercase
//! essence, and a value that does not parse must be quoted in the problem.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::problem::Problem;
use crate::json;

/// Returns the media type of a body in lower case, without its parameters.
pub(in crate::http) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses a body without a media type: a page of any site can send such a body
/// without a preflight request of the browser.
pub(in crate::http) fn require_any(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(CONTENT_TYPE) {
        return Ok(());
    }
    Err(Problem::unsupported_media_type("a body needs a Content-Type, such as application/json".to_owned()))
}

/// Refuses a body that is compressed or has another media type than JSON.
/// Accepts a request without a media type, which may have no body.
pub(in crate::http) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |name: &str| name == "application/json" || name.ends_with("+json");
    require(headers, "application/json", is_json)
}

/// Like [`require_json`], for lines of JSON.
pub(in crate::http) fn require_json_lines(headers: &HeaderMap) -> Result<(), Problem> {
    let is_lines = |name: &str| matches!(name, "application/x-ndjson" | "application/ndjson" | "application/jsonl");
    require(headers, "application/x-ndjson", is_lines)
}

fn require(headers: &HeaderMap, expected: &str, accepts: impl Fn(&str) -> bool) -> Result<(), Problem> {
    require_uncompressed(headers)?;
    match media_type(headers) {
        Some(other) if !accepts(&other) => {
            let found = json::quoted(&other);
            Err(Problem::unsupported_media_type(format!("Content-Type must be {expected}, was {found}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a body that is compressed.
pub(in crate::http) fn require_uncompressed(headers: &HeaderMap) -> Result<(), Problem> {
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
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn other_bodies_than_json_are_refused() {
        assert!(require_json(&HeaderMap::new()).is_ok());
        assert!(require_json(&with("content-type", "application/json; charset=utf-8")).is_ok());
        assert!(require_json(&with("content-type", "text/plain")).is_err());
        assert!(require_json(&with("content-encoding", "gzip")).is_err());
    }
}
