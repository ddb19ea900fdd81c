//! The holder of an attempt: which worker has it, and what reports other than outputs do.

use super::attempt::{Attempt, Progress};
use super::change::{Outcome, Stale};
use super::draft::{Draft, Refusal, Retry, Step};
use super::error::{ErrorCode, TaskError};
use super::event::{Failure, Holder, Started};
use super::state::{Pending, State, Task};
use super::verdict::{self, close};
use crate::planted::{self, Fault};

/// The attempt that a report is about, relative to the newest one that workers know.
pub(super) enum ReportedAttempt {
    Newest,
    Earlier(u32),
}

/// Determines the attempt that a report is about. A report that names none is about the open
/// attempt, else the last closed one, else the next one.
pub(super) fn reported_attempt(task: &Task, given: Option<u32>) -> Result<ReportedAttempt, Refusal> {
    let newest = task.newest_attempt();
    let is_queued = matches!(task.state, State::Pending(Pending::Queued(_)));
    // Until the next attempt is announced, the newest one that workers know is closed.
    let closed = if is_queued && task.open_attempt().is_none() { task.attempts() } else { 0 };
    match given {
        Some(given) if given > newest || given == 0 => Err(Refusal::UnknownAttempt { given, newest }),
        Some(given) if given < newest || given == closed => Ok(ReportedAttempt::Earlier(given)),
        None if newest == 0 && !is_queued => Err(Refusal::UnknownAttempt { given: 1, newest }),
        None if closed > 0 => Ok(ReportedAttempt::Earlier(closed)),
        Some(_) | None => Ok(ReportedAttempt::Newest),
    }
}

/// How the sender of a report relates to the holder of the attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    Same,
    Other,
    /// One of the two has not identified itself.
    Unknown,
}

fn relation(sender: &Holder, holder: &Holder) -> Relation {
    let known = |same: bool| if same { Relation::Same } else { Relation::Other };
    match (&sender.lease, &holder.lease, &sender.worker, &holder.worker) {
        (Some(sender), Some(holder), _, _) => known(sender == holder),
        (_, _, Some(sender), Some(holder)) => known(sender == holder),
        (_, _, _, _) => Relation::Unknown,
    }
}

/// Whether the sender is known to be another worker than the holder.
pub(super) fn is_other(sender: &Holder, holder: &Holder) -> bool {
    relation(sender, holder) == Relation::Other
}

/// Whether a report counts as one of the holder. A report that does not identify its sender does,
/// until the attempt has had two holders.
fn counts_as_holder(sender: &Holder, holder: &Holder, attempt: &Attempt) -> bool {
    match relation(sender, holder) {
        Relation::Same => true,
        Relation::Other => planted::is(Fault::ZombieCounts),
        Relation::Unknown => *sender != Holder::default() || attempt.holders < 2,
    }
}

/// The worker that executes the running attempt or has sent its output.
fn holder_of(progress: &Progress) -> Holder {
    match progress {
        Progress::Started { worker, .. } => Holder { lease: None, worker: worker.clone() },
        Progress::Leased { lease, .. } => Holder { lease: Some(lease.id), worker: Some(lease.worker.clone()) },
        Progress::Validating { product, .. } | Progress::Reviewing { product, .. } => product.sender.clone(),
    }
}

/// Applies `task.started`. Behind a broker the sender holds the attempt from now on, and its
/// execution time starts; a lease has determined both already.
pub(super) fn apply_started(draft: Draft<'_>, started: &Started) -> Result<Step, Refusal> {
    if draft.task.status().is_terminal() {
        return Ok(draft.stale(Stale::Ended));
    }
    match reported_attempt(&draft.task, started.attempt)? {
        ReportedAttempt::Newest => {}
        ReportedAttempt::Earlier(_) => return Ok(draft.stale(Stale::ClosedAttempt)),
    }
    match draft.task.state.clone() {
        State::Pending(Pending::Dispatched { attempt, .. }) => Ok(take_over(draft, attempt, started)),
        State::Running { progress: Progress::Started { worker, since, inferred: false }, .. }
            if worker == started.sender.worker && since == draft.now.observed =>
        {
            Ok(draft.done(Outcome::Unchanged))
        }
        State::Running { mut attempt, progress: Progress::Started { worker, inferred, .. } } => {
            // The first report of a worker is about itself, not about another worker.
            if inferred || worker == started.sender.worker {
                attempt.holders = attempt.holders.saturating_sub(1);
            }
            Ok(take_over(draft, attempt, started))
        }
        State::Running { attempt, progress } => {
            if counts_as_holder(&started.sender, &holder_of(&progress), &attempt) {
                Ok(draft.done(Outcome::Unchanged))
            } else {
                Ok(draft.stale(Stale::NotHolder))
            }
        }
        State::Pending(_) | State::Children(_) => Ok(draft.stale(Stale::NothingRunning)),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => Ok(draft.stale(Stale::Ended)),
    }
}

fn take_over(mut draft: Draft<'_>, mut attempt: Attempt, started: &Started) -> Step {
    attempt.holders = attempt.holders.saturating_add(1);
    draft.begin(&mut attempt);
    let worker = started.sender.worker.clone();
    let progress = Progress::Started { worker, since: draft.now.observed, inferred: false };
    draft.task.state = State::Running { attempt, progress };
    draft.applied()
}

/// Applies `task.failed`: a worker failed, or a QA service found the output unusable.
pub(super) fn apply_failed(mut draft: Draft<'_>, failure: &Failure) -> Result<Step, Refusal> {
    // Before the first attempt nothing can have failed.
    let announced = draft.task.newest_attempt() > 0 || failure.attempt.is_some();
    if announced && !draft.task.status().is_terminal() {
        match reported_attempt(&draft.task, failure.attempt)? {
            ReportedAttempt::Newest => {}
            ReportedAttempt::Earlier(_) => return Ok(draft.stale(Stale::ClosedAttempt)),
        }
    }
    match draft.task.state.clone() {
        State::Pending(Pending::Dispatched { attempt, .. }) => Ok(fail(draft, &attempt, failure)),
        State::Running { attempt, progress } => {
            let is_validated = matches!(progress, Progress::Validating { .. } | Progress::Reviewing { .. });
            let from_qa = failure.from_qa && is_validated;
            if !from_qa && !counts_as_holder(&failure.sender, &holder_of(&progress), &attempt) {
                return Ok(draft.stale(Stale::NotHolder));
            }
            match progress {
                Progress::Started { .. } | Progress::Leased { .. } => Ok(fail(draft, &attempt, failure)),
                Progress::Validating { product, .. } | Progress::Reviewing { product, .. } => {
                    let retry = if failure.retryable { Retry::Escalate } else { Retry::Never };
                    let error = error_of(&attempt, failure);
                    verdict::reject(&mut draft, &attempt, &product, error, None, retry);
                    Ok(draft.applied())
                }
            }
        }
        State::Pending(_) | State::Children(_) => Ok(draft.stale(Stale::NothingRunning)),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => Ok(draft.stale(Stale::Ended)),
    }
}

fn fail(mut draft: Draft<'_>, attempt: &Attempt, failure: &Failure) -> Step {
    let retry = if failure.retryable { Retry::Same } else { Retry::Never };
    close(&mut draft, attempt, None, error_of(attempt, failure), retry);
    draft.applied()
}

fn error_of(attempt: &Attempt, failure: &Failure) -> TaskError {
    TaskError { code: ErrorCode::WorkerFailed, message: failure.error.clone(), attempt: Some(attempt.number) }
}
