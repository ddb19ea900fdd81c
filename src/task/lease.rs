//! Workers and attempts: leases, attempts taken from a broker, and the timers of an attempt.

use std::time::Duration;

use super::attempt::{Attempt, Lease, Progress};
use super::change::{Change, Outcome};
use super::draft::{Draft, Refusal, Retry, Step};
use super::error::{ErrorCode, TaskError};
use super::id::{LeaseId, WorkerId};
use super::moment::Moment;
use super::policy::{Bus, release_pause};
use super::state::{Pending, Queued, State};
use super::verdict::{close, reject};

/// Number of releases after which an attempt fails.
const MOST_RELEASES: u32 = 100;

/// Handles the timers of the running attempt. Returns whether one was due.
pub(super) fn tick(draft: &mut Draft<'_>, attempt: Attempt, progress: Progress) -> bool {
    let now = draft.now.observed;
    let number = attempt.number;
    let error = |code, message: &str| TaskError { code, message: message.to_owned(), attempt: Some(number) };
    match progress {
        // The earlier timer wins: after a long stop both can be in the past.
        Progress::Leased { lease, deadline } if lease.until < deadline && lease.until <= now => {
            draft.log(Change::LeaseExpired);
            handle_lost_lease(draft, attempt, &lease);
        }
        Progress::Started { since, .. } if since.after(draft.task.timeout()) <= now => close_overdue(draft, &attempt),
        Progress::Leased { deadline, .. } if deadline <= now => close_overdue(draft, &attempt),
        Progress::Validating { product, deadline: Some(deadline) } if deadline <= now => {
            let error = error(ErrorCode::ValidationTimeout, "validation took longer than configured");
            reject(draft, &attempt, &product, error, None, Retry::Same);
        }
        Progress::Reviewing { product, deadline: Some(deadline), .. } if deadline <= now => {
            let error = error(ErrorCode::ReviewTimeout, "the review took longer than configured");
            reject(draft, &attempt, &product, error, None, Retry::Same);
        }
        Progress::Started { .. }
        | Progress::Leased { .. }
        | Progress::Validating { .. }
        | Progress::Reviewing { .. } => {
            return false;
        }
    }
    true
}

/// Closes an attempt that has executed for too long.
fn close_overdue(draft: &mut Draft<'_>, attempt: &Attempt) {
    let message = format!("execution took longer than {} s", draft.task.timeout_seconds);
    let error = TaskError { code: ErrorCode::DeadlineExceeded, message, attempt: Some(attempt.number) };
    close(draft, attempt, None, error, Retry::Same);
}

/// Handles an expired lease: the attempt waits again, or fails after too many.
fn handle_lost_lease(draft: &mut Draft<'_>, mut attempt: Attempt, lease: &Lease) {
    attempt.lost_leases = attempt.lost_leases.saturating_add(1);
    let count = attempt.lost_leases;
    if count < draft.policy.max_lost_leases {
        requeue(draft, attempt, lease, lease.until, None);
        return;
    }
    let message = format!("{count} leases of the attempt ran out, the last one of worker {}", lease.worker);
    let error = TaskError { code: ErrorCode::WorkerLost, message, attempt: Some(attempt.number) };
    close(draft, &attempt, None, error, Retry::Same);
}

/// Puts the task back into its line with the same attempt and age, without a slot. The execution
/// until `end` is kept, so that the deadline counts execution and not waiting.
fn requeue(draft: &mut Draft<'_>, attempt: Attempt, lease: &Lease, end: Moment, not_before: Option<Moment>) {
    let executed = attempt.executed.saturating_add(end.since(lease.since));
    put_back(draft, Attempt { executed, ..attempt }, not_before);
}

/// Queues an attempt that no worker has any more.
fn put_back(draft: &mut Draft<'_>, attempt: Attempt, not_before: Option<Moment>) {
    let attempt = Attempt { has_slot: false, ..attempt };
    let queued = Queued { since: attempt.queued_since, announced: true, not_before, attempt: Some(attempt) };
    draft.task.state = State::Pending(Pending::Queued(queued));
}

/// Queues a task whose attempt no worker has had: the next lease opens the attempt.
fn put_back_unopened(draft: &mut Draft<'_>, attempt: &Attempt) {
    let queued = Queued { since: attempt.queued_since, announced: true, not_before: None, attempt: None };
    draft.task.state = State::Pending(Pending::Queued(queued));
}

/// The attempt to hand out, with a slot: the open one, or a new one.
fn attempt_with_slot(draft: &Draft<'_>, queued: Queued) -> Attempt {
    let new = || Attempt::open(draft.task.attempts() + 1, queued.since, draft.now);
    Attempt { has_slot: true, ..queued.attempt.unwrap_or_else(new) }
}

/// Returns the queued state, or refuses in any other phase.
fn require_queued(draft: &Draft<'_>) -> Result<Queued, Refusal> {
    match &draft.task.state {
        State::Pending(Pending::Queued(queued)) => Ok(queued.clone()),
        State::Pending(
            Pending::Scheduled { .. }
            | Pending::Blocked { .. }
            | Pending::Analyzing { .. }
            | Pending::Backoff { .. }
            | Pending::Dispatched { .. },
        )
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Err(Refusal::NotQueued(draft.task.phase())),
    }
}

/// Hands the attempt to the broker.
pub(super) fn dispatch(mut draft: Draft<'_>) -> Result<Step, Refusal> {
    let queued = require_queued(&draft)?;
    if queued.announced {
        draft.log(Change::Dispatched);
    } else {
        draft.announce();
    }
    let attempt = attempt_with_slot(&draft, queued);
    draft.task.state = State::Pending(Pending::Dispatched { attempt, at: draft.now.observed });
    Ok(draft.applied())
}

/// Gives the attempt to a worker.
pub(super) fn lease(mut draft: Draft<'_>, id: LeaseId, worker: WorkerId, until: Moment) -> Result<Step, Refusal> {
    let queued = require_queued(&draft)?;
    if !queued.announced {
        draft.announce();
    }
    let mut attempt = attempt_with_slot(&draft, queued);
    attempt.holders = attempt.holders.saturating_add(1);
    draft.begin(&mut attempt);
    let deadline = draft.now.after(draft.task.timeout().saturating_sub(attempt.executed));
    draft.log(Change::Leased { lease: id, worker: worker.clone(), until: draft.now.calendar(until) });
    let lease = Lease { id, worker, since: draft.now.observed, until };
    draft.task.state = State::Running { attempt, progress: Progress::Leased { lease, deadline } };
    Ok(draft.applied())
}

/// Records that a worker has taken the attempt from the broker. Its execution time starts now.
pub(super) fn take(mut draft: Draft<'_>) -> Result<Step, Refusal> {
    match draft.task.state.clone() {
        State::Pending(Pending::Dispatched { mut attempt, .. }) => {
            attempt.holders = attempt.holders.saturating_add(1);
            draft.begin(&mut attempt);
            let progress = Progress::Started { worker: None, since: draft.now.observed, inferred: true };
            draft.task.state = State::Running { attempt, progress };
            draft.log(Change::Taken);
            Ok(draft.applied())
        }
        State::Running { progress: Progress::Started { .. }, .. } => Ok(draft.done(Outcome::Unchanged)),
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Err(Refusal::NotDispatched(draft.task.phase())),
    }
}

/// Extends the lease.
pub(super) fn renew(mut draft: Draft<'_>, id: LeaseId, until: Moment) -> Result<Step, Refusal> {
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

/// Ends a lease: the holder returns the attempt, or never had it if the lease was not delivered.
pub(super) fn release(mut draft: Draft<'_>, id: LeaseId, delivered: bool) -> Result<Step, Refusal> {
    match draft.task.state.clone() {
        State::Running { attempt, progress: Progress::Leased { lease, .. } } if lease.id == id && !delivered => {
            draft.log(Change::Released);
            take_back(&mut draft, attempt, &lease);
        }
        State::Running { mut attempt, progress: Progress::Leased { lease, deadline } } if lease.id == id => {
            let now = draft.now.observed;
            draft.log(Change::Released);
            attempt.releases = attempt.releases.saturating_add(1);
            // A late timer must not leave the next worker an attempt without any time.
            if deadline <= now {
                close_overdue(&mut draft, &attempt);
            } else if attempt.releases >= MOST_RELEASES {
                let message = format!("workers gave the attempt back {MOST_RELEASES} times");
                let error = TaskError { code: ErrorCode::ReleasedTooOften, message, attempt: Some(attempt.number) };
                close(&mut draft, &attempt, None, error, Retry::Same);
            } else {
                let not_before = now.after(release_pause(attempt.releases));
                requeue(&mut draft, attempt, &lease, now, Some(not_before));
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

/// Undoes a lease that never reached its worker. An attempt that no other worker has had is no
/// longer open, unless it keeps an output of a worker that did not hold it.
fn take_back(draft: &mut Draft<'_>, mut attempt: Attempt, lease: &Lease) {
    attempt.holders = attempt.holders.saturating_sub(1);
    if attempt.holders > 0 {
        put_back(draft, attempt, None);
        return;
    }
    draft.take_back_start(attempt.started_at, lease.since);
    draft.task.course.attempts.retain(|(number, _)| *number != attempt.number);
    attempt.started_at = None;
    if attempt.foreign.is_some() {
        put_back(draft, attempt, None);
    } else {
        put_back_unopened(draft, &attempt);
    }
}

/// Converts a waiting task to the configured bus, after a start on another bus or with data written
/// before the two were distinguished. Leases continue until they end.
pub(super) fn change_bus(mut draft: Draft<'_>) -> Step {
    let by_broker = draft.policy.bus == Bus::Broker;
    match draft.task.state.clone() {
        State::Pending(Pending::Queued(queued)) if !by_broker && !queued.announced => {
            draft.announce();
            draft.task.state = State::Pending(Pending::Queued(Queued { announced: true, ..queued }));
            draft.done(Outcome::Applied)
        }
        // No worker has taken it, so the worker that leases it opens the attempt.
        State::Pending(Pending::Dispatched { attempt, .. }) if !by_broker => {
            draft.log(Change::Queued);
            if attempt.started_at.is_none() && attempt.foreign.is_none() {
                put_back_unopened(&mut draft, &attempt);
            } else {
                put_back(&mut draft, attempt, None);
            }
            draft.applied()
        }
        State::Running { mut attempt, progress: Progress::Started { since, .. } } if !by_broker => {
            draft.log(Change::Queued);
            let left = draft.task.timeout().saturating_sub(Duration::from_secs(1));
            let executed = attempt.executed.saturating_add(draft.now.since(since));
            // The next worker gets some time, however long the service was stopped.
            attempt.executed = executed.min(left);
            put_back(&mut draft, attempt, None);
            draft.applied()
        }
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => draft.done(Outcome::Unchanged),
    }
}
