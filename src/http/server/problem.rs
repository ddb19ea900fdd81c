//! Problem details (RFC 9457). Errors become status codes here, and in
//! `api/problems.rs` for the errors of the application.
//!
//! The title of a problem is the standard phrase of its status. The code names the
//! problem for programs, and the detail describes it for people.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Body;
use crate::json::{self, FieldError, Invalid};
use crate::task::RecordId;

/// Errors of fields that the problems of a batch list in all, beside the first error
/// of each problem.
pub(in crate::http) const MAX_BATCH_ERRORS: usize = 256;

/// An answer that reports an error, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Problem(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    records: Vec<RecordId>,
    /// In seconds.
    retry_after: Option<u32>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// An error of a request (RFC 9457), for people and for programs.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(in crate::http) struct Wire<'a> {
    /// A URI that contains `code`, and is as stable as the code.
    #[serde(rename = "type")]
    kind: String,
    /// The standard phrase of the status.
    title: &'a str,
    /// The status code of the answer.
    status: u16,
    /// A description of the error, for people.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    /// The kind of problem, for programs; stable.
    code: &'a str,
    /// The fields that are not valid.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(nullable = false)]
    errors: &'a [FieldError],
    /// The provenance records of a task that is not in this store itself.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(nullable = false)]
    records: &'a [RecordId],
}

impl Problem {
    /// `detail` is lowercase, without a full stop, and names the object, the value
    /// and the limit.
    pub(in crate::http) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let (errors, records) = (Vec::new(), Vec::new());
        Self(Box::new(Inner { status, code, detail, errors, records, retry_after: None, header: None }))
    }

    /// Adds `Retry-After`.
    pub(in crate::http) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Lists provenance records.
    pub(in crate::http) fn with_records(mut self, records: Vec<RecordId>) -> Self {
        self.0.records = records;
        self
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(in crate::http) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The kind of problem, for programs.
    pub(in crate::http) const fn code(&self) -> &'static str {
        self.0.code
    }

    /// Puts `pointer` before the pointer of each bad field.
    pub(in crate::http) fn within(mut self, pointer: &str) -> Self {
        for error in &mut self.0.errors {
            error.pointer.insert_str(0, pointer);
        }
        self
    }

    /// Keeps only the first errors, to limit many problems in one answer. `left` is
    /// the number of errors that are left for this problem and the following ones.
    pub(in crate::http) fn truncate_errors(&mut self, left: &mut usize) {
        self.0.errors.truncate((*left).max(1));
        *left = left.saturating_sub(self.0.errors.len());
    }

    /// Returns the problem in the form of the answer to a request for `instance`.
    pub(in crate::http) fn wire<'a>(&'a self, instance: &'a str) -> Wire<'a> {
        let Inner { status, code, detail, errors, records, .. } = &*self.0;
        let kind = format!("urn:dats:problem:{code}");
        let title = status.canonical_reason().unwrap_or_default();
        Wire { kind, title, status: status.as_u16(), detail, instance, code, errors, records }
    }

    /// Makes the answer to a request for `instance`.
    pub(in crate::http) fn into_response(self, instance: &str) -> Response<Body> {
        let body = serde_json::to_vec(&self.wire(instance)).unwrap_or_default();
        let mut response = Response::new(Body::full(Bytes::from(body)));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        if matches!(self.0.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // The rest of the body is not read, so the connection cannot be used again.
            // Without this header the client would lose its next request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dats\""));
        }
        response
    }
}

/// Problems of requests.
impl Problem {
    /// Some fields are not valid.
    pub(in crate::http) fn invalid(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(json::MAX_ERRORS);
        let detail = match errors.as_slice() {
            [error] if error.pointer.is_empty() => error.message.clone(),
            // Most messages continue the name ("must be …"); these contain it.
            [error] if error.message.starts_with("unknown ") => format!("{}: {}", error.pointer, error.message),
            [error] => format!("{} {}", error.pointer, error.message),
            errors if errors.len() == json::MAX_ERRORS => format!("{} fields or more are not valid", errors.len()),
            errors => format!("{} fields are not valid", errors.len()),
        };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
        problem.0.errors = errors;
        problem
    }

    /// One field is not valid.
    pub(in crate::http) fn invalid_field(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, message)])
    }

    /// No resource has the path.
    pub(in crate::http) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "no resource has this path")
    }

    /// The resource does not have the method; `allow` lists those it has.
    pub(in crate::http) fn method_not_allowed(allow: &HeaderValue) -> Self {
        let detail = format!("the methods of this resource are {}", allow.to_str().unwrap_or_default());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).with_header(ALLOW, allow.clone())
    }

    /// The request has no host, or an ambiguous one.
    pub(in crate::http) fn invalid_host(found: &str) -> Self {
        let detail = format!("Host must be given once, as the name or address of this service, {found}");
        Self::new(StatusCode::BAD_REQUEST, "invalid_host", detail)
    }

    /// The request is for a host that is not known to be this service.
    pub(in crate::http) fn unknown_host(host: &str) -> Self {
        let detail = format!(
            "Host must be an IP address, localhost, a name without a dot or one of server.allowed_hosts, was {host}"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail)
    }

    /// A page of another site sent the request.
    pub(in crate::http) fn foreign_origin(origin: &str) -> Self {
        let detail = format!(
            "only a page that was loaded from this service or from one of server.allowed_hosts may change something, \
             this page is from {origin}"
        );
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", detail)
    }

    /// The caller did not send the API key.
    pub(in crate::http) fn unauthorized(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The body is larger than `limit` bytes.
    pub(in crate::http) fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body may have at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// The body did not arrive in time.
    pub(in crate::http) fn body_timeout() -> Self {
        let detail = "the body did not arrive in time: send it faster, or send less at once";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
    }

    /// The connection broke before the end of the body.
    pub(in crate::http) fn body_incomplete() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body_broken", "the body ended before it was complete")
    }

    /// The media type or the coding of the body is not supported.
    pub(in crate::http) fn unsupported_media_type(detail: String) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// The resource has no representation that the client accepts.
    pub(in crate::http) fn not_acceptable(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    }

    /// The range is outside of the content, which has `length` bytes.
    pub(in crate::http) fn range_not_satisfiable(length: u64) -> Self {
        let detail = format!("the range is outside of the content, which has {length} bytes");
        let problem = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
        match HeaderValue::from_str(&format!("bytes */{length}")) {
            Ok(range) => problem.with_header(CONTENT_RANGE, range),
            Err(_) => problem,
        }
    }
}

/// Problems of the service.
impl Problem {
    /// A search of the provenance took longer than `limit`.
    pub(in crate::http) fn walk_timeout(limit: Duration) -> Self {
        let limit = limit.as_secs();
        let detail = format!(
            "the search took longer than {limit} s (server.walk_timeout_seconds): search less, with a smaller depth"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "walk_timeout", detail)
    }

    /// A handler panicked. The panic was logged where it was caught.
    pub(in crate::http) fn internal() -> Self {
        let detail = "the service failed because of a defect, which is in its log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// A limit of the service is reached. `retry_after` is in seconds.
    pub(in crate::http) fn overloaded(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).with_retry_after(retry_after)
    }

    pub(in crate::http) fn too_many_connections() -> Self {
        Self::overloaded("too many connections are open, in all or from this address: retry later", 1)
    }

    pub(in crate::http) fn too_many_streams(limit: usize) -> Self {
        let detail = format!(
            "{limit} event streams are open already (server.max_streams): retry later, or read pages instead \
             (Accept: application/json)"
        );
        Self::overloaded(detail, 5)
    }

    pub(in crate::http) fn too_many_reads() -> Self {
        let detail = "too many lists, trees and exports are read at once, or not read to their end by their clients: \
                      retry later, or ask for less at once (limit)";
        Self::overloaded(detail, 1)
    }

    pub(in crate::http) fn too_many_bodies() -> Self {
        Self::overloaded("too many large bodies are decoded at once: retry later, or send less at once", 1)
    }

    pub(in crate::http) fn too_many_body_bytes() -> Self {
        let detail = "the bodies of unanswered requests are too large together: retry later, or send less at once";
        Self::overloaded(detail, 1)
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let bad_request = |code, detail| Self::new(StatusCode::BAD_REQUEST, code, detail);
        match invalid {
            Invalid::TooLarge { limit } => Self::body_too_large(limit),
            Invalid::Fields(errors) => Self::invalid(errors),
            Invalid::TooDeep { .. } => bad_request("json_too_deep", invalid.to_string()),
            Invalid::NotUtf8 { .. } | Invalid::Malformed { .. } => bad_request("malformed_json", invalid.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_wire_form_is_a_problem() {
        let problem = Problem::invalid_field("/priority", "is wrong").within("/tasks/3");
        assert_eq!(
            serde_json::to_value(problem.wire("/api/v1/tasks/batch")).unwrap(),
            json!({
                "type": "urn:dats:problem:validation_failed",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "/priority is wrong",
                "instance": "/api/v1/tasks/batch",
                "code": "validation_failed",
                "errors": [{"pointer": "/tasks/3/priority", "message": "is wrong"}],
            })
        );
        let response = Problem::unauthorized("no").into_response("/");
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
