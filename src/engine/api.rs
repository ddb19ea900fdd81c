//! What the engine is asked and what it answers: the types of its handle.

mod publication;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(super) use publication::{
    ChangedAnswer, PauseChange, ProjectChange, ProjectFigures, Publication, TaskEnd, Totals, Version,
};

use super::cascade::Subject;
use super::readers::Behind;
use super::records::RecordCounts;
use crate::store::{self, Counters, LogEntry, Project};
use crate::task::{
    self, CheckpointId, Domain, LeaseId, Moment, ProjectId, QaProfile, RoutingStep, Seq, Status, TaskId, Tier,
    Timestamp, WorkerId,
};
pub use crate::wire::{Answer, Hold, Revision};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The queue of commands is full; nothing has changed.
    #[error("the service is overloaded")]
    Overloaded,
    /// Another data directory has become the owner; nothing has changed.
    #[error("this data directory is no longer the owner of the copy in Postgres: another one has taken it over")]
    NotOwner,
    /// The service is shutting down; nothing has changed.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The disk is nearly full; nothing has changed.
    #[error("the disk is nearly full: {free_mib} MiB are free, {reserve_mib} MiB are kept in reserve")]
    DiskFull {
        /// Free space, in MiB.
        free_mib: u64,
        /// The reserve, in MiB.
        reserve_mib: u64,
    },
    /// The commit failed: whether the change is durable is not known, and
    /// the service stops.
    #[error("the outcome is unknown: the store failed while it committed")]
    Unknown,
    /// Reading failed.
    #[error("the store could not be read")]
    Store(#[from] store::Error),
}

/// The caller's fault: nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such task.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// No task matches what a review names.
    #[error("no open task matches the artifact or review that the event names")]
    NothingCorrelates,
    /// No such project.
    #[error("there is no project {0}")]
    ProjectNotFound(ProjectId),
    /// A project of this id exists.
    #[error("project {0} exists already")]
    ProjectExists(ProjectId),
    /// The project has changed since the caller read it.
    #[error("project {0} has changed meanwhile")]
    ProjectChanged(ProjectId),
    /// There is no room for one more. Deleted ones count too: their provenance stays.
    #[error(
        "{limit} projects are known, the most there may be (engine.max_projects); use one of them, or raise the limit"
    )]
    TooManyProjects {
        /// How many there may be.
        limit: usize,
    },
    /// Its open tasks must end first.
    #[error("project {project} has {open} open tasks")]
    ProjectHasOpenTasks {
        /// The project.
        project: ProjectId,
        /// How many of its tasks have not ended.
        open: u64,
    },
    /// No such lease, or it has run out.
    #[error("lease {0} is no longer held")]
    LeaseLost(LeaseId),
    /// A submission names a task that does not exist.
    #[error("there is no task {task}")]
    UnknownDependency {
        /// Its place in `depends_on`.
        index: usize,
        /// The id it names.
        task: TaskId,
    },
    /// The idempotency key was used with another body.
    #[error("the idempotency key was used before with another request")]
    IdempotencyKeyReused,
    /// No further idempotency key can be remembered: none is forgotten before
    /// its time.
    #[error("{limit} idempotency keys are remembered, the most there may be; the oldest leaves in {} s; send the request without a key, or later", room_in.as_secs())]
    TooManyIdempotencyKeys {
        /// How many are remembered.
        limit: usize,
        /// When the oldest of them is forgotten.
        room_in: Duration,
    },
    /// A re-run needs a finished task.
    #[error("the task has not ended: it is {}", .0.as_str())]
    NotEnded(Status),
    /// What the task waited for did not complete, and no re-run of it did or
    /// may.
    #[error(
        "task {task} depends on task {dependency}, which did not complete and has no re-run that is open or has \
         completed: submit {dependency} again first"
    )]
    DependencyNotCompleted {
        /// The task that was to be submitted again.
        task: TaskId,
        /// The task that it depends on.
        dependency: TaskId,
    },
    /// Nothing in the provenance has this id.
    #[error("there is no record and no artifact {0}")]
    SubjectNotFound(Subject),
    /// What something was concluded from is not known here.
    #[error("must be a record or an artifact that is known here, was {0:?}")]
    SourceNotFound(String),
    /// No such checkpoint.
    #[error("there is no checkpoint {0}")]
    CheckpointNotFound(CheckpointId),
    /// It was made after one that was rolled back to.
    #[error("checkpoint {0} is not valid any more: its project was rolled back to an earlier one")]
    CheckpointInvalid(CheckpointId),
    /// The checkpoint is not one of the project that was named.
    #[error("checkpoint {checkpoint} is one of project {project}")]
    CheckpointOfOtherProject {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The project it is of.
        project: ProjectId,
    },
    /// No such cascade.
    #[error("there is no cascade {0}")]
    CascadeNotFound(String),
    /// No such dead letter.
    #[error("there is no dead letter {0}")]
    DeadLetterNotFound(u64),
    /// The tier is not configured.
    #[error("there is no tier {0}")]
    TierNotFound(Tier),
    /// The transition function refused.
    #[error(transparent)]
    Task(#[from] task::Refusal),
}

/// A client's key for one request, so that it can be sent again safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Hash over the endpoint and the key.
    pub key: [u8; 16],
    /// Hash over the request's body.
    pub body: [u8; 16],
}

/// What a submission became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The new task.
    pub task: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// By when it should be done, if there is anything to go by.
    pub estimated_completion: Option<Timestamp>,
}

/// Why one of several submissions was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownDependency {
    /// Its place in `depends_on`.
    pub index: usize,
    /// The id it names.
    pub task: TaskId,
}

/// The answer to one or several submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submissions {
    /// One for each, in order.
    pub results: Vec<Result<Submitted, UnknownDependency>>,
    /// Whether this is the first answer given again.
    pub replayed: bool,
}

/// A worker asks for tasks.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The line to take from.
    pub tier: Tier,
    /// Who asks.
    pub worker: WorkerId,
    /// Most leases to give at once.
    pub max: usize,
    /// How long a lease lasts unless renewed.
    pub lease: Duration,
    /// How long to wait for the first task.
    pub wait: Duration,
}

/// A lease given to a worker.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The hold.
    pub lease: LeaseId,
    /// Until when, unless renewed.
    pub until: Timestamp,
    /// The data of the attempt's `task.ready` event, as a JSON object.
    pub task: Bytes,
}

/// A new project.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// Its id.
    pub id: ProjectId,
    /// `None`: the id.
    pub name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// See [`Project`].
    pub qa_profile: Option<QaProfile>,
    /// See [`Project`].
    pub constitution: Option<String>,
    /// See [`Project`].
    pub max_concurrent: Option<u32>,
}

/// Changes to a project: an outer `None` leaves a field as it is, an inner
/// one empties it.
#[derive(Debug, Clone, Default)]
pub struct ProjectPatch {
    /// A name can't be emptied.
    pub name: Option<String>,
    /// See [`Project`].
    pub description: Option<Option<String>>,
    /// See [`Project`].
    pub qa_profile: Option<Option<QaProfile>>,
    /// See [`Project`].
    pub constitution: Option<Option<String>>,
    /// See [`Project`].
    pub max_concurrent: Option<Option<u32>>,
}

/// A project and what goes on in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectStatus {
    /// The project.
    pub project: Project,
    /// Its tasks by phase.
    pub counters: Counters,
    /// Slots in use.
    pub slots_in_use: u32,
    /// Slots there are.
    pub limit: u32,
    /// Since when its oldest pending task waits.
    pub oldest_pending_at: Option<Timestamp>,
    /// Completed in the last hour and the last day.
    pub completed: (u64, u64),
    /// Failed in the last hour and the last day.
    pub failed: (u64, u64),
    /// Its provenance records by flag.
    pub records: RecordCounts,
}

/// What waits, as it is looked at now and then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog {
    /// Since when the oldest task waits to be routed.
    pub(crate) oldest_analyzing: Option<Moment>,
    /// Since when the oldest task waits for a slot.
    pub(crate) oldest_queued: Option<Moment>,
    /// What the readers of the log have not taken.
    pub(crate) readers: Vec<Behind>,
}

/// A task that somebody is to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingJob {
    /// The task.
    pub task: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// What is to be done, in words.
    pub description: String,
    /// What the task that it is a part of is to do, if it is one.
    pub parent_description: Option<String>,
    /// The kind of work, as far as it is known.
    pub domain: Domain,
    /// What is to be found out.
    pub step: RoutingStep,
    /// Since when it waits to be routed.
    pub since: Moment,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
}

/// The work queue of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The tier.
    pub tier: Tier,
    /// Tasks that wait for a worker.
    pub depth: usize,
    /// Tasks that workers hold.
    pub leased: usize,
    /// Since when the oldest waits.
    pub oldest_ready: Option<Moment>,
    /// Since when nothing of it is dispatched or leased.
    pub paused_at: Option<Timestamp>,
}

/// Which tasks to list; every field narrows.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// In one of these; empty: in any.
    pub statuses: Vec<Status>,
    /// Children of this task.
    pub parent: Option<TaskId>,
    /// On this tier.
    pub tier: Option<Tier>,
    /// Of this kind.
    pub domain: Option<task::Domain>,
    /// Created at this time or later.
    pub created_after: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
}

/// Where a page of tasks begins.
#[derive(Debug, Clone, Copy)]
pub enum PageStart {
    /// So many tasks from the newest.
    Offset(usize),
    /// After this task, which was the last of the page before.
    After(TaskId),
}

/// A page of tasks, newest first.
#[derive(Debug, Clone)]
pub struct TaskPage {
    /// The status answers.
    pub tasks: Vec<Answer>,
    /// Where the next page begins.
    pub next: Option<TaskId>,
    /// How many tasks match in all, where that is known exactly.
    pub total: Option<u64>,
    /// The page ends before its number of entries: it is full of bytes, or the
    /// search stopped before it had looked at every task.
    pub truncated: bool,
}

/// An entry of the log with what its wire form needs besides.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its position.
    pub seq: Seq,
    /// The entry.
    pub entry: LogEntry,
    /// The data of the event, as a JSON object, for what is published.
    pub data: Option<Bytes>,
    /// W3C trace context of the task's submission.
    pub traceparent: Option<String>,
}

/// A page of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// Entries that are published or accepted events, in order.
    pub entries: Vec<Logged>,
    /// The position up to which the log was read: where to go on.
    pub read_to: Seq,
    /// Set when the log was trimmed beyond the asked position: the first
    /// position that is still there.
    pub reset: Option<Seq>,
    /// The page ends before its number of entries: it is full of bytes, or
    /// reading went on for long enough.
    pub truncated: bool,
}
