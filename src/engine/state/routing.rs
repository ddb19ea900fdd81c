//! Routing as the writer sees it: which tasks are handed out to be routed, and what becomes
//! of the findings.
//!
//! The driver takes jobs, in turn between projects, and answers or returns each of them.

use super::failure::{Failure, Stored, unless_refused};
use super::ids::IdSource;
use super::transitions::EngineState;
use crate::engine::api::TakenRouting;
use crate::task::{Finding, Input, Moment, Now, Outcome, Pending, RoutingStep, State, Task, TaskId};

/// Hands out tasks that are to be routed, at most `max`.
pub(super) fn take(state: &mut EngineState, max: usize, now: Now) -> Stored<Vec<TakenRouting>> {
    let mut jobs = Vec::new();
    while jobs.len() < max {
        let Some(id) = state.lines.routing.pop(now) else { break };
        let Some(task) = state.find_task(id)? else { continue };
        let (Some(since), Some(routing)) = (waits_since(&task), task.routing) else { continue };
        state.lines.routing.hand_out(id);
        jobs.push(TakenRouting { task, since, step: routing.step });
    }
    Ok(jobs)
}

/// Applies a finding to a task.
pub(super) fn route(
    state: &mut EngineState,
    ids: &IdSource,
    task: TaskId,
    step: RoutingStep,
    finding: Finding,
    now: Now,
) -> Result<Outcome, Failure> {
    let parts = match &finding {
        Finding::Decomposed(decomposition) => decomposition.subtasks.len(),
        Finding::Analyzed(_) | Finding::Estimated { .. } | Finding::Builtin { .. } => 0,
    };
    let parts = parts.min(state.tasks.policy.max_subtasks);
    let ids = (0..parts).map(|_| TaskId::new(ids.next(now))).collect();
    state.apply(task, Input::Route { step, finding, ids }, None, now)
}

/// Takes a job back, to hand it out again at `until`.
pub(super) fn return_job(state: &mut EngineState, id: TaskId, until: Moment) -> Stored<()> {
    if let Some(task) = state.find_task(id)?
        && waits_since(&task).is_some()
    {
        state.lines.routing.return_job(&task, until);
    }
    Ok(())
}

/// Has returned jobs whose time has come join the line again. Tasks whose services are no
/// longer configured are routed by the built-in rules, at most `max`.
pub(super) fn settle(state: &mut EngineState, ids: &IdSource, max: usize, now: Now) -> Stored<()> {
    state.lines.routing.rejoin_due(now);
    for _ in 0..max {
        let Some(id) = state.lines.routing.pop_unserved() else { break };
        let Some(routing) = state.find_task(id)?.and_then(|task| task.routing) else { continue };
        unless_refused(route(state, ids, id, routing.step, Finding::Builtin { context: None }, now))?;
    }
    Ok(())
}

/// Since when a task is to be routed, if it is.
fn waits_since(task: &Task) -> Option<Moment> {
    match &task.state {
        State::Pending(Pending::Analyzing { since }) => Some(*since),
        State::Pending(
            Pending::Scheduled { .. }
            | Pending::Blocked { .. }
            | Pending::Queued(_)
            | Pending::Backoff { .. }
            | Pending::Dispatched { .. },
        )
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}
