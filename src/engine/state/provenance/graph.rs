//! The provenance graph as the writer changes it: every record enters it in the commit that
//! stores the record, and readers get the version of the last commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::planned::{PlannedStep, Validity, rows_of, unexpected};
use super::record_counts::{self, FlagCounts, change_flag};
use crate::engine::api::{IMPORT_CASCADE, RecordCounts};
use crate::engine::shared::IdHash;
use crate::engine::state::failure::Stored;
use crate::lineage::{self, Action, Edge, Fact, Flag, Graph, Node, Project, RecordState, Step, WorkStart};
use crate::store::{Batch, CascadeRow, Cause, FlagChanges, LineageRow, Record, RecordInput};
use crate::task::{ArtifactId, Now, Output, ProjectId, RecordId, RecordStatus, Seq, Timestamp};

/// The graph, and what the next commit has to write of it.
#[derive(Debug)]
pub(in crate::engine::state) struct ProvenanceGraph {
    graph: Graph,
    /// Records whose rows differ from what the store has.
    changed: HashSet<RecordId, IdHash>,
    /// Whether the group has changed the graph.
    has_moved: bool,
    /// The newest step that made or took back a statement, or imported something.
    stated_until: Seq,
    tallies: BTreeMap<Project, ProjectTally>,
    /// Projects whose tallies have changed in this group.
    recounted: BTreeSet<Project>,
    /// What arrivals and verdicts have done to flags in this group.
    derived: Vec<DerivedStep>,
}

/// The records of a project in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine::state) struct Tally {
    /// How many records there are, and how many have which flag.
    pub(in crate::engine::state) counts: RecordCounts,
    /// How many outputs they have.
    pub(in crate::engine::state) outputs: u64,
    /// The newest record.
    pub(in crate::engine::state) newest: Option<RecordId>,
}

/// What is kept of a project to compute its [`Tally`].
#[derive(Debug, Default)]
struct ProjectTally {
    counts: RecordCounts,
    outputs: u64,
    /// The newest record that was made here: such a record never changes its time.
    newest_own: Option<(Timestamp, RecordId)>,
    /// The imported records by time. Each can be imported again as an older one, or in
    /// another project.
    imported: BTreeSet<(Timestamp, RecordId)>,
}

/// A step that no request made: it follows from a record that came, or from a verdict.
#[derive(Debug)]
struct DerivedStep {
    seq: Seq,
    cause: Cause,
    reason: String,
    changes: FlagChanges,
}

impl ProvenanceGraph {
    pub(super) fn new(graph: Graph) -> Self {
        let mut provenance = Self {
            graph: Graph::default(),
            changed: HashSet::default(),
            has_moved: false,
            stated_until: graph.newest(),
            tallies: BTreeMap::new(),
            recounted: BTreeSet::new(),
            derived: Vec::new(),
        };
        for node in graph.nodes() {
            let Some(known) = graph.record(node) else { continue };
            let tally = provenance.tallies.entry(known.project).or_default();
            tally.add(&known, count_outputs(&graph, node));
            change_flag(&mut tally.counts, Flag::Clean, known.flag);
        }
        provenance.graph = graph;
        provenance
    }

    /// The records of a project in numbers.
    pub(super) fn tally(&self, project: &ProjectId) -> Tally {
        let project = self.graph.find_project(project);
        project.and_then(|project| self.tallies.get(&project)).map(ProjectTally::tally).unwrap_or_default()
    }

    /// The graph as it is in this group.
    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How far the plan of a step holds, provided that all else that it depends on holds.
    pub(super) fn validity(&self, planned: &PlannedStep) -> Validity {
        if self.graph.newest() == planned.base {
            Validity::Whole
        } else if self.stated_until <= planned.base {
            Validity::AllButStep
        } else {
            Validity::Gone
        }
    }

    /// Returns the projects whose tallies have changed in this group.
    pub(super) fn take_recounted(&mut self) -> Vec<ProjectId> {
        let recounted = std::mem::take(&mut self.recounted);
        recounted.into_iter().filter_map(|project| ProjectId::new(self.graph.project_id(project)?).ok()).collect()
    }

    /// Continues steps behind this one, which a task from before the start names.
    pub(super) fn continue_after(&mut self, step: Seq) {
        self.graph.continue_after(step);
        self.stated_until = self.stated_until.max(step);
    }

    fn next(&self) -> Seq {
        self.graph.newest().next()
    }

    fn tally_mut(&mut self, project: Project) -> &mut ProjectTally {
        self.recounted.insert(project);
        self.tallies.entry(project).or_default()
    }

    /// Inserts a record whose work began when the graph had reached a step.
    pub(super) fn insert(&mut self, record: &Record, began: WorkStart) -> Stored<()> {
        let step = self.graph.insert(&of_record(record, began), self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record.id) {
            let outputs = count_outputs(&self.graph, node);
            self.tally_mut(known.project).add(&known, outputs);
        }
        self.record_step_of(record.id, &step);
        self.record_derived(Cause::Arrival(record.id), format!("record {} came", record.id), &step);
        Ok(())
    }

    /// Imports a record, new or again. A record that would close a cycle is left out: then
    /// the records of that cycle are returned, each of which depends on the next.
    pub(super) fn import(&mut self, record: &Record) -> Stored<Result<Step, Vec<RecordId>>> {
        let before = self.graph.clone();
        let known = before.find(record.id).and_then(|node| before.record(node));
        let (new, seq) = (of_record(record, WorkStart::Elsewhere), self.next());
        let inserted = if known.is_none() { self.graph.insert(&new, seq) } else { self.graph.revise(&new, seq) };
        let step = inserted.map_err(unexpected)?;
        if let Some(edge) = step.refused.first() {
            let down = self.graph.path_in_cycle(edge.dependent, edge.dependency).unwrap_or_default();
            let cycle = std::iter::once(edge.dependent).chain(down.into_iter().rev());
            let cycle = cycle.filter_map(|node| self.graph.record(node)).map(|known| known.id).collect();
            self.graph = before;
            return Ok(Err(cycle));
        }
        self.stated_until = seq;
        if let Some(known) = known {
            let outputs = before.find(record.id).map_or(0, |node| count_outputs(&before, node));
            self.tally_mut(known.project).remove(&known, outputs);
        }
        if let Some((node, now)) = self.known(record.id) {
            let outputs = count_outputs(&self.graph, node);
            let tally = self.tally_mut(now.project);
            tally.add(&now, outputs);
            // The step tells how the flag changes from here on.
            change_flag(&mut tally.counts, Flag::Clean, known.map_or(Flag::Clean, |known| known.flag));
        }
        self.record_derived(Cause::Import(record.id), format!("record {} was imported", record.id), &step);
        self.record_step_of(record.id, &step);
        Ok(Ok(step))
    }

    /// Adds the inputs and artifacts that another output of the record has brought.
    pub(super) fn extend(&mut self, record: RecordId, inputs: &[RecordInput], output: &Output) -> Stored<()> {
        let inputs: Vec<_> = inputs.iter().map(|input| (input.artifact.clone(), input.relationship)).collect();
        let artifacts: Vec<ArtifactId> = output.all_artifacts().into_iter().map(|artifact| artifact.id).collect();
        let before = self.known(record).map_or(0, |(node, _)| count_outputs(&self.graph, node));
        let step = self.graph.extend(record, &inputs, &artifacts, self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record) {
            let more = count_outputs(&self.graph, node) - before;
            self.tally_mut(known.project).outputs += more;
        }
        self.record_step_of(record, &step);
        self.record_derived(Cause::Arrival(record), format!("more of record {record} came"), &step);
        Ok(())
    }

    /// Gives a record another verdict.
    pub(super) fn judge(&mut self, record: RecordId, status: RecordStatus) -> Stored<()> {
        let step = self.judge_within(record, status)?;
        let reason = format!("the verdict on record {record} is {}", status.as_str());
        self.record_derived(Cause::Verdict(record), reason, &step);
        Ok(())
    }

    /// Gives a record another verdict, as a part of a step that has its own entry in the
    /// audit trail.
    pub(super) fn judge_within(&mut self, record: RecordId, status: RecordStatus) -> Stored<Step> {
        let step = self.graph.set_status(record, status, self.next()).map_err(unexpected)?;
        self.record_step_of(record, &step);
        Ok(step)
    }

    fn known(&self, record: RecordId) -> Option<(Node, RecordState)> {
        let node = self.graph.find(record)?;
        Some((node, self.graph.record(node)?))
    }

    /// Adds a step to the audit trail if it has changed a flag.
    fn record_derived(&mut self, cause: Cause, reason: String, step: &Step) {
        if !step.flags.is_empty() {
            let changes = FlagChanges::of(&self.graph, &step.flags);
            self.derived.push(DerivedStep { seq: self.graph.newest(), cause, reason, changes });
        }
    }

    /// Makes the same statement about all these records.
    pub(super) fn apply(&mut self, action: Action, records: &[RecordId]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.apply(action, records, seq).map_err(unexpected)?;
        self.stated_until = seq;
        self.record_step(&step);
        Ok((seq, step))
    }

    /// Gives records other facts, because statements about them are taken back.
    pub(super) fn restate(&mut self, facts: &[(RecordId, Option<Fact>)]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.set_facts(facts, seq).map_err(unexpected)?;
        self.stated_until = seq;
        self.record_step(&step);
        Ok((seq, step))
    }

    /// Adopts a step that was planned on the graph as it is.
    pub(super) fn adopt(&mut self, planned: PlannedStep) -> (Seq, Step, FlagChanges) {
        let (seq, PlannedStep { after, step, counts, rows, refused, changes, .. }) = (planned.seq(), planned);
        self.graph = after;
        self.stated_until = seq;
        self.has_moved = true;
        self.count_flags(&counts);
        self.changed.extend(rows);
        self.warn_of_refused(&refused);
        (seq, step, changes)
    }

    /// Records a step that changes the row of this record.
    fn record_step_of(&mut self, record: RecordId, step: &Step) {
        self.changed.insert(record);
        self.record_step(step);
        self.warn_of_refused(&step.refused);
    }

    fn warn_of_refused(&self, refused: &[Edge]) {
        for edge in refused {
            let id = |node| self.graph.record(node).map(|known| known.id);
            let (dependent, dependency) = (id(edge.dependent), id(edge.dependency));
            tracing::warn!(?dependent, ?dependency, "did not link an input, because the link would close a cycle");
        }
    }

    /// Records a step: its flags are counted, and its rows differ from what the store has.
    fn record_step(&mut self, step: &Step) {
        self.has_moved = true;
        let counts = FlagCounts::of(&self.graph, &step.flags);
        self.count_flags(&counts);
        self.changed.extend(rows_of(&self.graph, step));
    }

    fn count_flags(&mut self, counts: &[(Project, FlagCounts)]) {
        for (project, by) in counts {
            by.add_to(&mut self.tally_mut(*project).counts);
        }
    }

    /// Ends the group: stages the rows that have changed. Returns the version for readers, if
    /// there is a new one. The ids of derived steps follow from `store` and their position.
    pub(super) fn finish(&mut self, batch: &mut Batch, store: Uuid, now: Now) -> Stored<Option<Graph>> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(row) = self.graph.find(id).and_then(|node| LineageRow::of(&self.graph, node)) {
                batch.put_lineage(id, &row)?;
            }
        }
        for DerivedStep { seq, cause, reason, changes } in std::mem::take(&mut self.derived) {
            let cascade_id = match cause {
                Cause::Import(_) => IMPORT_CASCADE.to_owned(),
                _ => Uuid::new_v5(&store, format!("step {seq}").as_bytes()).to_string(),
            };
            batch.put_cascade(seq, &CascadeRow { at: now.wall, cascade_id, cause, reason, source: None }, changes)?;
        }
        if !std::mem::take(&mut self.has_moved) {
            return Ok(None);
        }
        batch.keep_newest_step(self.graph.newest());
        Ok(Some(self.graph.clone()))
    }
}

/// A record in the form in which the graph takes it.
fn of_record(record: &Record, began: WorkStart) -> lineage::Record {
    lineage::Record {
        id: record.id,
        task: record.task,
        project: record.project.clone(),
        status: record.status,
        created_at: record.created_at,
        started_at: record.started_at,
        began,
        inputs: record.inputs.iter().map(|input| (input.artifact.clone(), input.relationship)).collect(),
        outputs: record.outputs.iter().map(|output| output.artifact.id.clone()).collect(),
    }
}

impl ProjectTally {
    /// Removes a record that moves to another project, or is imported again.
    fn remove(&mut self, known: &RecordState, outputs: u64) {
        record_counts::remove(&mut self.counts, known.flag);
        self.outputs = self.outputs.saturating_sub(outputs);
        self.imported.remove(&(known.created_at, known.id));
    }

    fn add(&mut self, known: &RecordState, outputs: u64) {
        self.counts.records += 1;
        self.outputs += outputs;
        let age = (known.created_at, known.id);
        if known.began == WorkStart::Elsewhere {
            self.imported.insert(age);
        } else {
            self.newest_own = self.newest_own.max(Some(age));
        }
    }

    fn tally(&self) -> Tally {
        let newest = self.newest_own.max(self.imported.last().copied());
        Tally { counts: self.counts, outputs: self.outputs, newest: newest.map(|(_, id)| id) }
    }
}

fn count_outputs(graph: &Graph, node: Node) -> u64 {
    u64::try_from(graph.outputs(node).count()).unwrap_or(u64::MAX)
}
