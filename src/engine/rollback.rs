//! Rollback: what was made in a project after a checkpoint is tainted, running
//! tasks from after it are cancelled, and, if that is wanted, what has to be
//! done again is submitted again. One durable step.
//!
//! A task from after it that only waits stays, unless it depends on what is undone:
//! it would fail, or work with what is tainted. See `docs/decisions`.
//!
//! What it does is planned first, from a view of the store and the graph of
//! the same commit, and then carried out. A dry run is the plan alone, so the
//! two can't differ.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::after::{Point, made_after, to_cancel};
use super::api::{Error, Refusal};
use super::command::{Command, Routed};
use super::families::{Roots, ended_by};
use super::handle::Engine;
use super::machine::Machine;
use super::provenance;
use super::rerun::{self, Fate, Followed, Successor};
use crate::lineage::{Action, Graph, Step};
use crate::store::{self, CascadeRow, Cause, Changes, Checkpoint, RollbackRow, View};
use crate::task::{CheckpointId, Now, ProjectId, RecordId, TaskId};

type Stored<T> = Result<T, store::Error>;

/// A project is to be rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRequest {
    /// To this checkpoint.
    pub checkpoint: CheckpointId,
    /// The project whose checkpoint it must be, where that is said.
    pub project: Option<ProjectId>,
    /// Why.
    pub reason: String,
    /// Whether what has to be done again is submitted again.
    pub requeue: bool,
    /// Change nothing, only find out what would change.
    pub dry_run: bool,
}

/// What a rollback did, or would.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// Its id in the audit trail.
    pub cascade_id: String,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The graph that the places in `step` are places of.
    pub graph: Graph,
    /// The flags that change.
    pub step: Step,
    /// How many records it names that no rollback to this checkpoint has named before.
    pub named: usize,
    /// Later checkpoints that can't be rolled back to any more.
    pub invalidated: Vec<CheckpointId>,
    /// Tasks of the project from after the checkpoint that were cancelled: those with
    /// an open attempt, and open ones that are parts of what is undone or depend on it.
    pub cancelled: Vec<TaskId>,
    /// Other running tasks that use what is no longer clean.
    pub running: Vec<TaskId>,
    /// Tasks from before the checkpoint that go on, although work of theirs
    /// was tainted.
    pub still_open: Vec<TaskId>,
    /// Tasks that have to be done again.
    pub to_rerun: Vec<TaskId>,
    /// Those of them that were submitted again, and what they became; in a
    /// dry run they have become nothing.
    pub requeued: Vec<(TaskId, Option<TaskId>)>,
    /// Those of them that can't be submitted again: their description is not
    /// known, or a task that they depend on did not complete and is not done
    /// again either.
    pub not_requeued: Vec<TaskId>,
}

impl Rollback {
    /// Whether anything was left to change.
    #[must_use]
    pub fn is_change(&self) -> bool {
        let untouched = self.step.flags.is_empty()
            && self.named == 0
            && self.invalidated.is_empty()
            && self.cancelled.is_empty()
            && self.requeued.is_empty();
        !untouched
    }
}

impl Engine {
    /// Rolls a project back to a checkpoint, in one durable step; in a dry run
    /// the same is found out, and nothing changes.
    pub async fn rollback(&self, request: RollbackRequest) -> Result<Rollback, Error> {
        if !request.dry_run {
            let request = Box::new(request);
            return self.ask(|reply| Command::Rollback { request, reply }).await.map(|rollback| *rollback);
        }
        let previewed = self.read(move |side| {
            let view = side.store.view()?;
            let checkpoint = match valid(view.checkpoint(&request.checkpoint)?, &request) {
                Ok(checkpoint) => checkpoint,
                Err(refusal) => return Ok(Err(refusal)),
            };
            preview(&view, &side.graph(), checkpoint, request.requeue).map(Ok)
        });
        Ok(previewed.await??)
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

/// What a rollback would do.
fn preview(view: &View, graph: &Arc<Graph>, checkpoint: Checkpoint, requeue: bool) -> Stored<Rollback> {
    let plan = Plan::new(view, graph, &checkpoint, requeue)?;
    let step = graph.preview(Action::Taint, &plan.records, None).map_err(provenance::unexpected)?;
    let worse: Vec<_> = step.flags.iter().map(|change| change.record).collect();
    let mut running = provenance::running_users_in(view, graph, &worse)?;
    running.retain(|task| plan.cancel.binary_search(task).is_err());
    let mut again: Vec<_> = plan.renewed().filter(|_| requeue).map(|task| (task, None)).collect();
    again.sort_unstable();
    Ok(plan.outcome(checkpoint, String::new(), Graph::clone(graph), step, running, again))
}

/// A task that is done again, and what becomes of those it depends on.
struct Renewal {
    task: TaskId,
    dependencies: Vec<Followed>,
}

/// What a rollback does, task by task and record by record.
struct Plan {
    /// Records to taint.
    records: Vec<RecordId>,
    /// Later checkpoints that are valid until now.
    later: Vec<Checkpoint>,
    /// Later checkpoints that are not.
    covered: Vec<CheckpointId>,
    /// Tasks to cancel, in order of their ids.
    cancel: Vec<TaskId>,
    /// Tasks to do again: what one depends on stands before it.
    again: Vec<Renewal>,
    /// Tasks that can't be done again: their description is not known, or that
    /// of a task they depend on, which did not complete.
    lost: Vec<TaskId>,
    still_open: Vec<TaskId>,
    requeue: bool,
}

impl Plan {
    fn new(view: &View, graph: &Graph, checkpoint: &Checkpoint, requeue: bool) -> Stored<Self> {
        let after = Point::of(checkpoint);
        let (records, spoilt) = made_after(view, graph, checkpoint, after)?;
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
        let mut roots = Roots::new(view);
        let mut affected = BTreeSet::new();
        for task in &spoilt {
            affected.insert(roots.of(*task)?);
        }
        let cancel = to_cancel(view, &mut roots, &affected, (checkpoint, after), requeue)?;
        for task in &cancel {
            affected.insert(roots.of(*task)?);
        }
        let ended = ended_by(view, &cancel)?;
        let (again, lost, still_open) = (Vec::new(), Vec::new(), Vec::new());
        let mut plan = Self { records, later, covered, cancel, again, lost, still_open, requeue };
        let mut undone = BTreeSet::new();
        for root in affected {
            match view.task(root)? {
                Some(task) if !task.status().is_terminal() && !ended.contains(&root) => plan.still_open.push(root),
                Some(_) | None => drop(undone.insert(root)),
            }
        }
        plan.renew(view, &mut roots, &undone, &ended)?;
        Ok(plan)
    }

    /// Finds out which of the undone tasks can be done again, and after which
    /// others. A task is decided on after those that it may depend on: mostly
    /// these are older, and one round decides on all.
    fn renew(
        &mut self,
        view: &View,
        roots: &mut Roots<'_>,
        undone: &BTreeSet<TaskId>,
        ended: &HashSet<TaskId>,
    ) -> Stored<()> {
        let mut left = BTreeSet::new();
        for &id in undone {
            let known = view.has_task(id)? && view.task(id)?.is_some();
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
                let Some(task) = view.task(id)? else { continue };
                let Ok(dependencies) = rerun::follow(view, &task, fate)? else { continue };
                if undecided && waits {
                    continue;
                }
                left.remove(&id);
                renewed.insert(id);
                self.again.push(Renewal { task: id, dependencies });
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

    /// Whether there is anything to do.
    fn is_change(&self) -> bool {
        let is_again = self.requeue && !self.again.is_empty();
        is_again || !(self.records.is_empty() && self.later.is_empty() && self.cancel.is_empty())
    }

    fn renewed(&self) -> impl Iterator<Item = TaskId> {
        self.again.iter().map(|renewal| renewal.task)
    }

    fn outcome(
        self,
        checkpoint: Checkpoint,
        cascade_id: String,
        graph: Graph,
        step: Step,
        running: Vec<TaskId>,
        requeued: Vec<(TaskId, Option<TaskId>)>,
    ) -> Rollback {
        let (mut to_rerun, mut not_requeued) = (self.renewed().collect::<Vec<_>>(), self.lost);
        if self.requeue {
            let made: HashSet<TaskId> = requeued.iter().map(|(task, _)| *task).collect();
            let (again, lost) = to_rerun.into_iter().partition(|task| made.contains(task));
            to_rerun = again;
            not_requeued.extend::<Vec<TaskId>>(lost);
        }
        to_rerun.extend(&not_requeued);
        to_rerun.sort_unstable();
        not_requeued.sort_unstable();
        Rollback {
            cascade_id,
            checkpoint,
            graph,
            step,
            named: self.records.len(),
            invalidated: self.later.into_iter().map(|checkpoint| checkpoint.id).collect(),
            cancelled: self.cancel,
            running,
            still_open: self.still_open,
            to_rerun,
            requeued,
            not_requeued,
        }
    }
}

impl Machine {
    /// Rolls a project back. Nothing of this group may be uncommitted: the
    /// plan is made from the store.
    pub(super) fn rollback(&mut self, request: &RollbackRequest, now: Now) -> Stored<Result<Rollback, Refusal>> {
        let mut checkpoint = match valid(self.checkpoint(&request.checkpoint)?, request) {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let view = self.store.view()?;
        if request.dry_run {
            let graph = Arc::new(self.provenance.graph().clone());
            return preview(&view, &graph, checkpoint, request.requeue).map(Ok);
        }
        let plan = Plan::new(&view, self.provenance.graph(), &checkpoint, request.requeue)?;
        let cascade_id = self.mint(now).to_string();
        let is_change = plan.is_change();
        let step = if is_change {
            self.taint_after(&plan, &cascade_id, (request, &checkpoint), now)?
        } else {
            Step::default()
        };
        for later in &plan.later {
            let later = Checkpoint { is_valid: false, ..later.clone() };
            self.automatic.set_valid(&later);
            self.group.checkpoints.insert(later.id.clone(), later);
        }
        self.cancel_all(&plan.cancel, &format!("rollback to checkpoint {}: {}", checkpoint.id, request.reason), now)?;
        let running = self.running_users(&step)?;
        let again = if request.requeue { self.submit_again(&view, &plan, now)? } else { Vec::new() };
        let graph = self.provenance.graph().clone();
        checkpoint.rolled_back_at = Some(now.wall);
        let rollback = plan.outcome(checkpoint.clone(), cascade_id, graph, step, running, again);
        if is_change {
            self.group.checkpoints.insert(checkpoint.id.clone(), checkpoint);
        }
        Ok(Ok(rollback))
    }

    /// Taints what was made after the checkpoint, with all that follows, and
    /// keeps what taking that back needs.
    fn taint_after(
        &mut self,
        plan: &Plan,
        cascade_id: &str,
        (request, checkpoint): (&RollbackRequest, &Checkpoint),
        now: Now,
    ) -> Stored<Step> {
        let mut said = self.say(Action::Taint, &plan.records, cascade_id)?;
        if said.named.is_empty() {
            // A step of its own all the same: the trail has every rollback.
            (said.seq, said.step) = self.provenance.apply(Action::Taint, &[])?;
        }
        let row = CascadeRow {
            at: now.wall,
            cascade_id: cascade_id.to_owned(),
            cause: Cause::Rollback { checkpoint: request.checkpoint.clone(), why: request.reason.clone() },
            reason: format!("Rollback to checkpoint {}", request.checkpoint),
            source: None,
        };
        let graph = self.provenance.graph();
        let changes = Changes::of(graph, &said.told(graph));
        self.group.batch.put_cascade(said.seq, &row, changes)?;
        let rollback = RollbackRow {
            cascade_id: cascade_id.to_owned(),
            checkpoint: checkpoint.id.clone(),
            project: checkpoint.project.clone(),
            at: now.wall,
            rolled_back_before: checkpoint.rolled_back_at,
            invalidated: plan.later.iter().map(|later| later.id.clone()).collect(),
            covered: plan.covered.clone(),
            is_undone: false,
        };
        self.group.batch.put_rollback(said.seq, &rollback)?;
        Ok(said.step)
    }

    /// Submits tasks again, those that others depend on first.
    fn submit_again(&mut self, view: &View, plan: &Plan, now: Now) -> Stored<Vec<(TaskId, Option<TaskId>)>> {
        let mut made = HashMap::with_capacity(plan.again.len());
        let mut requeued = Vec::with_capacity(plan.again.len());
        for renewal in &plan.again {
            let id_of = |successor| match successor {
                Successor::Task(task) => task,
                Successor::Renewed(task) => made.get(&task).copied().unwrap_or(task),
            };
            let Some(task) = view.task(renewal.task)? else { continue };
            let Some(submission) = rerun::renewed(view, &task, &renewal.dependencies, id_of)? else { continue };
            let routed = Routed::by(&self.settings.router, submission);
            // What it depends on is there, or was just made.
            let Ok(submitted) = self.submit_one(&routed, now)? else { continue };
            made.insert(renewal.task, submitted.task);
            requeued.push((renewal.task, Some(submitted.task)));
        }
        requeued.sort_unstable();
        Ok(requeued)
    }
}
