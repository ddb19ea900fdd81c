//! Taking a cascade back: exactly the facts that it brought go, and what it
//! changed besides is as before, where nothing has changed it since. Tasks stay
//! as they are. One durable step.
//!
//! What is taken back is planned first, beside the writer (`undo_plan.rs`). A dry run
//! is the plan alone.

use super::api::{UndoRequest, Undone};
use super::group::InStore;
use super::machine::Machine;
use super::plan::{PlannedStep, Validity};
use super::statements::told;
use super::undo_plan::{Changed, UndoPlan, is_last};
use crate::lineage::{Replaced, Step};
use crate::store::{self, CascadeRow, Cause, Changes};
use crate::task::{Now, RecordId, Seq};

type Stored<T> = Result<T, store::Error>;

/// What taking a cascade back would change.
pub(super) fn preview(plan: UndoPlan, cascade_id: String) -> Undone {
    let UndoPlan { changed, verdicts, step: PlannedStep { after: graph, step, .. }, .. } = plan;
    let verdicts = verdicts.into_iter().map(|(id, _)| id).collect();
    Undone { cascade_id, graph, step, facts: changed.gone(), verdicts, checkpoints: changed.revived }
}

impl Machine {
    /// Takes a cascade back as planned. All of the plan but its step holds.
    pub(super) fn undo(&mut self, request: &UndoRequest, plan: UndoPlan, now: Now) -> Stored<Undone> {
        let (cascade_id, facts) = (request.cascade_id.clone(), plan.changed.gone());
        if plan.changed.is_empty() {
            return Ok(preview(plan, cascade_id));
        }
        let is_planned = plan.validity(self) == Validity::Whole;
        let UndoPlan { changed, verdicts, step, .. } = plan;
        let (seq, step, verdicts, told) = if is_planned {
            let (seq, step, told) = self.provenance.adopt(step);
            (seq, step, self.give_back_verdicts(&verdicts)?, told)
        } else {
            self.restate_now(&changed)?
        };
        for left in changed.records {
            self.group.statements.insert(left.id, left.statements);
        }
        for (step, row) in &changed.rollbacks {
            self.group.batch.put_rollback(*step, row)?;
        }
        for checkpoint in changed.checkpoints {
            self.automatic.set_valid(&checkpoint);
            self.keep_checkpoint(checkpoint);
        }
        let row = CascadeRow {
            at: now.wall,
            cascade_id: cascade_id.clone(),
            cause: Cause::Undo,
            reason: request.reason.clone(),
            source: None,
        };
        self.group.batch.put_cascade(seq, &row, told)?;
        tracing::info!(cascade = cascade_id, facts, records = step.flags.len(), "a cascade was taken back");
        let graph = self.provenance.graph().clone();
        Ok(Undone { cascade_id, graph, step, facts, verdicts, checkpoints: changed.revived })
    }

    /// Makes the step of a plan on the graph as it is: records have come, or got
    /// verdicts, since the plan was made.
    fn restate_now(&mut self, changed: &Changed) -> Stored<(Seq, Step, Vec<RecordId>, Changes)> {
        let (seq, mut step) = self.provenance.restate(&changed.facts())?;
        let mut last = Vec::new();
        for (id, replaced) in changed.verdicts() {
            let stored = InStore { store: &self.store, recent: &self.recent };
            let Some(record) = self.group.record(stored, id)? else { continue };
            if is_last(record.status, record.verification.as_deref(), &replaced) {
                step.flags.extend(self.provenance.settle(id, replaced.status)?.flags);
                last.push((id, replaced));
            }
        }
        step.join();
        step.flags.sort_by_key(|change| change.depth);
        let verdicts = self.give_back_verdicts(&last)?;
        let named: Vec<RecordId> = changed.records.iter().map(|left| left.id).collect();
        let graph = self.provenance.graph();
        let told = Changes::of(graph, &told(graph, &named, &step.flags));
        Ok((seq, step, verdicts, told))
    }

    /// Gives records the verdicts that clears have replaced.
    fn give_back_verdicts(&mut self, verdicts: &[(RecordId, Replaced)]) -> Stored<Vec<RecordId>> {
        for (id, replaced) in verdicts {
            let stored = InStore { store: &self.store, recent: &self.recent };
            if let Some(record) = self.group.record(stored, *id)? {
                record.status = replaced.status;
            }
        }
        Ok(verdicts.iter().map(|(id, _)| *id).collect())
    }
}
