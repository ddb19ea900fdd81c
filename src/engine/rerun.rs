//! Re-runs: the submission of a task that does the same again, after what has
//! become of the tasks that the old one depended on.

use super::api::Refusal;
use super::families::Tasks;
use crate::store::{self, View};
use crate::task::{ArtifactId, End, MAX_REFERENCES, Status, Submission, Task, TaskId};

type Stored<T> = Result<T, store::Error>;

/// What becomes of a task in the step that makes re-runs.
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It is undone, and this task, itself or the one that it is a part of, is
    /// submitted again.
    Renewed(TaskId),
    /// It is undone, or ends.
    Gone,
}

/// The task that a re-run depends on in the place of an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// One that is there.
    Task(TaskId),
    /// What this task becomes in the step that makes the re-run.
    Renewed(TaskId),
}

/// A dependency of the old task, and what the new one depends on in its place;
/// `None`: nothing, since the old one did its work long ago and was removed.
pub(super) type Followed = (TaskId, Option<Successor>);

/// The submission of a task that does the same as an ended one; `None`: there
/// is no such task.
pub(super) fn again(view: &View, id: TaskId) -> Stored<Option<Result<Submission, Refusal>>> {
    let tasks = Tasks::of(view);
    let Some(task) = tasks.get(id)? else { return Ok(None) };
    if !task.status().is_terminal() {
        return Ok(Some(Err(Refusal::NotEnded(task.status()))));
    }
    let dependencies = match follow(&tasks, &task, |_| Ok(Fate::Stays))? {
        Ok(dependencies) => dependencies,
        Err(dependency) => return Ok(Some(Err(Refusal::DependencyNotCompleted { task: id, dependency }))),
    };
    let Some((mut submission, successors)) = renewed(&tasks, &task, &dependencies)? else { return Ok(None) };
    depend_on(&mut submission, &successors, |task| task);
    Ok(Some(Ok(submission)))
}

/// Follows each dependency of a task to the newest completed task of its chain
/// of re-runs, else to the newest open one; without either, the error is the
/// dependency.
pub(super) fn follow(
    tasks: &Tasks<'_>,
    task: &Task,
    mut fate: impl FnMut(TaskId) -> Stored<Fate>,
) -> Stored<Result<Vec<Followed>, TaskId>> {
    let mut followed = Vec::with_capacity(task.depends_on.len());
    for &dependency in &task.depends_on {
        let found = successor(tasks, dependency, &mut fate)?;
        if found.is_none() {
            // One that was removed had completed, where this task got behind it.
            let is_over = has_begun(task) && tasks.get(dependency)?.is_none();
            if !is_over || !matches!(fate(dependency)?, Fate::Stays) {
                return Ok(Err(dependency));
            }
        }
        followed.push((dependency, found));
    }
    Ok(Ok(followed))
}

fn successor(
    tasks: &Tasks<'_>,
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

/// Whether a task came so far that everything it depended on had completed.
fn has_begun(task: &Task) -> bool {
    task.attempts() > 0 || !task.children.is_empty() || task.status() == Status::Completed
}

/// The submission of a task that does the same as this one: with its inputs,
/// save what the replaced dependencies had produced, unless the client named
/// that itself; and what it depends on, which is not in the submission yet.
pub(super) fn renewed(
    tasks: &Tasks<'_>,
    task: &Task,
    dependencies: &[Followed],
) -> Stored<Option<(Submission, Vec<Successor>)>> {
    let Some(mut submission) = tasks.view.submission(task.id)? else { return Ok(None) };
    let options = &mut submission.options;
    let (mut successors, mut replaced) = (Vec::with_capacity(dependencies.len()), Vec::new());
    for (old, successor) in dependencies {
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

/// Lets a submission depend on what its old dependencies were followed to;
/// `renewed` is what a task becomes that is submitted again.
pub(super) fn depend_on(submission: &mut Submission, successors: &[Successor], renewed: impl Fn(TaskId) -> TaskId) {
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

/// What a task has produced, if it has completed.
fn products(task: &Task) -> Vec<ArtifactId> {
    match End::of(task) {
        Some(End::Completed { artifacts }) => artifacts.into_iter().map(|artifact| artifact.id).collect(),
        Some(End::Lost { .. }) | None => Vec::new(),
    }
}
