//! `GET /tasks/{id}` and `POST /tasks/{id}/cancel`: the current state of a task.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::engine::{Answer, Hold, Revision};
use crate::http::api::app::{App, Call};
use crate::http::api::fields::limit_reason;
use crate::http::server::body::Body;
use crate::http::server::headers::{self, header_value};
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::http::server::request::decode_id;
use crate::json::Findings;
use crate::task::TaskId;

/// The longest wait that a client may ask for, in seconds.
pub(in crate::http) const MAX_WAIT: u64 = 60;
/// The largest number of records in the problem of a task that is not here.
const MAX_RECORDS: usize = 100;

/// Returns the id in a path. A text that is not a UUID names no task.
pub(in crate::http) fn task_id(raw: &str) -> Result<TaskId, Problem> {
    raw.parse().or_else(|_| {
        let id = decode_id(raw).unwrap_or_else(|| raw.to_owned());
        id.parse().map_err(|_| Problem::task_not_found(&id))
    })
}

/// Returns the problem of an unknown task. It lists the records of the task, which exist if the task was imported
/// or removed.
async fn not_found(app: &App, raw_id: &str) -> Problem {
    let id = decode_id(raw_id).unwrap_or_else(|| raw_id.to_owned());
    match app.engine.provenance().records_of_task(TaskId::of_text(&id), MAX_RECORDS).await {
        Ok(records) if records.is_empty() => Problem::task_not_found(&id),
        Ok(records) => Problem::only_records_of_task(&id, records),
        Err(error) => error.into(),
    }
}

/// Handles `GET /tasks/{id}` without a query, which is the hot path. Returns `None` if the answer is not in memory.
pub(in crate::http) fn get_now(
    app: &App,
    raw_id: &str,
    known: Option<&HeaderValue>,
) -> Result<Option<Response<Body>>, Problem> {
    let Ok(id) = task_id(raw_id) else { return Ok(None) };
    Ok(app.engine.tasks().status_now(id)?.map(|answer| task_response(answer, known)))
}

/// Handles `GET /tasks/{id}` with a `wait`, and the tasks that are not in memory.
pub(in crate::http) async fn get(call: Call) -> Reply {
    let mut query = call.query(&["wait"]);
    let seconds = query.number("wait", 0..=MAX_WAIT).unwrap_or(0);
    query.finish()?;
    let known = call.if_none_match();
    let found = match task_id(&call.raw_id) {
        Ok(id) => call.app.engine.tasks().status(id).await?.map(|now| (id, now)),
        Err(_) => None,
    };
    let Some((id, now)) = found else { return Err(not_found(&call.app, &call.raw_id).await) };
    let revision = match wait_target(&now, known) {
        WaitTarget::Nothing => return Ok(task_response(now, known)),
        WaitTarget::End => None,
        WaitTarget::OtherThan(revision) => Some(revision),
    };
    let waiting = call.app.engine.tasks().wait(id, revision, Duration::from_secs(seconds));
    let answer = tokio::select! {
        answer = waiting => answer?,
        () = call.ending().cancelled() => call.app.engine.tasks().status(id).await?,
    };
    Ok(task_response(answer.ok_or_else(|| Problem::task_not_found(&call.raw_id))?, known))
}

/// The change that a request waits for.
#[derive(Debug, PartialEq, Eq)]
enum WaitTarget {
    /// The client can have the current answer.
    Nothing,
    /// The end of the task.
    End,
    /// Another revision than the one that the client has.
    OtherThan(Revision),
}

fn wait_target(now: &Answer, known: Option<&HeaderValue>) -> WaitTarget {
    match known {
        None if now.ended => WaitTarget::Nothing,
        None => WaitTarget::End,
        Some(known) if headers::matches(known, &task_etag(now.revision())) => WaitTarget::OtherThan(now.revision()),
        Some(_) => WaitTarget::Nothing,
    }
}

/// Returns the entity tag of the state of a task. It consists of the version and of the pause that holds the task back,
/// because a pause does not change the version.
fn task_etag(revision: Revision) -> HeaderValue {
    let Revision { version, hold } = revision;
    match hold {
        None => headers::etag(version),
        Some(Hold::Project) => header_value(format_args!("\"{version}-project-paused\"")),
        Some(Hold::Tier) => header_value(format_args!("\"{version}-tier-paused\"")),
        Some(Hold::Workers) => header_value(format_args!("\"{version}-without-workers\"")),
    }
}

/// Responds with the state of a task, or with `304` if the client has this version.
fn task_response(answer: Answer, if_none_match: Option<&HeaderValue>) -> Response<Body> {
    let etag = task_etag(answer.revision());
    reply::versioned(etag, if_none_match, || reply::rendered(StatusCode::OK, answer.body))
}

/// The reason of a cancellation.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cancellation)]
pub(in crate::http) struct CancelWire {
    /// The reason, which becomes the message in the `error` of the task.
    reason: Option<String>,
}

/// Handles `POST /tasks/{id}/cancel`.
pub(in crate::http) async fn cancel(mut call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    let (wire, errors): (CancelWire, _) = call.optional_json().await?;
    let mut found = Findings::from_errors(errors);
    limit_reason(&mut found, wire.reason.as_deref().unwrap_or_default());
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    Ok(task_response(call.app.engine.tasks().cancel(id, wire.reason).await?, None))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_path_names_a_task_by_its_uuid() {
        assert!(task_id("01890a5d-ac96-774b-bcce-b302099a8057").is_ok());
        assert!(task_id("01890a5d%2Dac96-774b-bcce-b302099a8057").is_ok());
        assert_eq!(task_id("task-456").unwrap_err().code(), "task_not_found");
        assert_eq!(task_id("%ff").unwrap_err().status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_target_of_a_wait_follows_from_the_known_revision() {
        let answer = |ended| Answer { version: 3, hold: None, ended, body: Bytes::new() };
        let same = HeaderValue::from_static("\"3\"");
        let other = HeaderValue::from_static("\"2\"");
        assert_eq!(wait_target(&answer(false), None), WaitTarget::End);
        assert_eq!(wait_target(&answer(true), None), WaitTarget::Nothing);
        assert_eq!(wait_target(&answer(true), Some(&same)), WaitTarget::OtherThan(answer(true).revision()));
        assert_eq!(wait_target(&answer(false), Some(&other)), WaitTarget::Nothing);
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let answer = Answer { version: 7, hold: None, ended: false, body: Bytes::from_static(b"{}") };
        let known = HeaderValue::from_static("\"7\"");
        assert_eq!(task_response(answer.clone(), Some(&known)).status(), StatusCode::NOT_MODIFIED);
        let response = task_response(answer, Some(&HeaderValue::from_static("\"6\"")));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["etag"], "\"7\"");
    }

    #[test]
    fn a_pause_makes_another_tag() {
        let tag = |hold| task_etag(Revision { version: 12, hold });
        assert_eq!(tag(None), headers::etag(12));
        assert_eq!(tag(Some(Hold::Project)), "\"12-project-paused\"");
        assert_eq!(tag(Some(Hold::Tier)), "\"12-tier-paused\"");
    }
}
