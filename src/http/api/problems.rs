//! The problems of the API: the status codes and codes for errors of the engine, the store and the provenance
//! graph.

use std::path::Path;

use hyper::StatusCode;

use crate::engine::{self, Refusal};
use crate::events::InvalidEvent;
use crate::http::server::problem::Problem;
use crate::lineage::Cancelled;
use crate::store;
use crate::task::{self, RecordId};

impl Problem {
    /// Returns the problem of a lease request while workers take their tasks from the broker.
    pub(in crate::http) fn no_leases() -> Self {
        let detail = "tasks are not leased over HTTP while events.bus is rabbitmq: take them from the work queues of \
                      RabbitMQ, or set events.bus to embedded";
        Self::new(StatusCode::CONFLICT, "leasing_not_available", detail)
    }

    /// Returns the problem of an id that no resource of the given kind has.
    pub(in crate::http) fn not_found(code: &'static str, kind: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, format!("there is no {kind} {id}"))
    }

    pub(in crate::http) fn task_not_found(id: &str) -> Self {
        Self::not_found("task_not_found", "task", id)
    }

    /// Returns the problem of a task that is not stored, with its provenance records, which are.
    pub(in crate::http) fn only_records_of_task(id: &str, records: Vec<RecordId>) -> Self {
        let detail = format!("there is no task {id}, only its provenance records, which are listed in records");
        Self::new(StatusCode::NOT_FOUND, "task_not_found", detail).with_records(records)
    }

    /// Returns the problem of an id that no record and no artifact has.
    pub(in crate::http) fn provenance_not_found(id: &str) -> Self {
        Self::not_found("provenance_not_found", "provenance record or artifact", id)
    }

    /// Returns the problem of a record `to` that does not depend on the record `from`.
    pub(in crate::http) fn no_path(from: &str, to: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_path", format!("{to} does not depend on {from}"))
    }

    /// Returns the problem of a cursor whose result is no longer cached.
    pub(in crate::http) fn cursor_expired() -> Self {
        let detail = "the cursor has expired, since results are kept for 60 s: start again without a cursor";
        Self::new(StatusCode::GONE, "cursor_expired", detail)
    }

    /// Returns the problem of an id that no current lease has.
    pub(in crate::http) fn lease_lost(id: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "lease_lost", format!("lease {id} is no longer held"))
    }

    /// Returns the problem of an `If-Match` with another version than the current one.
    pub(in crate::http) fn version_mismatch() -> Self {
        let detail = "the resource has changed since the version in If-Match: read it again";
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
    }

    pub(in crate::http) fn too_many_imports(limit: usize) -> Self {
        Self::overloaded(format!("{limit} imports are running already: retry when one of them has ended"), 5)
    }

    /// Returns the problem of a damaged content file. It names the file without the path of the data directory, which
    /// clients must not learn.
    fn damaged_content(path: &Path, detail: &str) -> Self {
        let name = path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy());
        let name = name.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        let detail = format!("the file contents/{name} is damaged: {detail}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "content_damaged", detail)
    }
}

impl From<InvalidEvent> for Problem {
    fn from(invalid: InvalidEvent) -> Self {
        let detail = invalid.to_string();
        match invalid {
            InvalidEvent::Json(invalid) => invalid.into(),
            InvalidEvent::UnknownTask(id) => Self::task_not_found(&id),
            InvalidEvent::UnsupportedType(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_event_type", detail)
            }
        }
    }
}

impl From<Cancelled> for Problem {
    /// A query is cancelled when its client disconnects or its time limit is reached, so this problem is rarely sent.
    fn from(cancelled: Cancelled) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "walk_timeout", cancelled.to_string())
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        let detail = error.to_string();
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match error {
            engine::Error::Refused(refusal) => refusal.into(),
            engine::Error::Overloaded => unavailable("overloaded").with_retry_after(1),
            engine::Error::NotOwner => unavailable("not_owner").with_retry_after(60),
            engine::Error::ShuttingDown => unavailable("shutting_down").with_retry_after(5),
            engine::Error::DiskFull { .. } => unavailable("storage_full").with_retry_after(60),
            engine::Error::Unknown => unavailable("outcome_unknown"),
            engine::Error::Store(store::Error::DamagedContent { path, detail }) => {
                Self::damaged_content(&path, &detail)
            }
            engine::Error::Store(error) if error.is_no_room() => unavailable("storage_full").with_retry_after(60),
            engine::Error::Store(_) => unavailable("store_failed"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let not_found = |code| Self::new(StatusCode::NOT_FOUND, code, detail.clone());
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match refusal {
            Refusal::TaskNotFound(_) | Refusal::NothingCorrelates => not_found("task_not_found"),
            Refusal::ProjectNotFound(_) => not_found("project_not_found"),
            Refusal::DeadLetterNotFound(_) => not_found("dead_letter_not_found"),
            Refusal::SubjectNotFound(_) => not_found("provenance_not_found"),
            Refusal::TierNotFound(_) => not_found("tier_not_found"),
            Refusal::CheckpointNotFound(_) => not_found("checkpoint_not_found"),
            Refusal::CascadeNotFound(_) => not_found("cascade_not_found"),
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
            // Requests are checked before, so only an event can have this refusal.
            Refusal::SourceNotFound(_) => Self::invalid_field("/data/source_id", detail),
            Refusal::IdempotencyKeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            Refusal::TooManyIdempotencyKeys { room_in, .. } => {
                let seconds = u32::try_from(room_in.as_secs()).unwrap_or(u32::MAX).clamp(1, 60);
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_idempotency_keys", detail).with_retry_after(seconds)
            }
            Refusal::TooManyProjects { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_projects", detail).with_retry_after(60)
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
    use hyper::header::RETRY_AFTER;

    use super::*;
    use crate::task::{CheckpointId, LeaseId, ProjectId, Status, TaskId};

    fn status_and_code(problem: &Problem) -> (u16, &'static str) {
        (problem.status().as_u16(), problem.code())
    }

    #[test]
    fn every_refusal_has_its_code() {
        let task = TaskId::new(uuid::Uuid::nil());
        let project = || ProjectId::new("p").unwrap();
        let of = |refusal: Refusal| status_and_code(&refusal.into());
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
    fn an_unavailable_service_says_when_to_retry() {
        let response = Problem::from(engine::Error::Overloaded).into_response("/x");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(status_and_code(&engine::Error::Unknown.into()), (503, "outcome_unknown"));
        let full = engine::Error::DiskFull { free_mib: 1, reserve_mib: 2 };
        assert_eq!(status_and_code(&full.into()), (503, "storage_full"));
    }
}
