//! The undo of a cascade: exactly the facts that it brought go, and what else it changed is as
//! before, unless something has changed it since. Tasks stay as they are. It is one durable
//! step.
//!
//! It is planned first, beside the writer. A dry run is the plan alone.

use super::checkpoints::Checkpoints;
use super::failure::Stored;
use super::group::Group;
use super::provenance::{PlannedStep, Provenance, Validity, with_named};
use super::replaced_verdicts::is_still_last;
use super::storage::Storage;
use super::undo_plan::{UndoChanges, UndoPlan};
use crate::engine::api::{CascadeUndo, UndoRequest};
use crate::lineage::{ReplacedVerdict, Step};
use crate::store::{CascadeRow, Cause, FlagChanges};
use crate::task::{Now, RecordId, Seq};

/// Returns what the undo of a cascade would change.
pub(crate) fn preview(plan: UndoPlan, cascade_id: String) -> CascadeUndo {
    let UndoPlan { changes, verdicts, step: PlannedStep { after: graph, step, .. }, .. } = plan;
    let verdicts = verdicts.into_iter().map(|(id, _)| id).collect();
    CascadeUndo { cascade_id, graph, step, facts: changes.gone(), verdicts, checkpoints: changes.revived }
}

/// What an undo may change.
#[derive(Debug)]
pub(super) struct UndoCommands<'a> {
    pub(super) storage: &'a Storage,
    pub(super) provenance: &'a mut Provenance,
    pub(super) checkpoints: &'a mut Checkpoints,
    pub(super) group: &'a mut Group,
}

/// A step that takes something back.
struct Restated {
    seq: Seq,
    step: Step,
    verdicts: Vec<RecordId>,
    changes: FlagChanges,
}

impl UndoCommands<'_> {
    /// How far a plan still holds.
    pub(super) fn validity(&self, plan: &UndoPlan) -> Validity {
        plan.validity(self.checkpoints, self.provenance)
    }

    /// Undoes a cascade as planned. All of the plan but its step must hold.
    pub(super) fn carry_out(&mut self, request: &UndoRequest, plan: UndoPlan, now: Now) -> Stored<CascadeUndo> {
        let (cascade_id, facts) = (request.cascade_id.clone(), plan.changes.gone());
        if plan.changes.is_empty() {
            return Ok(preview(plan, cascade_id));
        }
        let is_planned = self.validity(&plan) == Validity::Whole;
        let UndoPlan { changes: undone, verdicts, step, .. } = plan;
        let Restated { seq, step, verdicts, changes } = if is_planned {
            let (seq, step, changes) = self.provenance.adopt(step);
            Restated { seq, step, verdicts: self.restore_verdicts(&verdicts)?, changes }
        } else {
            self.restate_now(&undone)?
        };
        for left in undone.records {
            self.provenance.replace_statements(left.id, left.statements);
        }
        for (step, row) in &undone.rollbacks {
            self.group.batch.put_rollback(*step, row)?;
        }
        for checkpoint in undone.checkpoints {
            self.checkpoints.automatic.set_valid(&checkpoint);
            self.checkpoints.put(checkpoint, self.group.version);
        }
        let row = CascadeRow {
            at: now.wall,
            cascade_id: cascade_id.clone(),
            cause: Cause::Undo,
            reason: request.reason.clone(),
            source: None,
        };
        self.group.batch.put_cascade(seq, &row, changes)?;
        tracing::info!(cascade = cascade_id, facts, records = step.flags.len(), "undid a cascade");
        let graph = self.provenance.graph().clone();
        Ok(CascadeUndo { cascade_id, graph, step, facts, verdicts, checkpoints: undone.revived })
    }

    /// Makes the step of a plan on the graph as it is, because records have come, or got
    /// verdicts, since the plan was made.
    fn restate_now(&mut self, undone: &UndoChanges) -> Stored<Restated> {
        let (seq, mut step) = self.provenance.restate(&undone.facts())?;
        let mut last = Vec::new();
        for (id, replaced) in undone.verdicts() {
            let Some(record) = self.provenance.records.get_mut(self.storage, id)? else { continue };
            if is_still_last(record.status, record.verification.as_deref(), &replaced) {
                step.flags.extend(self.provenance.judge_within(id, replaced.status)?.flags);
                last.push((id, replaced));
            }
        }
        step.join();
        step.flags.sort_by_key(|change| change.depth);
        let verdicts = self.restore_verdicts(&last)?;
        let named: Vec<RecordId> = undone.records.iter().map(|left| left.id).collect();
        let graph = self.provenance.graph();
        let changes = FlagChanges::of(graph, &with_named(graph, &named, &step.flags));
        Ok(Restated { seq, step, verdicts, changes })
    }

    /// Gives records the verdicts back that clears have replaced.
    fn restore_verdicts(&mut self, verdicts: &[(RecordId, ReplacedVerdict)]) -> Stored<Vec<RecordId>> {
        for (id, replaced) in verdicts {
            if let Some(record) = self.provenance.records.get_mut(self.storage, *id)? {
                record.status = replaced.status;
            }
        }
        Ok(verdicts.iter().map(|(id, _)| *id).collect())
    }
}
