//! The transition function: `(task, input, now) -> step` or a typed refusal.
//! The only place where a task's state changes. It reads no clock and does
//! no I/O; every input has a defined answer in every phase, and a refusal
//! leaves no trace.

use super::change::{Change, Outcome};
use super::children::End;
use super::draft::{Draft, Refusal, Step, add_inputs};
use super::error::{ErrorCode, TaskError};
use super::event::Report;
use super::finding;
use super::holder;
use super::id::{EventHash, LeaseId, RecordId, TaskId, WorkerId};
use super::lease;
use super::moment::{Moment, Now};
use super::output;
use super::parking;
use super::policy::Policy;
use super::routing::{Finding, RoutingStep};
use super::split;
use super::state::{Pending, Queued, State, Task};
use super::status::Status;
use super::verdict;

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

/// Applies `input` to `task` at the time `now`.
pub fn apply(task: &Task, input: Input, now: Now, policy: &Policy) -> Result<Step, Refusal> {
    let draft = Draft::new(task, now, policy);
    match input {
        Input::Dispatch => lease::dispatch(draft),
        Input::DependencyEnded { task, end } => Ok(dependency_ended(draft, task, end)),
        Input::ChildEnded { task, end } => Ok(split::child_ended(draft, task, end)),
        Input::ChildStarted => Ok(split::child_started(draft)),
        Input::ChildTakenBack { first } => Ok(split::child_taken_back(draft, first)),
        Input::Route { step, finding, ids } => Ok(finding::apply(draft, step, finding, &ids)),
        Input::Tick => Ok(tick(draft)),
        Input::Lease { id, worker, until } => lease::lease(draft, id, worker, until),
        Input::Take => lease::take(draft),
        Input::ChangeBus => Ok(lease::change_bus(draft)),
        Input::Renew { id, until } => lease::renew(draft, id, until),
        Input::Release { id, delivered } => lease::release(draft, id, delivered),
        Input::Report { report, record, raw, event } => match report {
            Report::Output(output) => output::apply(draft, output, record),
            Report::Failed(failure) => holder::failed(draft, &failure),
            Report::Started(started) => holder::started(draft, &started),
            Report::Verdict(_) | Report::ReviewRequested(_) | Report::ReviewCompleted(_) => {
                Ok(verdict::apply(draft, report, &raw, event))
            }
        },
        Input::Cancel { reason } => cancel(draft, reason),
        Input::BeginAgain => Ok(begin_again(draft)),
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
