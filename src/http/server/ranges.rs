//! The `Range` and `If-Range` headers (RFC 9110, section 14).
//!
//! The `headers` crate is not used: it accepts several parts, and leaves open which
//! ranges are refused and which are answered with the whole content.

use std::ops::Range;

use hyper::HeaderMap;
use hyper::header::{HeaderValue, IF_RANGE, RANGE};

use super::problem::Problem;

/// Returns the range that a request asks for, if the client's version is `etag`.
/// `None` stands for the whole content.
pub(in crate::http) fn requested(
    headers: &HeaderMap,
    etag: &HeaderValue,
    length: u64,
) -> Result<Option<Range<u64>>, Problem> {
    match headers.get(RANGE) {
        Some(range) if headers.get(IF_RANGE).is_none_or(|version| version == etag) => parse(range, length),
        Some(_) | None => Ok(None),
    }
}

/// Parses a `Range`. `None` stands for a value that is not valid or has several
/// parts, which may be answered with the whole content.
fn parse(range: &HeaderValue, length: u64) -> Result<Option<Range<u64>>, Problem> {
    let Some(spec) = range.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..length,
        (Err(_), Ok(count)) if first.trim().is_empty() => length.saturating_sub(count)..length,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(Problem::range_not_satisfiable(length)) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn ranges_are_parsed() {
        let parse = |text: &'static str| super::parse(&HeaderValue::from_static(text), 10);
        assert_eq!(parse("bytes=0-3").unwrap(), Some(0..4));
        assert_eq!(parse("bytes=4-").unwrap(), Some(4..10));
        assert_eq!(parse("bytes=-3").unwrap(), Some(7..10));
        assert_eq!(parse("bytes=8-100").unwrap(), Some(8..10));
        for whole in ["lines=1-2", "bytes=x", "bytes=3-1", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(parse(whole).unwrap(), None, "{whole}");
        }
        let problem = parse("bytes=10-").unwrap_err();
        assert_eq!(problem.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(problem.into_response("/").headers()["content-range"], "bytes */10");
        assert!(parse("bytes=-0").is_err());
    }

    #[test]
    fn a_range_belongs_to_a_version() {
        let etag = HeaderValue::from_static("\"x\"");
        let mut headers = HeaderMap::new();
        assert_eq!(requested(&headers, &etag, 10).unwrap(), None);
        headers.insert(RANGE, HeaderValue::from_static("bytes=2-4"));
        assert_eq!(requested(&headers, &etag, 10).unwrap(), Some(2..5));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(requested(&headers, &etag, 10).unwrap(), None);
        headers.insert(IF_RANGE, HeaderValue::from_static("W/\"x\""));
        assert_eq!(requested(&headers, &etag, 10).unwrap(), None);
        headers.insert(IF_RANGE, etag.clone());
        assert_eq!(requested(&headers, &etag, 10).unwrap(), Some(2..5));
    }
}
