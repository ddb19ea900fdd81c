//! The provenance graph, as the writer keeps it: every record goes into it
//! in the commit that stores the record, and readers get the version of the
//! last commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::api::{IMPORT_CASCADE, RecordCounts};
use super::plan::{FlagCounts, PlannedStep};
use super::shared::IdHash;
use crate::lineage::{self, Action, Began, Edge, Error, Fact, Flag, Graph, Known, Node, Project, Step};
use crate::store::{self, Batch, CascadeRow, Cause, Changes, LineageRow, Record, RecordInput};
use crate::task::{ArtifactId, Now, Output, ProjectId, RecordId, RecordStatus, Seq, Timestamp};

type Stored<T> = Result<T, store::Error>;

/// The graph and what of it the next commit has to write.
#[derive(Debug)]
pub(super) struct Provenance {
    graph: Graph,
    changed: HashSet<RecordId, IdHash>,
    moved: bool,
    /// The newest step that said something of a record, took something back, or
    /// imported something.
    said_until: Seq,
    tallies: BTreeMap<Project, Kept>,
    /// Projects whose records are counted otherwise than at the last commit.
    retallied: BTreeSet<Project>,
    /// What arrivals and verdicts have done to flags in this group.
    derived: Vec<(Seq, Cause, String, Changes)>,
}

/// The records of a project in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Records, and how many have which flag.
    pub(super) counts: RecordCounts,
    /// Their outputs.
    pub(super) outputs: u64,
    /// The newest of them.
    pub(super) newest: Option<(Timestamp, RecordId)>,
}

/// What is kept of a project to tell its [`Tally`].
#[derive(Debug, Default)]
struct Kept {
    counts: RecordCounts,
    outputs: u64,
    /// The newest record that was made here: such a record never changes its time.
    newest_own: Option<(Timestamp, RecordId)>,
    /// The imported records by time: each can come again as an older one, or in
    /// another project.
    imported: BTreeSet<(Timestamp, RecordId)>,
}

impl Provenance {
    pub(super) fn new(graph: Graph) -> Self {
        let mut provenance = Self {
            graph: Graph::default(),
            changed: HashSet::default(),
            moved: false,
            said_until: graph.newest(),
            tallies: BTreeMap::new(),
            retallied: BTreeSet::new(),
            derived: Vec::new(),
        };
        for node in graph.nodes() {
            let Some(known) = graph.record(node) else { continue };
            let tally = provenance.tallies.entry(known.project).or_default();
            tally.add(&known, outputs(&graph, node));
            tally.counts.flag(Flag::Clean, known.flag);
        }
        provenance.graph = graph;
        provenance
    }

    /// The records of a project in numbers.
    pub(super) fn tally(&self, project: &ProjectId) -> Tally {
        let project = self.graph.find_project(project);
        project.and_then(|project| self.tallies.get(&project)).map(Kept::tally).unwrap_or_default()
    }

    /// The graph as it is in this group.
    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The newest step that said something of a record, took something back, or
    /// imported something.
    pub(super) const fn said_until(&self) -> Seq {
        self.said_until
    }

    /// The projects whose records are counted otherwise than at the last commit.
    pub(super) fn take_retallied(&mut self) -> Vec<ProjectId> {
        let retallied = std::mem::take(&mut self.retallied);
        retallied.into_iter().filter_map(|project| ProjectId::new(self.graph.project_id(project)?).ok()).collect()
    }

    /// Steps go on behind this one, which something of before the start names.
    pub(super) fn continue_after(&mut self, step: Seq) {
        self.graph.continue_after(step);
        self.said_until = self.said_until.max(step);
    }

    fn next(&self) -> Seq {
        self.graph.newest().next()
    }

    fn tally_mut(&mut self, project: Project) -> &mut Kept {
        self.retallied.insert(project);
        self.tallies.entry(project).or_default()
    }

    /// A record was made, by work that began when the graph had come to a step.
    pub(super) fn insert(&mut self, record: &Record, began: Began) -> Stored<()> {
        let step = self.graph.insert(&of_record(record, began), self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record.id) {
            let outputs = outputs(&self.graph, node);
            self.tally_mut(known.project).add(&known, outputs);
        }
        self.note(record.id, &step);
        self.derive(Cause::Arrival(record.id), format!("record {} came", record.id), &step);
        Ok(())
    }

    /// A record was imported, new or again. One that would close a cycle is
    /// left out: the records of that cycle, each depending on the next.
    pub(super) fn import(&mut self, record: &Record) -> Stored<Result<Step, Vec<RecordId>>> {
        let before = self.graph.clone();
        let known = before.find(record.id).and_then(|node| before.record(node));
        let (new, seq) = (of_record(record, Began::Elsewhere), self.next());
        let inserted = if known.is_none() { self.graph.insert(&new, seq) } else { self.graph.revise(&new, seq) };
        let step = inserted.map_err(unexpected)?;
        if let Some(edge) = step.refused.first() {
            let down = self.graph.path_in_cycle(edge.dependent, edge.dependency).unwrap_or_default();
            let cycle = std::iter::once(edge.dependent).chain(down.into_iter().rev());
            let cycle = cycle.filter_map(|node| self.graph.record(node)).map(|known| known.id).collect();
            self.graph = before;
            return Ok(Err(cycle));
        }
        self.said_until = seq;
        if let Some(known) = known {
            let outputs = before.find(record.id).map_or(0, |node| outputs(&before, node));
            self.tally_mut(known.project).give_up(&known, outputs);
        }
        if let Some((node, now)) = self.known(record.id) {
            let outputs = outputs(&self.graph, node);
            let tally = self.tally_mut(now.project);
            tally.add(&now, outputs);
            // The step tells how the flag goes on from here.
            tally.counts.flag(Flag::Clean, known.map_or(Flag::Clean, |known| known.flag));
        }
        self.derive(Cause::Import(record.id), format!("record {} was imported", record.id), &step);
        self.note(record.id, &step);
        Ok(Ok(step))
    }

    /// A late output has brought more artifacts.
    pub(super) fn extend(&mut self, record: RecordId, output: &Output) -> Stored<()> {
        self.fill(record, &[], output)
    }

    /// An output has brought more artifacts and inputs.
    pub(super) fn fill(&mut self, record: RecordId, inputs: &[RecordInput], output: &Output) -> Stored<()> {
        let inputs: Vec<_> = inputs.iter().map(|input| (input.artifact.clone(), input.relationship)).collect();
        let artifacts: Vec<ArtifactId> = output.all_artifacts().into_iter().map(|artifact| artifact.id).collect();
        let before = self.known(record).map_or(0, |(node, _)| outputs(&self.graph, node));
        let step = self.graph.extend(record, &inputs, &artifacts, self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record) {
            let more = outputs(&self.graph, node) - before;
            self.tally_mut(known.project).outputs += more;
        }
        self.note(record, &step);
        self.derive(Cause::Arrival(record), format!("more of record {record} came"), &step);
        Ok(())
    }

    /// A record has another verdict.
    pub(super) fn judge(&mut self, record: RecordId, status: RecordStatus) -> Stored<()> {
        let step = self.settle(record, status)?;
        let reason = format!("the verdict on record {record} is {}", status.as_str());
        self.derive(Cause::Verdict(record), reason, &step);
        Ok(())
    }

    /// The same as a part of a step that has its own entry in the trail.
    pub(super) fn settle(&mut self, record: RecordId, status: RecordStatus) -> Stored<Step> {
        let step = self.graph.judge(record, status, self.next()).map_err(unexpected)?;
        self.note(record, &step);
        Ok(step)
    }

    fn known(&self, record: RecordId) -> Option<(Node, Known)> {
        let node = self.graph.find(record)?;
        Some((node, self.graph.record(node)?))
    }

    /// Flags that change are in the trail, whatever changed them.
    fn derive(&mut self, cause: Cause, reason: String, step: &Step) {
        if !step.flags.is_empty() {
            self.derived.push((self.graph.newest(), cause, reason, Changes::of(&self.graph, &step.flags)));
        }
    }

    /// Says the same of all these records.
    pub(super) fn apply(&mut self, action: Action, records: &[RecordId]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.apply(action, records, seq).map_err(unexpected)?;
        self.said_until = seq;
        self.mark(&step);
        Ok((seq, step))
    }

    /// Gives records other facts, since something that was said is taken back.
    pub(super) fn restate(&mut self, facts: &[(RecordId, Option<Fact>)]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.restate(facts, seq).map_err(unexpected)?;
        self.said_until = seq;
        self.mark(&step);
        Ok((seq, step))
    }

    /// Takes a step over that was planned on the graph as it is.
    pub(super) fn adopt(&mut self, planned: PlannedStep) -> (Seq, Step, Changes) {
        let (seq, PlannedStep { after, step, counts, rows, refused, told, .. }) = (planned.seq(), planned);
        self.graph = after;
        self.said_until = seq;
        self.moved = true;
        self.count_flags(&counts);
        self.changed.extend(rows);
        self.warn_of(&refused);
        (seq, step, told)
    }

    fn note(&mut self, record: RecordId, step: &Step) {
        self.changed.insert(record);
        self.mark(step);
        self.warn_of(&step.refused);
    }

    fn warn_of(&self, refused: &[Edge]) {
        for edge in refused {
            let id = |node| self.graph.record(node).map(|known| known.id);
            let (dependent, dependency) = (id(edge.dependent), id(edge.dependency));
            tracing::warn!(?dependent, ?dependency, "an input was not linked: the link would have closed a cycle");
        }
    }

    /// The rows of these records are no longer what the store has.
    fn mark(&mut self, step: &Step) {
        self.moved = true;
        let counts = FlagCounts::of(&self.graph, &step.flags);
        self.count_flags(&counts);
        self.changed.extend(rows_of(&self.graph, step));
    }

    fn count_flags(&mut self, counts: &[(Project, FlagCounts)]) {
        for (project, counts) in counts {
            self.tally_mut(*project).counts.change(*counts);
        }
    }

    /// Writes the rows that have changed; the version for readers, if there
    /// is a new one. Entries of the trail that nobody gave an id have one that
    /// follows from `store` and their position.
    pub(super) fn finish(&mut self, batch: &mut Batch, store: Uuid, now: Now) -> Stored<Option<Graph>> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(row) = self.graph.find(id).and_then(|node| LineageRow::of(&self.graph, node)) {
                batch.put_lineage(id, &row)?;
            }
        }
        for (seq, cause, reason, changes) in std::mem::take(&mut self.derived) {
            let cascade_id = match cause {
                Cause::Import(_) => IMPORT_CASCADE.to_owned(),
                _ => Uuid::new_v5(&store, format!("step {seq}").as_bytes()).to_string(),
            };
            batch.put_cascade(seq, &CascadeRow { at: now.wall, cascade_id, cause, reason, source: None }, changes)?;
        }
        if !std::mem::take(&mut self.moved) {
            return Ok(None);
        }
        batch.keep_newest_step(self.graph.newest());
        Ok(Some(self.graph.clone()))
    }
}

/// The records whose rows a step changes.
pub(super) fn rows_of(graph: &Graph, step: &Step) -> impl Iterator<Item = RecordId> {
    let edges = step.bound.iter().chain(&step.unbound).chain(&step.refused).map(|edge| edge.dependent);
    let nodes = edges.chain(step.facts.iter().map(|(node, _)| *node));
    nodes.filter_map(|node| graph.named(node)).map(|(id, _)| id)
}

/// A record as the graph takes it.
fn of_record(record: &Record, began: Began) -> lineage::Record {
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

impl Kept {
    /// A record goes elsewhere, or comes again as another one.
    fn give_up(&mut self, known: &Known, outputs: u64) {
        self.counts.give_up(known.flag);
        self.outputs = self.outputs.saturating_sub(outputs);
        self.imported.remove(&(known.created_at, known.id));
    }

    fn add(&mut self, known: &Known, outputs: u64) {
        self.counts.add();
        self.outputs += outputs;
        let age = (known.created_at, known.id);
        if known.began == Began::Elsewhere {
            self.imported.insert(age);
        } else {
            self.newest_own = self.newest_own.max(Some(age));
        }
    }

    fn tally(&self) -> Tally {
        let newest = self.newest_own.max(self.imported.last().copied());
        Tally { counts: self.counts, outputs: self.outputs, newest }
    }
}

fn outputs(graph: &Graph, node: Node) -> u64 {
    u64::try_from(graph.outputs(node).count()).unwrap_or(u64::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn unexpected(error: Error) -> store::Error {
    store::Error::Corrupt { table: "lineage", detail: error.to_string() }
}
