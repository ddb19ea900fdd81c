//! Errors of the engine: refusals, which are the caller's fault, and failures.

use std::time::Duration;

use super::cascades::Subject;
use crate::store::{self, Shortage};
use crate::task::{self, CheckpointId, LeaseId, ProjectId, Status, TaskId, Tier};

/// The reason why the engine did not carry out a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request was refused. Nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The command queue is full. Nothing has changed.
    #[error("the service is overloaded")]
    Overloaded,
    /// Another data directory has become the owner of the copy. Nothing has changed.
    #[error("this data directory is no longer the owner of the copy in Postgres: another one has taken it over")]
    NotOwner,
    /// The service is shutting down. Nothing has changed.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The disk is nearly full. Nothing has changed.
    #[error("the disk is nearly full: {free_mib} MiB are free, {reserve_mib} MiB are kept in reserve")]
    DiskFull {
        /// Free space, in MiB.
        free_mib: u64,
        /// Free space below which the command is refused, in MiB.
        reserve_mib: u64,
    },
    /// The commit failed: the change may be durable or not, and the service stops.
    #[error("the outcome is unknown: the store failed while it committed")]
    Unknown,
    /// The store failed to read.
    #[error("the store could not be read")]
    Store(#[from] store::Error),
}

/// The reason for refusing a request. It is the caller's fault, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The task does not exist.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// No open task matches the artifact or review of an event.
    #[error("no open task matches the artifact or review that the event names")]
    NothingCorrelates,
    /// The project does not exist.
    #[error("there is no project {0}")]
    ProjectNotFound(ProjectId),
    /// The id belongs to an existing project.
    #[error("project {0} exists already")]
    ProjectExists(ProjectId),
    /// The project's version is not the one that the caller has read.
    #[error("project {0} has changed meanwhile")]
    ProjectChanged(ProjectId),
    /// The limit of projects is reached. Deleted projects count, since their provenance stays.
    #[error(
        "{limit} projects are known, the most there may be (engine.max_projects); use one of them, or raise the limit"
    )]
    TooManyProjects {
        /// The limit, from `engine.max_projects`.
        limit: usize,
    },
    /// A project can't be deleted before its open tasks have ended.
    #[error("project {project} has {open} open tasks")]
    ProjectHasOpenTasks {
        /// The project.
        project: ProjectId,
        /// Number of its open tasks.
        open: u64,
    },
    /// The lease does not exist, or has expired.
    #[error("lease {0} is no longer held")]
    LeaseLost(LeaseId),
    /// A submission depends on a task that does not exist.
    #[error("there is no task {task}")]
    UnknownDependency {
        /// Index in `depends_on`.
        index: usize,
        /// The id at that index.
        task: TaskId,
    },
    /// The idempotency key belongs to an earlier request with another body.
    #[error("the idempotency key was used before with another request")]
    IdempotencyKeyReused,
    /// The limit of idempotency keys is reached. A key is kept until it expires.
    #[error("{limit} idempotency keys are remembered, the most there may be; the oldest leaves in {} s; send the request without a key, or later", room_in.as_secs())]
    TooManyIdempotencyKeys {
        /// The limit.
        limit: usize,
        /// Time until the oldest key expires.
        room_in: Duration,
    },
    /// Only an ended task can be run again.
    #[error("the task has not ended: it is {}", .0.as_str())]
    NotEnded(Status),
    /// A dependency of the task did not complete, and no re-run of it has completed or is open.
    #[error(
        "task {task} depends on task {dependency}, which did not complete and has no re-run that is open or has \
         completed: submit {dependency} again first"
    )]
    DependencyNotCompleted {
        /// The task to run again.
        task: TaskId,
        /// Its dependency.
        dependency: TaskId,
    },
    /// The provenance has no record and no artifact of this id.
    #[error("there is no record and no artifact {0}")]
    SubjectNotFound(Subject),
    /// The source of a verdict is not a known record or artifact.
    #[error("must be a record or an artifact that is known here, was {0:?}")]
    SourceNotFound(String),
    /// The checkpoint does not exist.
    #[error("there is no checkpoint {0}")]
    CheckpointNotFound(CheckpointId),
    /// The checkpoint was made after one that was rolled back to.
    #[error("checkpoint {0} is not valid any more: its project was rolled back to an earlier one")]
    CheckpointInvalid(CheckpointId),
    /// The checkpoint belongs to another project than the named one.
    #[error("checkpoint {checkpoint} is one of project {project}")]
    CheckpointOfOtherProject {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its project.
        project: ProjectId,
    },
    /// The cascade does not exist.
    #[error("there is no cascade {0}")]
    CascadeNotFound(String),
    /// The dead letter does not exist.
    #[error("there is no dead letter {0}")]
    DeadLetterNotFound(u64),
    /// The tier is not configured.
    #[error("there is no tier {0}")]
    TierNotFound(Tier),
    /// The task's state does not allow the request.
    #[error(transparent)]
    Task(#[from] task::Refusal),
}

const MIB: u64 = 1024 * 1024;

impl From<Shortage> for Error {
    fn from(shortage: Shortage) -> Self {
        Self::DiskFull { free_mib: shortage.available / MIB, reserve_mib: shortage.mark / MIB }
    }
}
