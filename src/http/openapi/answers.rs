//! Answers that are rendered by hand, described. Nothing is ever made of these
//! types: that the answers are so is held by the tests of the contract, which
//! look at every answer for fields that are missing here or there.
#![expect(dead_code, reason = "the types describe what is made elsewhere")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::values::{HealthStatus, TasksByPhase};
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

/// A page of tasks, the newest first.
#[derive(ToSchema)]
pub(in crate::http) struct TaskList {
    /// The tasks.
    tasks: Vec<StatusAnswer>,
    /// How many there are; null where the filters do not let them be counted.
    total: Option<u64>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: u64,
    /// Entries that were skipped; absent with a cursor.
    #[schema(nullable = false)]
    offset: Option<u64>,
    /// The `offset` of the next page; null on the last one, and where the search ended before it found a task. Absent
    /// with a cursor.
    next_offset: Option<u64>,
    /// The page ends before its limit, by its bytes or because looking for more was given up: go on with the cursor.
    truncated: bool,
}

/// A task with its subtasks in place of their ids, each of them such a node: a
/// task as in `GET /tasks/{id}`, or, where it was removed, its id alone. The
/// outermost one also has `truncated`.
#[derive(ToSchema)]
pub(in crate::http) struct TaskNode {
    /// Its id.
    task_id: TaskId,
    /// Its subtasks; null where they found no room.
    #[schema(no_recursion)]
    children: Option<Vec<TaskNode>>,
    /// There was such a task: nothing else is known of it any more.
    #[schema(nullable = false)]
    removed: Option<bool>,
    /// Whether subtasks found no room.
    #[schema(nullable = false)]
    truncated: Option<bool>,
    /// All other fields of the task.
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// Where to go on from a submission.
#[derive(ToSchema)]
pub(in crate::http) struct TaskLinks {
    /// The task.
    #[serde(rename = "self")]
    itself: String,
    /// Its history.
    events: String,
    /// Its history as a stream.
    stream: String,
    /// For ending it.
    cancel: String,
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

/// What became of a line of an import; the last line of the answer has the
/// summary alone.
#[derive(ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum ImportLine {
    /// A line that was not empty.
    Line {
        /// Its number, from 1.
        line: u64,
        /// What it is.
        kind: Option<String>,
        /// The id it names.
        id: Option<String>,
        /// The id of the record here, where it is another one.
        #[schema(nullable = false)]
        provenance_id: Option<RecordId>,
        /// `created`, `updated`, `unchanged` or `refused`.
        outcome: String,
        /// What is wrong with it, in a word.
        #[schema(nullable = false)]
        reason: Option<String>,
        /// The same for people.
        #[schema(nullable = false)]
        message: Option<String>,
        /// Where in the line, in bytes.
        #[schema(nullable = false)]
        offset: Option<u64>,
        /// The records that would depend on each other.
        #[schema(nullable = false)]
        cycle: Option<Vec<RecordId>>,
        /// Records that became suspect by it: the first ones.
        #[schema(nullable = false)]
        newly_suspect: Option<Vec<RecordId>>,
        /// How many became suspect.
        #[schema(nullable = false)]
        newly_suspect_count: Option<u64>,
    },
    /// All lines together.
    End {
        /// What they came to.
        summary: ImportSummary,
    },
    /// The last line of an import that did not come to its end.
    Broken {
        /// Why not.
        error: ImportError,
    },
}

/// Why an import did not come to its end.
#[derive(ToSchema)]
pub(in crate::http) struct ImportError {
    /// What a program goes by.
    code: String,
    /// For people.
    detail: String,
}

/// What all lines of an import came to.
#[derive(ToSchema)]
pub(in crate::http) struct ImportSummary {
    /// Lines that were not empty.
    lines: u64,
    /// Lines that made something new.
    created: u64,
    /// Lines that changed something.
    updated: u64,
    /// Lines that said nothing new.
    unchanged: u64,
    /// Lines that were not taken.
    refused: u64,
    /// Records that are suspect by the rule and were not said to be; null: too many to look at again.
    newly_suspect: Option<u64>,
    /// Records that were said to be suspect and are not, by the rule; null: too many to look at again.
    no_longer_suspect: Option<u64>,
}

/// Whether the process answers, or may be sent requests.
#[derive(ToSchema)]
pub(in crate::http) struct Probe {
    /// `alive`, `ready` or `not ready`.
    status: String,
    /// `not_owner` where another data directory has taken over the copy in Postgres;
    /// `full` or `waiting_for_room` where the disk has no room for a change.
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// Whether the service works, and what it depends on.
#[derive(ToSchema)]
pub(in crate::http) struct DetailedHealth {
    /// In one word; `degraded` where one of the others is away and the rest works.
    #[schema(value_type = String)]
    status: HealthStatus,
    /// Of the service.
    version: String,
    /// When that was.
    timestamp: Time,
    /// `store`, and those that are configured of `agent`, `rag`, `rabbitmq` and
    /// `postgres`. Each has its `status` and figures of its own.
    #[schema(value_type = BTreeMap<String, Dependency>)]
    dependencies: (),
    /// How much there is of what.
    figures: HealthFigures,
    /// `not_owner` where another data directory has taken over the copy in Postgres.
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// Something that the service depends on.
#[derive(ToSchema)]
pub(in crate::http) struct Dependency {
    /// How it is.
    status: String,
    /// Figures and times of its own.
    #[serde(flatten)]
    figures: BTreeMap<String, serde_json::Value>,
}

/// How much there is of what.
#[derive(ToSchema)]
pub(in crate::http) struct HealthFigures {
    /// Tasks by phase.
    tasks: TasksByPhase,
    /// Projects that exist.
    projects: u64,
    /// Projects that are paused.
    paused_projects: u64,
    /// Tiers that are paused.
    paused_tiers: Vec<Tier>,
    /// The newest position of the log.
    log_head: u64,
    /// The oldest position that the log still has.
    log_tail: u64,
    /// Commits since the start.
    commits: u64,
    /// Commands since the start.
    commands: u64,
    /// Commands that wait for the writer.
    queued_commands: u64,
    /// Events that were taken since the start, by outcome.
    #[schema(value_type = BTreeMap<String, u64>)]
    events: (),
    /// Events that could not be taken.
    dead_letters: u64,
    /// Tasks whose answer is kept in memory.
    hot_tasks: u64,
}
