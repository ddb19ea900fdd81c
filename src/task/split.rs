//! Decomposition: a task becomes the parent of subtasks and ends with them.

use std::collections::{HashMap, HashSet};

use super::analysis::{Decomposition, Subtask};
use super::change::{Change, Effect, Outcome};
use super::children::{Child, Children, End};
use super::course::Course;
use super::draft::{Draft, Step, first_effects};
use super::error::{ErrorCode, TaskError};
use super::id::TaskId;
use super::moment::Now;
use super::policy::Policy;
use super::request::OnChildFailure;
use super::routing::{Routing, RoutingStep};
use super::state::{Completion, Pending, Queued, State, Task};
use super::status::Status;

impl End {
    /// How `task` ended; `None` if it has not ended.
    #[must_use]
    pub fn of(task: &Task) -> Option<Self> {
        let lost = |status, reason: &str| Self::Lost { status, reason: reason.to_owned() };
        match &task.state {
            State::Completed { by: Completion::Attempt { product, .. }, .. } => {
                Some(Self::Completed { artifacts: product.artifacts.clone() })
            }
            State::Completed { by: Completion::Children { artifacts }, .. } => {
                Some(Self::Completed { artifacts: artifacts.clone() })
            }
            State::Failed { error, .. } => Some(lost(Status::Failed, &error.message)),
            State::Cancelled { reason, .. } => {
                Some(lost(Status::Cancelled, reason.as_deref().unwrap_or("it was cancelled")))
            }
            State::Pending(_) | State::Running { .. } | State::Children(_) => None,
        }
    }
}

/// Makes the task the parent of the parts of `decomposition`, or fails it with a message that names
/// the part that is not valid.
pub(super) fn split(
    draft: &mut Draft<'_>,
    routing: Routing,
    decomposition: &Decomposition,
    max_depth: u32,
    ids: &[TaskId],
) {
    if decomposition.subtasks.is_empty() {
        draft.choose_tier(routing);
        return;
    }
    if let Err(message) = check(decomposition, max_depth, draft.policy.max_subtasks) {
        draft.fail(TaskError { code: ErrorCode::DecompositionFailed, message, attempt: None });
        return;
    }
    let by_name: HashMap<&str, TaskId> =
        decomposition.subtasks.iter().map(|subtask| subtask.id.as_str()).zip(ids.iter().copied()).collect();
    let children: Vec<Child> = decomposition
        .subtasks
        .iter()
        .zip(ids)
        .map(|(subtask, id)| Child {
            id: *id,
            description: subtask.description.clone(),
            domain: subtask.domain.clone().filter(|_| !routing.chosen.domain),
            routing: part_routing(routing, subtask, max_depth, draft.policy),
            depends_on: sibling_ids(subtask, &by_name),
        })
        .collect();
    let open: Vec<TaskId> = children.iter().map(|child| child.id).collect();
    draft.task.routing = None;
    draft.task.children.clone_from(&open);
    draft.log(Change::Split { children: open.clone() });
    let on_failure = routing.on_child_failure;
    draft.task.state = State::Children(Children { open, produced: Vec::new(), failure: None, on_failure });
    draft.effects.push(Effect::Spawn(children));
}

fn sibling_ids(subtask: &Subtask, by_name: &HashMap<&str, TaskId>) -> Vec<TaskId> {
    let mut depends_on = Vec::new();
    for id in subtask.dependencies.iter().filter_map(|name| by_name.get(name.as_str())) {
        if !depends_on.contains(id) {
            depends_on.push(*id);
        }
    }
    depends_on
}

/// Routing of a part. A part that is not atomic is split again if a level is left.
fn part_routing(routing: Routing, subtask: &Subtask, max_depth: u32, policy: &Policy) -> Option<Routing> {
    let left = max_depth.saturating_sub(1);
    if subtask.is_atomic || left == 0 {
        return routing.last_step(policy);
    }
    Some(Routing { step: RoutingStep::Decompose { max_depth: left }, ..routing })
}

/// Validates a decomposition. The error names the part that is not valid.
fn check(decomposition: &Decomposition, max_depth: u32, max_subtasks: usize) -> Result<(), String> {
    let subtasks = &decomposition.subtasks;
    if let Some(extra) = subtasks.get(max_subtasks) {
        let count = subtasks.len();
        return Err(format!(
            "the Agent made {count} subtasks, at most {max_subtasks} are allowed; the first too many is {:?}",
            extra.id
        ));
    }
    if let Some(depth) = decomposition.depth.filter(|depth| *depth > max_depth) {
        return Err(format!("the Agent split {depth} levels deep, at most {max_depth} are allowed"));
    }
    let mut known = HashSet::new();
    if let Some(twice) = subtasks.iter().find(|subtask| !known.insert(subtask.id.as_str())) {
        return Err(format!("the Agent gave two subtasks the id {:?}", twice.id));
    }
    for subtask in subtasks {
        if let Some(unknown) = subtask.dependencies.iter().find(|id| !known.contains(id.as_str())) {
            return Err(format!("subtask {:?} depends on {unknown:?}, which is none of its siblings", subtask.id));
        }
    }
    match cycle(subtasks) {
        Some(cycle) => Err(format!("the subtasks depend on each other in a circle: {}", cycle.join(" -> "))),
        None => Ok(()),
    }
}

/// Ids of a cycle of dependencies; the first id is repeated at the end.
fn cycle(subtasks: &[Subtask]) -> Option<Vec<String>> {
    let mut left: HashMap<&str, &Subtask> = subtasks.iter().map(|subtask| (subtask.id.as_str(), subtask)).collect();
    loop {
        let free: Vec<&str> = left
            .values()
            .filter(|subtask| !subtask.dependencies.iter().any(|id| left.contains_key(id.as_str())))
            .map(|subtask| subtask.id.as_str())
            .collect();
        if free.is_empty() {
            break;
        }
        for id in free {
            left.remove(id);
        }
    }
    // Each subtask that is left depends on another one that is left.
    let mut path = vec![subtasks.iter().find(|subtask| left.contains_key(subtask.id.as_str()))?];
    loop {
        let last = path.last()?;
        let next = left.get(last.dependencies.iter().find(|id| left.contains_key(id.as_str()))?.as_str())?;
        if let Some(start) = path.iter().position(|each| each.id == next.id) {
            let circle = path.get(start..)?.iter().map(|each| each.id.clone());
            return Some(circle.chain([next.id.clone()]).collect());
        }
        path.push(next);
    }
}

/// Creates a subtask of `parent`. Its siblings are created in the same commit.
#[must_use]
pub fn spawn(parent: &Task, child: &Child, now: Now, policy: &Policy) -> Step {
    let state = if !child.depends_on.is_empty() {
        Pending::Blocked { waits_for: child.depends_on.clone() }
    } else if child.routing.is_some() {
        Pending::Analyzing { since: now.observed }
    } else {
        Pending::Queued(Queued {
            since: now.observed,
            announced: policy.announces_early(),
            not_before: None,
            attempt: None,
        })
    };
    let task = Task {
        id: child.id,
        parent: Some(parent.id),
        depth: parent.depth + 1,
        children: Vec::new(),
        domain: child.domain.clone().unwrap_or_else(|| parent.domain.clone()),
        created_at: now.wall,
        updated_at: now.wall,
        version: 1,
        started_at: None,
        rerun_of: None,
        depends_on: child.depends_on.clone(),
        routing: child.routing,
        has_findings: false,
        // The prediction was made for the whole task.
        estimate: None,
        closed: Vec::new(),
        parked: Vec::new(),
        state: State::Pending(state),
        course: Course { updated: Some(now.observed), ..Course::default() },
        ..parent.clone()
    };
    let effects = first_effects(&task);
    Step { task, outcome: Outcome::Applied, effects }
}

/// Records that a worker has started a subtask. The parent runs from the first such start on.
pub(super) fn child_started(mut draft: Draft<'_>) -> Step {
    if draft.task.started_at.is_some() || !matches!(draft.task.state, State::Children(_)) {
        return draft.done(Outcome::Unchanged);
    }
    draft.start();
    draft.applied()
}

/// Corrects the start of the parent after a lease that never reached its worker: the parent started
/// when the first other subtask did.
pub(super) fn child_taken_back(mut draft: Draft<'_>, first: Option<Now>) -> Step {
    let first_at = first.map(|first| first.wall);
    if draft.task.started_at == first_at || !matches!(draft.task.state, State::Children(_)) {
        return draft.done(Outcome::Unchanged);
    }
    draft.task.started_at = first_at;
    draft.task.course.started = first.map(|first| first.observed);
    draft.applied()
}

/// Records the end of a subtask.
pub(super) fn child_ended(mut draft: Draft<'_>, child: TaskId, end: End) -> Step {
    let State::Children(mut children) = draft.task.state.clone() else { return draft.done(Outcome::Unchanged) };
    let Some(place) = children.open.iter().position(|open| *open == child) else {
        return draft.done(Outcome::Unchanged);
    };
    children.open.remove(place);
    match end {
        End::Completed { artifacts } => {
            draft.log(Change::ChildEnded { task: child, status: Status::Completed });
            children.produced.push((child, artifacts));
        }
        End::Lost { status, reason } => {
            draft.log(Change::ChildEnded { task: child, status });
            let message = format!("subtask {child} {}: {reason}", verb_of(status));
            let error = TaskError { code: ErrorCode::ChildFailed, message, attempt: None };
            children.failure = children.failure.or(Some(error));
        }
    }
    finish_if_ended(&mut draft, children);
    draft.applied()
}

const fn verb_of(status: Status) -> &'static str {
    match status {
        Status::Cancelled => "was cancelled",
        Status::Failed | Status::Pending | Status::Running | Status::Completed => "failed",
    }
}

/// Ends the parent when all its subtasks have ended, or when one of them failed and cancels the
/// others.
fn finish_if_ended(draft: &mut Draft<'_>, children: Children) {
    match &children.failure {
        Some(error) if children.on_failure == OnChildFailure::Cancel || children.open.is_empty() => {
            let error = error.clone();
            cancel_all(draft, &children.open, &error.message);
            draft.fail(error);
        }
        Some(_) | None if !children.open.is_empty() => draft.task.state = State::Children(children),
        Some(_) | None => {
            let order = |id: &TaskId| draft.task.children.iter().position(|child| child == id);
            let mut produced = children.produced;
            produced.sort_by_key(|(child, _)| order(child));
            draft.complete_with(produced.into_iter().flat_map(|(_, artifacts)| artifacts).collect());
        }
    }
}

/// Cancels the subtasks that have not ended.
pub(super) fn cancel_all(draft: &mut Draft<'_>, open: &[TaskId], reason: &str) {
    for task in open {
        draft.effects.push(Effect::Cancel { task: *task, reason: reason.to_owned() });
    }
}
