//! Problems (RFC 9457): the only place where errors become status codes.

mod overload;

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Body;
use crate::engine::{self, Refusal};
use crate::events::InvalidEvent;
use crate::json::{self, FieldError, Invalid};
use crate::lineage::Cancelled;
use crate::store;
use crate::task::{self, RecordId};

/// Most bad fields that the problems of a batch list together, beside the first
/// of each.
pub(in crate::http) const MAX_BATCH_ERRORS: usize = 256;

/// An answer that says what went wrong, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Problem(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    records: Vec<RecordId>,
    retry_after: Option<u32>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// What went wrong (RFC 9457), for people and for programs.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(in crate::http) struct Wire<'a> {
    /// A URI made of `code`, as stable as that.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    title: &'a str,
    /// The status code of the answer.
    status: u16,
    /// What is wrong here, for people.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    /// What a program goes by: stable.
    code: &'a str,
    /// The fields that are not valid.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(nullable = false)]
    errors: &'a [FieldError],
    /// Records of a task that is not here itself.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(nullable = false)]
    records: &'a [RecordId],
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let (errors, records) = (Vec::new(), Vec::new());
        Self(Box::new(Inner { status, code, title, detail, errors, records, retry_after: None, header: None }))
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The code of its answer.
    pub(in crate::http) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What a program goes by.
    pub(in crate::http) const fn code(&self) -> &'static str {
        self.0.code
    }

    /// Puts `pointer` before the place of each bad field.
    pub(in crate::http) fn within(mut self, pointer: &str) -> Self {
        for error in &mut self.0.errors {
            error.pointer.insert_str(0, pointer);
        }
        self
    }

    /// Keeps the first errors, so that many problems in one answer have a bound
    /// together: `left` is how many are left for this one and those to come.
    pub(in crate::http) fn keep_errors(&mut self, left: &mut usize) {
        self.0.errors.truncate((*left).max(1));
        *left = left.saturating_sub(self.0.errors.len());
    }

    /// As JSON, for the answer to a request for `instance`.
    pub(in crate::http) fn wire<'a>(&'a self, instance: &'a str) -> Wire<'a> {
        let Inner { status, code, title, detail, errors, records, .. } = &*self.0;
        let kind = format!("urn:dats:problem:{code}");
        Wire { kind, title, status: status.as_u16(), detail, instance, code, errors, records }
    }

    /// As the answer to a request for `instance`.
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
            // The rest of the body is not read, so the connection can't go
            // on: a client that is not told would lose its next request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dats\""));
        }
        response
    }

    /// Workers get their tasks from the broker.
    pub(in crate::http) fn no_leases() -> Self {
        let title = "Tasks are not leased here";
        let detail = "workers take tasks from the work queues of RabbitMQ (events.bus is rabbitmq); with events.bus \
                      embedded they are leased here";
        Self::new(StatusCode::CONFLICT, "leasing_not_available", title, detail)
    }

    /// Some fields are not valid.
    pub(in crate::http) fn invalid(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(json::MAX_ERRORS);
        let detail = match errors.as_slice() {
            [error] if error.pointer.is_empty() => error.message.clone(),
            // Most messages go on from the name ("must be …"); this one names it itself.
            [error] if error.message.starts_with("unknown ") => format!("{}: {}", error.pointer, error.message),
            [error] => format!("{} {}", error.pointer, error.message),
            errors if errors.len() == json::MAX_ERRORS => format!("{} fields or more are not valid", errors.len()),
            errors => format!("{} fields are not valid", errors.len()),
        };
        let title = "The request has fields that are not valid";
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", title, detail);
        problem.0.errors = errors;
        problem
    }

    /// One field is not valid.
    pub(in crate::http) fn invalid_field(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, message)])
    }

    /// No resource has this path.
    pub(in crate::http) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", "no resource has this path")
    }

    /// A resource that does not exist: `kind` and the id it was asked by.
    pub(in crate::http) fn not_found(code: &'static str, kind: &str, id: &str) -> Self {
        let detail = format!("there is no {kind} {id}");
        Self::new(StatusCode::NOT_FOUND, code, "There is no such resource", detail)
    }

    /// There is no such task.
    pub(in crate::http) fn task_not_found(id: &str) -> Self {
        Self::not_found("task_not_found", "task", id)
    }

    /// There is no such task, but there are records of it.
    pub(in crate::http) fn task_elsewhere(id: &str, records: Vec<RecordId>) -> Self {
        let mut problem = Self::task_not_found(id);
        problem.0.detail =
            format!("there is no task {id}: its provenance records are here, the task itself is not").into();
        problem.0.records = records;
        problem
    }

    /// Nothing in the provenance has this id.
    pub(in crate::http) fn provenance_not_found(id: &str) -> Self {
        Self::not_found("provenance_not_found", "provenance record or artifact", id)
    }

    /// One record does not depend on another.
    pub(in crate::http) fn no_path(from: &str, to: &str) -> Self {
        let detail = format!("{to} does not depend on {from}");
        Self::new(StatusCode::NOT_FOUND, "no_path", "There is no such path", detail)
    }

    /// What a cursor went on with is not kept any more.
    pub(in crate::http) fn cursor_expired() -> Self {
        let detail = "what it goes on with is kept for 60 s: begin again without a cursor";
        Self::new(StatusCode::GONE, "cursor_expired", "The cursor has expired", detail)
    }

    /// No lease has such an id, so none is held by it.
    pub(in crate::http) fn lease_lost(id: &str) -> Self {
        let detail = format!("lease {id} is no longer held");
        Self::new(StatusCode::CONFLICT, "lease_lost", "The request conflicts with the state", detail)
    }

    /// The resource exists, the method does not.
    pub(in crate::http) fn method_not_allowed(allow: &HeaderValue) -> Self {
        let detail = format!("allowed are {}", allow.to_str().unwrap_or_default());
        let title = "The resource does not have this method";
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail);
        problem.0.header = Some((ALLOW, allow.clone()));
        problem
    }

    /// The request does not say, or does not say clearly, which host it is for.
    pub(in crate::http) fn invalid_host(found: &str) -> Self {
        let detail = format!("Host must be given once, as the name or address of this service, {found}");
        Self::new(StatusCode::BAD_REQUEST, "invalid_host", "Bad Request", detail)
    }

    /// The request is for a host that this service is not known to be.
    pub(in crate::http) fn unknown_host(host: &str) -> Self {
        let detail = format!(
            "Host must be an IP address, localhost, a name without a dot or one of server.allowed_hosts, was {host}"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", "Misdirected Request", detail)
    }

    /// A page of another site sent the request.
    pub(in crate::http) fn foreign_origin(origin: &str) -> Self {
        let detail = format!(
            "a page may change something here only if it was loaded from here or from one of server.allowed_hosts, \
             this one is from {origin}"
        );
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", "Forbidden", detail)
    }

    /// The caller did not show the key.
    pub(in crate::http) fn unauthorized(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The caller is not known", detail)
    }

    /// The body is larger than allowed.
    pub(in crate::http) fn too_large(limit: usize) -> Self {
        let detail = format!("it may have at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// The body did not come in time.
    pub(in crate::http) fn body_timeout() -> Self {
        let title = "The body did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", title, "the body must be sent faster")
    }

    /// The body broke off.
    pub(in crate::http) fn body_broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body_broken", "The body broke off", "the body could not be read to its end")
    }

    /// The body is of a kind that is not taken.
    pub(in crate::http) fn unsupported_media_type(detail: String) -> Self {
        let title = "The body is of a kind that is not taken";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", title, detail)
    }

    /// No form of the answer is acceptable.
    pub(in crate::http) fn not_acceptable(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "The answer has no such form", detail)
    }

    /// A range of a content that has only `length` bytes.
    pub(in crate::http) fn range_not_satisfiable(length: u64) -> Self {
        let detail = format!("the content has {length} bytes");
        let title = "There is no such range";
        let mut problem = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", title, detail);
        let shown = HeaderValue::from_str(&format!("bytes */{length}"));
        problem.0.header = shown.ok().map(|length| (CONTENT_RANGE, length));
        problem
    }

    /// A question about provenance was not answered in time.
    pub(in crate::http) fn walk_timeout(patience: Duration) -> Self {
        let limit = patience.as_secs();
        let detail = format!(
            "there is no answer within {limit} s (server.walk_timeout_seconds): ask for less, by a smaller depth"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "walk_timeout", "The answer takes too long", detail)
    }

    /// `If-Match` names another version.
    pub(in crate::http) fn version_mismatch() -> Self {
        let detail = "it was changed since the version that If-Match names";
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", "The resource has another version", detail)
    }

    /// A kept content is not what it was. The file is named within its
    /// directory: where that is, is nothing for clients.
    fn damaged_content(path: &Path, detail: &str) -> Self {
        let name = path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy());
        let name = name.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        let detail = format!("the file contents/{name} is damaged: {detail}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "content_damaged", "The content is damaged", detail)
    }

    /// A handler panicked: a defect, logged where it was caught.
    pub(in crate::http) fn internal() -> Self {
        let detail = "the request met a defect of the service";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed", detail)
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let bad = |code, title, detail: String| Self::new(StatusCode::BAD_REQUEST, code, title, detail);
        match invalid {
            Invalid::TooLarge { limit } => Self::too_large(limit),
            Invalid::Fields(errors) => Self::invalid(errors),
            Invalid::TooDeep => bad("json_too_deep", "The JSON is nested too deep", invalid.to_string()),
            Invalid::NotUtf8 { .. } | Invalid::Malformed { .. } => {
                bad("malformed_json", "The body is not JSON", invalid.to_string())
            }
        }
    }
}

impl From<InvalidEvent> for Problem {
    fn from(invalid: InvalidEvent) -> Self {
        let detail = invalid.to_string();
        match invalid {
            InvalidEvent::Json(invalid) => invalid.into(),
            InvalidEvent::UnknownTask(id) => Self::task_not_found(&id),
            InvalidEvent::UnsupportedType(_) => {
                let title = "Events of this type are not taken";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_event_type", title, detail)
            }
        }
    }
}

impl From<Cancelled> for Problem {
    /// Nobody waits for it any more.
    fn from(stopped: Cancelled) -> Self {
        let title = "The answer takes too long";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "walk_timeout", title, stopped.to_string())
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        let detail = error.to_string();
        let unavailable = |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail);
        match error {
            engine::Error::Refused(refusal) => refusal.into(),
            engine::Error::Overloaded => unavailable("overloaded", "The service is overloaded").retry_after(1),
            engine::Error::NotOwner => unavailable("not_owner", "Service Unavailable").retry_after(60),
            engine::Error::ShuttingDown => unavailable("shutting_down", "The service is stopping").retry_after(5),
            engine::Error::DiskFull { .. } => unavailable("storage_full", "The disk is nearly full").retry_after(60),
            engine::Error::Unknown => unavailable("outcome_unknown", "It is not known whether the request had effect"),
            engine::Error::Store(store::Error::DamagedContent { path, detail }) => {
                Self::damaged_content(&path, &detail)
            }
            engine::Error::Store(error) if error.is_no_room() => {
                unavailable("storage_full", "The disk is full").retry_after(60)
            }
            engine::Error::Store(_) => unavailable("store_failed", "The store failed"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let missing = |code| Self::new(StatusCode::NOT_FOUND, code, "There is no such resource", detail.clone());
        let conflict =
            |code| Self::new(StatusCode::CONFLICT, code, "The request conflicts with the state", detail.clone());
        match refusal {
            Refusal::TaskNotFound(_) | Refusal::NothingCorrelates => missing("task_not_found"),
            Refusal::ProjectNotFound(_) => missing("project_not_found"),
            Refusal::DeadLetterNotFound(_) => missing("dead_letter_not_found"),
            Refusal::SubjectNotFound(_) => missing("provenance_not_found"),
            Refusal::TierNotFound(_) => missing("tier_not_found"),
            Refusal::CheckpointNotFound(_) => missing("checkpoint_not_found"),
            Refusal::CascadeNotFound(_) => missing("cascade_not_found"),
            Refusal::CheckpointInvalid(_) => conflict("checkpoint_invalid"),
            Refusal::CheckpointOfOtherProject { .. } => conflict("checkpoint_of_other_project"),
            Refusal::ProjectChanged(_) => Self::version_mismatch(),
            Refusal::ProjectExists(_) => conflict("project_exists"),
            Refusal::ProjectHasOpenTasks { .. } => conflict("project_has_open_tasks"),
            Refusal::LeaseLost(_) => conflict("lease_lost"),
            Refusal::NotEnded(_) => conflict("task_not_ended"),
            Refusal::DependencyNotCompleted { .. } => conflict("dependency_not_completed"),
            Refusal::UnknownDependency { index, .. } => {
                Self::invalid_field(format!("/options/depends_on/{index}"), detail)
            }
            // Who asks over HTTP learns it before: this is said to an event.
            Refusal::SourceNotFound(_) => Self::invalid_field("/data/source_id", detail),
            Refusal::IdempotencyKeyReused => {
                let title = "The idempotency key was used before";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", title, detail)
            }
            Refusal::TooManyIdempotencyKeys { room_in, .. } => {
                let title = "Too Many Requests";
                let seconds = u32::try_from(room_in.as_secs()).unwrap_or(u32::MAX).clamp(1, 60);
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_idempotency_keys", title, detail)
                    .retry_after(seconds)
            }
            Refusal::TooManyProjects { .. } => {
                let title = "Too Many Requests";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_projects", title, detail).retry_after(60)
            }
            Refusal::Task(refusal) => conflict(match refusal {
                task::Refusal::AlreadyEnded(_) => "task_already_ended",
                task::Refusal::LeaseLost => "lease_lost",
                task::Refusal::UnknownAttempt { .. } => "unknown_attempt",
                task::Refusal::NotQueued(_) | task::Refusal::NotDispatched(_) => "task_in_other_phase",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::{CheckpointId, LeaseId, ProjectId, Status, TaskId};

    fn shown(problem: &Problem) -> (u16, &'static str) {
        (problem.status().as_u16(), problem.code())
    }

    #[test]
    fn every_refusal_has_its_code() {
        let task = TaskId::new(uuid::Uuid::nil());
        let project = || ProjectId::new("p").unwrap();
        let of = |refusal: Refusal| shown(&refusal.into());
        assert_eq!(of(Refusal::TaskNotFound(task)), (404, "task_not_found"));
        assert_eq!(of(Refusal::ProjectNotFound(project())), (404, "project_not_found"));
        assert_eq!(of(Refusal::ProjectExists(project())), (409, "project_exists"));
        assert_eq!(of(Refusal::ProjectHasOpenTasks { project: project(), open: 1 }), (409, "project_has_open_tasks"));
        assert_eq!(of(Refusal::LeaseLost(LeaseId::new(uuid::Uuid::nil()))), (409, "lease_lost"));
        assert_eq!(of(Refusal::UnknownDependency { index: 0, task }), (422, "validation_failed"));
        let checkpoint = || CheckpointId::new("c").unwrap();
        assert_eq!(of(Refusal::CheckpointNotFound(checkpoint())), (404, "checkpoint_not_found"));
        assert_eq!(of(Refusal::CheckpointInvalid(checkpoint())), (409, "checkpoint_invalid"));
        let other = Refusal::CheckpointOfOtherProject { checkpoint: checkpoint(), project: project() };
        assert_eq!(of(other), (409, "checkpoint_of_other_project"));
        assert_eq!(of(Refusal::IdempotencyKeyReused), (422, "idempotency_key_reused"));
        assert_eq!(of(Refusal::NotEnded(Status::Running)), (409, "task_not_ended"));
        let lost = Refusal::DependencyNotCompleted { task, dependency: task };
        assert_eq!(of(lost), (409, "dependency_not_completed"));
        assert_eq!(of(Refusal::Task(task::Refusal::AlreadyEnded(Status::Failed))), (409, "task_already_ended"));
    }

    #[test]
    fn what_is_unavailable_says_when_to_come_back() {
        let response = Problem::from(engine::Error::Overloaded).into_response("/x");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(shown(&engine::Error::Unknown.into()), (503, "outcome_unknown"));
        assert_eq!(shown(&engine::Error::DiskFull { free_mib: 1, reserve_mib: 2 }.into()), (503, "storage_full"));
    }

    #[test]
    fn the_wire_form_is_a_problem() {
        let problem = Problem::invalid_field("/priority", "is wrong").within("/tasks/3");
        assert_eq!(
            serde_json::to_value(problem.wire("/api/v1/tasks/batch")).unwrap(),
            json!({
                "type": "urn:dats:problem:validation_failed",
                "title": "The request has fields that are not valid",
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
