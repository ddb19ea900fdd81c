//! Builds successful answers.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::headers;
use super::problem::Problem;
pub(in crate::http) use crate::wire::Time;

/// The result of a handler.
pub(in crate::http) type Reply = Result<Response<Body>, Problem>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer of JSON that is rendered already.
pub(in crate::http) fn rendered(status: StatusCode, json: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(json.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer with a value as JSON.
pub(in crate::http) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Large enough for most answers, so that few are reallocated.
    let mut body = Vec::with_capacity(1024);
    // Our own types have only text keys and finite numbers.
    let _ = serde_json::to_writer(&mut body, value);
    rendered(status, body)
}

/// The answer 201 with the location of the new resource.
pub(in crate::http) fn created(location: &str, value: &impl Serialize) -> Response<Body> {
    let response = json(StatusCode::CREATED, value);
    match HeaderValue::from_str(location) {
        Ok(location) => with_header(response, LOCATION, location),
        Err(_) => response,
    }
}

/// The answer 204.
pub(in crate::http) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds a header to an answer.
pub(in crate::http) fn with_header(
    mut response: Response<Body>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<Body> {
    response.headers_mut().insert(name, value);
    response
}

/// The answer 200 with the content of the version `etag`, or 304 if the client has
/// that version. Calls `render` only for the former.
pub(in crate::http) fn versioned(
    etag: HeaderValue,
    if_none_match: Option<&HeaderValue>,
    render: impl FnOnce() -> Response<Body>,
) -> Response<Body> {
    if if_none_match.is_some_and(|known| headers::matches(known, &etag)) {
        return not_modified(etag);
    }
    with_header(render(), ETAG, etag)
}

/// The answer 304.
pub(in crate::http) fn not_modified(etag: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    with_header(response, ETAG, etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_version_is_not_sent_again() {
        let answer = |known| {
            versioned(headers::etag(7), Some(&HeaderValue::from_static(known)), || rendered(StatusCode::OK, "{}"))
        };
        assert_eq!(answer("\"7\"").status(), StatusCode::NOT_MODIFIED);
        let response = answer("\"6\"");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[ETAG], "\"7\"");
    }
}
