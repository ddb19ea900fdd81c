//! What a rollback does, found out beside the writer: from a view of the store and
//! a graph that is no newer than it.

use std::collections::{BTreeSet, HashSet};

use super::after::{Point, made_after, to_cancel};
use super::api::{Refusal, RollbackRequest, Version};
use super::command::Routed;
use super::families::{Roots, Tasks, ended_by};
use super::machine::Machine;
use super::plan::{PlannedStep, Planning, Snapshot, Validity};
use super::rerun::{self, Fate, Successor};
use super::statements::{InView, NewStatement, unsaid};
use super::users::Users;
use crate::lineage::Action;
use crate::store::{self, Checkpoint};
use crate::task::{CheckpointId, ProjectId, RecordId, Router, TaskId};

type Stored<T> = Result<T, store::Error>;

/// A task that is done again, and what becomes of those it depends on.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) task: TaskId,
    /// What is submitted, where that is wanted, and what it depends on.
    pub(super) submission: Option<(Routed, Vec<Successor>)>,
}

/// What a rollback does, task by task and record by record.
#[derive(Debug)]
pub(super) struct RollbackPlan {
    version: Version,
    /// The projects of the tasks that it depends on.
    projects: BTreeSet<ProjectId>,
    pub(super) checkpoint: Checkpoint,
    /// What is said of the records to taint.
    pub(super) new: Vec<NewStatement>,
    pub(super) step: PlannedStep,
    /// The running tasks that use what is no longer clean; `None`: nobody asks.
    pub(super) users: Option<Users>,
    /// Later checkpoints that are valid until now.
    pub(super) later: Vec<Checkpoint>,
    /// Later checkpoints that are not.
    pub(super) covered: Vec<CheckpointId>,
    pub(super) tasks: TaskPlan,
    pub(super) requeue: bool,
}

/// What it does to tasks.
#[derive(Debug, Default)]
pub(super) struct TaskPlan {
    /// Tasks to cancel, in order of their ids.
    pub(super) cancel: Vec<TaskId>,
    /// Tasks to do again: what one depends on stands before it.
    pub(super) again: Vec<Renewal>,
    /// Tasks that can't be done again: their description is not known, or that
    /// of a task they depend on, which did not complete.
    pub(super) lost: Vec<TaskId>,
    /// Tasks from before the checkpoint that go on.
    pub(super) still_open: Vec<TaskId>,
}

impl RollbackPlan {
    /// Plans what a request does; `with_users`: also which running tasks use what
    /// is no longer clean.
    pub(super) fn new(
        snapshot: &Snapshot,
        request: &RollbackRequest,
        router: &Router,
        with_users: bool,
    ) -> Stored<Result<Self, Refusal>> {
        let (view, graph) = (&snapshot.view, &*snapshot.graph);
        let checkpoint = match valid(view.checkpoint(&request.checkpoint)?, request) {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let after = Point::of(&checkpoint);
        let (records, spoilt) = made_after(view, graph, &checkpoint, after)?;
        let (mut later, mut covered) = (Vec::new(), Vec::new());
        for each in view.checkpoints_of(&checkpoint.project, None)? {
            let each = each?;
            if !after.is_before(each.own_id(), each.created_at) {
                continue;
            }
            if each.is_valid {
                later.push(each);
            } else {
                covered.push(each.id);
            }
        }
        let tasks = Tasks::of(view);
        let router = request.requeue.then_some(router);
        let task_plan = TaskPlan::new(&tasks, &checkpoint, &spoilt, router)?;
        let mut projects = tasks.into_projects();
        projects.insert(checkpoint.project.clone());
        let is_change = !(records.is_empty() && later.is_empty() && task_plan.is_empty(request.requeue));
        let (new, step) = taint(snapshot, &records, is_change)?;
        let users = if with_users { Some(Users::of(snapshot, &step.after, &step.step)?) } else { None };
        let (version, requeue) = (snapshot.version, request.requeue);
        Ok(Ok(Self { version, projects, checkpoint, new, step, users, later, covered, tasks: task_plan, requeue }))
    }

    /// Whether there is anything to do.
    pub(super) fn is_change(&self) -> bool {
        !(self.new.is_empty() && self.later.is_empty() && self.tasks.is_empty(self.requeue))
    }

    /// Whether it still holds. What it depends on besides the graph: checkpoints,
    /// and what happens in the projects of the tasks that it has looked at.
    pub(super) fn validity(&self, machine: &Machine) -> Validity {
        let changed = |project| machine.projects.get(project).map_or(Version::default(), |state| state.changed);
        if machine.checkpoints_changed > self.version
            || self.projects.iter().any(|project| changed(project) > self.version)
        {
            return Validity::Gone;
        }
        self.step.validity(&machine.provenance)
    }
}

/// Taints records, with all that follows, on a version of the graph of its own. A
/// rollback that changes anything is a step, whether or not it taints something:
/// the trail has every rollback.
fn taint(snapshot: &Snapshot, records: &[RecordId], is_change: bool) -> Stored<(Vec<NewStatement>, PlannedStep)> {
    let graph = &*snapshot.graph;
    let mut planning = Planning::on(graph);
    // No step is of its cascade yet, whatever that will be called.
    let new = unsaid(Action::Taint, records, "", graph, &mut InView::new(&snapshot.view, graph))?;
    let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
    let step = if is_change {
        planning.change(|graph, seq| graph.apply(Action::Taint, &named, seq))?
    } else {
        crate::lineage::Step::default()
    };
    Ok((new, planning.finish(step, &named)))
}

impl TaskPlan {
    fn new(
        tasks: &Tasks<'_>,
        checkpoint: &Checkpoint,
        spoilt: &BTreeSet<TaskId>,
        router: Option<&Router>,
    ) -> Stored<Self> {
        let mut roots = Roots::new(tasks);
        let mut affected = BTreeSet::new();
        for task in spoilt {
            affected.insert(roots.of(*task)?);
        }
        let cancel = to_cancel(tasks, &mut roots, &affected, checkpoint, router.is_some())?;
        for task in &cancel {
            affected.insert(roots.of(*task)?);
        }
        let ended = ended_by(tasks, &cancel)?;
        let mut plan = Self { cancel, ..Self::default() };
        let mut undone = BTreeSet::new();
        for root in affected {
            match tasks.get(root)? {
                Some(task) if !task.status().is_terminal() && !ended.contains(&root) => plan.still_open.push(root),
                Some(_) | None => drop(undone.insert(root)),
            }
        }
        plan.renew(tasks, &mut roots, (&undone, &ended), router)?;
        Ok(plan)
    }

    fn is_empty(&self, requeue: bool) -> bool {
        self.cancel.is_empty() && (self.again.is_empty() || !requeue)
    }

    /// Finds out which of the undone tasks can be done again, and after which
    /// others. A task is decided on after those that it may depend on: mostly
    /// these are older, and one round decides on all.
    fn renew(
        &mut self,
        tasks: &Tasks<'_>,
        roots: &mut Roots<'_>,
        (undone, ended): (&BTreeSet<TaskId>, &HashSet<TaskId>),
        router: Option<&Router>,
    ) -> Stored<()> {
        let mut left = BTreeSet::new();
        for &id in undone {
            let known = tasks.view.has_task(id)? && tasks.get(id)?.is_some();
            if known {
                left.insert(id);
            } else {
                self.lost.push(id);
            }
        }
        let mut renewed = HashSet::new();
        let mut waits = true;
        loop {
            let before = left.len();
            for id in left.clone() {
                let mut undecided = false;
                let fate = |other: TaskId| {
                    let root = roots.of(other)?;
                    if renewed.contains(&root) {
                        return Ok(Fate::Renewed(root));
                    }
                    undecided |= left.contains(&root);
                    let gone = undone.contains(&root) || ended.contains(&other);
                    Ok(if gone { Fate::Gone } else { Fate::Stays })
                };
                let Some(task) = tasks.get(id)? else { continue };
                let Ok(dependencies) = rerun::follow(tasks, &task, fate)? else { continue };
                if undecided && waits {
                    continue;
                }
                left.remove(&id);
                renewed.insert(id);
                let mut submission = None;
                if let Some(router) = router {
                    let renewed = rerun::renewed(tasks, &task, &dependencies)?;
                    submission = renewed.map(|(again, successors)| (Routed::by(router, again), successors));
                }
                self.again.push(Renewal { task: id, submission });
            }
            match (left.len() < before, waits) {
                (true, _) => waits = true,
                // Nothing is left that what remains could wait for.
                (false, true) => waits = false,
                (false, false) => break,
            }
        }
        self.lost.extend(left);
        Ok(())
    }
}

/// The checkpoint, if it can be rolled back to as the request asks.
fn valid(checkpoint: Option<Checkpoint>, request: &RollbackRequest) -> Result<Checkpoint, Refusal> {
    let checkpoint = checkpoint.ok_or_else(|| Refusal::CheckpointNotFound(request.checkpoint.clone()))?;
    if request.project.as_ref().is_some_and(|project| *project != checkpoint.project) {
        let (checkpoint, project) = (checkpoint.id, checkpoint.project);
        return Err(Refusal::CheckpointOfOtherProject { checkpoint, project });
    }
    if !checkpoint.is_valid {
        return Err(Refusal::CheckpointInvalid(checkpoint.id));
    }
    Ok(checkpoint)
}
