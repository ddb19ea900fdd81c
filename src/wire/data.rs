//! The data of published events: made from what is stored when it is asked
//! for, so that the log holds no text twice.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::error_json;
use super::context::{context, merge, parsed};
use crate::store::{self, LogEntry, View};
use crate::task::{Change, Submission, Task, Timestamp};

type Stored<T> = Result<T, store::Error>;

/// The data of a published event, which is about a task; `None` for any
/// other change.
pub(crate) fn published_data(view: &View, entry: &LogEntry, submission: Option<&Submission>) -> Stored<Option<Bytes>> {
    let Some(task) = entry.task() else { return Ok(None) };
    let data = match &entry.change {
        Change::Created => {
            let description = submission.map(|submission| &submission.description);
            json!({ "task_id": task.to_string(), "project_id": entry.project, "description": description })
        }
        Change::Ready { attempt, tier, domain, previous } => {
            let Some(task) = view.task(task)? else { return Ok(None) };
            let qa_profile = task.qa_profile.to_string();
            let context = context(view, &task, *previous)?;
            let project = view.project(&task.project)?;
            let constitution = project.and_then(|project| project.constitution);
            let mut data = ready_data(&task, submission, *attempt, &context, constitution);
            let timeout_seconds = task.timeout_seconds;
            let chosen = json!({
                "tier": tier, "domain": domain, "qa_profile": qa_profile, "timeout_seconds": timeout_seconds,
            });
            merge(&mut data, chosen);
            data
        }
        Change::Cancelled { reason } => json!({ "task_id": task.to_string(), "reason": reason }),
        Change::Finished { status, error, record } => json!({
            "task_id": task.to_string(),
            "project_id": entry.project,
            "status": status.as_str(),
            "error": error.as_ref().map(error_json),
            "provenance_id": record.map(|record| record.to_string()),
        }),
        Change::Accepted { .. }
        | Change::Blocked
        | Change::Analyzing
        | Change::Analyzed { .. }
        | Change::Split { .. }
        | Change::ChildEnded { .. }
        | Change::Routed { .. }
        | Change::Queued
        | Change::Leased { .. }
        | Change::Taken
        | Change::Released
        | Change::LeaseExpired
        | Change::Backoff { .. }
        | Change::DependencyCompleted { .. }
        | Change::ParkedExpired { .. }
        | Change::Dispatched => return Ok(None),
    };
    Ok(Some(Bytes::from(data.to_string())))
}

/// The data of a leased task: that of its `task.ready`, and the deadline of the attempt.
pub(crate) fn leased_task(
    task: &Task,
    deadline: Timestamp,
    submission: Option<&Submission>,
    context: &Value,
    constitution: Option<String>,
) -> Bytes {
    let mut data = ready_data(task, submission, task.attempts(), context, constitution);
    let resolved = json!({
        "tier": task.tier,
        "domain": task.domain,
        "qa_profile": task.qa_profile,
        "deadline": deadline.to_string(),
        "timeout_seconds": task.timeout_seconds,
    });
    merge(&mut data, resolved);
    Bytes::from(data.to_string())
}

/// What an attempt's `task.ready` says beside the choices of its task.
/// `constitution` is that of the project, for a task that has none of its own.
fn ready_data(
    task: &Task,
    submission: Option<&Submission>,
    attempt: u32,
    context: &Value,
    constitution: Option<String>,
) -> Value {
    let Some(submission) = submission else {
        return json!({ "task_id": task.id.to_string(), "attempt": attempt });
    };
    let mut inputs = submission.options.inputs.clone();
    inputs.extend(task.inputs.iter().filter(|input| !submission.options.inputs.contains(input)).cloned());
    let constitution = submission.constitution_override.clone().or(constitution);
    let mut data = json!({
        "task_id": task.id.to_string(),
        "project_id": submission.project,
        "description": submission.description,
        "attempt": attempt,
        "execution_mode": submission.execution_mode,
        "inputs": inputs,
        "context": context,
        "parent_id": task.parent.map(|parent| parent.to_string()),
        "constitution": constitution.as_deref().and_then(parsed),
    });
    if let Some(traceparent) = &submission.traceparent {
        merge(&mut data, json!({ "traceparent": traceparent }));
    }
    data
}
