//! Tasks: submitting, reading, cancelling, running again.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::{self, Answer, Hold, Refusal, Revision, Submissions, Submitted, UnknownDependency};
use crate::http::api::app::{App, Call};
use crate::http::api::tasks::submission;
use crate::http::openapi::TaskLinks;
use crate::http::server::body::Body;
use crate::http::server::endpoint::BASE;
use crate::http::server::headers::{self, header_value};
use crate::http::server::idempotency;
use crate::http::server::problem::{self, Problem};
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::http::server::request::decode_id;
use crate::json::{self, Findings, Invalid};
use crate::task::{ProjectId, Status, Submission, TaskId};

/// Most tasks of a batch.
pub(in crate::http) const MAX_BATCH: usize = 1000;
/// Longest wait that a client may ask for, in seconds.
pub(in crate::http) const MAX_WAIT: u64 = 60;
/// Longest reason for a cancellation, in bytes.
pub(in crate::http) const MAX_REASON_BYTES: usize = 4096;

/// The answer to a submission: what old clients know, then where to go on.
#[derive(Serialize, ToSchema)]
#[schema(as = Submitted)]
pub(in crate::http) struct SubmittedWire<'a> {
    /// The id of the new task.
    task_id: TaskId,
    /// Its project.
    #[schema(value_type = ProjectId)]
    project_id: &'a str,
    /// Always `pending`: it tells of the submission; the next read shows more.
    #[schema(value_type = Status)]
    status: &'static str,
    /// When it was taken.
    created_at: Time,
    /// By when four of five such tasks are done.
    estimated_completion: Option<Time>,
    /// Where to go on.
    #[schema(value_type = TaskLinks)]
    links: Links,
}

/// Where to go on: paths that begin with the task's own, which this is.
struct Links(String);

impl Links {
    fn of(task: TaskId) -> Self {
        const TASKS: &str = "/tasks/";
        let mut path = String::with_capacity(BASE.len() + TASKS.len() + 36);
        path.push_str(BASE);
        path.push_str(TASKS);
        path.push_str(task.to_text(&mut [0; 36]));
        Self(path)
    }
}

impl Serialize for Links {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut path = String::with_capacity(self.0.len() + 12);
        path.push_str(&self.0);
        let itself = path.len();
        let mut links = serializer.serialize_struct("Links", 4)?;
        links.serialize_field("self", &path)?;
        for name in ["events", "stream", "cancel"] {
            path.truncate(itself);
            path.push('/');
            path.push_str(name);
            links.serialize_field(name, &path)?;
        }
        links.end()
    }
}

impl<'a> SubmittedWire<'a> {
    fn new(submitted: &'a Submitted) -> Self {
        Self {
            task_id: submitted.task,
            project_id: submitted.project.as_str(),
            // The state every submission begins in, also when it is repeated.
            status: "pending",
            created_at: Shown(submitted.created_at),
            estimated_completion: submitted.estimated_completion.map(Shown),
            links: Links::of(submitted.task),
        }
    }
}

fn submitted(submitted: &Submitted) -> Response<Body> {
    let wire = SubmittedWire::new(submitted);
    reply::created(&wire.links.0, &wire)
}

fn unknown_dependency(unknown: &UnknownDependency) -> Problem {
    Refusal::UnknownDependency { index: unknown.index, task: unknown.task }.into()
}

/// `POST /tasks`
pub(in crate::http) async fn submit(mut call: Call) -> Reply {
    call.require_no_query()?;
    let raw = call.json_bytes().await?;
    let length = raw.len();
    let key = idempotency::given_key(call.headers(), "/tasks")?;
    let (app, trace) = (Arc::clone(&call.app), call.traceparent());
    let read = move || {
        let submission = read_one(&app, &raw, trace.clone())?;
        Ok::<_, Problem>((submission, key.map(|key| key.with_body(&raw))))
    };
    let (submission, key) = call.decode(length, read).await??;
    let Submissions { mut results, replayed } = call.app.engine.tasks().submit(vec![submission], key).await?;
    let response = match results.pop() {
        Some(Ok(task)) => submitted(&task),
        Some(Err(unknown)) => return Err(unknown_dependency(&unknown)),
        None => return Err(engine::Error::Unknown.into()),
    };
    Ok(marked(response, replayed))
}

fn read_one(app: &App, raw: &[u8], trace: Option<String>) -> Result<Submission, Problem> {
    json::check_integers(raw)?;
    let (wire, errors) = json::decode_all(raw, app.server.bodies.max_bytes())?;
    submission::check(wire, errors, &app.settings, trace).map_err(Problem::invalid)
}

fn marked(response: Response<Body>, replayed: bool) -> Response<Body> {
    if replayed {
        reply::with_header(response, idempotency::REPLAYED, HeaderValue::from_static("true"))
    } else {
        response
    }
}

/// Tasks to be taken in one commit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch)]
pub(in crate::http) struct BatchWire {
    /// Each as the body of `POST /tasks`. One that is not valid does not stop the others.
    #[schema(value_type = Vec<submission::Wire>, required, nullable = false)]
    tasks: Option<Vec<Value>>,
}

/// What became of a task of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchResult)]
pub(in crate::http) enum ResultWire<'a> {
    /// It was taken.
    Task {
        /// 201.
        status: u16,
        /// The answer to its submission.
        task: SubmittedWire<'a>,
    },
    /// It was not.
    Problem {
        /// That of the problem.
        status: u16,
        /// What is wrong with it.
        problem: problem::Wire<'a>,
    },
}

/// What became of each task of a batch, in order.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResults)]
pub(in crate::http) struct ResultsWire<'a> {
    /// One for each task.
    results: Vec<ResultWire<'a>>,
}

/// `POST /tasks/batch`: items that are not valid don't stop the others.
pub(in crate::http) async fn submit_batch(mut call: Call) -> Reply {
    call.require_no_query()?;
    let raw = call.json_bytes().await?;
    let length = raw.len();
    let key = idempotency::given_key(call.headers(), "/tasks/batch")?;
    let (app, trace) = (Arc::clone(&call.app), call.traceparent());
    let read = move || {
        let items = read_batch(&app, &raw, trace.as_ref())?;
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
    Ok(marked(reply::json(StatusCode::OK, &ResultsWire { results: results.collect() }), taken.replayed))
}

fn read_batch(app: &App, raw: &[u8], trace: Option<&String>) -> Result<Vec<Result<Submission, Problem>>, Problem> {
    json::check_integers(raw)?;
    let (batch, mut errors): (BatchWire, _) = json::decode_all(raw, app.server.bodies.max_bytes())?;
    // A U+0000 in an item is that item's error, and found again there. A key that
    // stands twice is not: only one of its values has been read.
    errors.retain(|error| !error.pointer.starts_with("/tasks/") || json::is_of_doubled_key(error));
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

/// What a path names as a task. Text that is no UUID names none.
pub(in crate::http) fn task_id(raw: &str) -> Result<TaskId, Problem> {
    raw.parse().or_else(|_| {
        let id = decode_id(raw).unwrap_or_else(|| raw.to_owned());
        id.parse().map_err(|_| Problem::task_not_found(&id))
    })
}

/// Most records that are named for a task that is not here.
pub(in crate::http) const MAX_RECORDS: usize = 100;

/// That there is no such task; with the records of it that there are, since
/// it was imported or is gone.
async fn missing(app: &App, raw_id: &str) -> Problem {
    let id = decode_id(raw_id).unwrap_or_else(|| raw_id.to_owned());
    match app.engine.provenance().records_of_task(TaskId::of_text(&id), MAX_RECORDS).await {
        Ok(records) if records.is_empty() => Problem::task_not_found(&id),
        Ok(records) => Problem::only_records_of_task(&id, records),
        Err(error) => error.into(),
    }
}

/// `GET /tasks/{id}` without a query: the hot path; `None`: there is no such
/// task, or not without waiting.
pub(in crate::http) fn read(
    app: &App,
    raw_id: &str,
    known: Option<&HeaderValue>,
) -> Result<Option<Response<Body>>, Problem> {
    let Ok(id) = task_id(raw_id) else { return Ok(None) };
    Ok(app.engine.tasks().status_now(id)?.map(|answer| task_reply(answer, known)))
}

/// `GET /tasks/{id}` with a query: `wait`, in seconds.
pub(in crate::http) async fn get(call: Call) -> Reply {
    let mut query = call.query(&["wait"]);
    let seconds = query.number("wait", 0..=MAX_WAIT).unwrap_or(0);
    query.finish()?;
    let known = call.if_none_match();
    let found = match task_id(&call.raw_id) {
        Ok(id) => call.app.engine.tasks().status(id).await?.map(|now| (id, now)),
        Err(_) => None,
    };
    let Some((id, now)) = found else { return Err(missing(&call.app, &call.raw_id).await) };
    let revision = match waits_for(&now, known) {
        Awaited::Nothing => return Ok(task_reply(now, known)),
        Awaited::End => None,
        Awaited::OtherThan(revision) => Some(revision),
    };
    let waiting = call.app.engine.tasks().wait(id, revision, Duration::from_secs(seconds));
    let answer = tokio::select! {
        answer = waiting => answer?,
        () = call.ending().cancelled() => call.app.engine.tasks().status(id).await?,
    };
    Ok(task_reply(answer.ok_or_else(|| Problem::task_not_found(&call.raw_id))?, known))
}

/// What a client waits for.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    /// It is there already.
    Nothing,
    /// The end of the task.
    End,
    /// Another answer than the one the client has.
    OtherThan(Revision),
}

fn waits_for(now: &Answer, known: Option<&HeaderValue>) -> Awaited {
    match known {
        None if now.ended => Awaited::Nothing,
        None => Awaited::End,
        Some(known) if headers::matches(known, &task_etag(now.revision())) => Awaited::OtherThan(now.revision()),
        Some(_) => Awaited::Nothing,
    }
}

/// The entity tag of a task's status answer: its version, and the pause that holds
/// the task back, which is not a change of the task.
fn task_etag(revision: Revision) -> HeaderValue {
    let Revision { version, hold } = revision;
    match hold {
        None => headers::etag(version),
        Some(Hold::Project) => header_value(format_args!("\"{version}-project-paused\"")),
        Some(Hold::Tier) => header_value(format_args!("\"{version}-tier-paused\"")),
        Some(Hold::Workers) => header_value(format_args!("\"{version}-without-workers\"")),
    }
}

/// The status answer of a task, or 304 if the client has this version.
fn task_reply(answer: Answer, if_none_match: Option<&HeaderValue>) -> Response<Body> {
    let etag = task_etag(answer.revision());
    reply::versioned(etag, if_none_match, || reply::rendered(StatusCode::OK, answer.body))
}

/// Why a task is cancelled.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cancellation)]
pub(in crate::http) struct CancelWire {
    /// For people; stands in `error` of the task.
    reason: Option<String>,
}

/// `POST /tasks/{id}/cancel`
pub(in crate::http) async fn cancel(mut call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    let (wire, errors): (CancelWire, _) = call.optional_json().await?;
    let mut found = Findings::from_errors(errors);
    let length = wire.reason.as_ref().map_or(0, String::len);
    if length > MAX_REASON_BYTES {
        found.add("/reason", format!("must be at most {MAX_REASON_BYTES} bytes, was {length}"));
    }
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    Ok(task_reply(call.app.engine.tasks().cancel(id, wire.reason).await?, None))
}

/// `POST /tasks/{id}/rerun`
pub(in crate::http) async fn rerun(mut call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    call.require_no_fields().await?;
    // The key is one for this task's re-run, whatever the empty body looks like.
    let key = idempotency::given_key(call.headers(), &format!("/tasks/{id}/rerun"))?.map(|key| key.with_body(b""));
    let (task, replayed) = call.app.engine.tasks().rerun(id, key).await?;
    Ok(marked(submitted(&task), replayed))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::task::{ProjectId, Timestamp};

    #[test]
    fn a_pause_makes_another_tag() {
        let tag = |hold| task_etag(Revision { version: 12, hold });
        assert_eq!(tag(None), headers::etag(12));
        assert_eq!(tag(Some(Hold::Project)), "\"12-project-paused\"");
        assert_eq!(tag(Some(Hold::Tier)), "\"12-tier-paused\"");
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let answer = Answer { version: 7, hold: None, ended: false, body: Bytes::from_static(b"{}") };
        let known = HeaderValue::from_static("\"7\"");
        assert_eq!(task_reply(answer.clone(), Some(&known)).status(), StatusCode::NOT_MODIFIED);
        let response = task_reply(answer, Some(&HeaderValue::from_static("\"6\"")));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["etag"], "\"7\"");
    }

    #[test]
    fn an_answer_begins_with_the_five_fields() {
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
        assert_eq!(submitted(&task).headers()["location"], "/api/v1/tasks/00000000-0000-0000-0000-000000000007");
    }

    #[test]
    fn ids_in_paths_are_uuids_or_nothing() {
        assert!(task_id("01890a5d-ac96-774b-bcce-b302099a8057").is_ok());
        assert!(task_id("01890a5d%2Dac96-774b-bcce-b302099a8057").is_ok());
        assert_eq!(task_id("task-456").unwrap_err().code(), "task_not_found");
        assert_eq!(task_id("%ff").unwrap_err().status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_wait_knows_what_for() {
        let answer = |ended| Answer { version: 3, hold: None, ended, body: bytes::Bytes::new() };
        let same = HeaderValue::from_static("\"3\"");
        let other = HeaderValue::from_static("\"2\"");
        assert_eq!(waits_for(&answer(false), None), Awaited::End);
        assert_eq!(waits_for(&answer(true), None), Awaited::Nothing);
        assert_eq!(waits_for(&answer(true), Some(&same)), Awaited::OtherThan(answer(true).revision()));
        assert_eq!(waits_for(&answer(false), Some(&other)), Awaited::Nothing);
    }
}
