//! The graph as a value: its parts, and what can be read about one record.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::cover::Cover;
use super::lists::{List, Lists};
use super::marks::Marks;
use super::names::{Index, Names};
use super::pages::{Pages, split};
use super::record::{Artifact, Error, Fact, Flag, Link, Node, Project, Relationship, WorkStart};
use super::rows::{ArtifactPage, DependentPage, Input, InputKey, InputPage, MOST, Origin, Producers, Row, RowPage};
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// One version of the provenance graph. A clone is another version that shares its pages and costs
/// a dozen reference counts.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Position of the last step.
    pub(super) newest: Seq,
    /// Number of tainted records.
    pub(super) tainted: u32,
    pub(super) records: Records,
    pub(super) marks: Marks,
    pub(super) links: Links,
    pub(super) artifacts: Artifacts,
    pub(super) projects: Names,
}

/// The immutable parts of the records, and the index of their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) len: u32,
    pub(super) rows: Pages<RowPage>,
    pub(super) ids: Index,
    /// Newest time of the records made here.
    pub(super) newest_own: Option<Timestamp>,
    /// Newest time of the records whose order is known by times alone.
    pub(super) timed_until: Option<Timestamp>,
}

/// Inputs, outputs and edges of all records.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    pub(super) edges: u64,
    pub(super) inputs: Pages<InputPage>,
    pub(super) outputs: Pages<Lists<u32>>,
    pub(super) dependents: Pages<DependentPage>,
    pub(super) cover: Arc<Cover>,
    /// Inputs whose edge would close a cycle.
    pub(super) refused: Arc<Vec<InputKey>>,
}

/// Artifacts by name, with the records that produce and use each.
#[derive(Debug, Clone, Default)]
pub(super) struct Artifacts {
    pub(super) names: Names,
    pub(super) pages: Pages<ArtifactPage>,
}

/// What the graph knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordState {
    /// Id of the record.
    pub id: RecordId,
    /// The task that it was made for.
    pub task: TaskId,
    /// The project of the task.
    pub project: Project,
    /// The verdict.
    pub status: RecordStatus,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the work on it began.
    pub started_at: Timestamp,
    /// How its order among other records is known.
    pub began: WorkStart,
    /// Position of the step that brought it.
    pub seq: Seq,
    /// The fact of its own, if any.
    pub fact: Option<Fact>,
    /// The flag that follows from all facts.
    pub flag: Flag,
}

/// Bytes in memory by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Records with their ids, verdicts, flags and outputs.
    pub records: usize,
    /// Edges, in both directions.
    pub edges: usize,
    /// Artifacts with their names, and projects.
    pub artifacts: usize,
}

impl Graph {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.records.len
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len == 0
    }

    /// Number of edges.
    #[must_use]
    pub fn edge_count(&self) -> u64 {
        self.links.edges
    }

    /// Position of the last step.
    #[must_use]
    pub fn newest(&self) -> Seq {
        self.newest
    }

    /// All records, in the order of their places.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        (0..self.records.len).map(Node)
    }

    /// All projects, by number.
    pub fn projects(&self) -> impl Iterator<Item = Project> + use<> {
        (0..self.projects.len()).map(Project)
    }

    /// Finds the record with this id.
    #[must_use]
    pub fn find(&self, id: RecordId) -> Option<Node> {
        self.records.ids.find(self.records.ids.hasher.hash_one(id), |node| self.row(node).id == id).map(Node)
    }

    /// Finds the artifact with this id; `None` if no record names it.
    #[must_use]
    pub fn find_artifact(&self, id: &ArtifactId) -> Option<Artifact> {
        self.artifacts.names.find(id.as_str()).map(Artifact)
    }

    /// Finds the project with this id; `None` if it has no record.
    #[must_use]
    pub fn find_project(&self, id: &ProjectId) -> Option<Project> {
        self.projects.find(id.as_str()).map(Project)
    }

    /// Id of an artifact; `None` if it is newer than this version.
    #[must_use]
    pub fn artifact_id(&self, artifact: Artifact) -> Option<&str> {
        (artifact.0 < self.artifacts.names.len()).then(|| self.artifacts.names.text(artifact.0))
    }

    /// Id of a project; `None` if it is newer than this version.
    #[must_use]
    pub fn project_id(&self, project: Project) -> Option<&str> {
        (project.0 < self.projects.len()).then(|| self.projects.text(project.0))
    }

    /// State of a record; `None` if it is newer than this version.
    #[must_use]
    pub fn record(&self, node: Node) -> Option<RecordState> {
        let row = self.holds(node).then(|| self.row(node.0))?;
        Some(RecordState {
            id: row.id,
            task: row.task,
            project: Project(self.project(node.0)),
            status: self.marks.status(node.0),
            created_at: row.created_at,
            started_at: row.started_at,
            began: row.began(),
            seq: self.seq(node.0),
            fact: self.marks.fact(node.0),
            flag: self.marks.flag(node.0),
        })
    }

    /// Id and project of a record, which is all that a walk over many records needs to name them.
    #[must_use]
    pub fn id_and_project(&self, node: Node) -> Option<(RecordId, Project)> {
        self.holds(node).then(|| (self.row(node.0).id, Project(self.project(node.0))))
    }

    /// Project of a record.
    #[must_use]
    pub fn project_of(&self, node: Node) -> Option<Project> {
        self.holds(node).then(|| Project(self.project(node.0)))
    }

    /// The task that a record was made for, and its project.
    #[must_use]
    pub fn task_and_project(&self, node: Node) -> Option<(TaskId, Project)> {
        self.holds(node).then(|| (self.row(node.0).task, Project(self.project(node.0))))
    }

    /// Position of the step that brought a record. No other record has it.
    #[must_use]
    pub fn position_of(&self, node: Node) -> Option<Seq> {
        self.holds(node).then(|| self.seq(node.0))
    }

    /// Artifacts that a record used, with their links, in a fixed order.
    pub fn inputs(&self, node: Node) -> impl Iterator<Item = (Artifact, Relationship, Link)> {
        let inputs = self.holds(node).then(|| self.inputs_of(node.0).iter());
        inputs.into_iter().flatten().map(|input| (Artifact(input.artifact()), input.relationship(), input.link()))
    }

    /// Artifacts that a record produced.
    pub fn outputs(&self, node: Node) -> impl Iterator<Item = Artifact> {
        self.holds(node).then(|| self.outputs_of(node.0).iter()).into_iter().flatten().map(Artifact)
    }

    /// Records that name an artifact as output: failed records first, then the others; imported
    /// ones before those made here, and each kind from the oldest to the newest.
    pub fn producers(&self, artifact: Artifact) -> impl Iterator<Item = Node> {
        let known = (artifact.0 < self.artifacts.names.len()).then(|| self.producers_of(artifact.0).all);
        known.into_iter().flat_map(List::iter).map(Node)
    }

    /// Artifacts through which one record depends directly on another.
    pub fn between(&self, dependent: Node, dependency: Node) -> impl Iterator<Item = Artifact> {
        let bound = move |(artifact, _, link)| (link == Link::Bound(dependency)).then_some(artifact);
        self.inputs(dependent).filter_map(bound)
    }

    /// Position at which an input was bound, if that was later than the arrival of both records.
    /// [`super::RestoredRecord`] needs it again.
    #[must_use]
    pub fn rebound_at(&self, node: Node, artifact: Artifact) -> Option<Seq> {
        let (page, slot) = split(node.0);
        self.holds(node).then(|| self.links.inputs.get(page).rebound_at(slot, artifact.0)).flatten()
    }

    /// Position of the newest path from a tainted ancestor: of the taint or of an edge, whichever
    /// is newer. `None` if there is no such path.
    #[must_use]
    pub fn exposed_at(&self, node: Node) -> Option<Seq> {
        let exposure = self.holds(node).then(|| self.marks.exposure(node.0));
        exposure.filter(|exposure| *exposure > 0).map(Seq)
    }

    /// Counts bytes in memory by visiting all pages.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let pages = |bytes: usize| bytes + 2 * size_of::<usize>();
        let rows: usize = self.records.rows.iter().map(RowPage::heap_bytes).sum();
        let outputs: usize = self.links.outputs.iter().map(|page| pages(size_of_val(page)) + page.heap_bytes()).sum();
        let inputs = self.links.inputs.iter().map(|page| pages(size_of_val(page)) + page.heap_bytes());
        let dependents = self.links.dependents.iter().map(|page| pages(size_of_val(page)) + page.heap_bytes());
        let artifacts = self.artifacts.pages.iter().map(|page| pages(size_of_val(page)) + page.heap_bytes());
        Footprint {
            records: rows + outputs + self.marks.bytes() + self.records.ids.heap_bytes(),
            edges: inputs.sum::<usize>() + dependents.sum::<usize>(),
            artifacts: artifacts.sum::<usize>() + self.artifacts.names.heap_bytes() + self.projects.heap_bytes(),
        }
    }

    pub(super) fn holds(&self, node: Node) -> bool {
        node.0 < self.records.len
    }

    pub(super) fn row(&self, node: u32) -> &Row {
        let (page, slot) = split(node);
        self.records.rows.get(page).get(slot)
    }

    /// Position of the step that brought a record.
    pub(super) fn seq(&self, node: u32) -> Seq {
        let (page, slot) = split(node);
        self.records.rows.get(page).seq(slot)
    }

    pub(super) fn project(&self, node: u32) -> u32 {
        let (page, slot) = split(node);
        self.records.rows.get(page).project(slot)
    }

    pub(super) fn inputs_of(&self, node: u32) -> List<'_, Input> {
        let (page, slot) = split(node);
        self.links.inputs.get(page).lists.get(slot)
    }

    pub(super) fn outputs_of(&self, node: u32) -> List<'_, u32> {
        let (page, slot) = split(node);
        self.links.outputs.get(page).get(slot)
    }

    pub(super) fn producers_of(&self, artifact: u32) -> Producers<'_> {
        let (page, slot) = split(artifact);
        let page = self.artifacts.pages.get(page);
        Producers { by_project: page.by_project.get(slot), all: page.producers.get(slot) }
    }

    pub(super) fn dependents_of(&self, node: u32) -> List<'_, u32> {
        let (page, slot) = split(node);
        self.links.dependents.get(page).lists.get(slot)
    }

    /// Finds the input of a record that names an artifact, with its index in the list.
    pub(super) fn input(&self, node: u32, artifact: u32) -> Option<(usize, Input)> {
        let inputs = self.inputs_of(node);
        let at = inputs.partition_point(|input| input.artifact() < artifact);
        inputs.get(at).filter(|input| input.artifact() == artifact).map(|input| (at, input))
    }

    /// Position at which an edge was bound.
    pub(super) fn bound_at(&self, dependent: u32, artifact: u32, dependency: u32) -> Seq {
        let (page, slot) = split(dependent);
        let page = self.links.inputs.get(page);
        let later = if page.rebound.is_empty() { None } else { page.rebound_at(slot, artifact) };
        later.unwrap_or_else(|| self.seq(dependent).max(self.seq(dependency)))
    }

    pub(super) fn require(&self, id: RecordId) -> Result<u32, Error> {
        self.find(id).map(|node| node.0).ok_or(Error::NotThere(id))
    }

    pub(super) fn check_new(&self, id: RecordId) -> Result<(), Error> {
        self.find(id).map_or(Ok(()), |_| Err(Error::AlreadyThere(id)))
    }

    pub(super) fn require_all(&self, ids: &[RecordId]) -> Result<Vec<u32>, Error> {
        let mut nodes = ids.iter().map(|id| self.require(*id)).collect::<Result<Vec<_>, _>>()?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// Adds a record without inputs and outputs.
    pub(super) fn append(&mut self, row: Row, origin: Origin, status: RecordStatus) -> u32 {
        let node = self.records.len;
        let (page, slot) = split(node);
        if slot == 0 {
            self.records.rows.reach(page);
            self.marks.reach(page);
            self.links.inputs.reach(page);
            self.links.outputs.reach(page);
            self.links.dependents.reach(page);
        }
        let id = row.id;
        self.records.rows.get_mut(page).push(row, origin);
        self.marks.set_status(node, status);
        self.records.len += 1;
        let (rows, hasher) = (&self.records.rows, self.records.ids.hasher.clone());
        let hash = hasher.hash_one(id);
        self.records.ids.insert(hash, node, |other| {
            let (page, slot) = split(other);
            hasher.hash_one(rows.get(page).get(slot).id)
        });
        node
    }

    /// Adjusts the time of a new record to the order of all. Records made here are later than all
    /// before them, even if the clock was set back.
    pub(super) fn place_in_time(&self, mut row: Row) -> Row {
        if row.began() != WorkStart::Elsewhere {
            row.created_at = self.records.newest_own.map_or(row.created_at, |newest| newest.max(row.created_at));
        }
        row
    }

    /// Updates the newest known times with those of a record.
    pub(super) fn record_times(&mut self, row: &Row) {
        if row.began() != WorkStart::Elsewhere {
            self.records.newest_own = self.records.newest_own.max(Some(row.created_at));
        }
        if !matches!(row.began(), WorkStart::After(_)) {
            self.records.timed_until = self.records.timed_until.max(Some(row.started_at.max(row.created_at)));
        }
    }

    /// Number of an artifact, with a row if it is new.
    pub(super) fn artifact(&mut self, id: &ArtifactId) -> u32 {
        let known = self.artifacts.names.len();
        let artifact = self.artifacts.names.number(id.as_str());
        if artifact == known {
            let (page, _) = split(artifact);
            self.artifacts.pages.reach(page);
        }
        artifact
    }

    /// Refuses a step at `position` that adds so many artifacts if it is out of order or there is
    /// no room.
    pub(super) fn check(&self, position: Seq, artifacts: usize) -> Result<(), Error> {
        let first = self.newest.next();
        if position < first || position.0 > Fact::LAST {
            return Err(Error::OutOfOrder { position, first });
        }
        self.check_room(artifacts)
    }

    /// Refuses to add so many artifacts, one record and one project if there is no room.
    pub(super) fn check_room(&self, artifacts: usize) -> Result<(), Error> {
        let room = usize::try_from(MOST.saturating_sub(self.artifacts.names.len())).unwrap_or(usize::MAX);
        let full = artifacts >= room || self.records.len >= MOST - 1 || self.projects.len() >= MOST - 1;
        if full { Err(Error::Full(MOST)) } else { Ok(()) }
    }
}
