//! The tasks that may use artifacts of others.

use super::id_hash::IdHash;
use crate::task::TaskId;

/// The tasks with an open attempt that were or may have been given artifacts.
///
/// The writer changes the set at the end of each group; plans that are made beside the
/// writer read it. It grows in small steps, as the map of answers does.
#[derive(Debug, Default)]
pub(crate) struct Given {
    tasks: papaya::HashSet<TaskId, IdHash>,
}

impl Given {
    /// Adds a task. Returns whether it was not in the set before.
    pub(crate) fn insert(&self, task: TaskId) -> bool {
        self.tasks.pin().insert(task)
    }

    pub(crate) fn remove(&self, task: TaskId) {
        self.tasks.pin().remove(&task);
    }

    /// Returns all tasks of the set, in no order.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.tasks.pin().iter().copied().collect()
    }
}
