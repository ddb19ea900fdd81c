//! What is published, described. The data of these events is put together from
//! what is stored (`wire/data.rs`), and nothing is ever made of these
//! types: that it is so is held by the tests of the broker, which look at every
//! message of a journey for fields that are missing here or there.
#![expect(dead_code, reason = "the types describe what is made elsewhere")]

use serde_json::Value;
use utoipa::ToSchema;

use crate::schema::{described, word};
use crate::task::{ArtifactId, Domain, ErrorCode, ExecutionMode, ProjectId, QaProfile, RecordId, Status, TaskId, Tier};

/// A new task.
#[derive(ToSchema)]
#[schema(as = TaskCreatedData)]
pub(super) struct Created {
    /// Its id.
    task_id: TaskId,
    /// Its project.
    project_id: ProjectId,
    /// What is to be done; null where the task was removed before this was published.
    description: Option<String>,
}

/// An attempt that waits for a worker.
#[derive(ToSchema)]
#[schema(as = TaskReadyData)]
pub(super) struct Ready {
    /// The task.
    task_id: TaskId,
    /// Its project.
    project_id: ProjectId,
    /// What is to be done.
    description: String,
    /// Which attempt this is, from 1; it belongs into every event about it.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Whether people take part.
    execution_mode: ExecutionMode,
    /// Artifacts to be used.
    inputs: Vec<ArtifactId>,
    /// What may help.
    context: Context,
    /// The task it is a part of.
    parent_id: Option<TaskId>,
    /// Rules of the project, or of the request.
    #[schema(value_type = Option<Object>)]
    constitution: Option<()>,
    /// The trace it belongs to (W3C), where the submission had one.
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// The tier of workers that it is for; the routing key ends with it.
    tier: Tier,
    /// What kind of work it is.
    domain: Domain,
    /// Which checks its output must pass.
    qa_profile: QaProfile,
    /// Seconds that the attempt may take, from when a worker has it: until then
    /// there is no deadline.
    #[schema(minimum = 1)]
    timeout_seconds: u32,
}

/// What may help a worker: only what there is, and at most 512 KiB of JSON.
#[derive(ToSchema)]
#[schema(as = TaskContext)]
struct Context {
    /// The task it is a part of.
    #[schema(nullable = false)]
    parent: Option<ParentContext>,
    /// Tasks that it, or one that it is a part of, has waited for.
    #[schema(nullable = false)]
    dependencies: Option<Vec<DependencyContext>>,
    /// What a good output fulfils, as the Agent says: any JSON.
    #[schema(required = false)]
    acceptance_criteria: Value,
    /// What the Agent thinks it takes.
    #[schema(nullable = false)]
    estimate: Option<EstimateContext>,
    /// Text that may help, from RAG.
    #[schema(nullable = false)]
    text: Option<String>,
    /// Artifacts that the text was taken from, the most relevant first.
    #[schema(nullable = false)]
    sources: Option<Vec<ArtifactId>>,
    /// What the newest attempt that made something left behind.
    #[schema(nullable = false)]
    previous_attempt: Option<PreviousAttempt>,
    /// True where a part was cut or left out because of its size; else absent. `GET /tasks/{id}`
    /// and `GET /provenance/{id}` have all of it.
    #[schema(nullable = false)]
    truncated: Option<bool>,
}

/// The task that a task is a part of.
#[derive(ToSchema)]
struct ParentContext {
    /// Its id.
    task_id: TaskId,
    /// What is to be done in all.
    description: String,
}

/// A task that was waited for.
#[derive(ToSchema)]
struct DependencyContext {
    /// Its id.
    task_id: TaskId,
    /// What was to be done; null where the task was removed, or where there was no room for it.
    description: Option<String>,
    /// What it made.
    artifacts: Vec<MadeArtifact>,
    /// True where the description was cut or not all artifacts are there; else absent.
    #[schema(nullable = false)]
    truncated: Option<bool>,
}

/// An artifact that was made.
#[derive(ToSchema)]
struct MadeArtifact {
    /// Its id.
    id: ArtifactId,
    /// What it is, as its worker says.
    r#type: Option<String>,
    /// Where it is, as its worker says.
    path: Option<String>,
}

/// What a task may take.
#[derive(ToSchema)]
struct EstimateContext {
    /// Tokens.
    tokens: Option<u64>,
    /// How sure this is, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// Why, in words.
    reasoning: Option<String>,
}

/// What an attempt left behind.
#[derive(ToSchema)]
struct PreviousAttempt {
    /// Which attempt it was.
    attempt: Option<u32>,
    /// Its record.
    provenance_id: RecordId,
    /// What it made.
    artifacts: Vec<ArtifactId>,
    /// What was said of it, such as `score`, `issues`, `reason`, `comments`; null: nothing.
    #[schema(value_type = Option<Object>)]
    verification: Option<()>,
}

/// A task that somebody ended. `task.finished` follows.
#[derive(ToSchema)]
#[schema(as = TaskCancelledData)]
pub(super) struct Cancelled {
    /// The task.
    task_id: TaskId,
    /// Why, where it was said.
    reason: Option<String>,
}

/// A task that reached its end.
#[derive(ToSchema)]
#[schema(as = TaskFinishedData)]
pub(super) struct Finished {
    /// The task.
    task_id: TaskId,
    /// Its project.
    project_id: ProjectId,
    /// Which end.
    status: EndStatus,
    /// Why it failed; null for one that has completed or was cancelled.
    error: Option<EndError>,
    /// The record of its output; null unless an attempt of its own has completed it.
    provenance_id: Option<RecordId>,
}

/// Which end a task reached.
struct EndStatus;
/// The kind of an error.
struct ErrorWord;

described! {
    EndStatus, "EndStatus": word(
        "Which end a task reached.",
        Status::ALL.into_iter().filter(|status| status.is_terminal()).map(Status::as_str),
    );
    ErrorWord, "ErrorCode": word("Why a task failed, for programs.", ErrorCode::ALL.map(ErrorCode::as_str));
}

/// Why a task failed.
#[derive(ToSchema)]
#[schema(as = TaskError)]
struct EndError {
    /// For programs.
    code: ErrorWord,
    /// For people.
    message: String,
    /// The attempt it happened in; null: in none.
    attempt: Option<u32>,
}
