//! Families of tasks: a task and the parts it was split into, the parts of those,
//! and so on. What is done again or given up is so as a whole.

use std::collections::{HashMap, HashSet};

use crate::store::{self, Checkpoint, View};
use crate::task::{OnChildFailure, State, Task, TaskId};

type Stored<T> = Result<T, store::Error>;

/// The task at the top of each task's family: a part is made by splitting,
/// so it is the whole that has to be done again.
pub(super) struct Roots<'a> {
    view: &'a View,
    known: HashMap<TaskId, TaskId>,
}

impl<'a> Roots<'a> {
    pub(super) fn new(view: &'a View) -> Self {
        Self { view, known: HashMap::new() }
    }

    pub(super) fn of(&mut self, task: TaskId) -> Stored<TaskId> {
        let (mut root, mut passed) = (task, Vec::new());
        loop {
            if let Some(known) = self.known.get(&root) {
                root = *known;
                break;
            }
            passed.push(root);
            match self.view.task(root)?.and_then(|task| task.parent) {
                Some(parent) => root = parent,
                None => break,
            }
        }
        self.known.extend(passed.into_iter().map(|task| (task, root)));
        Ok(root)
    }

    /// Whether the last rollback to this checkpoint has submitted it again. A
    /// request that comes twice must not do so twice.
    pub(super) fn is_made_again(&self, root: TaskId, checkpoint: &Checkpoint) -> Stored<bool> {
        let made = |task: &Task| task.rerun_of.is_some() && Some(task.created_at) == checkpoint.rolled_back_at;
        Ok(self.view.task(root)?.is_some_and(|task| made(&task)))
    }
}

/// What ends when these tasks are cancelled: they themselves, and parents that
/// can't go on without them.
pub(super) fn ended_by(view: &View, cancel: &[TaskId]) -> Stored<HashSet<TaskId>> {
    let mut ended: HashSet<TaskId> = cancel.iter().copied().collect();
    let mut next = cancel.to_vec();
    while let Some(task) = next.pop() {
        let Some(parent) = view.task(task)?.and_then(|task| task.parent) else { continue };
        let Some(Task { state: State::Children(children), .. }) = view.task(parent)? else { continue };
        let ends = match children.on_failure {
            OnChildFailure::Cancel => true,
            OnChildFailure::Continue => children.open.iter().all(|child| ended.contains(child)),
        };
        if ends && ended.insert(parent) {
            next.push(parent);
        }
    }
    Ok(ended)
}
