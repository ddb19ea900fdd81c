//! Answers that are rendered by hand, described. Nothing is ever made of these
//! types: that the answers are so is held by the tests of the contract, which
//! look at every answer for fields that are missing here or there.
#![expect(dead_code, reason = "the types describe what is made elsewhere")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::http::server::reply::Time;
use crate::task::{
    ArtifactId, Domain, ExecutionMode, OnChildFailure, Phase, Priority, ProjectId, QaProfile, RecordId, Status, TaskId,
    Tier,
};

/// A task as it is now.
#[derive(ToSchema)]
#[schema(as = Task)]
pub(in crate::http) struct StatusAnswer {
    /// Its id.
    task_id: TaskId,
    /// Its project.
    project_id: ProjectId,
    /// What the outside sees first.
    status: Status,
    /// How the Agent says it is to be done; null where it was not asked.
    mode: Option<String>,
    /// What kind of work it is.
    domain: Domain,
    /// The tier of workers that it is for.
    tier: Tier,
    /// When its first attempt began.
    started_at: Option<Time>,
    /// When it ended, however it did.
    completed_at: Option<Time>,
    /// From the one to the other.
    execution_time_ms: Option<u64>,
    /// What was made; null before it has completed.
    artifacts: Option<Vec<TaskArtifact>>,
    /// Its newest record.
    provenance_id: Option<RecordId>,
    /// Where inside its status it is.
    phase: Phase,
    /// Why it is not moving, in words; null once it has ended.
    waiting_for: Option<String>,
    /// How urgent it is.
    priority: Priority,
    /// Attempts so far.
    attempts: u32,
    /// Most attempts.
    max_attempts: u32,
    /// When it was taken.
    created_at: Time,
    /// When it last changed.
    updated_at: Time,
    /// The task it is a part of.
    parent_id: Option<TaskId>,
    /// Its subtasks.
    children: Vec<TaskId>,
    /// Tasks it waits or waited for.
    depends_on: Vec<TaskId>,
    /// The task that it repeats.
    rerun_of: Option<TaskId>,
    /// Why it failed or was cancelled.
    error: Option<TaskError>,
    /// How it is done, as the request and the rules have chosen.
    options: TaskOptions,
    /// What the client wanted to keep with it.
    #[schema(value_type = Object)]
    metadata: (),
    /// Counts its changes; the entity tag is made of it.
    version: u64,
    /// Whether people take part.
    execution_mode: ExecutionMode,
    /// What is to be done.
    description: String,
}

/// An artifact that a task has made.
#[derive(ToSchema)]
struct TaskArtifact {
    /// Its id.
    id: ArtifactId,
    /// What it is.
    r#type: Option<String>,
    /// Where it is, as the worker says.
    path: Option<String>,
}

/// Why a task failed or was cancelled.
#[derive(ToSchema)]
struct TaskError {
    /// What a program goes by.
    code: String,
    /// For people.
    message: String,
    /// Which attempt it was; absent for a task that was cancelled.
    attempt: Option<u32>,
}

/// How a task is done.
#[derive(ToSchema)]
struct TaskOptions {
    /// Whether the Agent may split it.
    decompose: bool,
    /// Which checks its output must pass.
    qa_profile: QaProfile,
    /// As in the request.
    tier: Option<Tier>,
    /// As in the request.
    domain: Option<Domain>,
    /// Longest time of one attempt.
    timeout_seconds: u32,
    /// How often it is tried.
    max_attempts: u32,
    /// It does not begin before.
    not_before: Option<Time>,
    /// As in the request.
    depends_on: Vec<TaskId>,
    /// What a failing subtask does to the others.
    on_child_failure: OnChildFailure,
    /// As in the request.
    inputs: Vec<ArtifactId>,
}

/// What a worker is told of a task: the data of `task.ready`.
#[derive(ToSchema)]
pub(in crate::http) struct ReadyTask {
    /// Its id.
    task_id: TaskId,
    /// Its project.
    project_id: ProjectId,
    /// What is to be done.
    description: String,
    /// Which attempt this is; it belongs into every event about it.
    attempt: u32,
    /// Whether people take part.
    execution_mode: ExecutionMode,
    /// Artifacts to be used.
    inputs: Vec<ArtifactId>,
    /// What may help: the parent, what dependencies made, what the Agent and
    /// RAG found, what the attempt before left behind.
    #[schema(value_type = Object)]
    context: (),
    /// The task it is a part of.
    parent_id: Option<TaskId>,
    /// Rules of the project, or of the request.
    #[schema(value_type = Option<Object>)]
    constitution: Option<()>,
    /// The trace it belongs to.
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// The tier of workers that it is for.
    tier: Tier,
    /// What kind of work it is.
    domain: Domain,
    /// Which checks its output must pass.
    qa_profile: QaProfile,
    /// When the attempt ends, whatever the lease says.
    deadline: Option<Time>,
    /// Longest time of the attempt.
    timeout_seconds: u32,
}

/// An event in the structured mode of `CloudEvents` 1.0. Others may add
/// attributes of their own.
#[derive(ToSchema)]
pub(in crate::http) struct CloudEvent {
    /// `1.0`.
    specversion: String,
    /// Unique within its source: an event that comes again has no second effect.
    id: String,
    /// Who says it.
    source: String,
    /// What happened, such as `dats.task.output.created`; `dats.` may be left out.
    r#type: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    time: Option<Time>,
    /// The task it is about.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// `application/json`.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The trace it belongs to.
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// What is to be said; its fields follow from `type`.
    #[schema(value_type = Object)]
    data: (),
    /// Attributes of others.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}
