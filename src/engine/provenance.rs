//! The provenance graph, as the writer keeps it: every record goes into it
//! in the commit that stores the record, and readers get the version of the
//! last commit.

use std::collections::{HashMap, HashSet};

use fixedbitset::FixedBitSet;
use petgraph::visit::{NodeCount, NodeIndexable};
use uuid::Uuid;

use super::api::Refusal;
use super::cascade::{Cascade, CascadeRequest, Subject};
use super::group::InStore;
use super::hot::IdHash;
use super::import::IMPORT_CASCADE;
use super::machine::Machine;
use super::records::RecordCounts;
use super::undo::details_of;
use crate::lineage::{self, Action, Began, Error, Fact, Flag, FlagChange, Graph, Known, Node, Project, Replaced, Step};
use crate::store::{self, Batch, CascadeRow, Cause, Changes, LineageRow, Record, RecordInput, ScanFilter};
use crate::task::{
    ArtifactId, Input, Now, Output, ProjectId, RecordId, RecordStatus, Seq, Status, Task, TaskId, Timestamp,
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

    /// A record was made, by work that began when the graph had come to a step.
    pub(super) fn insert(&mut self, record: &Record, began: Began) -> Stored<()> {
        let step = self.graph.insert(&of_record(record, began), self.next()).map_err(unexpected)?;
        if let Some((node, known)) = self.known(record.id) {
            let outputs = outputs(&self.graph, node);
            self.tallies.entry(known.project).or_default().add(&known, outputs);
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
            let down = self.graph.path(edge.dependent, edge.dependency, None).unwrap_or_default();
            let cycle = std::iter::once(edge.dependent).chain(down.into_iter().rev());
            let cycle = cycle.filter_map(|node| self.graph.record(node)).map(|known| known.id).collect();
            self.graph = before;
            return Ok(Err(cycle));
        }
        if let Some(known) = known {
            let outputs = before.find(record.id).map_or(0, |node| outputs(&before, node));
            self.tallies.entry(known.project).or_default().give_up(&known, outputs);
        }
        if let Some((node, now)) = self.known(record.id) {
            let outputs = outputs(&self.graph, node);
            let tally = self.tallies.entry(now.project).or_default();
            tally.add(&now, outputs);
            // The step tells how the flag goes on from here.
            tally.counts.flag(Flag::Clean, known.map_or(Flag::Clean, |known| known.flag));
        }
        if let Some(known) = known {
            self.find_newest(known.project);
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
    pub(super) fn settle(&mut self, record: RecordId, status: RecordStatus) -> Stored<Step> {
        let step = self.graph.judge(record, status, self.next()).map_err(unexpected)?;
        self.note(record, &step);
        Ok(step)
    }

    /// Looks for the newest record of a project anew, where it has gone.
    fn find_newest(&mut self, project: Project) {
        let tally = self.tallies.entry(project).or_default();
        if tally.newest.is_none() {
            let known = self.graph.nodes().filter_map(|node| self.graph.record(node));
            tally.newest = known.filter(|known| known.project == project).map(|it| (it.created_at, it.id)).max();
        }
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
        self.mark(&step);
        Ok((seq, step))
    }

    /// Gives records other facts, since something that was said is taken back.
    pub(super) fn restate(&mut self, facts: &[(RecordId, Option<Fact>)]) -> Stored<(Seq, Step)> {
        let seq = self.next();
        let step = self.graph.restate(facts, seq).map_err(unexpected)?;
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
        self.tally_flags(step);
        let edges = step.bound.iter().chain(&step.unbound).chain(&step.refused).map(|edge| edge.dependent);
        let nodes = edges.chain(step.facts.iter().map(|(node, _)| *node));
        self.changed.extend(nodes.filter_map(|node| self.graph.record(node)).map(|known| known.id));
    }

    /// Counts changed flags: those of one project that stand together at once.
    fn tally_flags(&mut self, step: &Step) {
        let project = |change: &FlagChange| self.graph.project_of(change.record);
        let mut of = None;
        let mut tally = None;
        for change in &step.flags {
            let project = project(change);
            if project != of || tally.is_none() {
                of = project;
                tally = project.map(|project| self.tallies.entry(project).or_default());
            }
            if let Some(tally) = &mut tally {
                tally.counts.flag(change.from, change.to);
            }
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
        Ok(std::mem::take(&mut self.moved).then(|| self.graph.clone()))
    }
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

impl Tally {
    /// A record goes elsewhere, or comes again as another one. When it was
    /// the newest, that has to be looked for.
    fn give_up(&mut self, known: &Known, outputs: u64) {
        self.counts.give_up(known.flag);
        self.outputs = self.outputs.saturating_sub(outputs);
        self.newest = self.newest.filter(|newest| *newest != (known.created_at, known.id));
    }

    fn add(&mut self, known: &Known, outputs: u64) {
        self.counts.add();
        self.outputs += outputs;
        self.newest = self.newest.max(Some((known.created_at, known.id)));
    }
}

fn outputs(graph: &Graph, node: Node) -> u64 {
    u64::try_from(graph.outputs(node).count()).unwrap_or(u64::MAX)
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
        Subject::Artifact(id) => graph.maker(graph.find_artifact(id)?),
    }
}

/// What an id names: a record, or the record that made an artifact.
#[must_use]
pub(super) fn named(graph: &Graph, id: &str) -> Option<(Subject, Node)> {
    // An artifact first: its id is a text as it stands, that of a record may
    // be one from which the record's own is derived.
    let record = id.parse().ok().map(Subject::Record);
    let artifact = ArtifactId::new(id).ok().map(Subject::Artifact);
    let imported = artifact.is_some().then(|| Subject::Record(RecordId::of_text(id)));
    let mut subjects = [record, artifact, imported].into_iter().flatten();
    subjects.find_map(|subject| resolve(graph, &subject).map(|node| (subject, node)))
}

impl Machine {
    /// Taints, marks or clears, in one step with all that follows.
    pub(super) fn cascade(&mut self, request: CascadeRequest, now: Now) -> Stored<Result<Cascade, Refusal>> {
        let graph = self.provenance.graph();
        let Some(known) = resolve(graph, &request.subject).and_then(|node| graph.record(node)) else {
            return Ok(Err(Refusal::SubjectNotFound(request.subject)));
        };
        let (id, before) = (known.id, known.flag);
        let mut said = self.say(request.action, &[id], &request.cascade_id)?;
        // Found good after another look: it counts as validated.
        if request.action == Action::Clear && before != Flag::Clean && known.status != RecordStatus::HumanApproved {
            self.validate(id, &mut said.step)?;
        }
        let running = self.running_users(&said.step)?;
        if !said.named.is_empty() {
            let row = CascadeRow {
                at: now.wall,
                cascade_id: request.cascade_id.clone(),
                cause: Cause::Said {
                    action: request.action,
                    record: id,
                    artifact: request.subject.artifact().cloned(),
                },
                reason: request.reason.clone(),
                source: request.source.clone(),
            };
            let graph = self.provenance.graph();
            // A mark on what is suspect anyway changes no flag, but counts once the taint has gone.
            self.group.batch.put_cascade(said.seq, &row, Changes::of(graph, &said.told(graph)))?;
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
        let (cascade_id, is_change) = (request.cascade_id, !said.named.is_empty());
        Ok(Ok(Cascade { cascade_id, record: id, graph, step: said.step, is_change, running, cancelled }))
    }

    /// Gives a record that was cleared the verdict `passed`, and keeps the one
    /// that it had. One that had failed is an input again: what that changes is
    /// part of the step.
    fn validate(&mut self, id: RecordId, step: &mut Step) -> Stored<()> {
        let more = self.provenance.settle(id, RecordStatus::Passed)?.flags;
        if !more.is_empty() {
            step.flags.extend(more);
            step.join();
            step.flags.sort_by_key(|change| change.depth);
        }
        let stored = InStore { store: &self.store, recent: &self.recent };
        let Some(record) = self.group.record(stored, id)? else { return Ok(()) };
        let (status, details) = (record.status, details_of(record.verification.as_deref()));
        record.status = RecordStatus::Passed;
        let statement = self.group.statements.get_mut(&id).and_then(|statements| statements.last_mut());
        if let Some(statement) = statement.filter(|_| status != RecordStatus::Passed) {
            statement.replaced = Some(Replaced { status, details });
        }
        Ok(())
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
        for id in self.given_inputs() {
            let task = self.find_open(id)?.filter(|task| task.open_attempt().is_some());
            if let Some(task) = task
                && uses(&view, &task, &spoilt)?
            {
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
    let running = ScanFilter { project: None, statuses: vec![Status::Pending, Status::Running], below: None };
    for id in view.scan(&running)? {
        let task = view.task(id?)?.filter(|task| task.open_attempt().is_some());
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
