//! An attempt under way: leases of workers on it, and its timers.

use super::change::{Change, Outcome};
use super::id::{LeaseId, WorkerId};
use super::report;
use super::state::{Attempt, ErrorCode, Lease, Progress, State, TaskError};
use super::time::Timestamp;
use super::transition::{Draft, Refusal, Retry, Step};

/// Whether a timer of the running attempt was due.
pub(super) fn tick(draft: &mut Draft<'_>, attempt: Attempt, progress: Progress) -> bool {
    let now = draft.now;
    let number = attempt.number;
    let error = |code, message: &str| TaskError { code, message: message.to_owned(), attempt: Some(number) };
    match progress {
        // Whichever came first: after a long stop both can be in the past.
        Progress::Leased { lease, deadline } if lease.until < deadline && lease.until <= now => {
            give_back(draft, attempt, &lease, lease.until);
            draft.log(Change::LeaseExpired);
        }
        Progress::Dispatched
            if attempt.deadline(draft.task.timeout_seconds).is_some_and(|deadline| deadline <= now) =>
        {
            overdue(draft, &attempt);
        }
        Progress::Leased { deadline, .. } if deadline <= now => {
            overdue(draft, &attempt);
        }
        Progress::Validating { product, deadline: Some(deadline) } if deadline <= now => {
            let error = error(ErrorCode::ValidationTimeout, "validation took longer than configured");
            report::reject(draft, &attempt, &product, error, None, Retry::Same);
        }
        Progress::Reviewing { product, deadline: Some(deadline), .. } if deadline <= now => {
            let error = error(ErrorCode::ReviewTimeout, "the review took longer than configured");
            report::reject(draft, &attempt, &product, error, None, Retry::Same);
        }
        Progress::Dispatched | Progress::Leased { .. } | Progress::Validating { .. } | Progress::Reviewing { .. } => {
            return false;
        }
    }
    true
}

/// The attempt has executed for longer than it may.
fn overdue(draft: &mut Draft<'_>, attempt: &Attempt) {
    let message = format!("execution took longer than {} s", draft.task.timeout_seconds);
    let error = TaskError { code: ErrorCode::DeadlineExceeded, message, attempt: Some(attempt.number) };
    draft.close(attempt, None, error, Retry::Same);
}

/// Back to `dispatched`, same attempt; what it executed until `end` is kept,
/// so that the deadline counts execution and not waiting.
fn give_back(draft: &mut Draft<'_>, attempt: Attempt, lease: &Lease, end: Timestamp) {
    let executed = attempt.executed.saturating_add(end.since(lease.since));
    draft.task.state = State::Running { attempt: Attempt { executed, ..attempt }, progress: Progress::Dispatched };
}

pub(super) fn lease(mut draft: Draft<'_>, id: LeaseId, worker: WorkerId, until: Timestamp) -> Result<Step, Refusal> {
    let State::Running { attempt, progress: progress @ Progress::Dispatched } = &mut draft.task.state else {
        return Err(Refusal::NotDispatched(draft.task.phase()));
    };
    let timeout = std::time::Duration::from_secs(u64::from(draft.task.timeout_seconds));
    // Who took it from a broker before is not counted on any more.
    let taken_for = attempt.taken_at.take().map_or(std::time::Duration::ZERO, |taken| draft.now.since(taken));
    attempt.executed = attempt.executed.saturating_add(taken_for);
    let deadline = draft.now.after(timeout.saturating_sub(attempt.executed));
    let lease = Lease { id, worker: worker.clone(), since: draft.now, until };
    *progress = Progress::Leased { lease, deadline };
    draft.log(Change::Leased { lease: id, worker, until });
    Ok(draft.applied())
}

/// A worker has taken the attempt from a broker: its execution counts from now on.
pub(super) fn take(mut draft: Draft<'_>) -> Result<Step, Refusal> {
    let State::Running { attempt, progress: Progress::Dispatched } = &mut draft.task.state else {
        return Err(Refusal::NotDispatched(draft.task.phase()));
    };
    if attempt.taken_at.is_some() {
        return Ok(draft.done(Outcome::Unchanged));
    }
    attempt.taken_at = Some(draft.now);
    draft.log(Change::Taken);
    Ok(draft.applied())
}

pub(super) fn renew(mut draft: Draft<'_>, id: LeaseId, until: Timestamp) -> Result<Step, Refusal> {
    match &mut draft.task.state {
        State::Running { progress: Progress::Leased { lease, .. }, .. } if lease.id == id => lease.until = until,
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => return Err(Refusal::LeaseLost),
    }
    Ok(draft.done(Outcome::Applied))
}

pub(super) fn release(mut draft: Draft<'_>, id: LeaseId) -> Result<Step, Refusal> {
    match draft.task.state.clone() {
        State::Running { attempt, progress: Progress::Leased { lease, deadline } } if lease.id == id => {
            let now = draft.now;
            draft.log(Change::Released);
            // A timer that is late must not leave the next worker an attempt
            // without any time.
            if deadline <= now {
                overdue(&mut draft, &attempt);
            } else {
                give_back(&mut draft, attempt, &lease, now);
            }
        }
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => return Err(Refusal::LeaseLost),
    }
    Ok(draft.applied())
}
