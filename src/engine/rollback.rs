//! Rollback: what was made in a project after a checkpoint is tainted, running
//! tasks from after it are cancelled, and, if that is wanted, what has to be
//! done again is submitted again. One durable step.
//!
//! A task from after it that only waits stays, unless it depends on what is undone:
//! it would fail, or work with what is tainted. See `docs/decisions`.
//!
//! What it does is planned first, beside the writer (`rollback_plan.rs`), and then
//! carried out. A dry run is the plan alone, so the two can't differ.

use std::collections::{HashMap, HashSet};

use super::api::{Rollback, RollbackRequest};
use super::machine::Machine;
use super::plan::{PlannedStep, Validity};
use super::rerun::depend_on;
use super::rollback_plan::{Renewal, RollbackPlan, TaskPlan};
use super::statements::{NewStatement, told};
use crate::lineage::{Action, Graph, Step};
use crate::store::{self, CascadeRow, Cause, Changes, Checkpoint, RollbackRow};
use crate::task::{Now, RecordId, TaskId};

type Stored<T> = Result<T, store::Error>;

/// What a rollback would do.
pub(super) fn preview(plan: RollbackPlan) -> Rollback {
    let RollbackPlan { checkpoint, new, step, users, later, tasks, requeue, .. } = plan;
    let mut running = users.as_ref().map_or_else(Vec::new, |users| users.found().to_vec());
    running.retain(|task| tasks.cancel.binary_search(task).is_err());
    running.sort_unstable();
    let mut again: Vec<_> = tasks.again.iter().map(|renewal| (renewal.task, None)).filter(|_| requeue).collect();
    again.sort_unstable();
    let PlannedStep { after: graph, step, .. } = step;
    let done = Done { cascade_id: String::new(), graph, step, named: new.len(), running, again };
    done.outcome(checkpoint, later, tasks, requeue)
}

/// What has been done, or would be.
struct Done {
    cascade_id: String,
    graph: Graph,
    step: Step,
    named: usize,
    running: Vec<TaskId>,
    again: Vec<(TaskId, Option<TaskId>)>,
}

impl Done {
    fn outcome(self, checkpoint: Checkpoint, later: Vec<Checkpoint>, tasks: TaskPlan, requeue: bool) -> Rollback {
        let Self { cascade_id, graph, step, named, running, again: requeued } = self;
        let mut to_rerun: Vec<TaskId> = tasks.again.iter().map(|renewal| renewal.task).collect();
        let mut not_requeued = tasks.lost;
        if requeue {
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
            named,
            invalidated: later.into_iter().map(|checkpoint| checkpoint.id).collect(),
            cancelled: tasks.cancel,
            running,
            still_open: tasks.still_open,
            to_rerun,
            requeued,
            not_requeued,
        }
    }
}

impl Machine {
    /// Rolls a project back as planned. All of the plan but its step holds.
    pub(super) fn rollback(&mut self, request: &RollbackRequest, plan: RollbackPlan, now: Now) -> Stored<Rollback> {
        if request.dry_run {
            return Ok(preview(plan));
        }
        let cascade_id = self.mint(now).to_string();
        let (is_change, is_planned) = (plan.is_change(), plan.validity(self) == Validity::Whole);
        let rollback_row = RollbackRow {
            cascade_id: cascade_id.clone(),
            checkpoint: plan.checkpoint.id.clone(),
            project: plan.checkpoint.project.clone(),
            at: now.wall,
            rolled_back_before: plan.checkpoint.rolled_back_at,
            invalidated: plan.later.iter().map(|later| later.id.clone()).collect(),
            covered: plan.covered,
            is_undone: false,
        };
        let RollbackPlan { mut checkpoint, new, step, users, later, mut tasks, requeue, .. } = plan;
        let named = new.len();
        let step = if is_change { self.taint_after(new, step, (request, rollback_row), now)? } else { Step::default() };
        for each in &later {
            let later = Checkpoint { is_valid: false, ..each.clone() };
            self.automatic.set_valid(&later);
            self.keep_checkpoint(later);
        }
        self.cancel_all(&tasks.cancel, &format!("rollback to checkpoint {}: {}", checkpoint.id, request.reason), now)?;
        let running = match &users {
            Some(users) => self.running_users(&step, Some(users), is_planned)?,
            None => Vec::new(),
        };
        let again = if requeue { self.submit_again(&mut tasks.again, now)? } else { Vec::new() };
        checkpoint.rolled_back_at = Some(now.wall);
        if is_change {
            self.keep_checkpoint(checkpoint.clone());
        }
        let graph = self.provenance.graph().clone();
        let done = Done { cascade_id, graph, step, named, running, again };
        Ok(done.outcome(checkpoint, later, tasks, requeue))
    }

    /// Taints what was made after the checkpoint, with all that follows, and
    /// keeps what taking that back needs.
    fn taint_after(
        &mut self,
        new: Vec<NewStatement>,
        planned: PlannedStep,
        (request, rollback): (&RollbackRequest, RollbackRow),
        now: Now,
    ) -> Stored<Step> {
        let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
        let (seq, step, told) = if planned.validity(&self.provenance) == Validity::Whole {
            self.provenance.adopt(planned)
        } else {
            let (seq, step) = self.provenance.apply(Action::Taint, &named)?;
            let graph = self.provenance.graph();
            let told = Changes::of(graph, &told(graph, &named, &step.flags));
            (seq, step, told)
        };
        self.keep_said(seq, new, &rollback.cascade_id);
        let row = CascadeRow {
            at: now.wall,
            cascade_id: rollback.cascade_id.clone(),
            cause: Cause::Rollback { checkpoint: request.checkpoint.clone(), why: request.reason.clone() },
            reason: format!("Rollback to checkpoint {}", request.checkpoint),
            source: None,
        };
        self.group.batch.put_cascade(seq, &row, told)?;
        self.group.batch.put_rollback(seq, &rollback)?;
        Ok(step)
    }

    /// Submits tasks again, those that others depend on first.
    fn submit_again(&mut self, renewals: &mut [Renewal], now: Now) -> Stored<Vec<(TaskId, Option<TaskId>)>> {
        let mut made = HashMap::with_capacity(renewals.len());
        let mut requeued = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let Some((mut routed, successors)) = renewal.submission.take() else { continue };
            let new = |task| made.get(&task).copied().unwrap_or(task);
            depend_on(&mut routed.submission, &successors, new);
            // What it depends on is there, or was just made.
            let Ok(submitted) = self.submit_one(&routed, now)? else { continue };
            made.insert(renewal.task, submitted.task);
            requeued.push((renewal.task, Some(submitted.task)));
        }
        requeued.sort_unstable();
        Ok(requeued)
    }
}
