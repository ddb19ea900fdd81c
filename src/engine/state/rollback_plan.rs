//! The plan of a rollback, made beside the writer from a view of the store and a graph that is
//! no newer than the view.

use std::collections::{BTreeSet, HashSet};

use super::affected::AffectedTasks;
use super::checkpoints::Checkpoints;
use super::failure::{Failure, Stored};
use super::families::{Roots, ViewedTasks, ended_by};
use super::made_after::{Point, made_after, to_cancel};
use super::projects::Projects;
use super::provenance::{NewStatement, PlannedStep, Planning, Provenance, StatementLookup, Validity, new_statements};
use super::rerun::{self, Fate, Successor};
use super::snapshot::Snapshot;
use super::submit::Routed;
use crate::engine::api::{Refusal, RollbackRequest, Version};
use crate::lineage::{Action, Step};
use crate::store::Checkpoint;
use crate::task::{CheckpointId, ProjectId, RecordId, Router, TaskId};

/// A task that is submitted again.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) task: TaskId,
    /// Its submission, if it is requested and can be made.
    pub(super) submission: Option<RenewedSubmission>,
}

/// A submission that is made again, and what it depends on.
#[derive(Debug)]
pub(super) struct RenewedSubmission {
    pub(super) routed: Routed,
    pub(super) successors: Vec<Successor>,
}

/// What a rollback does, task by task and record by record.
#[derive(Debug)]
pub(crate) struct RollbackPlan {
    version: Version,
    /// The projects of the tasks that it depends on.
    projects: BTreeSet<ProjectId>,
    pub(super) checkpoint: Checkpoint,
    /// The statements about the records to taint.
    pub(super) new: Vec<NewStatement>,
    pub(super) step: PlannedStep,
    /// The running tasks that use what is no longer clean, if the request asks for them.
    pub(super) affected: Option<AffectedTasks>,
    /// Later checkpoints that are still valid.
    pub(super) later: Vec<Checkpoint>,
    /// Later checkpoints that are no longer valid.
    pub(super) covered: Vec<CheckpointId>,
    pub(super) tasks: TaskPlan,
    pub(super) requeue: bool,
}

/// What a rollback does to tasks.
#[derive(Debug, Default)]
pub(super) struct TaskPlan {
    /// Tasks to cancel, in order of their ids.
    pub(super) cancel: Vec<TaskId>,
    /// Tasks to submit again, each behind those that it depends on.
    pub(super) renewals: Vec<Renewal>,
    /// Tasks that can't be submitted again: their description is not known, or that of a
    /// task on which they depend and which did not complete.
    pub(super) lost: Vec<TaskId>,
    /// Tasks from before the checkpoint that continue.
    pub(super) still_open: Vec<TaskId>,
}

impl RollbackPlan {
    /// Plans what a request does; `with_affected`: also which running tasks use what is no
    /// longer clean.
    pub(crate) fn new(
        snapshot: &Snapshot,
        request: &RollbackRequest,
        router: &Router,
        with_affected: bool,
    ) -> Result<Self, Failure> {
        let (view, graph) = (&snapshot.view, &*snapshot.graph);
        let checkpoint = check_valid(view.checkpoint(&request.checkpoint)?, request)?;
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
        let tasks = ViewedTasks::of(view);
        let router = request.requeue.then_some(router);
        let task_plan = TaskPlan::new(&tasks, &checkpoint, &spoilt, router)?;
        let mut projects = tasks.into_projects();
        projects.insert(checkpoint.project.clone());
        let is_change = !(records.is_empty() && later.is_empty() && task_plan.is_empty(request.requeue));
        let (new, step) = taint(snapshot, &records, is_change)?;
        let affected = if with_affected { Some(AffectedTasks::of(snapshot, &step.after, &step.step)?) } else { None };
        let (version, requeue) = (snapshot.version, request.requeue);
        Ok(Self { version, projects, checkpoint, new, step, affected, later, covered, tasks: task_plan, requeue })
    }

    /// Whether there is anything to change.
    pub(super) fn is_change(&self) -> bool {
        !(self.new.is_empty() && self.later.is_empty() && self.tasks.is_empty(self.requeue))
    }

    /// Whether the writer makes the step itself where the graph has another version.
    pub(crate) const fn is_small(&self) -> bool {
        self.step.is_small
    }

    /// How far the plan still holds. Besides the graph it depends on checkpoints, and on what
    /// happens in the projects of the tasks that it has looked at.
    pub(super) fn validity(&self, checkpoints: &Checkpoints, projects: &Projects, provenance: &Provenance) -> Validity {
        if checkpoints.changed_in() > self.version
            || self.projects.iter().any(|project| projects.changed_in(project) > self.version)
        {
            return Validity::Gone;
        }
        provenance.validity(&self.step)
    }
}

/// Taints records, with all that follows, on a version of the graph of its own. A rollback
/// that changes anything is a step, whether or not it taints something, because the audit
/// trail has every rollback.
fn taint(snapshot: &Snapshot, records: &[RecordId], is_change: bool) -> Stored<(Vec<NewStatement>, PlannedStep)> {
    let graph = &*snapshot.graph;
    let mut planning = Planning::on(graph);
    // No step belongs to its cascade yet, whatever id that will have.
    let mut lookup = StatementLookup::in_view(&snapshot.view, graph);
    let new = new_statements(Action::Taint, records, "", &mut lookup)?;
    let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
    let step = if is_change {
        planning.change(|graph, seq| graph.apply(Action::Taint, &named, seq))?
    } else {
        Step::default()
    };
    Ok((new, planning.finish(step, &named)))
}

impl TaskPlan {
    fn new(
        tasks: &ViewedTasks<'_>,
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
        plan.plan_renewals(tasks, &mut roots, (&undone, &ended), router)?;
        Ok(plan)
    }

    fn is_empty(&self, requeue: bool) -> bool {
        self.cancel.is_empty() && (self.renewals.is_empty() || !requeue)
    }

    /// Decides which of the undone tasks can be submitted again, and behind which others. A
    /// task is decided on after those that it may depend on: mostly these are older, and one
    /// round decides on all.
    fn plan_renewals(
        &mut self,
        tasks: &ViewedTasks<'_>,
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
                let Ok(dependencies) = rerun::follow_dependencies(tasks, &task, fate)? else { continue };
                if undecided && waits {
                    continue;
                }
                left.remove(&id);
                renewed.insert(id);
                let mut submission = None;
                if let Some(router) = router {
                    let renewed = rerun::resubmission(tasks, &task, &dependencies)?;
                    submission = renewed
                        .map(|(again, successors)| RenewedSubmission { routed: Routed::by(router, again), successors });
                }
                self.renewals.push(Renewal { task: id, submission });
            }
            match (left.len() < before, waits) {
                (true, _) => waits = true,
                // Nothing is left for which the remaining tasks could wait.
                (false, true) => waits = false,
                (false, false) => break,
            }
        }
        self.lost.extend(left);
        Ok(())
    }
}

/// Returns the checkpoint, if it can be rolled back to as the request asks.
fn check_valid(checkpoint: Option<Checkpoint>, request: &RollbackRequest) -> Result<Checkpoint, Refusal> {
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
