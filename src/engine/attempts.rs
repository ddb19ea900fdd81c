//! After which step of the provenance graph the work of an attempt began: what
//! came before it can have been its input.
//!
//! Kept in memory alone. Of an attempt that began before the start of the
//! service the times say it.

use std::collections::HashMap;

use super::hot::IdHash;
use crate::lineage::Began;
use crate::task::{Seq, State, Task, TaskId};

/// The attempts under way that were opened since the start.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    began: HashMap<TaskId, (u32, Seq), IdHash>,
}

impl Attempts {
    /// A task has changed, when the graph had come to this step.
    pub(super) fn follow(&mut self, old: &Task, new: &Task, newest: Seq) {
        match attempt_of(new) {
            // A lost lease leaves the attempt open: it began with the first one.
            Some(number) if attempt_of(old) != Some(number) && self.began(new.id, number) == Began::Unknown => {
                self.began.insert(new.id, (number, newest));
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn began(&self, task: TaskId, attempt: u32) -> Began {
        let known = self.began.get(&task).filter(|(number, _)| *number == attempt);
        known.map_or(Began::Unknown, |(_, step)| Began::After(*step))
    }

    /// The task has ended.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.began.remove(&task);
    }
}

fn attempt_of(task: &Task) -> Option<u32> {
    match &task.state {
        State::Running { attempt, .. } => Some(attempt.number),
        State::Pending(_)
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}
