//! What a step did: the entries of a task's history and of the log, and the
//! effects that the engine carries out for the core.

use serde::{Deserialize, Serialize};

use super::children::Child;
use super::error::TaskError;
use super::event::Output;
use super::id::{Domain, EventHash, LeaseId, Mode, RecordId, TaskId, Tier, WorkerId};
use super::routing::Findings;
use super::status::Status;
use super::time::Timestamp;

/// One thing that happened to a task, in the words of the event catalogue
/// where it goes out, in our own where it is only history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// It was submitted. Published as `task.created`.
    Created,
    /// An attempt waits for a worker. Published as `task.ready.{tier}`, once
    /// an attempt.
    Ready {
        /// The attempt, from 1.
        attempt: u32,
        /// Its tier.
        tier: Tier,
        /// The kind of work.
        domain: Domain,
        /// The newest record of an earlier attempt, whose artifact and issues
        /// go into the context.
        previous: Option<RecordId>,
    },
    /// Somebody ended it. Published as `task.cancelled`.
    Cancelled {
        /// Why, where it was said.
        reason: Option<String>,
    },
    /// It reached an end. Published as `task.finished`.
    Finished {
        /// Which end.
        status: Status,
        /// Why, unless it ended well.
        error: Option<TaskError>,
        /// What it produced, if it ended well.
        record: Option<RecordId>,
    },
    /// An event of a worker or of QA was taken.
    Accepted {
        /// The event's name, such as `task.validated`.
        name: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// Its time has come, but it still waits for other tasks.
    Blocked,
    /// The Agent or the RAG service is asked about it.
    Analyzing,
    /// The Agent has said what it is.
    Analyzed {
        /// What kind of request.
        mode: Mode,
        /// Whether it is split next.
        split: bool,
    },
    /// It was split.
    Split {
        /// Its subtasks, in order.
        children: Vec<TaskId>,
    },
    /// A subtask has ended.
    ChildEnded {
        /// That task.
        task: TaskId,
        /// How.
        status: Status,
    },
    /// Its domain and its tier are decided.
    Routed {
        /// The kind of work.
        domain: Domain,
        /// The tier.
        tier: Tier,
        /// Who decided.
        by: RoutedBy,
    },
    /// It waits for a slot of its project, and then goes to the broker.
    Queued,
    /// A worker took it.
    Leased {
        /// The hold.
        lease: LeaseId,
        /// The holder.
        worker: WorkerId,
        /// Until when, unless renewed.
        until: Timestamp,
    },
    /// A worker has taken it from a broker, as far as can be inferred.
    Taken,
    /// The worker gave it back.
    Released,
    /// The worker did not renew its hold.
    LeaseExpired,
    /// The attempt ended badly; another one follows.
    Backoff {
        /// When.
        until: Timestamp,
        /// Why the attempt ended.
        error: TaskError,
    },
    /// A task it waits for has completed.
    DependencyCompleted {
        /// That task.
        task: TaskId,
    },
    /// A report waited too long for its output and became a dead letter.
    ParkedExpired {
        /// The report's event name.
        name: String,
    },
    // Stored by its place here: a new one goes last.
    /// The `task.ready` of an attempt that was announced before is handed to
    /// the broker again, under its id.
    Dispatched,
}

impl Change {
    /// Its name in a task's history; for what is published or was accepted,
    /// the event's name.
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

    /// Whether it goes out to the other services.
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

/// Who decided about a task's domain and tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoutedBy {
    /// The request itself, and its project.
    Request,
    /// The Agent.
    Agent,
    /// The built-in rules.
    Builtin,
}

impl RoutedBy {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Agent => "agent",
            Self::Builtin => "builtin",
        }
    }
}

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It had its effect.
    Applied,
    /// What it asks for already is so.
    Unchanged,
    /// It came too late; recorded, nothing else.
    Stale(Stale),
    /// It waits for the output it is about.
    Parked,
}

impl Outcome {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Stale(_) => "stale",
            Self::Parked => "parked",
        }
    }

    /// The outcome in words.
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
    /// The attempt it is about had been closed.
    ClosedAttempt,
    /// The attempt had its output already.
    SecondOutput,
    /// A person is looking at the output already.
    UnderReview,
    /// It is about another review than the one under way.
    OtherReview,
    /// No attempt was under way that could fail.
    NothingRunning,
    /// What it says of records, or asks for, was so already.
    AlreadySo,
    // Stored by its place here: a new one goes last.
    /// It came from a worker that does not hold the attempt.
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

/// The verdict that a provenance record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// No verdict yet.
    Pending,
    /// Good.
    Passed,
    /// Not good: no input for others.
    Failed,
    /// A person found it good.
    HumanApproved,
}

impl RecordStatus {
    /// The word on the wire.
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

/// What the engine is asked to do besides keeping the task's new state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the history and the log.
    Log(Change),
    /// Make the provenance record of an attempt.
    StoreRecord(Box<NewRecord>),
    /// Make the record that an output of another worker began the record of
    /// the output that counts.
    FillRecord(Box<NewRecord>),
    /// Add a late output's artifacts to the record of its attempt.
    ExtendRecord {
        /// That record.
        record: RecordId,
        /// The late output.
        output: Box<Output>,
    },
    /// Put a verdict into a record.
    JudgeRecord {
        /// That record.
        record: RecordId,
        /// The verdict.
        status: RecordStatus,
        /// What QA or the reviewer said, as JSON text of an object.
        verification: Option<String>,
    },
    /// Keep findings for the task's workers, beside those that are kept.
    KeepFindings(Box<Findings>),
    /// Make subtasks.
    Spawn(Vec<Child>),
    /// Cancel another task, a subtask of this one.
    Cancel {
        /// That task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// Keep a report that can't be taken.
    DeadLetter {
        /// The event as it came.
        raw: String,
        /// What it was known by; it is so no longer.
        event: Option<EventHash>,
        /// Why it can't be taken.
        reason: String,
    },
}

/// The provenance record of an attempt, as the core asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    /// Its id.
    pub id: RecordId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The tier it ran on.
    pub tier: Tier,
    /// The kind of work.
    pub domain: Domain,
    /// When a worker began with the attempt, or else when it was opened.
    pub began_at: Timestamp,
    /// When the output came.
    pub completed_at: Timestamp,
    /// Its first verdict.
    pub status: RecordStatus,
    /// The output.
    pub output: Box<Output>,
}
