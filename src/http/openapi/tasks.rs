//! Tasks and events about them.

use serde_json::json;

use super::answers::{StatusAnswer, TaskList, TaskNode};
use super::limits::{self, Limit};
use super::operation::{Described, number, operation, reference};
use crate::http::api::tasks::history::{EntryWire, HistoryWire};
use crate::http::api::tasks::submission::{self, MAX_CONSTITUTION_BYTES};
use crate::http::api::tasks::submit::{self, CancelWire, MAX_BATCH, MAX_REASON_BYTES, MAX_WAIT};
use crate::task::{
    Domain, MAX_ATTEMPTS, MAX_DESCRIPTION_BYTES, MAX_METADATA_BYTES, MAX_REFERENCES, MAX_TIMEOUT, ProjectId, Status,
    TaskId, Tier, Timestamp,
};
use utoipa::openapi::schema::ArrayBuilder;

const TAG: &str = "Tasks";

/// The limits of a submission, alone or in a batch.
fn of_submission() -> [Limit; 7] {
    let longest = i64::try_from(MAX_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
    [
        limits::text("Submission", "description", 1, MAX_DESCRIPTION_BYTES),
        limits::bytes("Submission", "metadata", MAX_METADATA_BYTES),
        limits::bytes("Submission", "constitution_override", MAX_CONSTITUTION_BYTES),
        limits::whole("SubmissionOptions", "timeout_seconds", 1, longest),
        limits::whole("SubmissionOptions", "max_attempts", 1, i64::from(MAX_ATTEMPTS)),
        limits::items("SubmissionOptions", "depends_on", 0, MAX_REFERENCES),
        limits::items("SubmissionOptions", "inputs", 0, MAX_REFERENCES),
    ]
}

/// Only one of a task that there is.
fn of_task(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<TaskId>("The task.").problem(404, &["task_not_found"])
}

pub(super) fn list() -> Described {
    let statuses = ArrayBuilder::new().items(reference::<Status>());
    operation("listTasks", TAG, "List tasks, the newest first")
        .query::<ProjectId>("project_id", "Of this project only.")
        .query_of("status", "In one of these only: several times, or with commas.", statuses)
        .query::<TaskId>("parent_id", "Subtasks of this task only.")
        .query::<Tier>("tier", "For this tier only.")
        .query::<Domain>("domain", "Of this domain only.")
        .query::<Timestamp>("created_after", "Taken after this time.")
        .query::<Timestamp>("created_before", "Taken before this time.")
        .pages()
        .shared("offset")
        .answer::<TaskList>(200, "A page of tasks.")
        .reads()
}

pub(super) fn submit() -> Described {
    let least = json!({"description": "Write a function that reverses a string"});
    let more = json!({
        "description": "Write a function that reverses a string", "project_id": "demo", "priority": "high",
        "options": {"tier": "small", "domain": "code-general", "timeout_seconds": 600, "max_attempts": 3},
        "metadata": {"ticket": 7},
    });
    operation("submitTask", TAG, "Submit a task")
        .says("The task is on disk when the answer leaves. With the same `Idempotency-Key` and the same body the first answer is given again.")
        .shared("Idempotency-Key")
        .shared("traceparent")
        .body::<submission::Wire>(true, &of_submission(), &[("least", least), ("more", more)])
        .reads_json()
        .answer::<submit::SubmittedWire<'static>>(201, "The task was taken.")
        .header(201, "Location")
        .header(201, "Idempotent-Replayed")
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys", "too_many_projects"])
        .writes()
}

pub(super) fn submit_batch() -> Described {
    let mut all = vec![limits::items("Batch", "tasks", 1, MAX_BATCH)];
    all.extend(of_submission());
    let two = json!({"tasks": [{"description": "One"}, {"description": "Two", "priority": "low"}]});
    operation("submitTasks", TAG, "Submit many tasks in one commit")
        .says("Tasks that are not valid do not stop the others: each has an answer or a problem of its own.")
        .shared("Idempotency-Key")
        .shared("traceparent")
        .body::<submit::BatchWire>(true, &all, &[("two", two)])
        .reads_json()
        .answer::<submit::ResultsWire<'static>>(200, "What became of each.")
        .header(200, "Idempotent-Replayed")
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys", "too_many_projects"])
        .writes()
}

pub(super) fn get() -> Described {
    of_task("getTask", "Read a task, at once or when it changes")
        .query_of(
            "wait",
            "Seconds to wait: until the version differs from `If-None-Match`, or, without that, until the task ends.",
            number(&(0..=MAX_WAIT)),
        )
        .answer::<StatusAnswer>(200, "The task as it is now.")
        .versioned()
        .reads()
}

pub(super) fn cancel() -> Described {
    let limits = [limits::text("Cancellation", "reason", 0, MAX_REASON_BYTES)];
    of_task("cancelTask", "Cancel a task")
        .body::<CancelWire>(false, &limits, &[("reason", json!({"reason": "no longer wanted"}))])
        .reads_json()
        .answer::<StatusAnswer>(200, "The task as it is now.")
        .header(200, "ETag")
        .problem(409, &["task_already_ended"])
        .writes()
}

pub(super) fn rerun() -> Described {
    of_task("rerunTask", "Submit a finished task again")
        .shared("Idempotency-Key")
        .body::<crate::http::api::work::leases::ReleaseWire>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<submit::SubmittedWire<'static>>(201, "The new task.")
        .header(201, "Location")
        .header(201, "Idempotent-Replayed")
        .problem(409, &["task_not_ended", "dependency_not_completed"])
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys"])
        .writes()
}

pub(super) fn history() -> Described {
    of_task("getTaskHistory", "Read what has happened to a task")
        .pages()
        .answer::<HistoryWire>(200, "A page of its history, the oldest first.")
        .reads()
}

pub(super) fn stream() -> Described {
    of_task("followTask", "Follow a task to its end")
        .says(
            "Server-sent events: `id` is the position, `event` the type of the change, `data` an entry as in the \
             history. Begins with the first one, or after `Last-Event-ID`, and ends with the task. A comment comes \
             while nothing happens.",
        )
        .shared("Last-Event-ID")
        .answer_as::<EntryWire<'static>>(200, "The stream. The schema is that of `data`.", "text/event-stream")
        .reads()
}

pub(super) fn tree() -> Described {
    of_task("getTaskTree", "Read a task with its subtasks")
        .says("At most 1000 tasks; `truncated` says whether there are more.")
        .answer::<TaskNode>(200, "The tree.")
        .reads()
}
