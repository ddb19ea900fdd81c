//! Families of tasks: a task and the parts it was split into, the parts of those, and so on.
//! A family is submitted again or given up as a whole.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::failure::Stored;
use crate::store::{Checkpoint, View};
use crate::task::{OnChildFailure, ProjectId, State, Task, TaskId};

/// Tasks as a view has them. It remembers the projects of the tasks that were looked at: what
/// was concluded holds as long as nothing changes in these.
pub(super) struct ViewedTasks<'a> {
    pub(super) view: &'a View,
    projects: RefCell<BTreeSet<ProjectId>>,
}

impl<'a> ViewedTasks<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        Self { view, projects: RefCell::default() }
    }

    pub(super) fn get(&self, id: TaskId) -> Stored<Option<Task>> {
        let task = self.view.task(id)?;
        if let Some(task) = &task
            && !self.projects.borrow().contains(&task.project)
        {
            self.projects.borrow_mut().insert(task.project.clone());
        }
        Ok(task)
    }

    /// The projects of the tasks that were looked at.
    pub(super) fn into_projects(self) -> BTreeSet<ProjectId> {
        self.projects.into_inner()
    }
}

/// Finds the task at the top of each task's family. A part is made by splitting, so only the
/// whole can be done again.
pub(super) struct Roots<'a> {
    tasks: &'a ViewedTasks<'a>,
    known: HashMap<TaskId, TaskId>,
}

impl<'a> Roots<'a> {
    pub(super) fn new(tasks: &'a ViewedTasks<'a>) -> Self {
        Self { tasks, known: HashMap::new() }
    }

    pub(super) fn of(&mut self, task: TaskId) -> Stored<TaskId> {
        let (mut root, mut passed) = (task, Vec::new());
        loop {
            if let Some(known) = self.known.get(&root) {
                root = *known;
                break;
            }
            passed.push(root);
            match self.tasks.get(root)?.and_then(|task| task.parent) {
                Some(parent) => root = parent,
                None => break,
            }
        }
        self.known.extend(passed.into_iter().map(|task| (task, root)));
        Ok(root)
    }

    /// Whether the last rollback to this checkpoint has submitted a task again: a request
    /// that comes twice must not do so twice.
    pub(super) fn is_made_again(&self, root: TaskId, checkpoint: &Checkpoint) -> Stored<bool> {
        let made = |task: &Task| task.rerun_of.is_some() && Some(task.created_at) == checkpoint.rolled_back_at;
        Ok(self.tasks.get(root)?.is_some_and(|task| made(&task)))
    }
}

/// Returns the tasks that end when these are cancelled: they themselves, and parents that
/// can't continue without them.
pub(super) fn ended_by(tasks: &ViewedTasks<'_>, cancel: &[TaskId]) -> Stored<HashSet<TaskId>> {
    let mut ended: HashSet<TaskId> = cancel.iter().copied().collect();
    let mut next = cancel.to_vec();
    while let Some(task) = next.pop() {
        let Some(parent) = tasks.get(task)?.and_then(|task| task.parent) else { continue };
        let Some(Task { state: State::Children(children), .. }) = tasks.get(parent)? else { continue };
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
