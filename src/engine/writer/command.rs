//! Commands to the writer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::api::{
    Answer, Cascade, CascadeRequest, CascadeUndo, Error, EventOutcome, Grant, IdempotencyKey, Import, ImportResult,
    LeaseRequest, NewCheckpoint, NewProject, PreparedEvent, ProjectPatch, QueueReport, Refusal, Rollback,
    RollbackRequest, Submissions, TakenRouting, UndoRequest, WorkQueue,
};
use crate::engine::state::{Attempt, CascadePlan, EventPlan, RollbackPlan, Routed, UndoPlan};
use crate::store::{Checkpoint, DeadLetter, Project};
use crate::task::{Finding, LeaseId, Moment, Outcome, ProjectId, RoutingStep, TaskId, Tier, Timestamp};

/// Where an answer goes.
pub(in crate::engine) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One answer for each event, in order.
pub(in crate::engine) type EventAnswers = Vec<Result<EventOutcome, Refusal>>;

/// The plan of one of several events, with the index of that event.
pub(in crate::engine) type EventPlans = Option<(usize, EventPlan)>;

/// What the writer can be asked to do.
#[derive(Debug)]
pub(in crate::engine) enum Command {
    Submit {
        submissions: Vec<Routed>,
        key: Option<IdempotencyKey>,
        reply: Reply<Submissions>,
    },
    Cancel {
        task: TaskId,
        reason: Option<String>,
        reply: Reply<Answer>,
    },
    Accept {
        events: Vec<PreparedEvent>,
        plan: EventPlans,
        reply: Reply<EventAnswers>,
    },
    Requeue {
        dead_letter: u64,
        event: Box<PreparedEvent>,
        plan: Option<EventPlan>,
        reply: Reply<EventOutcome>,
    },
    Lease {
        request: LeaseRequest,
        reply: Reply<Vec<Grant>>,
    },
    Renew {
        lease: LeaseId,
        duration: Duration,
        reply: Reply<Timestamp>,
    },
    /// Gives a lease back; `delivered` tells whether its worker ever had it.
    Release {
        lease: LeaseId,
        delivered: bool,
        reply: Reply<()>,
    },
    TakeRouting {
        max: usize,
        reply: Reply<Vec<TakenRouting>>,
    },
    Route {
        task: TaskId,
        step: RoutingStep,
        finding: Box<Finding>,
        reply: Reply<Outcome>,
    },
    ReturnRouting {
        task: TaskId,
        until: Moment,
        reply: Reply<()>,
    },
    CreateProject {
        project: NewProject,
        reply: Reply<Project>,
    },
    UpdateProject {
        project: ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
        reply: Reply<Project>,
    },
    DeleteProject {
        project: ProjectId,
        if_version: Option<u64>,
        reply: Reply<()>,
    },
    /// Keeps messages that can't be taken.
    PutDeadLetters {
        letters: Vec<DeadLetter>,
        reply: Reply<()>,
    },
    /// Discards dead letters. The answer is how many of them there were.
    DiscardDeadLetters {
        numbers: Vec<u64>,
        reply: Reply<u64>,
    },
    /// Records a count of the work queue of a tier. The answer names the tasks that have left
    /// it although no worker can have taken them.
    ReportQueue {
        report: QueueReport,
        reply: Reply<Vec<TaskId>>,
    },
    /// Pauses a project, or resumes it.
    PauseProject {
        project: ProjectId,
        pause: bool,
        reply: Reply<Project>,
    },
    /// Pauses a tier, or resumes it.
    PauseTier {
        tier: Tier,
        pause: bool,
        reply: Reply<WorkQueue>,
    },
    /// Carries out a plan; if `is_last`, even one that no longer holds.
    Cascade {
        request: Box<CascadeRequest>,
        plan: Box<CascadePlan>,
        is_last: bool,
        reply: Reply<Attempt<Cascade>>,
    },
    Import {
        items: Arc<Vec<Import>>,
        reply: Reply<Vec<ImportResult>>,
    },
    CreateCheckpoint {
        project: ProjectId,
        new: NewCheckpoint,
        reply: Reply<Checkpoint>,
    },
    /// Carries out a plan; if `is_last`, even one that no longer holds.
    Rollback {
        request: Box<RollbackRequest>,
        plan: Box<RollbackPlan>,
        is_last: bool,
        reply: Reply<Attempt<Rollback>>,
    },
    /// Carries out a plan; if `is_last`, even one that no longer holds.
    Undo {
        request: Box<UndoRequest>,
        plan: Box<UndoPlan>,
        is_last: bool,
        reply: Reply<Attempt<CascadeUndo>>,
    },
    /// Finishes what is queued, and stops.
    Stop,
}

/// What a command weighs in the writer's queue and in a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Tasks, events or items.
    pub(super) tasks: u64,
    /// Bytes of their texts, which are most of what they hold in memory.
    pub(super) bytes: u64,
}

impl Weight {
    pub(super) fn add(&mut self, other: Self) {
        self.tasks = self.tasks.saturating_add(other.tasks);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn of(count: usize, bytes: usize) -> Self {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Self { tasks: number(count), bytes: number(bytes) }
    }
}

impl Command {
    /// Whether the command changes what is stored.
    pub(in crate::engine) const fn is_write(&self) -> bool {
        !matches!(self, Self::Stop)
    }

    /// The weight of a submission or an import, which waits behind the small commands.
    pub(super) fn bulk(&self) -> Option<Weight> {
        match self {
            Self::Submit { .. } | Self::Import { .. } => Some(self.weight()),
            _ => None,
        }
    }

    /// The weight of the command.
    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::Submit { submissions, .. } => {
                Weight::of(submissions.len(), submissions.iter().map(Routed::text_bytes).sum())
            }
            Self::Import { items, .. } => Weight::of(items.len(), 0),
            Self::Accept { events, .. } => {
                Weight::of(events.len(), events.iter().map(|event| event.event().raw.len()).sum())
            }
            _ => Weight::of(1, 0),
        }
    }

    /// Refuses the command, which has changed nothing.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Submit { reply, .. } => drop(reply.send(Err(error))),
            Self::Cancel { reply, .. } => drop(reply.send(Err(error))),
            Self::Accept { reply, .. } => drop(reply.send(Err(error))),
            Self::Requeue { reply, .. } => drop(reply.send(Err(error))),
            Self::Lease { reply, .. } => drop(reply.send(Err(error))),
            Self::Renew { reply, .. } => drop(reply.send(Err(error))),
            Self::Release { reply, .. } | Self::ReturnRouting { reply, .. } | Self::PutDeadLetters { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::TakeRouting { reply, .. } => drop(reply.send(Err(error))),
            Self::Route { reply, .. } => drop(reply.send(Err(error))),
            Self::CreateProject { reply, .. }
            | Self::UpdateProject { reply, .. }
            | Self::PauseProject { reply, .. } => drop(reply.send(Err(error))),
            Self::DeleteProject { reply, .. } => drop(reply.send(Err(error))),
            Self::ReportQueue { reply, .. } => drop(reply.send(Err(error))),
            Self::PauseTier { reply, .. } => drop(reply.send(Err(error))),
            Self::Cascade { reply, .. } => drop(reply.send(Err(error))),
            Self::Import { reply, .. } => drop(reply.send(Err(error))),
            Self::CreateCheckpoint { reply, .. } => drop(reply.send(Err(error))),
            Self::Rollback { reply, .. } => drop(reply.send(Err(error))),
            Self::Undo { reply, .. } => drop(reply.send(Err(error))),
            Self::DiscardDeadLetters { reply, .. } => drop(reply.send(Err(error))),
            Self::Stop => {}
        }
    }
}
