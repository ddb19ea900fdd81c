//! Taking a cascade back: exactly the facts that it brought go, and what it
//! changed besides is as before, where nothing has changed it since. Tasks stay
//! as they are. One durable step.
//!
//! What is taken back is planned from a view of the store and the graph of the
//! same commit. A dry run is the plan alone.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Error, Refusal};
use super::command::Command;
use super::group::InStore;
use super::handle::Engine;
use super::machine::Machine;
use super::provenance;
use super::statements::{statements_in, told};
use crate::lineage::{Fact, Graph, Replaced, Statement, Step, fact_of, live, without};
use crate::store::{self, CascadeRow, Cause, Changes, Checkpoint, RollbackRow, View};
use crate::task::{CheckpointId, Now, RecordId, RecordStatus, Seq};

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
    pub async fn undo(&self, request: UndoRequest) -> Result<Undone, Error> {
        let dry_run = request.dry_run;
        let looked = self.read(move |side| {
            let view = side.store.view()?;
            let graph = side.graph();
            let steps = steps_of(&view, &request.cascade_id, Seq(0))?;
            if steps.is_empty() {
                return Ok(Err(Refusal::CascadeNotFound(request.cascade_id)));
            }
            if dry_run {
                return preview(&view, &graph, &request, &steps).map(|undone| Ok(Looked::Previewed(Box::new(undone))));
            }
            Ok(Ok(Looked::Found { request, steps, until: graph.newest() }))
        });
        match looked.await?? {
            Looked::Previewed(undone) => Ok(*undone),
            Looked::Found { request, steps, until } => {
                let request = Box::new(request);
                self.ask(|reply| Command::Undo { request, steps, until, reply }).await.map(|undone| *undone)
            }
        }
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

enum Looked {
    Previewed(Box<Undone>),
    Found { request: UndoRequest, steps: Vec<Seq>, until: Seq },
}

/// The steps of a cascade that said something, after one of them.
fn steps_of(view: &View, cascade_id: &str, after: Seq) -> Stored<Vec<Seq>> {
    let mut steps = Vec::new();
    for row in view.cascade_heads_after(after)? {
        let (step, row) = row?;
        if row.cascade_id == cascade_id && matches!(row.cause, Cause::Said { .. } | Cause::Rollback { .. }) {
            steps.push(step);
        }
    }
    Ok(steps)
}

fn summary(view: &View, graph: &Graph, cascade_id: &str, after: Seq, limit: usize) -> Stored<Option<CascadeSummary>> {
    let (mut steps, mut said, mut next, mut count) = (Vec::new(), BTreeSet::new(), None, 0);
    for row in view.cascade_heads_after(Seq(0))? {
        let (seq, row) = row?;
        if row.cascade_id != cascade_id || matches!(row.cause, Cause::Import(_)) {
            continue;
        }
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

/// The records that steps have named themselves.
fn named_by(view: &View, steps: &BTreeSet<Seq>) -> Stored<BTreeSet<RecordId>> {
    let mut named = BTreeSet::new();
    for step in steps {
        let changes = view.step_changes(*step)?;
        let own: Vec<_> = changes.into_iter().filter(|change| change.depth == 0).collect();
        named.extend(view.named(&own)?.into_iter().map(|change| change.record));
        let said = view.cascade(*step)?.map(|row| row.cause);
        if let Some(Cause::Said { record, .. }) = said {
            named.insert(record);
        }
    }
    Ok(named)
}

/// What is left of a record when a cascade is taken back.
struct Left {
    id: RecordId,
    statements: Vec<Statement>,
    fact: Option<Fact>,
    verdict: Option<Replaced>,
    gone: usize,
}

/// What taking back some steps changes.
struct Plan {
    records: Vec<Left>,
    rollbacks: Vec<(Seq, RollbackRow)>,
    checkpoints: Vec<Checkpoint>,
    /// Those of them that are valid again.
    revived: Vec<CheckpointId>,
}

impl Plan {
    fn new(view: &View, graph: &Graph, steps: &[Seq]) -> Stored<Self> {
        let steps: BTreeSet<Seq> = steps.iter().copied().collect();
        let mut records = Vec::new();
        for id in named_by(view, &steps)? {
            let statements = statements_in(view, graph, id)?;
            let (left, verdict) = without(&statements, |step| steps.contains(&step));
            let gone = statements.len() - left.len();
            if gone > 0 {
                records.push(Left { id, fact: fact_of(&left), statements: left, verdict, gone });
            }
        }
        let mut plan = Self { records, rollbacks: Vec::new(), checkpoints: Vec::new(), revived: Vec::new() };
        plan.give_back_checkpoints(view, &steps)?;
        Ok(plan)
    }

    /// Checkpoints are valid again, unless another rollback that stands has
    /// gone back beyond them: then they are that one's from now on.
    fn give_back_checkpoints(&mut self, view: &View, steps: &BTreeSet<Seq>) -> Stored<()> {
        let mut undone = Vec::new();
        for step in steps {
            undone.extend(view.rollback(*step)?.filter(|row| !row.is_undone).map(|row| (*step, row)));
        }
        if undone.is_empty() {
            return Ok(());
        }
        let project = undone.iter().map(|(_, row)| row.project.clone()).collect::<BTreeSet<_>>();
        let mut standing = view.rollbacks()?;
        standing.retain(|(step, row)| !row.is_undone && !steps.contains(step) && project.contains(&row.project));
        let mut checkpoints = BTreeMap::<CheckpointId, Checkpoint>::new();
        let mut changed = BTreeSet::new();
        // The newest first: each says how it was before itself.
        for (_, row) in undone.iter().rev() {
            for id in &row.invalidated {
                let covering = standing.iter_mut().find(|(_, other)| other.covered.contains(id));
                if let Some((step, other)) = covering {
                    other.covered.retain(|covered| covered != id);
                    other.invalidated.push(id.clone());
                    changed.insert(*step);
                } else if let Some(checkpoint) = known(view, &checkpoints, id)?.filter(|known| !known.is_valid) {
                    self.revived.push(id.clone());
                    checkpoints.insert(id.clone(), Checkpoint { is_valid: true, ..checkpoint });
                }
            }
            let later = standing
                .iter_mut()
                .find(|(_, other)| other.checkpoint == row.checkpoint && other.rolled_back_before == Some(row.at));
            if let Some((step, later)) = later {
                later.rolled_back_before = row.rolled_back_before;
                changed.insert(*step);
            } else if let Some(checkpoint) =
                known(view, &checkpoints, &row.checkpoint)?.filter(|known| known.rolled_back_at == Some(row.at))
            {
                let checkpoint = Checkpoint { rolled_back_at: row.rolled_back_before, ..checkpoint };
                checkpoints.insert(row.checkpoint.clone(), checkpoint);
            }
        }
        self.revived.sort_unstable();
        self.revived.dedup();
        self.rollbacks = undone.into_iter().map(|(step, row)| (step, RollbackRow { is_undone: true, ..row })).collect();
        self.rollbacks.extend(standing.into_iter().filter(|(step, _)| changed.contains(step)));
        self.checkpoints = checkpoints.into_values().collect();
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rollbacks.is_empty()
    }

    fn facts(&self) -> Vec<(RecordId, Option<Fact>)> {
        self.records.iter().map(|left| (left.id, left.fact)).collect()
    }
}

fn known(view: &View, changed: &BTreeMap<CheckpointId, Checkpoint>, id: &CheckpointId) -> Stored<Option<Checkpoint>> {
    changed.get(id).map_or_else(|| view.checkpoint(id), |known| Ok(Some(known.clone())))
}

/// Tells the details of a verdict from others. Kept in the store, so it must
/// give the same numbers for ever.
pub(super) fn details_of(verification: Option<&str>) -> u64 {
    // FNV-1a, of 64 bits.
    let Some(text) = verification else { return 0 };
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether the verdict that a clear has made is still the last.
fn is_last(status: RecordStatus, verification: Option<&str>, replaced: &Replaced) -> bool {
    status == RecordStatus::Passed && details_of(verification) == replaced.details
}

/// What taking the steps back would change.
fn preview(view: &View, graph: &Graph, request: &UndoRequest, steps: &[Seq]) -> Stored<Undone> {
    let plan = Plan::new(view, graph, steps)?;
    let mut after = graph.clone();
    let mut step = after.restate(&plan.facts(), graph.newest().next()).map_err(provenance::unexpected)?;
    let mut verdicts = Vec::new();
    for (id, replaced) in plan.records.iter().filter_map(|left| Some((left.id, left.verdict?))) {
        let Some(record) = view.record(id)? else { continue };
        if is_last(record.status, record.verification.as_deref(), &replaced) {
            let next = after.newest().next();
            let more = after.judge(id, replaced.status, next).map_err(provenance::unexpected)?;
            step.flags.extend(more.flags);
            verdicts.push(id);
        }
    }
    step.join();
    step.flags.sort_by_key(|change| change.depth);
    let facts = plan.records.iter().map(|left| left.gone).sum();
    let cascade_id = request.cascade_id.clone();
    Ok(Undone { cascade_id, graph: after, step, facts, verdicts, checkpoints: plan.revived })
}

impl Machine {
    /// Takes a cascade back. Nothing of this group may be uncommitted: the plan
    /// is made from the store. `steps` are those of the cascade up to `until`.
    pub(super) fn undo(
        &mut self,
        request: &UndoRequest,
        (mut steps, until): (Vec<Seq>, Seq),
        now: Now,
    ) -> Stored<Result<Undone, Refusal>> {
        let view = self.store.view()?;
        steps.extend(steps_of(&view, &request.cascade_id, until)?);
        let plan = Plan::new(&view, self.provenance.graph(), &steps)?;
        let (cascade_id, facts) = (request.cascade_id.clone(), plan.records.iter().map(|left| left.gone).sum());
        if plan.is_empty() {
            let graph = self.provenance.graph().clone();
            let (verdicts, checkpoints) = (Vec::new(), Vec::new());
            return Ok(Ok(Undone { cascade_id, graph, step: Step::default(), facts, verdicts, checkpoints }));
        }
        let (seq, mut step) = self.provenance.restate(&plan.facts())?;
        let mut verdicts = Vec::new();
        for (id, replaced) in plan.records.iter().filter_map(|left| Some((left.id, left.verdict?))) {
            let stored = InStore { store: &self.store, recent: &self.recent };
            let Some(record) = self.group.record(stored, id)? else { continue };
            if is_last(record.status, record.verification.as_deref(), &replaced) {
                record.status = replaced.status;
                step.flags.extend(self.provenance.settle(id, replaced.status)?.flags);
                verdicts.push(id);
            }
        }
        step.join();
        step.flags.sort_by_key(|change| change.depth);
        let named: Vec<RecordId> = plan.records.iter().map(|left| left.id).collect();
        for left in plan.records {
            self.group.statements.insert(left.id, left.statements);
        }
        for (step, row) in &plan.rollbacks {
            self.group.batch.put_rollback(*step, row)?;
        }
        for checkpoint in plan.checkpoints {
            self.automatic.set_valid(&checkpoint);
            self.group.checkpoints.insert(checkpoint.id.clone(), checkpoint);
        }
        let row = CascadeRow {
            at: now.wall,
            cascade_id: cascade_id.clone(),
            cause: Cause::Undo,
            reason: request.reason.clone(),
            source: None,
        };
        let graph = self.provenance.graph().clone();
        self.group.batch.put_cascade(seq, &row, Changes::of(&graph, &told(&graph, &named, &step.flags)))?;
        tracing::info!(cascade = cascade_id, facts, records = step.flags.len(), "a cascade was taken back");
        Ok(Ok(Undone { cascade_id, graph, step, facts, verdicts, checkpoints: plan.revived }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_told_apart_for_ever() {
        assert_eq!(details_of(None), 0);
        assert_eq!(details_of(Some("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(details_of(Some("a")), 0xaf63_dc4c_8601_ec8c);
    }
}
