//! The data of the events that the service publishes, and of leased tasks.
//!
//! The data is rendered from stored rows when a reader asks for it, so that
//! the log does not store a text a second time. The `AsyncAPI` document
//! describes these structs, and the `OpenAPI` document [`LeasedTask`].

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::context::TaskContext;
use super::time::Time;
use crate::schema::{described, word};
use crate::store::{self, LogEntry, View};
use crate::task::{
    ArtifactId, Change, Domain, ErrorCode, ExecutionMode, ProjectId, QaProfile, RecordId, Status, Submission, Task,
    TaskError, TaskId, Tier,
};

type Stored<T> = Result<T, store::Error>;

/// A task was submitted.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskCreatedData)]
pub(crate) struct TaskCreated<'a> {
    /// The id of the task.
    task_id: TaskId,
    /// The project of the task.
    project_id: &'a ProjectId,
    /// The work to do, in words; null if the task was removed before the event was published.
    description: Option<&'a str>,
}

/// An attempt is ready for a worker.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskReadyData)]
pub(crate) struct TaskReady<'a> {
    /// The id of the task.
    task_id: TaskId,
    /// The project of the task.
    project_id: &'a ProjectId,
    /// The work to do, in words.
    description: &'a str,
    /// The number of the attempt, from 1. Events about the attempt carry this number.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Whether people take part in the work.
    execution_mode: ExecutionMode,
    /// The artifacts to use.
    #[schema(value_type = Vec<ArtifactId>)]
    inputs: Vec<&'a ArtifactId>,
    /// Information that may help the worker.
    context: &'a TaskContext,
    /// The task of which this one is a subtask; null for one that was submitted.
    parent_id: Option<TaskId>,
    /// The rules to follow: those of the request, else those of the project.
    #[schema(value_type = Option<Object>)]
    constitution: Option<Value>,
    /// The W3C trace context of the submission; absent if the submission had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    traceparent: Option<&'a str>,
    /// The tier of workers that execute the attempt; the routing key ends with it.
    tier: &'a Tier,
    /// The kind of work.
    domain: &'a Domain,
    /// The checks that an output must pass.
    qa_profile: &'a QaProfile,
    /// The end of the attempt; only for a leased task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    deadline: Option<Time>,
    /// The longest time of the attempt, in seconds from its start. The attempt has no deadline
    /// before a worker has started it.
    #[schema(minimum = 1)]
    timeout_seconds: u32,
}

/// What an event or a lease says about an attempt beside its task and submission.
struct Attempt<'a> {
    number: u32,
    tier: &'a Tier,
    domain: &'a Domain,
    deadline: Option<Time>,
}

impl<'a> TaskReady<'a> {
    /// Collects the data; `constitution` is that of the project, as JSON text.
    fn new(
        task: &'a Task,
        submission: &'a Submission,
        attempt: &Attempt<'a>,
        context: &'a TaskContext,
        constitution: Option<&str>,
    ) -> Self {
        let given = &submission.options.inputs;
        let constitution = submission.constitution_override.as_deref().or(constitution);
        Self {
            task_id: task.id,
            project_id: &submission.project,
            description: &submission.description,
            attempt: attempt.number,
            execution_mode: submission.execution_mode,
            inputs: given.iter().chain(task.inputs.iter().filter(|input| !given.contains(input))).collect(),
            context,
            parent_id: task.parent,
            constitution: constitution.and_then(|text| serde_json::from_str(text).ok()),
            traceparent: submission.traceparent.as_deref(),
            tier: attempt.tier,
            domain: attempt.domain,
            qa_profile: &task.qa_profile,
            deadline: attempt.deadline,
            timeout_seconds: task.timeout_seconds,
        }
    }
}

/// A task was cancelled. `task.finished` follows.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskCancelledData)]
pub(crate) struct TaskCancelled<'a> {
    /// The id of the task.
    task_id: TaskId,
    /// The reason of the request; null if it gave none.
    reason: Option<&'a str>,
}

/// A task has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskFinishedData)]
pub(crate) struct TaskFinished<'a> {
    /// The id of the task.
    task_id: TaskId,
    /// The project of the task.
    project_id: &'a ProjectId,
    /// The final status.
    status: FinalStatus,
    /// Why the task failed; null if it completed or was cancelled.
    error: Option<FinalError<'a>>,
    /// The provenance record of the output; null unless an attempt of the task itself completed it.
    provenance_id: Option<RecordId>,
}

/// A status that a task never leaves.
#[derive(Serialize)]
#[serde(transparent)]
struct FinalStatus(Status);

described! {
    FinalStatus, "EndStatus": word(
        "The status in which a task ended.",
        Status::ALL.into_iter().filter(|status| status.is_terminal()).map(Status::as_str),
    );
}

/// Why a task failed.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskError)]
struct FinalError<'a> {
    /// The kind of error, for programs.
    code: ErrorCode,
    /// The cause, for people.
    message: &'a str,
    /// The attempt in which the error happened; null if it happened in none.
    attempt: Option<u32>,
}

impl<'a> FinalError<'a> {
    fn new(error: &'a TaskError) -> Self {
        Self { code: error.code, message: &error.message, attempt: error.attempt }
    }
}

/// Returns the data of a published event; `None` for a change that is not published, and for a
/// `task.ready` whose task was removed.
pub(crate) fn published_data(view: &View, entry: &LogEntry, submission: Option<&Submission>) -> Stored<Option<Bytes>> {
    let Some(task_id) = entry.task() else { return Ok(None) };
    let project_id = &entry.project;
    Ok(match &entry.change {
        Change::Created => {
            let description = submission.map(|submission| submission.description.as_str());
            Some(to_json(&TaskCreated { task_id, project_id, description }))
        }
        Change::Ready { attempt, tier, domain, previous } => {
            let (Some(task), Some(submission)) = (view.task(task_id)?, submission) else { return Ok(None) };
            let attempt = Attempt { number: *attempt, tier, domain, deadline: None };
            let context = TaskContext::read(view, &task, *previous)?;
            let constitution = view.project(&task.project)?.and_then(|project| project.constitution);
            Some(to_json(&TaskReady::new(&task, submission, &attempt, &context, constitution.as_deref())))
        }
        Change::Cancelled { reason } => Some(to_json(&TaskCancelled { task_id, reason: reason.as_deref() })),
        Change::Finished { status, error, record } => Some(to_json(&TaskFinished {
            task_id,
            project_id,
            status: FinalStatus(*status),
            error: error.as_ref().map(FinalError::new),
            provenance_id: *record,
        })),
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
        | Change::Dispatched => None,
    })
}

/// The data of a leased task: the data of its `task.ready` and the deadline of the attempt.
pub(crate) struct LeasedTask<'a>(TaskReady<'a>);

impl<'a> LeasedTask<'a> {
    /// Collects the data; `constitution` is that of the project, as JSON text.
    pub(crate) fn new(
        task: &'a Task,
        deadline: Time,
        submission: &'a Submission,
        context: &'a TaskContext,
        constitution: Option<&str>,
    ) -> Self {
        let (tier, domain) = (&task.tier, &task.domain);
        let attempt = Attempt { number: task.attempts(), tier, domain, deadline: Some(deadline) };
        Self(TaskReady::new(task, submission, &attempt, context, constitution))
    }

    /// Renders the data as a JSON object.
    pub(crate) fn to_json(&self) -> Bytes {
        to_json(&self.0)
    }
}

/// The schema of [`TaskReady`] with the deadline. The parts of the context are described in the
/// `AsyncAPI` document alone.
impl PartialSchema for LeasedTask<'_> {
    fn schema() -> RefOr<Schema> {
        let mut schema = TaskReady::schema();
        let RefOr::T(Schema::Object(object)) = &mut schema else { return schema };
        object.description =
            Some("A leased task: the data of `task.ready` and the deadline of the attempt.".to_owned());
        let fields = &mut object.properties;
        let context = ObjectBuilder::new().description(Some(
            "Information that may help the worker: the parent task, the results of dependencies, the findings of the \
             Agent and of RAG, and the results of the previous attempt.",
        ));
        fields.insert("context".to_owned(), context.into());
        let mut time = Ref::from_schema_name(Time::name());
        "The end of the attempt. Renewing the lease does not move it.".clone_into(&mut time.description);
        let deadline = OneOfBuilder::new().item(time).item(ObjectBuilder::new().schema_type(Type::Null));
        let place = fields.get_index_of("timeout_seconds").unwrap_or_default();
        fields.shift_insert(place, "deadline".to_owned(), deadline.into());
        for field in ["attempt", "timeout_seconds"] {
            if let Some(RefOr::T(Schema::Object(number))) = fields.get_mut(field) {
                number.minimum = Some(0.into());
            }
        }
        schema
    }
}

impl ToSchema for LeasedTask<'_> {
    fn name() -> Cow<'static, str> {
        "ReadyTask".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let mut of_context = vec![(TaskContext::name().into_owned(), TaskContext::schema())];
        TaskContext::schemas(&mut of_context);
        let mut all = Vec::new();
        TaskReady::schemas(&mut all);
        let ids = [TaskId::name(), ArtifactId::name()];
        all.retain(|(name, _)| ids.iter().any(|id| id == name) || !of_context.iter().any(|(part, _)| part == name));
        schemas.extend(all);
        schemas.push((Time::name().into_owned(), Time::schema()));
    }
}

fn to_json(data: &impl Serialize) -> Bytes {
    // Serialization fails only for maps whose keys are not text, and the data has none.
    Bytes::from(serde_json::to_vec(data).unwrap_or_default())
}
