//! The results of a step: entries of the task's history and of the log, and effects that the engine
//! carries out.

use serde::{Deserialize, Serialize};

use super::children::Child;
use super::error::TaskError;
use super::event::Output;
use super::id::{Domain, EventHash, LeaseId, Mode, RecordId, TaskId, Tier, WorkerId};
use super::routing::Findings;
use super::status::Status;
use super::time::Timestamp;

/// A change of a task. Published changes use the names of the event catalogue; the others appear in
/// the history alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The task was submitted. Published as `task.created`.
    Created,
    /// An attempt waits for a worker. Published as `task.ready.{tier}`, once for each attempt.
    Ready {
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The tier on which it will run.
        tier: Tier,
        /// The kind of work.
        domain: Domain,
        /// The newest record of an earlier attempt, whose artifact and issues become part of the
        /// context.
        previous: Option<RecordId>,
    },
    /// The task was cancelled. Published as `task.cancelled`.
    Cancelled {
        /// The reason the client gave.
        reason: Option<String>,
    },
    /// The task reached a final state. Published as `task.finished`.
    Finished {
        /// The final status.
        status: Status,
        /// Why it did not complete.
        error: Option<TaskError>,
        /// The record of its output if it completed.
        record: Option<RecordId>,
    },
    /// An event of a worker or of QA was accepted.
    Accepted {
        /// Name of the event, such as `task.validated`.
        name: String,
        /// What the event did.
        outcome: Outcome,
    },
    /// The time `not_before` has come, but dependencies have not completed.
    Blocked,
    /// Routing began.
    Analyzing,
    /// The Agent analysed the task.
    Analyzed {
        /// The kind of request.
        mode: Mode,
        /// Whether the task is split next.
        split: bool,
    },
    /// The task was split.
    Split {
        /// Subtasks in the order of the decomposition.
        children: Vec<TaskId>,
    },
    /// A subtask ended.
    ChildEnded {
        /// The subtask.
        task: TaskId,
        /// Its final status.
        status: Status,
    },
    /// Domain and tier are decided.
    Routed {
        /// The kind of work.
        domain: Domain,
        /// The tier of the first attempt.
        tier: Tier,
        /// What decided them.
        by: RoutedBy,
    },
    /// The task waits for a slot of its project, and is handed to the broker then.
    Queued,
    /// A worker leased the task.
    Leased {
        /// Id that renewals and releases name.
        lease: LeaseId,
        /// The worker that holds the lease.
        worker: WorkerId,
        /// When the lease expires unless it is renewed.
        until: Timestamp,
    },
    /// A worker has taken the task from the broker, as the depth of the queue shows.
    Taken,
    /// The worker released the task.
    Released,
    /// The worker did not renew its lease in time.
    LeaseExpired,
    /// The attempt failed, and another one follows.
    Backoff {
        /// When the next attempt may start.
        until: Timestamp,
        /// Why the attempt failed.
        error: TaskError,
    },
    /// A task that this one depends on has completed.
    DependencyCompleted {
        /// The dependency.
        task: TaskId,
    },
    /// A parked report waited too long for its output and became a dead letter.
    ParkedExpired {
        /// Name of the report's event.
        name: String,
    },
    // Stored by its position, so a new variant goes last.
    /// The `task.ready` of an attempt that was announced before is handed to the broker again, with
    /// the same event id.
    Dispatched,
}

impl Change {
    /// The name in the history of the task; for published and accepted events the name of the
    /// event.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Created => "task.created",
            Self::Ready { .. } => "task.ready",
            Self::Cancelled { .. } => "task.cancelled",
            Self::Finished { .. } => "task.finished",
            Self::Accepted { name, .. } => name,
            Self::Blocked => "task.blocked",
            Self::Analyzing => "task.analyzing",
            Self::Analyzed { .. } => "task.analyzed",
            Self::Split { .. } => "task.split",
            Self::ChildEnded { .. } => "task.child_ended",
            Self::Routed { .. } => "task.routed",
            Self::Queued => "task.queued",
            Self::Leased { .. } => "task.leased",
            Self::Taken => "task.taken",
            Self::Released => "task.released",
            Self::LeaseExpired => "task.lease_expired",
            Self::Backoff { .. } => "task.backoff",
            Self::DependencyCompleted { .. } => "task.dependency_completed",
            Self::ParkedExpired { .. } => "task.parked_expired",
            Self::Dispatched => "task.dispatched",
        }
    }

    /// Whether the change is published to other services.
    #[must_use]
    pub const fn is_published(&self) -> bool {
        match self {
            Self::Created | Self::Ready { .. } | Self::Cancelled { .. } | Self::Finished { .. } => true,
            Self::Accepted { .. }
            | Self::Blocked
            | Self::Analyzing
            | Self::Analyzed { .. }
            | Self::Split { .. }
            | Self::ChildEnded { .. }
            | Self::Routed { .. }
            | Self::Queued
            | Self::Leased { .. }
            | Self::Taken
            | Self::Released
            | Self::LeaseExpired
            | Self::Backoff { .. }
            | Self::DependencyCompleted { .. }
            | Self::ParkedExpired { .. }
            | Self::Dispatched => false,
        }
    }
}

/// What decided the domain and the tier of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoutedBy {
    /// The request and its project.
    Request,
    /// The Agent's analysis or estimate.
    Agent,
    /// The built-in rules.
    Builtin,
}

impl RoutedBy {
    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Agent => "agent",
            Self::Builtin => "builtin",
        }
    }
}

/// What an input did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The input had its effect.
    Applied,
    /// The requested state was already reached.
    Unchanged,
    /// The input came too late. It is recorded and has no other effect.
    Stale(Stale),
    /// The report waits for the output it is about.
    Parked,
}

impl Outcome {
    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Stale(_) => "stale",
            Self::Parked => "parked",
        }
    }

    /// The outcome as a sentence for people.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Applied => "the event had its effect",
            Self::Unchanged => "nothing was left to change",
            Self::Stale(stale) => stale.as_str(),
            Self::Parked => "the event waits for the output it is about",
        }
    }
}

/// Why an input came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stale {
    /// The task had ended.
    Ended,
    /// The attempt was closed.
    ClosedAttempt,
    /// The attempt already had an output.
    SecondOutput,
    /// A review of the output is in progress.
    UnderReview,
    /// Another review is in progress.
    OtherReview,
    /// No attempt was open that could have failed.
    NothingRunning,
    /// The state of the records was already as requested.
    AlreadySo,
    // Stored by its position, so a new variant goes last.
    /// The sender does not hold the attempt.
    NotHolder,
}

impl Stale {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "the task had ended",
            Self::ClosedAttempt => "the attempt had been closed",
            Self::SecondOutput => "the attempt had its output already",
            Self::UnderReview => "a review is under way already",
            Self::OtherReview => "another review is under way",
            Self::NothingRunning => "no attempt was under way",
            Self::AlreadySo => "nothing was left to change",
            Self::NotHolder => "another worker held the attempt",
        }
    }
}

/// The verdict of a provenance record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// No verdict yet.
    Pending,
    /// QA accepted the output.
    Passed,
    /// The output was rejected, so it is no input for others.
    Failed,
    /// A reviewer accepted the output.
    HumanApproved,
}

impl RecordStatus {
    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::HumanApproved => "human_approved",
        }
    }
}

/// What the engine must do besides storing the new state of the task.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the history and the log.
    Log(Change),
    /// Create the provenance record of an attempt.
    StoreRecord(Box<NewRecord>),
    /// Complete the record that an output of another worker created with the output that counts.
    FillRecord(Box<NewRecord>),
    /// Add the artifacts of a late output to the record of its attempt.
    ExtendRecord {
        /// The record of the attempt.
        record: RecordId,
        /// The late output.
        output: Box<Output>,
    },
    /// Store a verdict in a record.
    JudgeRecord {
        /// The record of the judged output.
        record: RecordId,
        /// The verdict.
        status: RecordStatus,
        /// Details from QA or the reviewer, as the JSON text of an object.
        verification: Option<String>,
    },
    /// Add findings to those stored for the task's workers.
    KeepFindings(Box<Findings>),
    /// Create subtasks.
    Spawn(Vec<Child>),
    /// Cancel a subtask of this task.
    Cancel {
        /// The subtask.
        task: TaskId,
        /// The reason in words.
        reason: String,
    },
    /// Store a report that cannot be applied as a dead letter.
    DeadLetter {
        /// The event as it was received.
        raw: String,
        /// Hash by which the event was recognised; it is forgotten now.
        event: Option<EventHash>,
        /// Why the report cannot be applied.
        reason: String,
    },
}

/// A provenance record to be created for an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    /// Id of the record.
    pub id: RecordId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The tier on which it ran.
    pub tier: Tier,
    /// The kind of work.
    pub domain: Domain,
    /// When a worker started the attempt, or else when it was opened.
    pub began_at: Timestamp,
    /// When the output arrived.
    pub completed_at: Timestamp,
    /// The first verdict.
    pub status: RecordStatus,
    /// The output, with its contents and metadata.
    pub output: Box<Output>,
}
