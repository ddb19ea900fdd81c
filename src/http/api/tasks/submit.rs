//! `POST /tasks`, `POST /tasks/batch` and `POST /tasks/{id}/rerun`: tasks that are submitted, alone or in
//! a batch, and tasks that are submitted again.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::{self, Refusal, Submissions, Submitted, UnknownDependency};
use crate::http::api::app::{App, Call};
use crate::http::api::tasks::status::task_id;
use crate::http::api::tasks::submission;
use crate::http::server::body::Body;
use crate::http::server::endpoint::BASE;
use crate::http::server::idempotency;
use crate::http::server::problem::{self, Problem};
use crate::http::server::reply::{self, Reply, Time};
use crate::json::{self, Findings, Invalid};
use crate::task::{ProjectId, Status, Submission, TaskId};

/// The largest number of tasks in a batch.
pub(in crate::http) const MAX_BATCH: usize = 1000;

/// The response to a submission. The first five fields are those of the old program.
#[derive(Serialize, ToSchema)]
#[schema(as = Submitted)]
pub(in crate::http) struct SubmittedWire<'a> {
    /// The id of the new task.
    task_id: TaskId,
    /// The project of the task.
    #[schema(value_type = ProjectId)]
    project_id: &'a str,
    /// Always `pending`, the status at the submission. The task itself may have moved on.
    #[schema(value_type = Status)]
    status: &'static str,
    /// When the task was accepted.
    created_at: Time,
    /// The time by which four of five such tasks have completed; null without an estimate.
    estimated_completion: Option<Time>,
    /// The paths of the task.
    links: TaskLinks,
}

/// The paths of a task.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TaskLinks {
    /// The task.
    #[serde(rename = "self")]
    #[schema(value_type = String)]
    itself: TaskPath,
    /// The history of the task.
    #[schema(value_type = String)]
    events: TaskPath,
    /// The history of the task as a stream.
    #[schema(value_type = String)]
    stream: TaskPath,
    /// The cancellation of the task.
    #[schema(value_type = String)]
    cancel: TaskPath,
}

impl TaskLinks {
    fn new(task: TaskId) -> Self {
        let path = |below| TaskPath { task, below };
        Self { itself: path(""), events: path("/events"), stream: path("/stream"), cancel: path("/cancel") }
    }
}

/// The path of a task or of a resource below it. It is written to the response without a copy of its own.
#[derive(Clone, Copy)]
struct TaskPath {
    task: TaskId,
    below: &'static str,
}

impl Display for TaskPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(BASE)?;
        f.write_str("/tasks/")?;
        f.write_str(self.task.to_text(&mut [0; 36]))?;
        f.write_str(self.below)
    }
}

impl Serialize for TaskPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'a> SubmittedWire<'a> {
    fn new(submitted: &'a Submitted) -> Self {
        Self {
            task_id: submitted.task,
            project_id: submitted.project.as_str(),
            // The first status of every task, and that of a repeated submission too.
            status: "pending",
            created_at: Time(submitted.created_at),
            estimated_completion: submitted.estimated_completion.map(Time),
            links: TaskLinks::new(submitted.task),
        }
    }
}

/// Returns `201 Created` with the location of the task.
fn created_response(submitted: &Submitted) -> Response<Body> {
    let wire = SubmittedWire::new(submitted);
    reply::created(&wire.links.itself.to_string(), &wire)
}

fn unknown_dependency(unknown: &UnknownDependency) -> Problem {
    Refusal::UnknownDependency { index: unknown.index, task: unknown.task }.into()
}

/// Handles `POST /tasks`.
pub(in crate::http) async fn submit(mut call: Call) -> Reply {
    call.require_no_query()?;
    let raw = call.json_bytes().await?;
    let length = raw.len();
    let key = idempotency::given_key(call.headers(), "/tasks")?;
    let (app, trace) = (Arc::clone(&call.app), call.traceparent());
    let read = move || {
        let submission = decode_submission(&app, &raw, trace.clone())?;
        Ok::<_, Problem>((submission, key.map(|key| key.with_body(&raw))))
    };
    let (submission, key) = call.decode(length, read).await??;
    let Submissions { mut results, replayed } = call.app.engine.tasks().submit(vec![submission], key).await?;
    let response = match results.pop() {
        Some(Ok(task)) => created_response(&task),
        Some(Err(unknown)) => return Err(unknown_dependency(&unknown)),
        None => return Err(engine::Error::Unknown.into()),
    };
    Ok(mark_replayed(response, replayed))
}

/// Decodes and checks the body of a submission.
fn decode_submission(app: &App, raw: &[u8], trace: Option<String>) -> Result<Submission, Problem> {
    json::check_integers(raw)?;
    let (wire, errors) = json::decode_all(raw, app.server.bodies.max_bytes())?;
    submission::check(wire, errors, &app.settings, trace).map_err(Problem::invalid)
}

/// Sets `Idempotent-Replayed` on the response to a repeated request.
fn mark_replayed(response: Response<Body>, replayed: bool) -> Response<Body> {
    if replayed {
        reply::with_header(response, idempotency::REPLAYED, HeaderValue::from_static("true"))
    } else {
        response
    }
}

/// Tasks that are submitted in one commit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch)]
pub(in crate::http) struct BatchWire {
    /// The tasks, each as the body of `POST /tasks`. An invalid task does not affect the others.
    #[schema(value_type = Vec<submission::Wire>, required, nullable = false)]
    tasks: Option<Vec<Value>>,
}

/// The result of one task of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchResult)]
pub(in crate::http) enum ResultWire<'a> {
    /// The task was accepted.
    Task {
        /// Always 201.
        status: u16,
        /// The task, as in the response to `POST /tasks`.
        task: SubmittedWire<'a>,
    },
    /// The task was refused.
    Problem {
        /// The status code of the problem.
        status: u16,
        /// The problem, as in the response to `POST /tasks`.
        problem: problem::Wire<'a>,
    },
}

/// The results of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResults)]
pub(in crate::http) struct ResultsWire<'a> {
    /// One result for each task, in the order of the request.
    results: Vec<ResultWire<'a>>,
}

/// Handles `POST /tasks/batch`. An invalid task does not affect the others.
pub(in crate::http) async fn submit_batch(mut call: Call) -> Reply {
    call.require_no_query()?;
    let raw = call.json_bytes().await?;
    let length = raw.len();
    let key = idempotency::given_key(call.headers(), "/tasks/batch")?;
    let (app, trace) = (Arc::clone(&call.app), call.traceparent());
    let read = move || {
        let items = decode_batch(&app, &raw, trace.as_ref())?;
        Ok::<_, Problem>((items, key.map(|key| key.with_body(&raw))))
    };
    let (items, key) = call.decode(length, read).await??;
    let mut valid = Vec::new();
    let items = items.into_iter().map(|item| item.map(|submission| valid.push(submission)));
    let checked: Vec<Result<(), Problem>> = items.collect();
    let taken = if valid.is_empty() {
        Submissions { results: Vec::new(), replayed: false }
    } else {
        call.app.engine.tasks().submit(valid, key).await?
    };
    let (mut made, mut left) = (taken.results.into_iter(), problem::MAX_BATCH_ERRORS);
    let results = checked.into_iter().enumerate().map(|(index, item)| {
        let outcome = item.and_then(|()| match made.next() {
            Some(Ok(task)) => Ok(task),
            Some(Err(unknown)) => Err(unknown_dependency(&unknown)),
            None => Err(engine::Error::Unknown.into()),
        });
        outcome.map_err(|mut problem| {
            problem.truncate_errors(&mut left);
            problem.within(&format!("/tasks/{index}"))
        })
    });
    let results: Vec<Result<Submitted, Problem>> = results.collect();
    let path = call.head.uri.path();
    let results = results.iter().map(|result| match result {
        Ok(task) => ResultWire::Task { status: 201, task: SubmittedWire::new(task) },
        Err(problem) => ResultWire::Problem { status: problem.status().as_u16(), problem: problem.wire(path) },
    });
    Ok(mark_replayed(reply::json(StatusCode::OK, &ResultsWire { results: results.collect() }), taken.replayed))
}

/// Decodes a batch and checks each of its tasks.
fn decode_batch(app: &App, raw: &[u8], trace: Option<&String>) -> Result<Vec<Result<Submission, Problem>>, Problem> {
    json::check_integers(raw)?;
    let (batch, mut errors): (BatchWire, _) = json::decode_all(raw, app.server.bodies.max_bytes())?;
    // A U+0000 in a task is found again when that task is checked. A duplicate key is not, because only
    // one of its values was decoded.
    errors.retain(|error| !error.pointer.starts_with("/tasks/") || json::is_duplicate_key_error(error));
    let mut found = Findings::from_errors(errors);
    let tasks = found.required("/tasks", batch.tasks).unwrap_or_default();
    if found.is_empty() && !(1..=MAX_BATCH).contains(&tasks.len()) {
        found.add("/tasks", format!("must have 1 to {MAX_BATCH} tasks, had {}", tasks.len()));
    }
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    let items = tasks.into_iter().map(|task| {
        let (wire, errors) = json::from_value_all(task, "");
        let checked = match wire {
            Some(wire) => submission::check(wire, errors, &app.settings, trace.cloned()),
            None => Err(errors),
        };
        checked.map_err(|errors| Invalid::Fields(errors).into())
    });
    Ok(items.collect())
}

/// Handles `POST /tasks/{id}/rerun`.
pub(in crate::http) async fn rerun(mut call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    call.require_no_fields().await?;
    // The body counts as empty, so that `{}` and no body have the same key.
    let key = idempotency::given_key(call.headers(), &format!("/tasks/{id}/rerun"))?.map(|key| key.with_body(b""));
    let (task, replayed) = call.app.engine.tasks().rerun(id, key).await?;
    Ok(mark_replayed(created_response(&task), replayed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ProjectId, Timestamp};

    #[test]
    fn a_response_starts_with_the_five_fields() {
        let task = Submitted {
            task: TaskId::new(uuid::Uuid::from_u128(7)),
            project: ProjectId::new("p\"1").unwrap(),
            created_at: Timestamp::from_micros(1_767_981_600_000_000),
            estimated_completion: None,
        };
        let text = serde_json::to_string(&SubmittedWire::new(&task)).unwrap();
        assert!(text.starts_with(
            "{\"task_id\":\"00000000-0000-0000-0000-000000000007\",\"project_id\":\"p\\\"1\",\"status\":\"pending\",\
             \"created_at\":\"2026-01-09T18:00:00Z\",\"estimated_completion\":null,\
             \"links\":{\"self\":\"/api/v1/tasks/00000000-0000-0000-0000-000000000007\""
        ));
        let task = Submitted { estimated_completion: Some(Timestamp::from_micros(1_767_981_720_000_000)), ..task };
        let text = serde_json::to_string(&SubmittedWire::new(&task)).unwrap();
        assert!(text.contains(",\"estimated_completion\":\"2026-01-09T18:02:00Z\",\"links\""), "{text}");
        assert_eq!(created_response(&task).headers()["location"], "/api/v1/tasks/00000000-0000-0000-0000-000000000007");
    }
}
