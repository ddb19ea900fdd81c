//! The data of published events: made from what is stored when it is asked
//! for, so that the log holds no text twice.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::error_json;
use super::api::{LogPage, Logged};
use super::read::ReadSide;
use crate::store::{self, LogEntry, View};
use crate::task::{Change, Progress, RecordId, Seq, State, Task, TaskId};

/// Most log entries that one page looks at.
const MAX_LOOKED_AT: usize = 1024;
/// A page ends after so many bytes of events, however few they are.
const PAGE_BYTES: usize = 1024 * 1024;

type Stored<T> = Result<T, store::Error>;

/// Events of the log after a position.
pub(super) fn log_page(side: &ReadSide, after: Seq, limit: usize, keep: &dyn Fn(&LogEntry) -> bool) -> Stored<LogPage> {
    let view = side.store.view()?;
    let reset = view.log_tail()?.filter(|tail| after.0.saturating_add(1) < tail.0);
    let start = reset.map_or(after, |tail| Seq(tail.0 - 1));
    let mut page = LogPage { entries: Vec::new(), read_to: start, reset };
    let mut bytes = 0;
    for row in view.log(start, MAX_LOOKED_AT)? {
        if page.entries.len() == limit || bytes >= PAGE_BYTES {
            break;
        }
        let (seq, entry) = row?;
        page.read_to = seq;
        let is_event = entry.change.is_published() || matches!(entry.change, Change::Accepted { .. });
        if is_event && keep(&entry) {
            let data = published_data(&view, &entry)?;
            let traceparent = view.submission(entry.task)?.and_then(|submission| submission.traceparent);
            bytes += data.as_ref().map_or(0, Bytes::len) + entry.event.as_ref().map_or(0, String::len);
            page.entries.push(Logged { seq, entry, data, traceparent });
        }
    }
    Ok(page)
}

/// The data of a published event; `None` for any other change.
fn published_data(view: &View, entry: &LogEntry) -> Stored<Option<Bytes>> {
    let task = entry.task;
    let data = match &entry.change {
        Change::Created => {
            let description = view.submission(task)?.map(|submission| submission.description);
            json!({ "task_id": task.to_string(), "project_id": entry.project, "description": description })
        }
        Change::Ready { attempt, tier, domain, previous } => {
            let qa_profile = view.task(task)?.map(|task| task.qa_profile.to_string());
            let mut data = ready_data(view, task, *attempt, *previous)?;
            merge(&mut data, json!({ "tier": tier, "domain": domain, "qa_profile": qa_profile }));
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
        | Change::Queued
        | Change::Leased { .. }
        | Change::Released
        | Change::LeaseExpired
        | Change::Backoff { .. }
        | Change::DependencyCompleted { .. }
        | Change::ParkedExpired { .. } => return Ok(None),
    };
    Ok(Some(Bytes::from(data.to_string())))
}

/// The data of `task.ready` for a worker that has leased the task.
pub(super) fn ready_data_of_task(view: &View, task: &Task) -> Stored<Bytes> {
    let previous = task.closed.last().and_then(|closed| closed.product.as_ref().map(|(record, _)| *record));
    let mut data = ready_data(view, task.id, task.attempts(), previous)?;
    let deadline = match &task.state {
        State::Running { progress: Progress::Leased { deadline, .. }, .. } => Some(deadline.to_string()),
        State::Running { .. }
        | State::Pending(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    };
    let resolved = json!({
        "tier": task.tier,
        "domain": task.domain,
        "qa_profile": task.qa_profile,
        "deadline": deadline,
        "timeout_seconds": task.timeout_seconds,
    });
    merge(&mut data, resolved);
    Ok(Bytes::from(data.to_string()))
}

fn merge(data: &mut Value, more: Value) {
    if let (Value::Object(data), Value::Object(more)) = (data, more) {
        data.extend(more);
    }
}

/// What an attempt's `task.ready` says beside the choices of its task.
fn ready_data(view: &View, task: TaskId, attempt: u32, previous: Option<RecordId>) -> Stored<Value> {
    let Some(submission) = view.submission(task)? else {
        return Ok(json!({ "task_id": task.to_string(), "attempt": attempt }));
    };
    let project = view.project(&submission.project)?;
    let constitution = submission.constitution_override.or(project.and_then(|project| project.constitution));
    let mut data = json!({
        "task_id": task.to_string(),
        "project_id": submission.project,
        "description": submission.description,
        "attempt": attempt,
        "execution_mode": submission.execution_mode,
        "inputs": submission.options.inputs,
        "context": context(view, previous)?,
        "parent_id": null,
        "constitution": constitution.as_deref().and_then(parsed),
    });
    if let Some(traceparent) = submission.traceparent {
        merge(&mut data, json!({ "traceparent": traceparent }));
    }
    Ok(data)
}

/// What the attempt before has left behind: its artifact and what was wrong
/// with it.
fn context(view: &View, previous: Option<RecordId>) -> Stored<Value> {
    let Some(record) = previous.map(|id| view.record(id)).transpose()?.flatten() else { return Ok(json!({})) };
    Ok(json!({
        "previous_attempt": {
            "attempt": record.attempt,
            "provenance_id": record.id.to_string(),
            "artifacts": record.outputs.iter().map(|output| &output.artifact.id).collect::<Vec<_>>(),
            "verification": record.verification.as_deref().and_then(parsed),
        }
    }))
}

fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
