//! What follows when a store was made from a copy: attempts that ran are
//! begun again, and who waits for something that has ended is told.
//!
//! A copy shows each row at some time, not all rows at the same time: the end
//! of a task may be in it without what that end did to those who wait for it.

use std::sync::Arc;

use super::api::{Refusal, Settings};
use super::machine::Machine;
use super::shared::Shared;
use crate::store::{self, Store};
use crate::task::{End, Input, Now, Outcome, State, Status, Task, TaskId};

type Stored<T> = Result<T, store::Error>;

/// Most tasks in one commit.
const ROUND: usize = 256;

/// What was begun again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Tasks that have not ended.
    pub open: u64,
    /// Tasks whose attempt was lost and that wait for a new one.
    pub attempts: u64,
    /// Tasks that have learnt of the end of others.
    pub told: u64,
}

/// Brings the tasks of a store that was made from a copy into agreement.
pub fn begin_again(store: &Store, settings: Settings, now: Now) -> Stored<Begun> {
    let shared = Shared::new(settings.hot_bytes);
    let mut machine = Machine::recovered(Arc::new(settings), store.clone(), store.recover()?, shared)?;
    let mut open: Vec<TaskId> = machine.open_ids().collect();
    // The oldest first: parents before their subtasks.
    open.sort_unstable();
    let mut begun = Begun { open: u64::try_from(open.len()).unwrap_or(u64::MAX), ..Begun::default() };
    for round in open.chunks(ROUND) {
        for id in round {
            if machine.apply(*id, Input::BeginAgain, None, now)? == Ok(Outcome::Applied) {
                begun.attempts += 1;
            }
            begun.told += machine.catch_up(*id, now)?;
        }
        let (batch, _) = machine.finish(now)?;
        batch.commit(store, now)?;
    }
    store.checkpoint()?;
    Ok(begun)
}

impl Machine {
    /// Tells a task of the ends that it has not learnt of; how many.
    fn catch_up(&mut self, id: TaskId, now: Now) -> Stored<u64> {
        let mut told = 0;
        for input in self.missed(id)? {
            let outcome: Result<Outcome, Refusal> = self.apply(id, input, None, now)?;
            told += u64::from(outcome == Ok(Outcome::Applied));
        }
        Ok(told)
    }

    fn missed(&self, id: TaskId) -> Stored<Vec<Input>> {
        let Some(task) = self.find_open(id)? else { return Ok(Vec::new()) };
        let mut inputs = Vec::new();
        if let Some(parent) = task.parent
            && let Some(status) = self.end_of(parent)?
        {
            let how = if status == Status::Completed { "completed" } else { "ended" };
            inputs.push(Input::Cancel { reason: Some(format!("task {parent}, of which it is a part, has {how}")) });
            return Ok(inputs);
        }
        for other in task.waits_for() {
            if let Some(end) = self.found_end(*other)? {
                inputs.push(Input::DependencyEnded { task: *other, end });
            }
        }
        if let State::Children(children) = &task.state {
            for child in &children.open {
                if let Some(end) = self.found_end(*child)? {
                    inputs.push(Input::ChildEnded { task: *child, end });
                }
            }
        }
        Ok(inputs)
    }

    fn end_of(&self, id: TaskId) -> Stored<Option<Status>> {
        Ok(self.find(id)?.map(|task: Task| task.status()).filter(|status| status.is_terminal()))
    }

    /// How a task has ended; one that is not there will never end.
    fn found_end(&self, id: TaskId) -> Stored<Option<End>> {
        let Some(task) = self.find(id)? else {
            return Ok(Some(End::Lost { status: Status::Failed, reason: "it was not in the copy".to_owned() }));
        };
        Ok(End::of(&task))
    }
}
