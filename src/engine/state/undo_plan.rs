//! The plan of an undo, made beside the writer from a view of the store and a graph that is no
//! newer than the view.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoints::Checkpoints;
use super::failure::{Failure, Stored};
use super::provenance::{PlannedStep, Planning, Provenance, Validity};
use super::replaced_verdicts::is_still_last;
use super::snapshot::Snapshot;
use crate::engine::api::{Refusal, Version};
use crate::engine::shared::{named_by, statements_in};
use crate::lineage::{Fact, Graph, ReplacedVerdict, Statement, Step, fact_of, remove_steps};
use crate::store::{Cause, Checkpoint, RollbackRow, View};
use crate::task::{CheckpointId, RecordId, Seq};

/// What the undo of a cascade does.
#[derive(Debug)]
pub(crate) struct UndoPlan {
    version: Version,
    pub(super) changes: UndoChanges,
    /// Records that get the verdict back that they had before the cascade.
    pub(super) verdicts: Vec<(RecordId, ReplacedVerdict)>,
    pub(super) step: PlannedStep,
}

impl UndoPlan {
    pub(crate) fn new(snapshot: &Snapshot, cascade_id: &str) -> Result<Self, Failure> {
        let (view, graph) = (&snapshot.view, &*snapshot.graph);
        let steps = steps_of(view, cascade_id, graph.newest())?;
        if steps.is_empty() {
            return Err(Refusal::CascadeNotFound(cascade_id.to_owned()).into());
        }
        let changes = UndoChanges::new(view, graph, &steps)?;
        let mut planning = Planning::on(graph);
        let (mut step, mut verdicts) = (Step::default(), Vec::new());
        if !changes.is_empty() {
            step = planning.change(|graph, seq| graph.set_facts(&changes.facts(), seq))?;
            for (id, replaced) in changes.verdicts() {
                let record = view.record(id)?;
                if record.is_some_and(|it| is_still_last(it.status, it.verification.as_deref(), &replaced)) {
                    planning.judge(id, replaced.status, &mut step)?;
                    verdicts.push((id, replaced));
                }
            }
        }
        let named: Vec<RecordId> = changes.records.iter().map(|left| left.id).collect();
        let step = planning.finish(step, &named);
        Ok(Self { version: snapshot.version, changes, verdicts, step })
    }

    /// Whether the writer makes the step itself where the graph has another version.
    pub(crate) const fn is_small(&self) -> bool {
        self.step.is_small
    }

    /// How far the plan still holds. Besides the graph it depends on checkpoints.
    pub(super) fn validity(&self, checkpoints: &Checkpoints, provenance: &Provenance) -> Validity {
        if checkpoints.changed_in() > self.version { Validity::Gone } else { provenance.validity(&self.step) }
    }
}

/// The steps of a cascade that made statements, up to one of them.
fn steps_of(view: &View, cascade_id: &str, until: Seq) -> Stored<BTreeSet<Seq>> {
    let mut steps = BTreeSet::new();
    for step in view.cascade_steps(cascade_id, Seq(0))?.into_iter().take_while(|step| *step <= until) {
        let cause = view.cascade(step)?.map(|row| row.cause);
        if matches!(cause, Some(Cause::Said { .. } | Cause::Rollback { .. })) {
            steps.insert(step);
        }
    }
    Ok(steps)
}

/// What is left of a record when a cascade is undone.
#[derive(Debug)]
pub(super) struct RecordLeft {
    pub(super) id: RecordId,
    pub(super) statements: Vec<Statement>,
    fact: Option<Fact>,
    /// The verdict that it gets back, if that still holds.
    verdict: Option<ReplacedVerdict>,
    /// How many statements go.
    gone: usize,
}

/// What undoing some steps changes.
#[derive(Debug)]
pub(super) struct UndoChanges {
    pub(super) records: Vec<RecordLeft>,
    pub(super) rollbacks: Vec<(Seq, RollbackRow)>,
    pub(super) checkpoints: Vec<Checkpoint>,
    /// The checkpoints that are valid again.
    pub(super) revived: Vec<CheckpointId>,
}

impl UndoChanges {
    fn new(view: &View, graph: &Graph, steps: &BTreeSet<Seq>) -> Stored<Self> {
        let mut records = Vec::new();
        for id in named_by(view, steps)? {
            let statements = statements_in(view, graph, id)?;
            let (left, verdict) = remove_steps(&statements, |step| steps.contains(&step));
            let gone = statements.len() - left.len();
            if gone > 0 {
                records.push(RecordLeft { id, fact: fact_of(&left), statements: left, verdict, gone });
            }
        }
        let mut plan = Self { records, rollbacks: Vec::new(), checkpoints: Vec::new(), revived: Vec::new() };
        plan.revive_checkpoints(view, steps)?;
        Ok(plan)
    }

    /// Makes checkpoints valid again, unless another rollback that stands has gone back
    /// beyond them: then they count as invalidated by that one from now on.
    fn revive_checkpoints(&mut self, view: &View, steps: &BTreeSet<Seq>) -> Stored<()> {
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
        // The newest first: each row tells what was so before its own rollback.
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

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rollbacks.is_empty()
    }

    /// How many statements go.
    pub(super) fn gone(&self) -> usize {
        self.records.iter().map(|left| left.gone).sum()
    }

    /// Records whose verdict a clear of the cascade has replaced.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (RecordId, ReplacedVerdict)> {
        self.records.iter().filter_map(|left| Some((left.id, left.verdict?)))
    }

    pub(super) fn facts(&self) -> Vec<(RecordId, Option<Fact>)> {
        self.records.iter().map(|left| (left.id, left.fact)).collect()
    }
}

/// Returns a checkpoint as the undo leaves it so far.
fn known(view: &View, changed: &BTreeMap<CheckpointId, Checkpoint>, id: &CheckpointId) -> Stored<Option<Checkpoint>> {
    changed.get(id).map_or_else(|| view.checkpoint(id), |known| Ok(Some(known.clone())))
}
