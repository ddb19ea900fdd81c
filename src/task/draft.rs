//! A step in the making: the task as it will be, and the effects collected so far.

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

/// The result of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The task afterwards. It must be stored whatever the outcome is, because a parked report, a
    /// late artifact or a renewed lease is no visible change.
    pub task: Task,
    /// What the input did.
    pub outcome: Outcome,
    /// What the engine has to do besides storing the task, in this order.
    pub effects: Vec<Effect>,
}

/// Why an input was refused. The caller is at fault, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The task has completed or failed, which is final.
    #[error("the task has already {}", ended_word(*.0))]
    AlreadyEnded(Status),
    /// The task does not wait for a worker.
    #[error("the task is {}, not queued", .0.as_str())]
    NotQueued(Phase),
    /// The task was not handed to the broker.
    #[error("the task is {}, not dispatched", .0.as_str())]
    NotDispatched(Phase),
    /// The lease has expired, was released, or ended with its attempt.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// The report names an attempt that was never announced.
    #[error("attempt {given} was never announced, the newest is {newest}")]
    UnknownAttempt {
        /// The attempt that the report names.
        given: u32,
        /// The newest attempt; 0 if there is none.
        newest: u32,
    },
}

/// Largest number of artifacts that a task takes over from its dependencies.
pub const MAX_INPUTS: usize = 1024;

const fn ended_word(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "been cancelled",
        Status::Pending | Status::Running => "not ended",
    }
}

/// The task and the effects of a step while the step is computed.
pub(super) struct Draft<'a> {
    pub(super) task: Task,
    pub(super) now: Now,
    pub(super) policy: &'a Policy,
    pub(super) effects: Vec<Effect>,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Another attempt on the same tier if any attempts are left.
    Same,
    /// Another attempt one tier up if any attempts are left.
    Escalate,
    /// The task fails.
    Never,
}

impl<'a> Draft<'a> {
    pub(super) fn new(task: &Task, now: Now, policy: &'a Policy) -> Self {
        Self { task: task.clone(), now, policy, effects: Vec::new() }
    }

    /// Ends the step with a change of the visible state.
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

    /// Records that a worker has the task, unless a worker had it before.
    pub(super) const fn start(&mut self) {
        if self.task.started_at.is_none() {
            self.task.started_at = Some(self.now.wall);
            self.task.course.started = Some(self.now.observed);
        }
    }

    /// Records that a worker has the attempt. It need not be the first worker that has it.
    pub(super) fn begin(&mut self, attempt: &mut Attempt) {
        attempt.started_at = attempt.started_at.or(Some(self.now.wall));
        self.start();
    }

    /// Clears the start of the task if it is the one recorded at this time, because the worker
    /// never received the task.
    pub(super) fn take_back_start(&mut self, at: Option<Timestamp>, observed: Moment) {
        let Task { started_at, course, .. } = &mut self.task;
        if *started_at == at && course.started.is_none_or(|started| started == observed) {
            (*started_at, course.started) = (None, None);
        }
    }

    /// Ends the step without a change of the visible state.
    pub(super) fn done(self, outcome: Outcome) -> Step {
        Step { task: self.task, outcome, effects: self.effects }
    }

    pub(super) fn stale(self, why: Stale) -> Step {
        self.done(Outcome::Stale(why))
    }

    pub(super) fn log(&mut self, change: Change) {
        self.effects.push(Effect::Log(change));
    }

    /// Continues after the last obstacle: the task is routed, or waits for a slot.
    pub(super) fn proceed(&mut self) {
        if self.task.routing.is_some() {
            self.task.state = State::Pending(Pending::Analyzing { since: self.now.observed });
            self.log(Change::Analyzing);
        } else {
            self.queue();
        }
    }

    /// Lets the task wait for a worker and a slot. Workers that lease learn of it now, workers
    /// behind a broker when it is dispatched.
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

    /// Leaves the task unsplit: only its tier and its context remain to be found.
    pub(super) fn choose_tier(&mut self, routing: Routing) {
        self.task.routing = routing.last_step(self.policy);
        if self.task.routing.is_none() {
            self.finish_routing(RoutedBy::Agent);
        }
    }

    /// Ends the routing of the task, which waits for a slot from now on.
    pub(super) fn finish_routing(&mut self, by: RoutedBy) {
        self.task.routing = None;
        self.log(Change::Routed { domain: self.task.domain.clone(), tier: self.task.tier.clone(), by });
        self.queue();
    }

    /// Announces the next attempt to workers.
    pub(super) fn announce(&mut self) {
        let ready = ready(&self.task);
        self.log(ready);
    }

    /// Keeps what late reports about the attempt are recognised by.
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

    /// Ends the task as failed.
    pub(super) fn fail(&mut self, error: TaskError) {
        self.task.state = State::Failed { at: self.now.wall, error: error.clone() };
        self.end(Status::Failed, Some(error), None);
    }

    /// Completes the task with the output of an attempt.
    pub(super) fn complete(&mut self, attempt: &Attempt, product: Product) {
        let record = product.record;
        let by = Completion::Attempt { number: attempt.number, product };
        self.task.state = State::Completed { at: self.now.wall, by };
        self.end(Status::Completed, None, Some(record));
    }

    /// Completes the task with the artifacts of its subtasks.
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

/// Effects of the creation of a task.
pub(super) fn first_effects(task: &Task) -> Vec<Effect> {
    let mut effects = vec![Effect::Log(Change::Created)];
    if matches!(task.state, State::Pending(Pending::Queued(Queued { announced: true, .. }))) {
        effects.push(Effect::Log(ready(task)));
    }
    effects
}

/// The change that announces the next attempt of `task`.
pub(super) fn ready(task: &Task) -> Change {
    Change::Ready {
        attempt: task.attempts() + 1,
        tier: task.tier.clone(),
        domain: task.domain.clone(),
        previous: task.newest_record(),
    }
}

/// Adds artifacts that the task may consume, each once and at most [`MAX_INPUTS`] in all.
pub(super) fn add_inputs(inputs: &mut Vec<ArtifactId>, more: impl IntoIterator<Item = ArtifactId>) {
    for artifact in more {
        if inputs.len() < MAX_INPUTS && !inputs.contains(&artifact) {
            inputs.push(artifact);
        }
    }
}

/// Largest number of artifacts and of reviews remembered for one attempt, so that late verdicts are
/// recognised. A verdict on a forgotten artifact is parked in vain and becomes a dead letter
/// instead of being stale.
const MAX_REMEMBERED: usize = 256;

pub(super) fn remember_ids<T: PartialEq>(known: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for id in more {
        if known.len() < MAX_REMEMBERED && !known.contains(&id) {
            known.push(id);
        }
    }
}

/// Ids that verdicts on an output may name.
pub(super) fn artifact_ids<'a>(
    artifact: &'a ArtifactId,
    artifacts: &'a [OutputArtifact],
) -> impl Iterator<Item = ArtifactId> + use<'a> {
    std::iter::once(artifact).chain(artifacts.iter().map(|each| &each.id)).cloned()
}
