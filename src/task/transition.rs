//! The transition function: `(task, input, now) -> step` or a typed refusal.
//! The only place where a task's state changes. It reads no clock and does
//! no I/O; every input has a defined answer in every phase, and a refusal
//! leaves no trace.

use super::attempt::{Attempt, ClosedAttempt, Product};
use super::change::{Change, Effect, Outcome, Stale};
use super::event::OutputArtifact;
use super::event::Report;
use super::id::{ArtifactId, EventHash, LeaseId, RecordId, TaskId, WorkerId};
use super::lease;
use super::moment::{Moment, Now};
use super::output;
use super::parking;
use super::policy::Policy;
use super::report;
use super::routing::{self, Finding, RoutingStep};
use super::split::{self, End};
use super::state::{Completion, ErrorCode, Pending, Queued, State, Task, TaskError};
use super::status::{Phase, Status};
use super::time::Timestamp;

/// Everything that can happen to a task after its submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It gets a slot of its project and is handed to the broker.
    Dispatch,
    /// A task it depends on has ended.
    DependencyEnded {
        /// That task.
        task: TaskId,
        /// How.
        end: End,
    },
    /// A subtask of it has ended.
    ChildEnded {
        /// That task.
        task: TaskId,
        /// How.
        end: End,
    },
    /// A worker has taken one of its subtasks.
    ChildStarted,
    /// The worker for which a subtask was leased never got it.
    ChildTakenBack {
        /// When a worker first took another one of its subtasks, if one did.
        first: Option<Now>,
    },
    /// Routing has found something out.
    Route {
        /// What was asked.
        step: RoutingStep,
        /// What came of it.
        finding: Finding,
        /// Ids for subtasks, should it be split: as many as there are.
        ids: Vec<TaskId>,
    },
    /// Time has passed; a timer may be due.
    Tick,
    /// A worker gets it, and with it a slot of its project.
    Lease {
        /// The hold's new id.
        id: LeaseId,
        /// The worker.
        worker: WorkerId,
        /// Until when, unless renewed.
        until: Moment,
    },
    /// A worker has taken it from the broker, as is inferred.
    Take,
    /// The service was started on the configured bus, which may be another one
    /// than that of the run before.
    ChangeBus,
    /// The holder wants to keep it.
    Renew {
        /// The hold.
        id: LeaseId,
        /// Until when.
        until: Moment,
    },
    /// The holder gives it back.
    Release {
        /// The hold.
        id: LeaseId,
        /// Whether the worker ever had it.
        delivered: bool,
    },
    /// A worker or QA reports.
    Report {
        /// What is reported.
        report: Report,
        /// The id for a record, should one be made.
        record: RecordId,
        /// The event as it came, for a dead letter, should it become one.
        raw: String,
        /// What it is known by, if it has an id.
        event: Option<EventHash>,
    },
    /// Somebody ends it.
    Cancel {
        /// Why, where it was said.
        reason: Option<String>,
    },
    /// Its attempt is lost: the state is that of a copy, and what has become
    /// of the attempt since is not known.
    BeginAgain,
}

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

/// Applies `input` to `task` at the time `now`.
pub fn apply(task: &Task, input: Input, now: Now, policy: &Policy) -> Result<Step, Refusal> {
    let draft = Draft::new(task, now, policy);
    match input {
        Input::Dispatch => lease::dispatch(draft),
        Input::DependencyEnded { task, end } => Ok(dependency_ended(draft, task, end)),
        Input::ChildEnded { task, end } => Ok(split::child_ended(draft, task, end)),
        Input::ChildStarted => Ok(split::child_started(draft)),
        Input::ChildTakenBack { first } => Ok(split::child_taken_back(draft, first)),
        Input::Route { step, finding, ids } => Ok(routing::route(draft, step, finding, &ids)),
        Input::Tick => Ok(tick(draft)),
        Input::Lease { id, worker, until } => lease::lease(draft, id, worker, until),
        Input::Take => lease::take(draft),
        Input::ChangeBus => Ok(lease::change_bus(draft)),
        Input::Renew { id, until } => lease::renew(draft, id, until),
        Input::Release { id, delivered } => lease::release(draft, id, delivered),
        Input::Report { report, record, raw, event } => report::apply(draft, report, record, (&raw, event)),
        Input::Cancel { reason } => cancel(draft, reason),
        Input::BeginAgain => Ok(begin_again(draft)),
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
    fn proceed(&mut self) {
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

    /// Tells the workers of the next attempt.
    pub(super) fn announce(&mut self) {
        let ready = ready(&self.task);
        self.log(ready);
    }

    /// Closes `attempt`, and goes on to the next one or to the end.
    pub(super) fn close(&mut self, attempt: &Attempt, product: Option<&Product>, error: TaskError, retry: Retry) {
        self.remember(attempt, product, error.clone());
        if retry == Retry::Never || attempt.number >= self.task.max_attempts {
            self.fail(error);
            return;
        }
        if retry == Retry::Escalate {
            self.task.tier = self.policy.escalated(&self.task.tier);
        }
        let until = self.policy.next_attempt_at(self.task.id, attempt.number, self.now.observed);
        self.task.state = State::Pending(Pending::Backoff { until });
        self.log(Change::Backoff { until: self.now.calendar(until), error });
        // A parked review that names no artifact was about this attempt, not
        // about the next one.
        report::apply_parked(self);
    }

    fn remember(&mut self, attempt: &Attempt, product: Option<&Product>, error: TaskError) {
        let (mut artifacts, mut reviews) = (Vec::new(), Vec::new());
        report::remember_ids(&mut reviews, self.task.review().cloned());
        if let Some(product) = product {
            report::remember_ids(&mut reviews, product.reviews.iter().cloned());
            report::remember_ids(&mut artifacts, output::ids(&product.artifact, &product.artifacts));
            report::remember_ids(&mut artifacts, product.late.iter().cloned());
        }
        let foreign = attempt.foreign.as_deref();
        report::remember_ids(&mut artifacts, foreign.into_iter().flat_map(|foreign| foreign.artifacts.iter().cloned()));
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

    fn end(&mut self, status: Status, error: Option<TaskError>, record: Option<RecordId>) {
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

fn dependency_ended(mut draft: Draft<'_>, ended: TaskId, end: End) -> Step {
    if !draft.task.waits_for().contains(&ended) {
        return draft.done(Outcome::Unchanged);
    }
    let End::Completed { artifacts } = end else {
        let message = format!("task {ended}, on which this one depends, did not complete");
        draft.fail(TaskError { code: ErrorCode::DependencyFailed, message, attempt: None });
        return draft.applied();
    };
    add_inputs(&mut draft.task.inputs, artifacts.into_iter().map(|artifact| artifact.id));
    draft.log(Change::DependencyCompleted { task: ended });
    let now_free = match &mut draft.task.state {
        State::Pending(Pending::Scheduled { waits_for, .. }) => {
            waits_for.retain(|task| *task != ended);
            false
        }
        State::Pending(Pending::Blocked { waits_for }) => {
            waits_for.retain(|task| *task != ended);
            waits_for.is_empty()
        }
        State::Pending(
            Pending::Analyzing { .. } | Pending::Queued(_) | Pending::Backoff { .. } | Pending::Dispatched { .. },
        )
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => false,
    };
    if now_free {
        draft.proceed();
    }
    draft.applied()
}

fn tick(mut draft: Draft<'_>) -> Step {
    let expired = parking::expire(&mut draft);
    let moved = match draft.task.state.clone() {
        State::Pending(Pending::Scheduled { until, waits_for }) if until <= draft.now.wall => {
            if waits_for.is_empty() {
                draft.proceed();
            } else {
                draft.task.state = State::Pending(Pending::Blocked { waits_for });
                draft.log(Change::Blocked);
            }
            true
        }
        State::Pending(Pending::Backoff { until }) if until <= draft.now.observed => {
            draft.queue();
            true
        }
        State::Pending(Pending::Queued(Queued { not_before: Some(until), since, announced, attempt }))
            if until <= draft.now.observed =>
        {
            let queued = Queued { since, announced, not_before: None, attempt };
            draft.task.state = State::Pending(Pending::Queued(queued));
            true
        }
        State::Running { attempt, progress } => lease::tick(&mut draft, attempt, progress),
        State::Pending(
            Pending::Scheduled { .. }
            | Pending::Backoff { .. }
            | Pending::Blocked { .. }
            | Pending::Analyzing { .. }
            | Pending::Queued(_)
            | Pending::Dispatched { .. },
        )
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => false,
    };
    match (moved, expired) {
        (true, _) => draft.applied(),
        (false, true) => draft.done(Outcome::Applied),
        (false, false) => draft.done(Outcome::Unchanged),
    }
}

/// Closes the attempt under way, which costs the task none of those it has
/// left, and waits for a slot: the next one has a number of its own, so that
/// what still comes of this one is stale.
fn begin_again(mut draft: Draft<'_>) -> Step {
    let Some(attempt) = draft.task.open_attempt().cloned() else { return draft.done(Outcome::Unchanged) };
    let product = draft.task.product().cloned();
    let message = "the service was restored from its copy while the attempt ran".to_owned();
    let error = TaskError { code: ErrorCode::Restored, message, attempt: Some(attempt.number) };
    draft.remember(&attempt, product.as_ref(), error);
    draft.queue();
    draft.applied()
}

fn cancel(mut draft: Draft<'_>, reason: Option<String>) -> Result<Step, Refusal> {
    match draft.task.state.clone() {
        State::Cancelled { .. } => return Ok(draft.done(Outcome::Unchanged)),
        State::Completed { .. } | State::Failed { .. } => return Err(Refusal::AlreadyEnded(draft.task.status())),
        State::Pending(_) | State::Running { .. } => {}
        State::Children(children) => {
            let why = reason.as_deref().unwrap_or("its parent was cancelled");
            split::cancel_all(&mut draft, &children.open, why);
        }
    }
    if let Some(attempt) = draft.task.open_attempt().cloned() {
        let message = reason.clone().unwrap_or_else(|| "the task was cancelled".to_owned());
        let error = TaskError { code: ErrorCode::Cancelled, message, attempt: Some(attempt.number) };
        let product = draft.task.product().cloned();
        draft.remember(&attempt, product.as_ref(), error);
    }
    draft.task.state = State::Cancelled { at: draft.now.wall, reason: reason.clone() };
    draft.log(Change::Cancelled { reason });
    draft.end(Status::Cancelled, None, None);
    Ok(draft.applied())
}

/// Artifacts that a task may consume, each once.
pub(super) fn add_inputs(inputs: &mut Vec<ArtifactId>, more: impl IntoIterator<Item = ArtifactId>) {
    for artifact in more {
        if inputs.len() < MAX_INPUTS && !inputs.contains(&artifact) {
            inputs.push(artifact);
        }
    }
}
