//! Answers that are no problems.

use std::fmt::Display;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use serde::{Serialize, Serializer};

use super::body::Body;
use super::headers;
use super::problem::Problem;
use super::request::Call;
use crate::engine::Answer;
use crate::task::Timestamp;

/// What a handler gives back.
pub(in crate::http) type Reply = Result<Response<Body>, Problem>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Shows an id or a time as text.
pub(in crate::http) struct Shown<T>(pub(super) T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time in an answer.
pub(in crate::http) type Time = Shown<Timestamp>;

/// JSON that is rendered already.
pub(in crate::http) fn rendered(status: StatusCode, json: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(json.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A value as JSON.
pub(in crate::http) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Room for most answers, so that few are moved while they grow.
    let mut body = Vec::with_capacity(1024);
    // Our own types have only text keys and finite numbers.
    let _ = serde_json::to_writer(&mut body, value);
    rendered(status, body)
}

/// A made resource and where it is.
pub(in crate::http) fn created(location: &str, value: &impl Serialize) -> Response<Body> {
    let response = json(StatusCode::CREATED, value);
    match HeaderValue::from_str(location) {
        Ok(location) => with(response, LOCATION, location),
        Err(_) => response,
    }
}

/// Nothing to say.
pub(in crate::http) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// With one more header.
pub(in crate::http) fn with(mut response: Response<Body>, name: HeaderName, value: HeaderValue) -> Response<Body> {
    response.headers_mut().insert(name, value);
    response
}

/// The status answer of a task, or that the client has it already.
pub(in crate::http) fn task(answer: Answer, if_none_match: Option<&HeaderValue>) -> Response<Body> {
    let etag = headers::task_etag(answer.revision());
    if if_none_match.is_some_and(|known| headers::matches(known, &etag)) {
        return not_modified(etag);
    }
    with(rendered(StatusCode::OK, answer.body), ETAG, etag)
}

/// A resource with its version, or that the client has it already.
pub(in crate::http) fn versioned(
    value: &impl Serialize,
    etag: HeaderValue,
    if_none_match: Option<&HeaderValue>,
) -> Response<Body> {
    if if_none_match.is_some_and(|known| headers::matches(known, &etag)) {
        return not_modified(etag);
    }
    with(json(StatusCode::OK, value), ETAG, etag)
}

/// A document that changes with the program alone, or that the client has it
/// already.
pub(in crate::http) fn document(call: &Call, bytes: &Bytes, etag: &HeaderValue) -> Response<Body> {
    if call.if_none_match().is_some_and(|known| headers::matches(known, etag)) {
        return not_modified(etag.clone());
    }
    with(rendered(StatusCode::OK, bytes.clone()), ETAG, etag.clone())
}

/// The client has it already.
pub(in crate::http) fn not_modified(etag: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    with(response, ETAG, etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_version_is_not_sent_again() {
        let answer = Answer { version: 7, hold: None, ended: false, body: Bytes::from_static(b"{}") };
        let known = HeaderValue::from_static("\"7\"");
        assert_eq!(task(answer.clone(), Some(&known)).status(), StatusCode::NOT_MODIFIED);
        let response = task(answer, Some(&HeaderValue::from_static("\"6\"")));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[ETAG], "\"7\"");
    }
}
