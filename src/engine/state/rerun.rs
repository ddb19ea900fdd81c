//! Re-runs: the submission of a task that does the same again, which depends on what has
//! become of the dependencies of the old one.

use super::failure::{Failure, Stored};
use super::families::ViewedTasks;
use crate::engine::api::Refusal;
use crate::store::View;
use crate::task::{ArtifactId, End, MAX_REFERENCES, Status, Submission, Task, TaskId};

/// What becomes of a task in the step that makes re-runs.
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It is undone, and this task is submitted again: itself, or the one that it is a part
    /// of.
    Renewed(TaskId),
    /// It is undone, or ends.
    Gone,
}

/// The task on which a re-run depends in the place of an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// A task that exists.
    Task(TaskId),
    /// The task that this one becomes in the step that makes the re-run.
    Renewed(TaskId),
}

/// A dependency of the old task.
#[derive(Debug)]
pub(super) struct Followed {
    old: TaskId,
    /// What the new task depends on in its place; `None`: nothing, because the old one
    /// completed long ago and was removed.
    successor: Option<Successor>,
}

/// Returns the submission of a task that does the same as one that has ended.
pub(crate) fn rerun(view: &View, id: TaskId) -> Result<Submission, Failure> {
    let tasks = ViewedTasks::of(view);
    let not_found = || Refusal::TaskNotFound(id);
    let task = tasks.get(id)?.ok_or_else(not_found)?;
    if !task.status().is_terminal() {
        return Err(Refusal::NotEnded(task.status()).into());
    }
    let dependencies = follow_dependencies(&tasks, &task, |_| Ok(Fate::Stays))?
        .map_err(|dependency| Refusal::DependencyNotCompleted { task: id, dependency })?;
    let (mut submission, successors) = resubmission(&tasks, &task, &dependencies)?.ok_or_else(not_found)?;
    set_dependencies(&mut submission, &successors, |task| task);
    Ok(submission)
}

/// Follows each dependency of a task to the newest completed task of its chain of re-runs,
/// else to the newest open one. If there is neither, the inner error is the dependency.
pub(super) fn follow_dependencies(
    tasks: &ViewedTasks<'_>,
    task: &Task,
    mut fate: impl FnMut(TaskId) -> Stored<Fate>,
) -> Stored<Result<Vec<Followed>, TaskId>> {
    let mut followed = Vec::with_capacity(task.depends_on.len());
    for &dependency in &task.depends_on {
        let found = find_successor(tasks, dependency, &mut fate)?;
        if found.is_none() {
            // A dependency that was removed had completed, if this task got beyond it.
            let is_over = has_begun(task) && tasks.get(dependency)?.is_none();
            if !is_over || !matches!(fate(dependency)?, Fate::Stays) {
                return Ok(Err(dependency));
            }
        }
        followed.push(Followed { old: dependency, successor: found });
    }
    Ok(Ok(followed))
}

/// The task on which a re-run depends in the place of `dependency`.
fn find_successor(
    tasks: &ViewedTasks<'_>,
    dependency: TaskId,
    fate: &mut impl FnMut(TaskId) -> Stored<Fate>,
) -> Stored<Option<Successor>> {
    let mut open = None;
    for id in tasks.view.reruns(dependency)?.chain(std::iter::once(Ok(dependency))) {
        let id = id?;
        match fate(id)? {
            Fate::Renewed(task) => drop(open.get_or_insert(Successor::Renewed(task))),
            Fate::Gone => {}
            Fate::Stays => match tasks.get(id)?.map(|task| task.status()) {
                Some(Status::Completed) => return Ok(Some(Successor::Task(id))),
                Some(Status::Pending | Status::Running) => drop(open.get_or_insert(Successor::Task(id))),
                Some(Status::Failed | Status::Cancelled) | None => {}
            },
        }
    }
    Ok(open)
}

/// Whether a task got so far that all its dependencies had completed.
fn has_begun(task: &Task) -> bool {
    task.attempts() > 0 || !task.children.is_empty() || task.status() == Status::Completed
}

/// Returns the submission of a task that does the same as this one, with its inputs except
/// what the replaced dependencies had produced, unless the client named that itself; and its
/// dependencies, which are not in the submission yet.
pub(super) fn resubmission(
    tasks: &ViewedTasks<'_>,
    task: &Task,
    dependencies: &[Followed],
) -> Stored<Option<(Submission, Vec<Successor>)>> {
    let Some(mut submission) = tasks.view.submission(task.id)? else { return Ok(None) };
    let options = &mut submission.options;
    let (mut successors, mut replaced) = (Vec::with_capacity(dependencies.len()), Vec::new());
    for Followed { old, successor } in dependencies {
        let Some(successor) = *successor else { continue };
        if successor != Successor::Task(*old) {
            replaced.extend(tasks.get(*old)?.as_ref().map(products).unwrap_or_default());
        }
        successors.push(successor);
    }
    let new = |input: &&ArtifactId| !options.inputs.contains(input) && !replaced.contains(input);
    let inputs: Vec<ArtifactId> = task.inputs.iter().filter(new).cloned().collect();
    options.inputs.extend(inputs);
    options.inputs.truncate(MAX_REFERENCES);
    options.not_before = None;
    submission.rerun_of = Some(task.id);
    Ok(Some((submission, successors)))
}

/// Has a submission depend on the successors of its old dependencies. `renewed` returns the
/// task that one becomes that is submitted again.
pub(super) fn set_dependencies(
    submission: &mut Submission,
    successors: &[Successor],
    renewed: impl Fn(TaskId) -> TaskId,
) {
    let mut depends_on = Vec::with_capacity(successors.len());
    for successor in successors {
        let task = match *successor {
            Successor::Task(task) => task,
            Successor::Renewed(task) => renewed(task),
        };
        if !depends_on.contains(&task) {
            depends_on.push(task);
        }
    }
    submission.options.depends_on = depends_on;
}

/// The artifacts of a task, if it has completed.
fn products(task: &Task) -> Vec<ArtifactId> {
    match End::of(task) {
        Some(End::Completed { artifacts }) => artifacts.into_iter().map(|artifact| artifact.id).collect(),
        Some(End::Lost { .. }) | None => Vec::new(),
    }
}
