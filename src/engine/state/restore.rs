//! What follows when a store was made from a copy: attempts that ran begin again, and tasks
//! that wait for one that has ended learn of it.
//!
//! A copy shows each row at some time, but not all rows at the same time: it may have the end
//! of a task without what that end did to the tasks that wait for it.

use super::failure::{Stored, unless_refused};
use super::transitions::EngineState;
use crate::task::{End, Input, Now, Outcome, State, Status, TaskId};

/// Begins the attempt of a task again, if it has one. Returns whether it had one.
pub(super) fn begin_again(state: &mut EngineState, id: TaskId, now: Now) -> Stored<bool> {
    let outcome = unless_refused(state.apply(id, Input::BeginAgain, None, now))?;
    Ok(outcome == Some(Outcome::Applied))
}

/// Tells a task of the ends of others that it has not learned of. Returns how many.
pub(super) fn catch_up(state: &mut EngineState, id: TaskId, now: Now) -> Stored<u64> {
    let mut applied = 0;
    for input in missed_inputs(state, id)? {
        let outcome = unless_refused(state.apply(id, input, None, now))?;
        applied += u64::from(outcome == Some(Outcome::Applied));
    }
    Ok(applied)
}

fn missed_inputs(state: &EngineState, id: TaskId) -> Stored<Vec<Input>> {
    let Some(task) = state.tasks.find_open(id)? else { return Ok(Vec::new()) };
    let mut inputs = Vec::new();
    if let Some(parent) = task.parent
        && let Some(status) = final_status(state, parent)?
    {
        let how = if status == Status::Completed { "completed" } else { "ended" };
        inputs.push(Input::Cancel { reason: Some(format!("task {parent}, of which it is a part, has {how}")) });
        return Ok(inputs);
    }
    for other in task.waits_for() {
        if let Some(end) = find_end(state, *other)? {
            inputs.push(Input::DependencyEnded { task: *other, end });
        }
    }
    if let State::Children(children) = &task.state {
        for child in &children.open {
            if let Some(end) = find_end(state, *child)? {
                inputs.push(Input::ChildEnded { task: *child, end });
            }
        }
    }
    Ok(inputs)
}

/// The status of a task that has ended.
fn final_status(state: &EngineState, id: TaskId) -> Stored<Option<Status>> {
    Ok(state.find_task(id)?.map(|task| task.status()).filter(|status| status.is_terminal()))
}

/// How a task has ended. A task that does not exist will never end, and counts as failed.
fn find_end(state: &EngineState, id: TaskId) -> Stored<Option<End>> {
    let Some(task) = state.find_task(id)? else {
        return Ok(Some(End::Lost { status: Status::Failed, reason: "it was not in the copy".to_owned() }));
    };
    Ok(End::of(&task))
}
