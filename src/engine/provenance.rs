//! The provenance graph, as the writer keeps it: every record goes into it
//! in the commit that stores the record, and readers get the version of the
//! last commit.

use std::collections::{HashMap, HashSet};

use fixedbitset::FixedBitSet;
use petgraph::visit::{NodeCount, NodeIndexable};
use uuid::Uuid;

use super::api::Refusal;
use super::cascade::{Cascade, CascadeRequest, Subject};
use super::hot::IdHash;
use super::machine::Machine;
use super::records::RecordCounts;
use crate::lineage::{self, Action, Error, Flag, Graph, Known, Node, Project, Step};
use crate::store::{self, Batch, CascadeRow, Cause, ChangeRow, LineageRow, Record, ScanFilter};
use crate::task::{
    ArtifactId, Input, Output, ProjectId, RecordId, RecordStatus, Seq, State, Status, Task, TaskId, Timestamp,
};

type Stored<T> = Result<T, store::Error>;

/// The graph and what of it the next commit has to write.
#[derive(Debug)]
pub(super) struct Provenance {
    graph: Graph,
    changed: HashSet<RecordId, IdHash>,
    moved: bool,
    tallies: HashMap<Project, Tally>,
    /// What arrivals and verdicts have done to flags in this group.
    derived: Vec<(Seq, Cause, String, Vec<ChangeRow>)>,
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

impl Provenance {
    pub(super) fn new(graph: Graph) -> Self {
        let mut provenance = Self {
            graph: Graph::default(),
            changed: HashSet::default(),
            moved: false,
            tallies: HashMap::new(),
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
        project.and_then(|project| self.tallies.get(&project)).copied().unwrap_or_default()
    }

    /// The graph as it is in this group.
    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    fn next(&self) -> Seq {
        self.graph.newest().next()
    }

    /// A record was made.
    pub(super) fn insert(&mut self, record: &Record) -> Stored<()> {
        let inputs = record.inputs.iter().map(|input| (input.artifact.clone(), input.relationship));
        let new = lineage::Record {
            id: record.id,
            task: record.task,
            project: record.project.clone(),
            status: record.status,
            created_at: record.created_at,
            started_at: Some(record.started_at),
            inputs: inputs.collect(),
            outputs: record.outputs.iter().map(|output| output.artifact.id.clone()).collect(),
        };
        let step = self.graph.insert(&new, self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record.id) {
            let outputs = outputs(&self.graph, node);
            self.tallies.entry(known.project).or_default().add(&known, outputs);
        }
        self.note(record.id, &step);
        self.derive(Cause::Arrival(record.id), format!("record {} came", record.id), &step);
        Ok(())
    }

    /// A late output has brought more artifacts.
    pub(super) fn extend(&mut self, record: RecordId, output: &Output) -> Stored<()> {
        let artifacts: Vec<ArtifactId> = output.all_artifacts().into_iter().map(|artifact| artifact.id).collect();
        let before = self.known(record).map_or(0, |(node, _)| outputs(&self.graph, node));
        let step = self.graph.extend(record, &[], &artifacts, self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record) {
            let more = outputs(&self.graph, node) - before;
            self.tallies.entry(known.project).or_default().outputs += more;
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
    fn settle(&mut self, record: RecordId, status: RecordStatus) -> Stored<Step> {
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
            self.derived.push((self.graph.newest(), cause, reason, changes(&self.graph, step)));
        }
    }

    /// Says the same of all these records.
    pub(super) fn apply(&mut self, action: Action, records: &[RecordId]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.apply(action, records, seq).map_err(unexpected)?;
        self.mark(&step);
        Ok((seq, step))
    }

    fn note(&mut self, record: RecordId, step: &Step) {
        self.changed.insert(record);
        self.mark(step);
        for edge in &step.refused {
            let id = |node| self.graph.record(node).map(|known| known.id);
            let (dependent, dependency) = (id(edge.dependent), id(edge.dependency));
            tracing::warn!(?dependent, ?dependency, "an input was not linked: the link would have closed a cycle");
        }
    }

    /// The rows of these records are no longer what the store has.
    fn mark(&mut self, step: &Step) {
        self.moved = true;
        for change in &step.flags {
            if let Some((_, project)) = self.graph.named(change.record) {
                self.tallies.entry(project).or_default().counts.flag(change.from, change.to);
            }
        }
        let edges = step.bound.iter().chain(&step.unbound).chain(&step.refused).map(|edge| edge.dependent);
        let nodes = edges.chain(step.facts.iter().map(|(node, _)| *node));
        self.changed.extend(nodes.filter_map(|node| self.graph.record(node)).map(|known| known.id));
    }

    /// Writes the rows that have changed; the version for readers, if there
    /// is a new one. Entries of the trail that nobody gave an id have one that
    /// follows from `store` and their position.
    pub(super) fn finish(&mut self, batch: &mut Batch, store: Uuid, now: Timestamp) -> Stored<Option<Graph>> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(row) = self.graph.find(id).and_then(|node| LineageRow::of(&self.graph, node)) {
                batch.put_lineage(id, &row)?;
            }
        }
        for (seq, cause, reason, changes) in std::mem::take(&mut self.derived) {
            let cascade_id = Uuid::new_v5(&store, format!("step {seq}").as_bytes()).to_string();
            batch.put_cascade(seq, &CascadeRow { at: now, cascade_id, cause, reason, source: None, changes })?;
        }
        Ok(std::mem::take(&mut self.moved).then(|| self.graph.clone()))
    }
}

impl Tally {
    fn add(&mut self, known: &Known, outputs: u64) {
        self.counts.add();
        self.outputs += outputs;
        self.newest = self.newest.max(Some((known.created_at, known.id)));
    }
}

fn outputs(graph: &Graph, node: Node) -> u64 {
    u64::try_from(graph.outputs(node).count()).unwrap_or(u64::MAX)
}

/// The changes of a step by the ids of their records.
pub(super) fn changes(graph: &Graph, step: &Step) -> Vec<ChangeRow> {
    let id = |node| graph.named(node).map(|(id, _)| id);
    let mut changes = Vec::with_capacity(step.flags.len());
    // What was reached through the same record stands together.
    let mut last = (None, None);
    for change in &step.flags {
        if last.0 != change.through {
            last = (change.through, change.through.and_then(id));
        }
        let Some(record) = id(change.record) else { continue };
        changes.push(ChangeRow { record, from: change.from, to: change.to, depth: change.depth, through: last.1 });
    }
    changes
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn unexpected(error: Error) -> store::Error {
    store::Error::Corrupt { table: "lineage", detail: error.to_string() }
}

/// The record that a subject names: by its id, or the one that made the
/// artifact, which is the newest that has not failed, else the newest.
#[must_use]
pub(super) fn resolve(graph: &Graph, subject: &Subject) -> Option<Node> {
    match subject {
        Subject::Record(id) => graph.find(*id),
        Subject::Artifact(id) => {
            let producers: Vec<Node> = graph.producers(graph.find_artifact(id)?).collect();
            let sound = |node: &&Node| graph.record(**node).is_some_and(|known| known.status != RecordStatus::Failed);
            producers.iter().rev().find(sound).or(producers.last()).copied()
        }
    }
}

impl Machine {
    /// Taints, marks or clears, in one step with all that follows.
    pub(super) fn cascade(&mut self, request: CascadeRequest, now: Timestamp) -> Stored<Result<Cascade, Refusal>> {
        let graph = self.provenance.graph();
        let Some(known) = resolve(graph, &request.subject).and_then(|node| graph.record(node)) else {
            return Ok(Err(Refusal::SubjectNotFound(request.subject)));
        };
        let (id, before) = (known.id, known.flag);
        let (seq, mut step) = self.provenance.apply(request.action, &[id])?;
        // Found good after another look: it counts as validated.
        if request.action == Action::Clear && before != Flag::Clean && known.status != RecordStatus::HumanApproved {
            // One that had failed is an input again: what that changes is part of this.
            step.flags.extend(self.provenance.settle(id, RecordStatus::Passed)?.flags);
            step.join();
            step.flags.sort_by_key(|change| change.depth);
            if let Some(record) = self.group.record(&self.store, id)? {
                record.status = RecordStatus::Passed;
            }
        }
        let running = self.running_users(&step)?;
        if !step.flags.is_empty() || !step.facts.is_empty() {
            let row = CascadeRow {
                at: now,
                cascade_id: request.cascade_id.clone(),
                cause: Cause::Said {
                    action: request.action,
                    record: id,
                    artifact: request.subject.artifact().cloned(),
                },
                reason: request.reason.clone(),
                source: request.source.clone(),
                changes: changes(self.provenance.graph(), &step),
            };
            self.group.batch.put_cascade(seq, &row)?;
        }
        let mut cancelled = Vec::new();
        if request.cancel_running {
            let reason = format!("it uses what became suspect in cascade {}", request.cascade_id);
            for task in &running {
                let input = Input::Cancel { reason: Some(reason.clone()) };
                if self.apply(*task, input, None, now)?.is_ok() {
                    cancelled.push(*task);
                }
            }
        }
        let graph = self.provenance.graph().clone();
        Ok(Ok(Cascade { cascade_id: request.cascade_id, record: id, graph, step, running, cancelled }))
    }

    /// The running tasks that were given an artifact of a record that is no
    /// longer clean.
    pub(super) fn running_users(&self, step: &Step) -> Stored<Vec<TaskId>> {
        let graph = self.provenance.graph();
        let spoilt = step.flags.iter().filter(|change| change.to > change.from).map(|change| change.record);
        let spoilt = Spoilt::new(graph, spoilt);
        let mut users = Vec::new();
        if spoilt.is_empty() {
            return Ok(users);
        }
        let view = self.store.view()?;
        for task in self.open_tasks().filter(|task| matches!(task.state, State::Running { .. })) {
            if uses(&view, task, &spoilt)? {
                users.push(task.id);
            }
        }
        users.sort_unstable();
        Ok(users)
    }
}

/// Records whose artifacts are no longer to be used: asked by the few artifacts
/// that are used, and not by all that the many records have made.
struct Spoilt<'a> {
    graph: &'a Graph,
    records: FixedBitSet,
}

impl<'a> Spoilt<'a> {
    fn new(graph: &'a Graph, records: impl Iterator<Item = Node>) -> Self {
        let mut spoilt = FixedBitSet::with_capacity(graph.node_count());
        spoilt.extend(records.map(|node| graph.to_index(node)));
        Self { graph, records: spoilt }
    }

    fn is_empty(&self) -> bool {
        self.records.is_clear()
    }

    fn made(&self, artifact: &ArtifactId) -> bool {
        let artifact = self.graph.find_artifact(artifact);
        let mut makers = artifact.into_iter().flat_map(|artifact| self.graph.producers(artifact));
        makers.any(|maker| self.records.contains(self.graph.to_index(maker)))
    }
}

/// The running tasks that were given an artifact of any of these records, as
/// of the last commit.
pub(super) fn running_users_in(view: &store::View, graph: &Graph, records: &[Node]) -> Stored<Vec<TaskId>> {
    let spoilt = Spoilt::new(graph, records.iter().copied());
    let mut users = Vec::new();
    if spoilt.is_empty() {
        return Ok(users);
    }
    let running = ScanFilter { project: None, statuses: vec![Status::Running], below: None };
    for id in view.scan(&running)? {
        let task = view.task(id?)?.filter(|task| matches!(task.state, State::Running { .. }));
        if let Some(task) = task
            && uses(view, &task, &spoilt)?
        {
            users.push(task.id);
        }
    }
    users.sort_unstable();
    Ok(users)
}

fn uses(view: &store::View, task: &Task, spoilt: &Spoilt<'_>) -> Stored<bool> {
    let one_of = |ids: &[ArtifactId]| ids.iter().any(|id| spoilt.made(id));
    if one_of(&task.inputs) {
        return Ok(true);
    }
    if view.submission(task.id)?.is_some_and(|submission| one_of(&submission.options.inputs)) {
        return Ok(true);
    }
    let context = if task.has_findings { view.findings(task.id)?.and_then(|findings| findings.context) } else { None };
    Ok(context.is_some_and(|context| one_of(&context.sources)))
}
