//! Descriptions of the endpoints of tasks for the `OpenAPI` document.

use serde_json::json;
use utoipa::openapi::schema::ArrayBuilder;

use crate::engine::Answer;
use crate::http::api::fields::MAX_REASON_BYTES;
use crate::http::api::tasks::history::{EntryWire, HistoryWire};
use crate::http::api::tasks::list::TaskList;
use crate::http::api::tasks::status::{CancelWire, MAX_WAIT};
use crate::http::api::tasks::submission::{self, MAX_CONSTITUTION_BYTES};
use crate::http::api::tasks::submit::{self, MAX_BATCH};
use crate::http::api::tasks::tree::TaskNode;
use crate::http::openapi::limits::{self, Limit};
use crate::http::openapi::operation::{Described, number, operation, reference};
use crate::http::openapi::words::NoFields;
use crate::task::{
    Domain, MAX_ATTEMPTS, MAX_DESCRIPTION_BYTES, MAX_METADATA_BYTES, MAX_REFERENCES, MAX_TIMEOUT, ProjectId, Status,
    TaskId, Tier, Timestamp,
};

const TAG: &str = "Tasks";

/// The limits of a submission, alone or in a batch.
fn submission_limits() -> [Limit; 7] {
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

/// Starts the description of an endpoint whose path names a task.
fn task_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<TaskId>("The id of the task.").problem(404, &["task_not_found"])
}

pub(in crate::http) fn list() -> Described {
    let statuses = ArrayBuilder::new().items(reference::<Status>());
    operation("listTasks", TAG, "List tasks, newest first")
        .query::<ProjectId>("project_id", "Only tasks of this project.")
        .query_of(
            "status",
            "Only tasks with one of these statuses. Repeat the parameter or separate the statuses by commas.",
            statuses,
        )
        .query::<TaskId>("parent_id", "Only subtasks of this task.")
        .query::<Tier>("tier", "Only tasks for this tier.")
        .query::<Domain>("domain", "Only tasks of this domain.")
        .query::<Timestamp>("created_after", "Only tasks submitted after this time.")
        .query::<Timestamp>("created_before", "Only tasks submitted before this time.")
        .pages()
        .shared("offset")
        .answer::<TaskList>(200, "A page of tasks.")
        .reads()
}

pub(in crate::http) fn submit() -> Described {
    let least = json!({"description": "Write a function that reverses a string"});
    let more = json!({
        "description": "Write a function that reverses a string", "project_id": "demo", "priority": "high",
        "options": {"tier": "small", "domain": "code-general", "timeout_seconds": 600, "max_attempts": 3},
        "metadata": {"ticket": 7},
    });
    operation("submitTask", TAG, "Submit a task")
        .says(
            "The task is on disk before the response is sent. A request that repeats an `Idempotency-Key` with the \
             same body gets the first response again.",
        )
        .shared("Idempotency-Key")
        .shared("traceparent")
        .body::<submission::Wire>(true, &submission_limits(), &[("least", least), ("more", more)])
        .reads_json()
        .answer::<submit::SubmittedWire<'static>>(201, "The task was accepted.")
        .header(201, "Location")
        .header(201, "Idempotent-Replayed")
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys", "too_many_projects"])
        .writes()
}

pub(in crate::http) fn submit_batch() -> Described {
    let mut all = vec![limits::items("Batch", "tasks", 1, MAX_BATCH)];
    all.extend(submission_limits());
    let two = json!({"tasks": [{"description": "One"}, {"description": "Two", "priority": "low"}]});
    operation("submitTasks", TAG, "Submit many tasks in one commit")
        .says("An invalid task does not affect the others. Each task has its own result or problem.")
        .shared("Idempotency-Key")
        .shared("traceparent")
        .body::<submit::BatchWire>(true, &all, &[("two", two)])
        .reads_json()
        .answer::<submit::ResultsWire<'static>>(200, "The result of each task, in the order of the request.")
        .header(200, "Idempotent-Replayed")
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys", "too_many_projects"])
        .writes()
}

pub(in crate::http) fn get() -> Described {
    task_operation("getTask", "Read a task, or wait for it to change")
        .query_of(
            "wait",
            "The longest time to wait, in seconds. With `If-None-Match`, the request waits until the task has another \
             version; without it, until the task ends.",
            number(&(0..=MAX_WAIT)),
        )
        .answer::<Answer>(200, "The current state of the task.")
        .versioned()
        .reads()
}

pub(in crate::http) fn cancel() -> Described {
    let limits = [limits::text("Cancellation", "reason", 0, MAX_REASON_BYTES)];
    task_operation("cancelTask", "Cancel a task")
        .body::<CancelWire>(false, &limits, &[("reason", json!({"reason": "no longer wanted"}))])
        .reads_json()
        .answer::<Answer>(200, "The current state of the task.")
        .header(200, "ETag")
        .problem(409, &["task_already_ended"])
        .writes()
}

pub(in crate::http) fn rerun() -> Described {
    task_operation("rerunTask", "Submit a finished task again")
        .shared("Idempotency-Key")
        .body::<NoFields>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<submit::SubmittedWire<'static>>(201, "The new task.")
        .header(201, "Location")
        .header(201, "Idempotent-Replayed")
        .problem(409, &["task_not_ended", "dependency_not_completed"])
        .problem(422, &["idempotency_key_reused"])
        .problem(429, &["too_many_idempotency_keys"])
        .writes()
}

pub(in crate::http) fn history() -> Described {
    task_operation("getTaskHistory", "Read the history of a task")
        .pages()
        .answer::<HistoryWire>(200, "A page of the history, oldest first.")
        .reads()
}

pub(in crate::http) fn stream() -> Described {
    task_operation("followTask", "Follow a task until it ends")
        .says(
            "The response is a stream of server-sent events: `id` is the position in the log, `event` the type of the \
             change, and `data` an entry as in the history. The stream starts with the first entry, or after \
             `Last-Event-ID`, and ends with the task. Comments keep an idle stream open.",
        )
        .shared("Last-Event-ID")
        .answer_as::<EntryWire<'static>>(200, "The stream. The schema describes `data`.", "text/event-stream")
        .reads()
}

pub(in crate::http) fn tree() -> Described {
    task_operation("getTaskTree", "Read a task with its subtasks")
        .says("The response has at most 1000 tasks. `truncated` is true if there are more.")
        .answer::<TaskNode>(200, "The tree.")
        .reads()
}
