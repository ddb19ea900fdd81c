//! Provenance as the writer changes it: the graph, the rows of its records, and the statements
//! about them.

mod graph;
mod planned;
mod record_counts;
mod records;
mod statements;

use std::collections::BTreeSet;

use uuid::Uuid;

use graph::ProvenanceGraph;
pub(super) use graph::Tally;
pub(crate) use planned::{PlannedStep, Validity};
pub(super) use planned::{Planning, with_named};
pub(super) use records::Records;
use statements::Statements;
pub(super) use statements::{NewStatement, RolledBack, StatementLookup, new_statements};

use super::failure::Stored;
use super::storage::Storage;
use crate::lineage::{Action, Fact, Graph, ReplacedVerdict, Statement, Step, WorkStart, fact_of};
use crate::store::{Batch, FlagChanges, Record};
use crate::task::{NewRecord, Now, Output, ProjectId, RecordId, RecordStatus, Seq, Task};

/// Provenance: the graph, the rows of its records, and the statements about them.
#[derive(Debug)]
pub(super) struct Provenance {
    graph: ProvenanceGraph,
    /// The records and findings that this group makes or changes.
    pub(super) records: Records,
    statements: Statements,
}

/// A step that makes statements about records.
#[derive(Debug, Default)]
pub(super) struct StatementStep {
    pub(super) seq: Seq,
    /// What has changed in the graph.
    pub(super) step: Step,
    /// The records about which it makes new statements.
    pub(super) named: Vec<RecordId>,
}

impl StatementStep {
    /// The entries of the audit trail.
    pub(super) fn changes(&self, graph: &Graph) -> FlagChanges {
        FlagChanges::of(graph, &with_named(graph, &self.named, &self.step.flags))
    }
}

impl Provenance {
    /// `stated` are the records of which the store has statements.
    pub(super) fn recovered(graph: Graph, stated: BTreeSet<RecordId>) -> Self {
        Self {
            graph: ProvenanceGraph::new(graph),
            records: Records::default(),
            statements: Statements::recovered(stated),
        }
    }

    /// The graph as it is in this group.
    pub(super) const fn graph(&self) -> &Graph {
        self.graph.graph()
    }

    /// The records of a project in numbers.
    pub(super) fn tally(&self, project: &ProjectId) -> Tally {
        self.graph.tally(project)
    }

    /// Returns the projects whose tallies have changed in this group.
    pub(super) fn take_recounted(&mut self) -> Vec<ProjectId> {
        self.graph.take_recounted()
    }

    /// Continues steps behind this one, which a task from before the start names.
    pub(super) fn continue_after(&mut self, step: Seq) {
        self.graph.continue_after(step);
    }

    /// How far the plan of a step holds, provided that all else that it depends on holds.
    pub(super) fn validity(&self, planned: &PlannedStep) -> Validity {
        self.graph.validity(planned)
    }

    /// Returns a record as it is in this group or in the store, without changing it.
    pub(super) fn find_record(&self, storage: &Storage, id: RecordId) -> Stored<Option<Record>> {
        match self.records.changed(id) {
            Some(record) => Ok(Some(record.clone())),
            None if self.graph().find(id).is_none() => Ok(None),
            None => storage.view()?.record(id),
        }
    }

    /// Makes the record of an attempt whose work began when the graph had reached a step.
    pub(super) fn make_record(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        task: &Task,
        new: &NewRecord,
        began: WorkStart,
    ) -> Stored<()> {
        let record = self.records.make(storage, batch, task, new)?;
        self.graph.insert(record, began)
    }

    /// Makes the record that an output of another worker began the record of the output that
    /// counts.
    pub(super) fn fill_record(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        task: &Task,
        new: NewRecord,
    ) -> Stored<()> {
        let (id, status) = (new.id, new.status);
        let (inputs, output) = self.records.replace_output(storage, batch, task, new)?;
        self.graph.extend(id, &inputs, &output)?;
        self.graph.judge(id, status)
    }

    /// Adds the artifacts that a late output has brought to a record.
    pub(super) fn extend_record(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        record: RecordId,
        output: &Output,
    ) -> Stored<()> {
        self.records.add_outputs(storage, batch, record, output)?;
        self.graph.extend(record, &[], output)
    }

    /// Gives a record another verdict.
    pub(super) fn judge_record(
        &mut self,
        storage: &Storage,
        record: RecordId,
        status: RecordStatus,
        verification: Option<String>,
    ) -> Stored<()> {
        self.graph.judge(record, status)?;
        if let Some(record) = self.records.get_mut(storage, record)? {
            record.status = status;
            record.verification = verification.or(record.verification.take());
        }
        Ok(())
    }

    /// Gives a record another verdict in the graph alone, as a part of a step that has its
    /// own entry in the audit trail.
    pub(super) fn judge_within(&mut self, record: RecordId, status: RecordStatus) -> Stored<Step> {
        self.graph.judge_within(record, status)
    }

    /// Imports a record into the graph: see [`ProvenanceGraph::import`].
    pub(super) fn import(&mut self, record: &Record) -> Stored<Result<Step, Vec<RecordId>>> {
        self.graph.import(record)
    }

    /// Returns the statements about a record, oldest first, as they are in this group.
    pub(super) fn statements(&self, storage: &Storage, id: RecordId) -> Stored<Vec<Statement>> {
        StatementLookup::in_group(&self.statements, storage, self.graph()).statements(id)
    }

    /// Makes a statement about each of some records for a cascade, unless one that the cascade
    /// made already stands.
    pub(super) fn make_statements(
        &mut self,
        storage: &Storage,
        action: Action,
        ids: &[RecordId],
        cascade: &str,
    ) -> Stored<StatementStep> {
        let mut lookup = StatementLookup::in_group(&self.statements, storage, self.graph.graph());
        let new = new_statements(action, ids, cascade, &mut lookup)?;
        if new.is_empty() {
            return Ok(StatementStep::default());
        }
        let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
        let (seq, step) = self.make_new_statements(action, new, cascade)?;
        Ok(StatementStep { seq, step, named })
    }

    /// Makes statements that the cascade has not made already.
    pub(super) fn make_new_statements(
        &mut self,
        action: Action,
        new: Vec<NewStatement>,
        cascade: &str,
    ) -> Stored<(Seq, Step)> {
        let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
        let (seq, step) = self.graph.apply(action, &named)?;
        self.statements.record(seq, new, cascade);
        Ok((seq, step))
    }

    /// Adopts a step of a cascade that was planned on the graph as it is, with its statements.
    pub(super) fn adopt_statements(
        &mut self,
        planned: PlannedStep,
        new: Vec<NewStatement>,
        cascade: &str,
    ) -> (Seq, Step, FlagChanges) {
        let (seq, step, changes) = self.graph.adopt(planned);
        self.statements.record(seq, new, cascade);
        (seq, step, changes)
    }

    /// Adopts a step that takes something back and was planned on the graph as it is.
    pub(super) fn adopt(&mut self, planned: PlannedStep) -> (Seq, Step, FlagChanges) {
        self.graph.adopt(planned)
    }

    /// Takes back the statement of a step about a record.
    pub(super) fn retract(&mut self, storage: &Storage, id: RecordId, step: Seq) -> Stored<(Seq, Step)> {
        let (left, _) = crate::lineage::remove_steps(&self.statements(storage, id)?, |gone| gone == step);
        let restated = self.graph.restate(&[(id, fact_of(&left))])?;
        self.statements.replace(id, left);
        Ok(restated)
    }

    /// Gives records other facts, because statements about them are taken back.
    pub(super) fn restate(&mut self, facts: &[(RecordId, Option<Fact>)]) -> Stored<(Seq, Step)> {
        self.graph.restate(facts)
    }

    /// Replaces the statements about a record.
    pub(super) fn replace_statements(&mut self, id: RecordId, statements: Vec<Statement>) {
        self.statements.replace(id, statements);
    }

    /// Keeps with the newest statement of a record the verdict that it has replaced.
    pub(super) fn keep_replaced_verdict(&mut self, id: RecordId, replaced: ReplacedVerdict) {
        if let Some(statement) = self.statements.last_mut(id) {
            statement.replaced = Some(replaced);
        }
    }

    /// Ends the group: stages the changes of the graph. Returns the version for readers, if
    /// there is a new one.
    pub(super) fn finish_graph(&mut self, batch: &mut Batch, store: Uuid, now: Now) -> Stored<Option<Graph>> {
        self.graph.finish(batch, store, now)
    }

    /// Ends the group: stages everything else.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        self.records.finish_records(batch)?;
        self.statements.finish(batch)?;
        self.records.finish_findings(batch)
    }
}
