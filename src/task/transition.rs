//! The transition function: `(task, input, now)` gives a step or a typed refusal.
//!
//! This is the only place where the state of a task changes. Every input has a defined result in
//! every phase, and a refusal changes nothing.

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
    /// The task gets a slot of its project and is handed to the broker.
    Dispatch,
    /// A task that this one depends on has ended.
    DependencyEnded {
        /// The dependency.
        task: TaskId,
        /// How the dependency ended.
        end: End,
    },
    /// A subtask of this task has ended.
    ChildEnded {
        /// The subtask.
        task: TaskId,
        /// How the subtask ended.
        end: End,
    },
    /// A worker has started one of the subtasks.
    ChildStarted,
    /// A lease of a subtask never reached its worker.
    ChildTakenBack {
        /// When a worker first started another subtask; `None` if none was started.
        first: Option<Now>,
    },
    /// Routing delivers a finding.
    Route {
        /// The step that was carried out.
        step: RoutingStep,
        /// The result of the step.
        finding: Finding,
        /// Ids for subtasks in case the task is split: at least as many as there are parts.
        ids: Vec<TaskId>,
    },
    /// Time has passed, so a timer may be due.
    Tick,
    /// A worker leases the task, and the task gets a slot of its project.
    Lease {
        /// Id of the new lease.
        id: LeaseId,
        /// The worker that holds the lease.
        worker: WorkerId,
        /// When the lease expires unless it is renewed.
        until: Moment,
    },
    /// The depth of the broker's queue shows that a worker has taken the task.
    Take,
    /// The service was started on the configured bus, which may differ from the bus of the previous
    /// run.
    ChangeBus,
    /// The holder extends its lease.
    Renew {
        /// Id of the lease that the caller holds.
        id: LeaseId,
        /// The new expiry.
        until: Moment,
    },
    /// The holder returns the task.
    Release {
        /// Id of the lease that the caller holds.
        id: LeaseId,
        /// Whether the lease had reached the worker.
        delivered: bool,
    },
    /// A worker or the QA service reports on the task.
    Report {
        /// The content of the report.
        report: Report,
        /// Id for a provenance record in case the report creates one.
        record: RecordId,
        /// The event as it was received, kept in case it becomes a dead letter.
        raw: String,
        /// Hash by which repeated deliveries are recognised; `None` if the event has no id.
        event: Option<EventHash>,
    },
    /// A client cancels the task, or its parent does.
    Cancel {
        /// The reason the client gave.
        reason: Option<String>,
    },
    /// The task was restored from the replica, so the outcome of its open attempt is unknown.
    BeginAgain,
}

/// Applies `input` to `task` at the time `now`.
///
/// Returns a refusal, and changes nothing, if the input is not valid in the task's phase.
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
            Report::Failed(failure) => holder::apply_failed(draft, &failure),
            Report::Started(started) => holder::apply_started(draft, &started),
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

/// Closes the open attempt without counting it against the attempts that are left, and queues the
/// task. The next attempt has a number of its own, so later reports about this one are stale.
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
