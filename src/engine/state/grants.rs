//! Leases that workers get, renew and give back, and tasks that are dispatched or due.

use std::time::Duration;

use super::failure::{Failure, Stored, unless_refused};
use super::ids::IdSource;
use super::transitions::EngineState;
use crate::engine::api::{Grant, LeaseRequest, Refusal};
use crate::task::{Input, LeaseId, Now, Progress, State, TaskId, Timestamp};

/// Grants a task, which has been taken out of its line, to a worker.
pub(super) fn grant(
    state: &mut EngineState,
    ids: &IdSource,
    id: TaskId,
    request: &LeaseRequest,
    now: Now,
) -> Stored<Option<Grant>> {
    let lease = LeaseId::new(ids.next(now));
    let input = Input::Lease { id: lease, worker: request.worker.clone(), until: now.after(request.lease) };
    if unless_refused(state.apply(id, input, None, now))?.is_none() {
        return Ok(None);
    }
    let task = state.tasks.find_open(id)?;
    let lease = task.as_ref().and_then(|task| match &task.state {
        State::Running { progress: Progress::Leased { lease, deadline }, .. } => Some((lease.clone(), *deadline)),
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    });
    Ok(task.zip(lease).map(|(task, (lease, deadline))| {
        let (until, deadline) = (now.calendar(lease.until), now.calendar(deadline));
        let project = state.projects.get(&task.project);
        let constituted = project.filter(|project| project.constitution.is_some()).map(|project| project.version);
        Grant { lease, until, deadline, task, constituted }
    }))
}

/// Renews a lease. Returns until when it is held, by the wall clock.
pub(super) fn renew(
    state: &mut EngineState,
    lease: LeaseId,
    duration: Duration,
    now: Now,
) -> Result<Timestamp, Failure> {
    let task = state.lines.leased_task(lease).ok_or(Refusal::LeaseLost(lease))?;
    let until = now.after(duration);
    state.apply(task, Input::Renew { id: lease, until }, None, now)?;
    Ok(now.calendar(until))
}

/// Gives a lease back. `delivered` tells whether its worker ever had it.
pub(super) fn release(state: &mut EngineState, lease: LeaseId, delivered: bool, now: Now) -> Result<(), Failure> {
    let task = state.lines.leased_task(lease).ok_or(Refusal::LeaseLost(lease))?;
    state.apply(task, Input::Release { id: lease, delivered }, None, now)?;
    Ok(())
}

/// Fires timers that are due, at most `max`.
pub(super) fn fire_timers(state: &mut EngineState, max: usize, now: Now) -> Stored<()> {
    for _ in 0..max {
        let Some(id) = state.lines.pop_due(now) else { break };
        // A refusal or an unchanged task would leave the timer unset, but a due timer
        // always changes something.
        unless_refused(state.apply(id, Input::Tick, None, now))?;
    }
    Ok(())
}

/// Hands waiting tasks that get a slot to the broker, at most `max`.
pub(super) fn dispatch(state: &mut EngineState, max: usize, now: Now) -> Stored<()> {
    for _ in 0..max {
        let Some(id) = state.lines.next_to_dispatch(now) else { break };
        unless_refused(state.apply(id, Input::Dispatch, None, now))?;
    }
    Ok(())
}
