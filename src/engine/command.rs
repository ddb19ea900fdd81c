//! Commands to the writer, and how their answers are held back until the
//! commit that makes them true.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::api::{
    Answer, Cascade, CascadeRequest, Error, EventOutcome, IdempotencyKey, Import, ImportResult, LeaseRequest,
    NewCheckpoint, NewProject, Prepared, ProjectPatch, Queue, QueueReport, Refusal, Rollback, RollbackRequest,
    Submissions, UndoRequest, Undone,
};
use super::plan::{Attempt, EventPlan};
use super::rollback_plan::RollbackPlan;
use super::routing::TakenRouting;
use super::taint::CascadePlan;
use super::turns::Grant;
use super::undo_plan::UndoPlan;
use crate::store::{Checkpoint, Committed, DeadLetter, Project};
use crate::task::{
    Domain, Finding, LeaseId, Moment, Outcome, ProjectId, Router, RoutingStep, Submission, TaskId, Tier, Timestamp,
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A submission and what the router gives it. Routing reads the whole
/// description, so it is done before the writer sees it.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) submission: Submission,
    pub(super) domain: Domain,
    pub(super) tier: Tier,
}

impl Routed {
    /// What the request names wins over the router.
    pub(super) fn by(router: &Router, submission: Submission) -> Self {
        let options = &submission.options;
        let (domain, tier) = match (options.domain.clone(), options.tier.clone()) {
            (Some(domain), Some(tier)) => (domain, tier),
            (domain, tier) => {
                let found = router.route(&submission.description);
                (domain.unwrap_or(found.0), tier.unwrap_or(found.1))
            }
        };
        Self { submission, domain, tier }
    }
}

impl Routed {
    /// Bytes of the texts that the client sent.
    pub(super) fn text_bytes(&self) -> usize {
        let Submission { description, metadata, constitution_override, .. } = &self.submission;
        let optional = [metadata, constitution_override].into_iter().flatten();
        optional.fold(description.len(), |bytes, text| bytes.saturating_add(text.len()))
    }
}

/// One answer for each event, in order.
pub(super) type EventAnswers = Vec<Result<EventOutcome, Refusal>>;

/// What the writer can be asked.
#[derive(Debug)]
pub(super) enum Command {
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
        events: Vec<Prepared>,
        /// That of one of them, by its place.
        plan: Option<(usize, EventPlan)>,
        reply: Reply<EventAnswers>,
    },
    Requeue {
        dead_letter: u64,
        event: Box<Prepared>,
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
    /// Gives a lease back; `delivered` says whether its worker ever had it.
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
    Bury {
        letters: Vec<DeadLetter>,
        reply: Reply<()>,
    },
    /// Discards dead letters; how many of them were there.
    Discard {
        numbers: Vec<u64>,
        reply: Reply<u64>,
    },
    /// Tells how the work queue of a tier is.
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
        reply: Reply<Queue>,
    },
    /// Carries out a plan; `is_last`: in any case.
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
    /// Carries out a plan; `is_last`: in any case.
    Rollback {
        request: Box<RollbackRequest>,
        plan: Box<RollbackPlan>,
        is_last: bool,
        reply: Reply<Attempt<Rollback>>,
    },
    /// Carries out a plan; `is_last`: in any case.
    Undo {
        request: Box<UndoRequest>,
        plan: Box<UndoPlan>,
        is_last: bool,
        reply: Reply<Attempt<Undone>>,
    },
    /// Finish what is queued and stop.
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
    /// Whether it changes what is stored.
    pub(super) const fn is_write(&self) -> bool {
        !matches!(self, Self::Stop)
    }

    /// What it weighs, where it goes behind the commands that are small: a
    /// submission or an import.
    pub(super) fn bulk(&self) -> Option<Weight> {
        match self {
            Self::Submit { .. } | Self::Import { .. } => Some(self.weight()),
            _ => None,
        }
    }

    /// What it weighs.
    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::Submit { submissions, .. } => {
                Weight::of(submissions.len(), submissions.iter().map(Routed::text_bytes).sum())
            }
            Self::Import { items, .. } => Weight::of(items.len(), 0),
            Self::Accept { events, .. } => {
                Weight::of(events.len(), events.iter().map(|event| event.event.raw.len()).sum())
            }
            _ => Weight::of(1, 0),
        }
    }
}

/// An answer that waits for its commit.
pub(super) trait Held: Send {
    /// Sends the answer, now that what it tells of is on disk. Leases that
    /// nobody took are given back.
    fn release(self: Box<Self>, committed: &Committed) -> Vec<LeaseId>;

    /// The commit failed: nobody knows whether what the answer tells of is
    /// on disk.
    fn unknown(self: Box<Self>);
}

/// An answer and where it goes.
struct HeldReply<T> {
    reply: Reply<T>,
    answer: Result<T, Error>,
}

impl<T: Send> Held for HeldReply<T> {
    fn release(self: Box<Self>, _committed: &Committed) -> Vec<LeaseId> {
        // Who no longer waits for an answer can ask for the state.
        let _ = self.reply.send(self.answer);
        Vec::new()
    }

    fn unknown(self: Box<Self>) {
        let _ = self.reply.send(Err(Error::Unknown));
    }
}

/// Leases and the worker that asked for them.
struct HeldGrants {
    reply: Reply<Vec<Grant>>,
    grants: Vec<Grant>,
}

impl Held for HeldGrants {
    fn release(self: Box<Self>, _committed: &Committed) -> Vec<LeaseId> {
        match self.reply.send(Ok(self.grants)) {
            Ok(()) => Vec::new(),
            Err(unsent) => unsent.into_iter().flatten().map(|grant| grant.lease.id).collect(),
        }
    }

    fn unknown(self: Box<Self>) {
        let _ = self.reply.send(Err(Error::Unknown));
    }
}

/// Holds an answer back.
pub(super) fn hold<T: Send + 'static>(reply: Reply<T>, answer: Result<T, impl Into<Error>>) -> Box<dyn Held> {
    Box::new(HeldReply { reply, answer: answer.map_err(Into::into) })
}

/// Holds leases back.
pub(super) fn hold_grants(reply: Reply<Vec<Grant>>, grants: Vec<Grant>) -> Box<dyn Held> {
    Box::new(HeldGrants { reply, grants })
}
