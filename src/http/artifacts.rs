//! `GET /artifacts/{id}/content`: the content itself, where the output
//! carried it.

use std::ops::Range;

use bytes::Bytes;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_RANGE, RANGE};
use hyper::{HeaderMap, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::body::Body;
use super::headers;
use super::problem::Problem;
use super::provenance::hex;
use super::reply::{self, Reply};
use super::request::Call;
use crate::task::ArtifactId;

/// `GET /artifacts/{id}/content`
pub(super) async fn content(call: Call) -> Reply {
    call.no_query()?;
    let id = call.id();
    let hash = match ArtifactId::new(&id) {
        Ok(artifact) => content_hash(&call, artifact).await?,
        Err(_) => None,
    };
    let missing = || Problem::not_found("content_not_found", "kept content of an artifact", &id);
    let hash = hash.ok_or_else(missing)?;
    let etag = HeaderValue::from_str(&format!("\"{}\"", hex(&hash))).unwrap_or(HeaderValue::from_static("\"\""));
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    let bytes = call.app.engine.content(hash).await?.ok_or_else(missing)?;
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    if digest != hash {
        return Err(Problem::damaged_content());
    }
    answer(bytes, etag, call.headers())
}

async fn content_hash(call: &Call, artifact: ArtifactId) -> Result<Option<[u8; 32]>, Problem> {
    let record = call.app.engine.record_of_artifact(artifact.clone()).await?;
    let outputs = record.map(|record| record.outputs).unwrap_or_default();
    Ok(outputs.into_iter().find(|output| output.artifact.id == artifact).and_then(|output| output.content))
}

/// The content or the part that is asked for. It is always shown as plain
/// text: what a worker wrote shall not run in a browser.
fn answer(bytes: Bytes, etag: HeaderValue, headers: &HeaderMap) -> Reply {
    let length = bytes.len();
    let range = match headers.get(RANGE) {
        Some(range) if headers.get(IF_RANGE).is_none_or(|version| *version == etag) => wanted(range, length)?,
        Some(_) | None => None,
    };
    let mut response = match &range {
        Some(range) => Response::new(Body::full(bytes.slice(range.clone()))),
        None => Response::new(Body::full(bytes)),
    };
    if let Some(Range { start, end }) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let shown = HeaderValue::from_str(&format!("bytes {start}-{}/{length}", end - 1));
        response.headers_mut().insert(CONTENT_RANGE, shown.unwrap_or(HeaderValue::from_static("bytes */*")));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, etag);
    Ok(response)
}

/// The bytes that a `Range` asks for; `None` for one that is not understood
/// or has several parts, which may be answered with the whole.
fn wanted(range: &HeaderValue, length: usize) -> Result<Option<Range<usize>>, Problem> {
    let Some(spec) = range.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let range = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..length,
        (Err(_), Ok(count)) if first.trim().is_empty() => length.saturating_sub(count)..length,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(Problem::range_not_satisfiable(length)) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let wanted = |text: &'static str| wanted(&HeaderValue::from_static(text), 10);
        assert_eq!(wanted("bytes=0-3").unwrap(), Some(0..4));
        assert_eq!(wanted("bytes=4-").unwrap(), Some(4..10));
        assert_eq!(wanted("bytes=-3").unwrap(), Some(7..10));
        assert_eq!(wanted("bytes=8-100").unwrap(), Some(8..10));
        for whole in ["lines=1-2", "bytes=x", "bytes=3-1", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(wanted(whole).unwrap(), None, "{whole}");
        }
        assert_eq!(wanted("bytes=10-").unwrap_err().status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert!(wanted("bytes=-0").is_err());
    }

    #[test]
    fn parts_and_wholes_are_answered() {
        let etag = HeaderValue::from_static("\"x\"");
        let mut headers = HeaderMap::new();
        let whole = answer(Bytes::from_static(b"0123456789"), etag.clone(), &headers).unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        headers.insert(RANGE, HeaderValue::from_static("bytes=2-4"));
        let part = answer(Bytes::from_static(b"0123456789"), etag.clone(), &headers).unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()[CONTENT_RANGE], "bytes 2-4/10");
        headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(answer(Bytes::from_static(b"0123456789"), etag, &headers).unwrap().status(), StatusCode::OK);
    }
}
