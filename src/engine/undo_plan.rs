//! What taking a cascade back changes, found out beside the writer: from a view of
//! the store and a graph that is no newer than it.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Refusal, Version};
use super::machine::Machine;
use super::plan::{PlannedStep, Planning, Snapshot, Validity};
use super::statements::statements_in;
use crate::lineage::{Fact, Graph, Replaced, Statement, Step, fact_of, without};
use crate::store::{self, Cause, Checkpoint, RollbackRow, View};
use crate::task::{CheckpointId, RecordId, RecordStatus, Seq};

type Stored<T> = Result<T, store::Error>;

/// What taking a cascade back does.
#[derive(Debug)]
pub(super) struct UndoPlan {
    version: Version,
    pub(super) changed: Changed,
    /// Records whose verdict is again what it was before the cascade.
    pub(super) verdicts: Vec<(RecordId, Replaced)>,
    pub(super) step: PlannedStep,
}

impl UndoPlan {
    pub(super) fn new(snapshot: &Snapshot, cascade_id: &str) -> Stored<Result<Self, Refusal>> {
        let (view, graph) = (&snapshot.view, &*snapshot.graph);
        let steps = steps_of(view, cascade_id, graph.newest())?;
        if steps.is_empty() {
            return Ok(Err(Refusal::CascadeNotFound(cascade_id.to_owned())));
        }
        let changed = Changed::new(view, graph, &steps)?;
        let mut planning = Planning::on(graph);
        let (mut step, mut verdicts) = (Step::default(), Vec::new());
        if !changed.is_empty() {
            step = planning.change(|graph, seq| graph.restate(&changed.facts(), seq))?;
            for (id, replaced) in changed.verdicts() {
                let record = view.record(id)?;
                if record.is_some_and(|it| is_last(it.status, it.verification.as_deref(), &replaced)) {
                    planning.judge(id, replaced.status, &mut step)?;
                    verdicts.push((id, replaced));
                }
            }
        }
        let named: Vec<RecordId> = changed.records.iter().map(|left| left.id).collect();
        let step = planning.finish(step, &named);
        Ok(Ok(Self { version: snapshot.version, changed, verdicts, step }))
    }

    /// Whether it still holds. What it depends on besides the graph: checkpoints.
    pub(super) fn validity(&self, machine: &Machine) -> Validity {
        if machine.checkpoints_changed > self.version {
            Validity::Gone
        } else {
            self.step.validity(&machine.provenance)
        }
    }
}

/// The steps of a cascade that said something, up to one of them.
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

/// The records that steps have named themselves.
pub(super) fn named_by(view: &View, steps: &BTreeSet<Seq>) -> Stored<BTreeSet<RecordId>> {
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
#[derive(Debug)]
pub(super) struct Left {
    pub(super) id: RecordId,
    pub(super) statements: Vec<Statement>,
    fact: Option<Fact>,
    verdict: Option<Replaced>,
    gone: usize,
}

/// What taking back some steps changes.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) records: Vec<Left>,
    pub(super) rollbacks: Vec<(Seq, RollbackRow)>,
    pub(super) checkpoints: Vec<Checkpoint>,
    /// Those of them that are valid again.
    pub(super) revived: Vec<CheckpointId>,
}

impl Changed {
    fn new(view: &View, graph: &Graph, steps: &BTreeSet<Seq>) -> Stored<Self> {
        let mut records = Vec::new();
        for id in named_by(view, steps)? {
            let statements = statements_in(view, graph, id)?;
            let (left, verdict) = without(&statements, |step| steps.contains(&step));
            let gone = statements.len() - left.len();
            if gone > 0 {
                records.push(Left { id, fact: fact_of(&left), statements: left, verdict, gone });
            }
        }
        let mut plan = Self { records, rollbacks: Vec::new(), checkpoints: Vec::new(), revived: Vec::new() };
        plan.give_back_checkpoints(view, steps)?;
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

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rollbacks.is_empty()
    }

    /// How many facts go.
    pub(super) fn gone(&self) -> usize {
        self.records.iter().map(|left| left.gone).sum()
    }

    /// Records whose verdict a clear has replaced, if that is still the last.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (RecordId, Replaced)> {
        self.records.iter().filter_map(|left| Some((left.id, left.verdict?)))
    }

    pub(super) fn facts(&self) -> Vec<(RecordId, Option<Fact>)> {
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
pub(super) fn is_last(status: RecordStatus, verification: Option<&str>, replaced: &Replaced) -> bool {
    status == RecordStatus::Passed && details_of(verification) == replaced.details
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
