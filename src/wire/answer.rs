//! The status answer of a task: its fields, and the rendered answer.
//!
//! [`TaskFields`] and [`SubmissionFields`] together are the JSON object that
//! `GET /tasks/{id}` returns. They describe it in the `OpenAPI` document, and
//! [`super::compact`] encodes them for memory.

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::time::Time;
use super::waiting::waiting_for;
use crate::task::{
    ArtifactId, Completion, Domain, ExecutionMode, Mode, Now, OnChildFailure, OutputArtifact, Phase, Priority, Product,
    ProjectId, QaProfile, RecordId, State, Status, Submission, Task, TaskId, Tier,
};

/// The status answer of a task, as bytes to send.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The task's version. The `ETag` is made of it and of `hold`.
    pub version: u64,
    /// The pause that holds the task back. A pause does not change the version.
    pub hold: Option<Hold>,
    /// Whether the task has ended.
    pub ended: bool,
    /// The JSON body of `GET /tasks/{id}`.
    pub body: Bytes,
}

impl Answer {
    /// Returns the revision of this answer, which differs between any two answers of a task.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision { version: self.version, hold: self.hold }
    }
}

/// The body of the answer: the fields of the task and those of its submission as one object.
impl PartialSchema for Answer {
    fn schema() -> RefOr<Schema> {
        let mut whole = ObjectBuilder::new().description(Some("The current state of a task.")).build();
        for part in [TaskFields::schema(), SubmissionFields::schema()] {
            if let RefOr::T(Schema::Object(part)) = part {
                whole.required.extend(part.required);
                whole.properties.extend(part.properties);
            }
        }
        whole.into()
    }
}

impl ToSchema for Answer {
    fn name() -> std::borrow::Cow<'static, str> {
        "Task".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        TaskFields::schemas(schemas);
        SubmissionFields::schemas(schemas);
    }
}

/// The pause that holds a queued task back although a slot and a worker may be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The project of the task is paused.
    Project,
    /// The tier of the task is paused.
    Tier,
    /// The work queue of the tier at the broker has lost its consumers.
    Workers,
}

/// Identifies one answer among those of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// The task's version.
    pub version: u64,
    /// The pause that holds the task back.
    pub hold: Option<Hold>,
}

/// The fields that follow from the task and change with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskFields<'a> {
    /// The id of the task.
    pub(super) task_id: TaskId,
    /// The project of the task.
    pub(super) project_id: &'a ProjectId,
    /// The state of the task in one of five words; `phase` is more precise.
    pub(super) status: Status,
    /// The mode of work that the Agent has chosen; null if the Agent was not asked.
    #[schema(value_type = Option<String>)]
    pub(super) mode: Option<&'a Mode>,
    /// The kind of work.
    pub(super) domain: &'a Domain,
    /// The tier of workers that execute the task.
    pub(super) tier: &'a Tier,
    /// The start of the first attempt; null before it.
    pub(super) started_at: Option<Time>,
    /// The time at which the task completed, failed or was cancelled; null before it.
    pub(super) completed_at: Option<Time>,
    /// Milliseconds from `started_at` to `completed_at`.
    pub(super) execution_time_ms: Option<u64>,
    /// The artifacts that the task has produced; null unless it has completed.
    pub(super) artifacts: Option<Vec<TaskArtifact<'a>>>,
    /// The newest provenance record of the task; null while it has none.
    pub(super) provenance_id: Option<RecordId>,
    /// The step that the task is at within its status.
    pub(super) phase: Phase,
    /// What the task waits for, as text for people; null once it has ended.
    pub(super) waiting_for: Option<String>,
    /// The class of priority among the waiting tasks of the project.
    pub(super) priority: Priority,
    /// The number of attempts so far.
    pub(super) attempts: u32,
    /// The largest number of attempts.
    pub(super) max_attempts: u32,
    /// The time at which the service accepted the task.
    pub(super) created_at: Time,
    /// The time of the last change.
    pub(super) updated_at: Time,
    /// The task of which this one is a subtask; null for one that was submitted.
    pub(super) parent_id: Option<TaskId>,
    /// The subtasks.
    pub(super) children: &'a [TaskId],
    /// The tasks that must complete before this one starts.
    pub(super) depends_on: &'a [TaskId],
    /// The task that this one repeats.
    pub(super) rerun_of: Option<TaskId>,
    /// Why the task failed or was cancelled.
    pub(super) error: Option<AnswerError<'a>>,
}

impl<'a> TaskFields<'a> {
    /// Reads the fields from a task; `now` turns observed times into calendar times.
    pub(super) fn new(task: &'a Task, now: Now) -> Self {
        let artifacts = match &task.state {
            State::Completed { by, .. } => {
                let (Completion::Attempt { product: Product { artifacts, .. }, .. }
                | Completion::Children { artifacts }) = by;
                Some(artifacts.iter().map(TaskArtifact::new).collect())
            }
            State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        };
        let execution_time_ms = task.execution().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Self {
            task_id: task.id,
            project_id: &task.project,
            status: task.status(),
            mode: task.mode.as_ref(),
            domain: &task.domain,
            tier: &task.tier,
            started_at: task.started_at.map(Time),
            completed_at: task.ended_at().map(Time),
            execution_time_ms,
            artifacts,
            provenance_id: task.newest_record(),
            phase: task.phase(),
            waiting_for: waiting_for(task, now),
            priority: task.priority,
            attempts: task.attempts(),
            max_attempts: task.max_attempts,
            created_at: Time(task.created_at),
            updated_at: Time(task.updated_at),
            parent_id: task.parent,
            children: &task.children,
            depends_on: &task.depends_on,
            rerun_of: task.rerun_of,
            error: AnswerError::of(task),
        }
    }
}

/// The fields that follow from the submission, and the version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubmissionFields<'a> {
    /// The options of the task: those of the request, and the defaults for the others.
    pub(super) options: TaskOptions<'a>,
    /// The metadata of the submission, unchanged.
    #[schema(value_type = Object)]
    pub(super) metadata: JsonObject<'a>,
    /// The number of changes to the task; the `ETag` is made of it.
    pub(super) version: u64,
    /// Whether people take part in the work.
    pub(super) execution_mode: ExecutionMode,
    /// The work to do, in words.
    pub(super) description: &'a str,
}

impl<'a> SubmissionFields<'a> {
    /// Reads the fields from a submission and the choices that were made for its task.
    pub(super) fn new(submission: &'a Submission, task: &'a Task) -> Self {
        let options = &submission.options;
        Self {
            options: TaskOptions {
                decompose: options.decompose.unwrap_or(true),
                qa_profile: &task.qa_profile,
                tier: options.tier.as_ref(),
                domain: options.domain.as_ref(),
                timeout_seconds: task.timeout_seconds,
                max_attempts: task.max_attempts,
                not_before: options.not_before.map(Time),
                depends_on: &options.depends_on,
                on_child_failure: options.on_child_failure.unwrap_or(OnChildFailure::Cancel),
                inputs: &options.inputs,
            },
            metadata: JsonObject(submission.metadata.as_deref()),
            version: task.version,
            execution_mode: submission.execution_mode,
            description: &submission.description,
        }
    }
}

/// The options of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskOptions<'a> {
    /// Whether the Agent may split the task into subtasks.
    pub(super) decompose: bool,
    /// The checks that an output must pass.
    pub(super) qa_profile: &'a QaProfile,
    /// The tier of the request; null if it named none.
    pub(super) tier: Option<&'a Tier>,
    /// The domain of the request; null if it named none.
    pub(super) domain: Option<&'a Domain>,
    /// The longest time of one attempt, in seconds.
    pub(super) timeout_seconds: u32,
    /// The largest number of attempts.
    pub(super) max_attempts: u32,
    /// The earliest start; null if the request named none.
    pub(super) not_before: Option<Time>,
    /// The dependencies of the request.
    pub(super) depends_on: &'a [TaskId],
    /// What the failure of a subtask does to the others.
    pub(super) on_child_failure: OnChildFailure,
    /// The artifacts that the request names as inputs.
    pub(super) inputs: &'a [ArtifactId],
}

/// An artifact that a task has produced.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskArtifact<'a> {
    /// The id of the artifact.
    id: &'a ArtifactId,
    /// The kind of artifact, such as `code`, as its worker reported it.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// The location of the artifact, as its worker reported it.
    path: Option<&'a str>,
}

impl<'a> TaskArtifact<'a> {
    pub(super) fn new(artifact: &'a OutputArtifact) -> Self {
        Self { id: &artifact.id, kind: artifact.kind.as_deref(), path: artifact.path.as_deref() }
    }
}

/// Why a task failed or was cancelled.
#[expect(clippy::option_option, reason = "null for an error in no attempt, absent for a cancelled task")]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskError)]
pub(super) struct AnswerError<'a> {
    /// The kind of error, for programs.
    code: &'static str,
    /// The cause, for people.
    message: &'a str,
    /// The attempt in which the error happened; null if it happened in none, absent for a
    /// cancelled task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    attempt: Option<Option<u32>>,
}

impl<'a> AnswerError<'a> {
    /// Returns the error of a failed task, or the reason of a cancelled one if a reason was given.
    fn of(task: &'a Task) -> Option<Self> {
        match &task.state {
            State::Failed { error, .. } => {
                Some(Self { code: error.code.as_str(), message: &error.message, attempt: Some(error.attempt) })
            }
            State::Cancelled { reason: Some(reason), .. } => {
                Some(Self { code: "cancelled", message: reason, attempt: None })
            }
            State::Cancelled { reason: None, .. }
            | State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Completed { .. } => None,
        }
    }
}

/// A JSON object as text; `None` for an empty object.
#[derive(Debug)]
pub(super) struct JsonObject<'a>(pub(super) Option<&'a str>);

impl Serialize for JsonObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: &RawValue = serde_json::from_str(self.0.unwrap_or("{}")).map_err(serde::ser::Error::custom)?;
        object.serialize(serializer)
    }
}
