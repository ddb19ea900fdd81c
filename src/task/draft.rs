//! A step while it is made: the task as it becomes, and the effects that are collected.

use super::attempt::{Attempt, ClosedAttempt, Product};
use super::change::{Change, Effect, Outcome, RoutedBy, Stale};
use super::error::TaskError;
use super::event::OutputArtifact;
use super::id::{ArtifactId, RecordId};
use super::moment::{Moment, Now};
use super::policy::Policy;
use super::routing::Routing;
use super::state::{Completion, Pending, Queued, State, Task};
use super::status::{Phase, Status};
use super::time::Timestamp;

/// What an input did.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The task afterwards: to be kept whatever the outcome, since a parked
    /// report, a late artifact or a renewed lease is no visible change.
    pub task: Task,
    /// What came of the input.
    pub outcome: Outcome,
    /// What else is to be done, in order.
    pub effects: Vec<Effect>,
}

/// Why an input was not taken: the caller's fault. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Completed and failed tasks stay what they are.
    #[error("the task has already {}", ended_word(*.0))]
    AlreadyEnded(Status),
    /// The task is not waiting for a worker.
    #[error("the task is {}, not queued", .0.as_str())]
    NotQueued(Phase),
    /// The task is not with the broker.
    #[error("the task is {}, not dispatched", .0.as_str())]
    NotDispatched(Phase),
    /// The hold has run out, was given back, or ended with its attempt.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// The report names an attempt that was never announced.
    #[error("attempt {given} was never announced, the newest is {newest}")]
    UnknownAttempt {
        /// The attempt it names.
        given: u32,
        /// The newest one; 0 when there is none.
        newest: u32,
    },
}

/// Most artifacts that a task gets from those it depends on.
pub const MAX_INPUTS: usize = 1024;

const fn ended_word(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "been cancelled",
        Status::Pending | Status::Running => "not ended",
    }
}

/// A step being made.
pub(super) struct Draft<'a> {
    pub(super) task: Task,
    pub(super) now: Now,
    pub(super) policy: &'a Policy,
    pub(super) effects: Vec<Effect>,
}

/// What follows an attempt that ended badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Another attempt on the same tier, while there are any left.
    Same,
    /// Another attempt one tier up, while there are any left.
    Escalate,
    /// None.
    Never,
}

impl<'a> Draft<'a> {
    pub(super) fn new(task: &Task, now: Now, policy: &'a Policy) -> Self {
        Self { task: task.clone(), now, policy, effects: Vec::new() }
    }

    /// The visible state has changed.
    pub(super) fn applied(mut self) -> Step {
        self.touch();
        self.done(Outcome::Applied)
    }

    /// Counts a visible change.
    pub(super) const fn touch(&mut self) {
        self.task.version += 1;
        self.task.updated_at = self.now.wall;
        self.task.course.updated = Some(self.now.observed);
    }

    /// A worker has the task from now on, unless one had it before.
    pub(super) const fn start(&mut self) {
        if self.task.started_at.is_none() {
            self.task.started_at = Some(self.now.wall);
            self.task.course.started = Some(self.now.observed);
        }
    }

    /// A worker has the attempt from now on; it may not be the first one.
    pub(super) fn begin(&mut self, attempt: &mut Attempt) {
        attempt.started_at = attempt.started_at.or(Some(self.now.wall));
        self.start();
    }

    /// No worker has had the task, if the one that took it at this time never did.
    pub(super) fn take_back_start(&mut self, at: Option<Timestamp>, observed: Moment) {
        let Task { started_at, course, .. } = &mut self.task;
        if *started_at == at && course.started.is_none_or(|started| started == observed) {
            (*started_at, course.started) = (None, None);
        }
    }

    /// The visible state is as it was.
    pub(super) fn done(self, outcome: Outcome) -> Step {
        Step { task: self.task, outcome, effects: self.effects }
    }

    pub(super) fn stale(self, why: Stale) -> Step {
        self.done(Outcome::Stale(why))
    }

    pub(super) fn log(&mut self, change: Change) {
        self.effects.push(Effect::Log(change));
    }

    /// Nothing holds the task back any more: it is routed, or waits for a slot.
    pub(super) fn proceed(&mut self) {
        if self.task.routing.is_some() {
            self.task.state = State::Pending(Pending::Analyzing { since: self.now.observed });
            self.log(Change::Analyzing);
        } else {
            self.queue();
        }
    }

    /// The task waits for a worker and a slot from now on. Workers that lease
    /// learn of it now, those behind a broker when it is dispatched.
    pub(super) fn queue(&mut self) {
        let announced = self.policy.announces_early();
        let queued = Queued { since: self.now.observed, announced, not_before: None, attempt: None };
        self.task.state = State::Pending(Pending::Queued(queued));
        if announced {
            self.announce();
        } else {
            self.log(Change::Queued);
        }
    }

    /// Only the tier and the context of the task are still open.
    pub(super) fn choose_tier(&mut self, routing: Routing) {
        self.task.routing = routing.last_step(self.policy);
        if self.task.routing.is_none() {
            self.finish_routing(RoutedBy::Agent);
        }
    }

    /// Nothing is left to find out: the task waits for a slot.
    pub(super) fn finish_routing(&mut self, by: RoutedBy) {
        self.task.routing = None;
        self.log(Change::Routed { domain: self.task.domain.clone(), tier: self.task.tier.clone(), by });
        self.queue();
    }

    /// Tells the workers of the next attempt.
    pub(super) fn announce(&mut self) {
        let ready = ready(&self.task);
        self.log(ready);
    }

    pub(super) fn remember(&mut self, attempt: &Attempt, product: Option<&Product>, error: TaskError) {
        let (mut artifacts, mut reviews) = (Vec::new(), Vec::new());
        remember_ids(&mut reviews, self.task.review().cloned());
        if let Some(product) = product {
            remember_ids(&mut reviews, product.reviews.iter().cloned());
            remember_ids(&mut artifacts, artifact_ids(&product.artifact, &product.artifacts));
            remember_ids(&mut artifacts, product.late.iter().cloned());
        }
        let foreign = attempt.foreign.as_deref();
        remember_ids(&mut artifacts, foreign.into_iter().flat_map(|foreign| foreign.artifacts.iter().cloned()));
        let foreign = foreign.and_then(|foreign| Some((foreign.record, foreign.artifacts.first()?.clone())));
        self.task.closed.push(ClosedAttempt {
            number: attempt.number,
            tier: self.task.tier.clone(),
            began_at: attempt.began_at(),
            closed_at: self.now.wall,
            error,
            product: product.map(|product| (product.record, product.artifact.clone())).or(foreign),
            artifacts,
            reviews,
        });
    }

    /// The task ends badly.
    pub(super) fn fail(&mut self, error: TaskError) {
        self.task.state = State::Failed { at: self.now.wall, error: error.clone() };
        self.end(Status::Failed, Some(error), None);
    }

    /// The task ends well.
    pub(super) fn complete(&mut self, attempt: &Attempt, product: Product) {
        let record = product.record;
        let by = Completion::Attempt { number: attempt.number, product };
        self.task.state = State::Completed { at: self.now.wall, by };
        self.end(Status::Completed, None, Some(record));
    }

    /// The task ends well with its subtasks.
    pub(super) fn complete_with(&mut self, artifacts: Vec<OutputArtifact>) {
        self.task.state = State::Completed { at: self.now.wall, by: Completion::Children { artifacts } };
        self.end(Status::Completed, None, None);
    }

    pub(super) fn end(&mut self, status: Status, error: Option<TaskError>, record: Option<RecordId>) {
        self.task.parked.clear();
        self.task.course.ended = Some(self.now.observed);
        self.log(Change::Finished { status, error, record });
    }
}

/// What is told of a task that was just made.
pub(super) fn first_effects(task: &Task) -> Vec<Effect> {
    let mut effects = vec![Effect::Log(Change::Created)];
    if matches!(task.state, State::Pending(Pending::Queued(Queued { announced: true, .. }))) {
        effects.push(Effect::Log(ready(task)));
    }
    effects
}

/// What tells workers of the next attempt of `task`.
pub(super) fn ready(task: &Task) -> Change {
    Change::Ready {
        attempt: task.attempts() + 1,
        tier: task.tier.clone(),
        domain: task.domain.clone(),
        previous: task.newest_record(),
    }
}

/// Artifacts that a task may consume, each once.
pub(super) fn add_inputs(inputs: &mut Vec<ArtifactId>, more: impl IntoIterator<Item = ArtifactId>) {
    for artifact in more {
        if inputs.len() < MAX_INPUTS && !inputs.contains(&artifact) {
            inputs.push(artifact);
        }
    }
}

/// Most artifacts and most reviews of one attempt that are remembered for the
/// sake of late verdicts. A verdict on an artifact beyond them waits in vain
/// and becomes a dead letter instead of being stale.
const MAX_REMEMBERED: usize = 256;

pub(super) fn remember_ids<T: PartialEq>(known: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for id in more {
        if known.len() < MAX_REMEMBERED && !known.contains(&id) {
            known.push(id);
        }
    }
}

/// The ids that verdicts on an output may name.
pub(super) fn artifact_ids<'a>(
    artifact: &'a ArtifactId,
    artifacts: &'a [OutputArtifact],
) -> impl Iterator<Item = ArtifactId> + use<'a> {
    std::iter::once(artifact).chain(artifacts.iter().map(|each| &each.id)).cloned()
}
