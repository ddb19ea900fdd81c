//! Taking a cascade back: exactly the facts that it brought go, and what it
//! changed besides is as before, where nothing has changed it since. Tasks stay
//! as they are. One durable step.
//!
//! What is taken back is planned first, beside the writer (`undo_plan.rs`). A dry run
//! is the plan alone.

use std::collections::BTreeSet;

use super::api::Error;
use super::command::Command;
use super::group::InStore;
use super::handle::Engine;
use super::machine::Machine;
use super::plan::{PlannedStep, Validity};
use super::read::ReadSide;
use super::statements::{statements_in, told};
use super::undo_plan::{Changed, UndoPlan, is_last, named_by};
use crate::lineage::{Graph, Replaced, Step, live};
use crate::store::{self, CascadeRow, Cause, Changes, View};
use crate::task::{CheckpointId, Now, RecordId, Seq};

type Stored<T> = Result<T, store::Error>;

/// A cascade is to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoRequest {
    /// The id of the cascade or rollback.
    pub cascade_id: String,
    /// Why.
    pub reason: String,
    /// Change nothing, only find out what would change.
    pub dry_run: bool,
}

/// What taking a cascade back did, or would.
#[derive(Debug, Clone)]
pub struct Undone {
    /// The id of the cascade.
    pub cascade_id: String,
    /// The graph that the places in `step` are places of.
    pub graph: Graph,
    /// What changes in it.
    pub step: Step,
    /// How many facts go.
    pub facts: usize,
    /// Records whose verdict is again what it was before the cascade.
    pub verdicts: Vec<RecordId>,
    /// Checkpoints that can be rolled back to again.
    pub checkpoints: Vec<CheckpointId>,
}

/// What a cascade has said and done.
#[derive(Debug, Clone)]
pub struct CascadeSummary {
    /// Its steps, oldest first: at most as many as were asked for.
    pub steps: Vec<CascadeStep>,
    /// The step after which the next page begins.
    pub next: Option<Seq>,
    /// How many steps it has.
    pub count: usize,
    /// How many of its facts stand.
    pub standing: usize,
    /// Checkpoints that can't be rolled back to because of it.
    pub invalidated: Vec<CheckpointId>,
}

/// One step of a cascade.
#[derive(Debug, Clone)]
pub struct CascadeStep {
    /// The step.
    pub seq: Seq,
    /// What it said, and why.
    pub row: CascadeRow,
    /// How many records it named.
    pub named: usize,
    /// How many flags it changed.
    pub flags: usize,
}

impl Engine {
    /// Takes a cascade back, in one durable step; in a dry run the same is
    /// found out, and nothing changes.
    ///
    /// What it changes is planned beside the writer, anew where something was said
    /// of records meanwhile. Where that happens each time, the writer plans the last
    /// try itself.
    pub async fn undo(&self, request: UndoRequest) -> Result<Undone, Error> {
        let cascade_id = request.cascade_id.clone();
        let plan = move |side: &ReadSide| UndoPlan::new(&side.snapshot()?, &cascade_id);
        if request.dry_run {
            let planned = self.read(move |side| plan(side)).await??;
            return Ok(preview(planned, request.cascade_id));
        }
        self.carry_out(plan, |plan, is_last, reply| Command::Undo {
            request: Box::new(request.clone()),
            plan,
            is_last,
            reply,
        })
        .await
    }

    /// What a cascade has said and done, its steps after one of them; `None`:
    /// there is none of this id.
    pub async fn cascade_summary(
        &self,
        cascade_id: String,
        after: Seq,
        limit: usize,
    ) -> Result<Option<CascadeSummary>, Error> {
        self.read(move |side| summary(&side.store.view()?, &side.graph(), &cascade_id, after, limit)).await
    }
}

fn summary(view: &View, graph: &Graph, cascade_id: &str, after: Seq, limit: usize) -> Stored<Option<CascadeSummary>> {
    let (mut steps, mut said, mut next, mut count) = (Vec::new(), BTreeSet::new(), None, 0);
    for seq in view.cascade_steps(cascade_id, Seq(0))? {
        let Some(row) = view.cascade(seq)? else { continue };
        count += 1;
        if matches!(row.cause, Cause::Said { .. } | Cause::Rollback { .. }) {
            said.insert(seq);
        }
        if seq <= after {
            continue;
        }
        if steps.len() == limit {
            next = next.or_else(|| steps.last().map(|step: &CascadeStep| step.seq));
            continue;
        }
        let changes = view.step_changes(seq)?;
        let named = changes.iter().filter(|change| change.depth == 0).count();
        let flags = changes.iter().filter(|change| change.from != change.to).count();
        steps.push(CascadeStep { seq, row, named, flags });
    }
    if count == 0 {
        return Ok(None);
    }
    let mut standing = 0;
    for id in named_by(view, &said)? {
        let statements = statements_in(view, graph, id)?;
        standing += live(&statements).iter().filter(|statement| said.contains(&statement.step)).count();
    }
    let mut invalidated = Vec::new();
    for step in &said {
        let row = view.rollback(*step)?.filter(|row| !row.is_undone);
        invalidated.extend(row.into_iter().flat_map(|row| row.invalidated));
    }
    Ok(Some(CascadeSummary { steps, next, count, standing, invalidated }))
}

/// What taking a cascade back would change.
fn preview(plan: UndoPlan, cascade_id: String) -> Undone {
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
