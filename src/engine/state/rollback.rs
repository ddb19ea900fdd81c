//! Rollback: what was made in a project after a checkpoint is tainted, running tasks from
//! after it are cancelled, and, if requested, what must be done again is submitted again. It
//! is one durable step.
//!
//! A task from after the checkpoint that only waits stays, unless it depends on what is
//! undone: then it would fail, or work with what is tainted. See `docs/decisions`.
//!
//! It is planned first, beside the writer, and then carried out. A dry run is the plan alone,
//! so the two can't differ.

use std::collections::{HashMap, HashSet};

use super::affected::running_users;
use super::failure::Stored;
use super::ids::IdSource;
use super::provenance::{NewStatement, PlannedStep, Validity, with_named};
use super::rerun::set_dependencies;
use super::rollback_plan::{Renewal, RenewedSubmission, RollbackPlan, TaskPlan};
use super::submit::submit_one;
use super::transitions::EngineState;
use crate::engine::api::{Rollback, RollbackRequest, Settings};
use crate::lineage::{Action, Graph, Step};
use crate::store::{CascadeRow, Cause, Checkpoint, FlagChanges, RollbackRow};
use crate::task::{Now, RecordId, TaskId};

/// Returns what a rollback would do.
pub(crate) fn preview(plan: RollbackPlan) -> Rollback {
    let RollbackPlan { checkpoint, new, step, affected, later, tasks, requeue, .. } = plan;
    let mut running = affected.as_ref().map_or_else(Vec::new, |affected| affected.found().to_vec());
    running.retain(|task| tasks.cancel.binary_search(task).is_err());
    running.sort_unstable();
    let mut requeued: Vec<_> = tasks.renewals.iter().map(|renewal| (renewal.task, None)).filter(|_| requeue).collect();
    requeued.sort_unstable();
    let PlannedStep { after: graph, step, .. } = step;
    let done = Done { cascade_id: String::new(), graph, step, named: new.len(), running, requeued };
    done.into_rollback(checkpoint, later, tasks, requeue)
}

/// What has been done, or would be.
struct Done {
    cascade_id: String,
    graph: Graph,
    step: Step,
    named: usize,
    running: Vec<TaskId>,
    requeued: Vec<(TaskId, Option<TaskId>)>,
}

impl Done {
    fn into_rollback(self, checkpoint: Checkpoint, later: Vec<Checkpoint>, tasks: TaskPlan, requeue: bool) -> Rollback {
        let Self { cascade_id, graph, step, named, running, requeued } = self;
        let mut to_rerun: Vec<TaskId> = tasks.renewals.iter().map(|renewal| renewal.task).collect();
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

/// Carries out a rollback, and what it may change.
#[derive(Debug)]
pub(super) struct RollbackCommands<'a> {
    pub(super) settings: &'a Settings,
    pub(super) ids: &'a IdSource,
    pub(super) state: &'a mut EngineState,
}

impl RollbackCommands<'_> {
    /// How far a plan still holds.
    pub(super) fn validity(&self, plan: &RollbackPlan) -> Validity {
        let EngineState { checkpoints, projects, provenance, .. } = &*self.state;
        plan.validity(checkpoints, projects, provenance)
    }

    /// Rolls a project back as planned. All of the plan but its step must hold.
    pub(super) fn carry_out(&mut self, request: &RollbackRequest, plan: RollbackPlan, now: Now) -> Stored<Rollback> {
        if request.dry_run {
            return Ok(preview(plan));
        }
        let cascade_id = self.ids.next(now).to_string();
        let (is_change, is_planned) = (plan.is_change(), self.validity(&plan) == Validity::Whole);
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
        let RollbackPlan { mut checkpoint, new, step, affected, later, mut tasks, requeue, .. } = plan;
        let named = new.len();
        let step = if is_change { self.taint(new, step, (request, rollback_row), now)? } else { Step::default() };
        let version = self.state.group.version;
        for each in &later {
            let later = Checkpoint { is_valid: false, ..each.clone() };
            self.state.checkpoints.automatic.set_valid(&later);
            self.state.checkpoints.put(later, version);
        }
        let reason = format!("rollback to checkpoint {}: {}", checkpoint.id, request.reason);
        self.state.cancel_all(&tasks.cancel, &reason, now)?;
        let running = match &affected {
            Some(affected) => running_users(self.state, &step, Some(affected), is_planned)?,
            None => Vec::new(),
        };
        let requeued = if requeue { self.submit_again(&mut tasks.renewals, now)? } else { Vec::new() };
        checkpoint.rolled_back_at = Some(now.wall);
        if is_change {
            self.state.checkpoints.put(checkpoint.clone(), version);
        }
        let graph = self.state.provenance.graph().clone();
        let done = Done { cascade_id, graph, step, named, running, requeued };
        Ok(done.into_rollback(checkpoint, later, tasks, requeue))
    }

    /// Taints what was made after the checkpoint, with all that follows, and keeps what an
    /// undo needs.
    fn taint(
        &mut self,
        new: Vec<NewStatement>,
        planned: PlannedStep,
        (request, rollback): (&RollbackRequest, RollbackRow),
        now: Now,
    ) -> Stored<Step> {
        let provenance = &mut self.state.provenance;
        let cascade_id = &rollback.cascade_id;
        let (seq, step, changes) = if provenance.validity(&planned) == Validity::Whole {
            provenance.adopt_statements(planned, new, cascade_id)
        } else {
            let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
            let (seq, step) = provenance.make_new_statements(Action::Taint, new, cascade_id)?;
            let graph = provenance.graph();
            let changes = FlagChanges::of(graph, &with_named(graph, &named, &step.flags));
            (seq, step, changes)
        };
        let row = CascadeRow {
            at: now.wall,
            cascade_id: cascade_id.clone(),
            cause: Cause::Rollback { checkpoint: request.checkpoint.clone(), why: request.reason.clone() },
            reason: format!("Rollback to checkpoint {}", request.checkpoint),
            source: None,
        };
        self.state.group.batch.put_cascade(seq, &row, changes)?;
        self.state.group.batch.put_rollback(seq, &rollback)?;
        Ok(step)
    }

    /// Submits tasks again, each behind those that it depends on. Returns what each became.
    fn submit_again(&mut self, renewals: &mut [Renewal], now: Now) -> Stored<Vec<(TaskId, Option<TaskId>)>> {
        let mut made = HashMap::with_capacity(renewals.len());
        let mut requeued = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let Some(RenewedSubmission { mut routed, successors }) = renewal.submission.take() else { continue };
            let new = |task| made.get(&task).copied().unwrap_or(task);
            set_dependencies(&mut routed.submission, &successors, new);
            // Its dependencies exist, or were just made.
            let submitted = submit_one(self.state, self.settings, self.ids, &routed, now)?;
            let Ok(submitted) = submitted else { continue };
            made.insert(renewal.task, submitted.task);
            requeued.push((renewal.task, Some(submitted.task)));
        }
        requeued.sort_unstable();
        Ok(requeued)
    }
}
