//! What must hold of parents and their subtasks at every commit.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use dats::store::LogEntry;
use dats::task::{Change, Completion, Phase, Seq, State, Status, Task, TaskId};

/// Checks the tasks and the whole log of a store from which nothing was removed.
pub(crate) fn check(tasks: &BTreeMap<TaskId, Task>, entries: &[(Seq, LogEntry)]) -> Result<()> {
    for task in tasks.values() {
        if let Some(parent) = task.parent {
            let parent = tasks.get(&parent).with_context(|| format!("{} has lost its parent", task.id))?;
            ensure!(parent.children.contains(&task.id), "{} does not know its child {}", parent.id, task.id);
            ensure!(task.depth == parent.depth + 1 && task.project == parent.project, "{} is misplaced", task.id);
        }
        if !task.children.is_empty() {
            parent(task, tasks).with_context(|| format!("parent {}: {:?}", task.id, task.state))?;
        }
    }
    order(tasks, entries)
}

fn parent(task: &Task, tasks: &BTreeMap<TaskId, Task>) -> Result<()> {
    let children: Option<Vec<&Task>> = task.children.iter().map(|child| tasks.get(child)).collect();
    let children = children.context("a child is missing")?;
    ensure!(children.iter().all(|child| child.parent == Some(task.id)), "a child has another parent");
    ensure!(task.attempts() == 0 && !task.holds_slot(), "a parent was dispatched");
    let open: Vec<TaskId> =
        children.iter().filter(|child| !child.status().is_terminal()).map(|child| child.id).collect();
    let first = children.iter().filter_map(|child| child.started()).min();
    // Of a task from before this was kept only the calendar time is known.
    let agrees = task.course.started.map_or(task.started_at.is_some() || first.is_none(), |it| Some(it) == first);
    ensure!(agrees, "it began at {:?}, the first of its parts at {first:?}", task.started());
    let completed = children.iter().all(|child| child.status() == Status::Completed);
    match &task.state {
        State::Children(state) => {
            let of_state: HashSet<&TaskId> = state.open.iter().collect();
            ensure!(!open.is_empty() && of_state == open.iter().collect(), "open are {open:?}");
        }
        State::Completed { by: Completion::Children { artifacts }, .. } => {
            let produced: Vec<_> = children.iter().flat_map(|child| produced(child)).collect();
            ensure!(completed && *artifacts == produced, "its children made {produced:?}");
        }
        State::Failed { .. } => ensure!(open.is_empty() && !completed, "it failed with its children"),
        State::Cancelled { .. } => ensure!(open.is_empty(), "a child goes on: {open:?}"),
        State::Completed { by: Completion::Attempt { .. }, .. } | State::Pending(_) | State::Running { .. } => {
            anyhow::bail!("it does not live by its children")
        }
    }
    Ok(())
}

fn produced(task: &Task) -> Vec<dats::task::OutputArtifact> {
    match &task.state {
        State::Completed { by: Completion::Children { artifacts }, .. } => artifacts.clone(),
        State::Completed { by: Completion::Attempt { product, .. }, .. } => product.artifacts.clone(),
        _ => Vec::new(),
    }
}

/// A task is dispatched, routed or split only after what it depends on has
/// completed; it is made once, and split once.
fn order(tasks: &BTreeMap<TaskId, Task>, entries: &[(Seq, LogEntry)]) -> Result<()> {
    let (mut made, mut split) = (HashSet::new(), HashSet::new());
    let mut completed: HashMap<TaskId, Seq> = HashMap::new();
    for (seq, entry) in entries {
        let Some(now) = entry.standing() else { continue };
        let task = tasks.get(&now.task).with_context(|| format!("{seq}: of an unknown task"))?;
        match &entry.change {
            Change::Created => ensure!(made.insert(now.task), "{seq}: {} was made twice", now.task),
            Change::Split { children } => {
                ensure!(split.insert(now.task), "{seq}: {} was split twice", now.task);
                ensure!(*children == task.children, "{seq}: other children");
            }
            Change::Finished { status: Status::Completed, .. } => {
                completed.insert(now.task, *seq);
            }
            Change::Ready { .. } | Change::Analyzed { .. } | Change::Routed { .. } => {}
            _ => continue,
        }
        let starts = matches!(
            entry.change,
            Change::Ready { .. } | Change::Analyzed { .. } | Change::Routed { .. } | Change::Split { .. }
        );
        if starts {
            let waits = task.depends_on.iter().find(|dependency| !completed.contains_key(dependency));
            ensure!(waits.is_none(), "{seq}: {} did not wait for {waits:?}", now.task);
            ensure!(now.phase != Phase::Blocked, "{seq}: {} is blocked and yet moves", now.task);
        }
    }
    Ok(())
}
