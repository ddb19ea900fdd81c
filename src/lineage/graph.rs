//! The graph as a value: what it consists of and what can be read of one record.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::cover::Cover;
use super::lists::{List, Lists};
use super::marks::Marks;
use super::names::{Index, Names};
use super::pages::{Pages, split};
use super::record::{Artifact, Began, Error, Fact, Flag, Link, Node, Project, Relationship};
use super::rows::{ArtifactPage, Asked, DependentPage, Input, InputPage, MOST, Origin, Producers, Row, RowPage};
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// One version of the provenance graph. A clone is another version that
/// shares its pages and costs a dozen reference counts.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The position of the last step.
    pub(super) newest: Seq,
    /// How many records are tainted.
    pub(super) tainted: u32,
    pub(super) records: Records,
    pub(super) marks: Marks,
    pub(super) links: Links,
    pub(super) artifacts: Artifacts,
    pub(super) projects: Names,
}

/// What never changes about the records, and the index of their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) len: u32,
    pub(super) rows: Pages<RowPage>,
    pub(super) ids: Index,
    /// The newest time of the records that were made here.
    pub(super) newest_own: Option<Timestamp>,
    /// The newest time of those whose order is known by times alone.
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
    /// Inputs whose edge would close a cycle: record and artifact.
    pub(super) refused: Arc<Vec<Asked>>,
}

/// Artifacts by their names, and who produces and uses each.
#[derive(Debug, Clone, Default)]
pub(super) struct Artifacts {
    pub(super) names: Names,
    pub(super) pages: Pages<ArtifactPage>,
}

/// What the graph knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: RecordId,
    /// The task it was made for.
    pub task: TaskId,
    /// The project.
    pub project: Project,
    /// The verdict.
    pub status: RecordStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the work on it began.
    pub started_at: Timestamp,
    /// Where its order among others is known from.
    pub began: Began,
    /// The position at which it came.
    pub seq: Seq,
    /// What was said about it, if anything.
    pub fact: Option<Fact>,
    /// What follows from all facts.
    pub flag: Flag,
}

/// Bytes in memory, by what they are for.
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
    /// The number of records.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.records.len
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len == 0
    }

    /// The number of edges.
    #[must_use]
    pub fn edge_count(&self) -> u64 {
        self.links.edges
    }

    /// The position of the last step.
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

    /// The record with this id.
    #[must_use]
    pub fn find(&self, id: RecordId) -> Option<Node> {
        self.records.ids.find(self.records.ids.hasher.hash_one(id), |node| self.row(node).id == id).map(Node)
    }

    /// The artifact with this id, if any record names it.
    #[must_use]
    pub fn find_artifact(&self, id: &ArtifactId) -> Option<Artifact> {
        self.artifacts.names.find(id.as_str()).map(Artifact)
    }

    /// The project with this id, if it has a record.
    #[must_use]
    pub fn find_project(&self, id: &ProjectId) -> Option<Project> {
        self.projects.find(id.as_str()).map(Project)
    }

    /// The id of an artifact; `None`: it came after this version.
    #[must_use]
    pub fn artifact_id(&self, artifact: Artifact) -> Option<&str> {
        (artifact.0 < self.artifacts.names.len()).then(|| self.artifacts.names.text(artifact.0))
    }

    /// The id of a project; `None`: it came after this version.
    #[must_use]
    pub fn project_id(&self, project: Project) -> Option<&str> {
        (project.0 < self.projects.len()).then(|| self.projects.text(project.0))
    }

    /// What is known of a record; `None`: it came after this version.
    #[must_use]
    pub fn record(&self, node: Node) -> Option<Known> {
        let row = self.holds(node).then(|| self.row(node.0))?;
        Some(Known {
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

    /// The id and the project of a record: all that a walk over many of them
    /// needs to name them.
    #[must_use]
    pub fn named(&self, node: Node) -> Option<(RecordId, Project)> {
        self.holds(node).then(|| (self.row(node.0).id, Project(self.project(node.0))))
    }

    /// The project of a record.
    #[must_use]
    pub fn project_of(&self, node: Node) -> Option<Project> {
        self.holds(node).then(|| Project(self.project(node.0)))
    }

    /// The task and the project that a record was made for.
    #[must_use]
    pub fn made_for(&self, node: Node) -> Option<(TaskId, Project)> {
        self.holds(node).then(|| (self.row(node.0).task, Project(self.project(node.0))))
    }

    /// The position at which a record came: no other record has it.
    #[must_use]
    pub fn brought_by(&self, node: Node) -> Option<Seq> {
        self.holds(node).then(|| self.seq(node.0))
    }

    /// What a record used, with what it is linked to, in a fixed order.
    pub fn inputs(&self, node: Node) -> impl Iterator<Item = (Artifact, Relationship, Link)> {
        let inputs = self.holds(node).then(|| self.inputs_of(node.0).iter());
        inputs.into_iter().flatten().map(|input| (Artifact(input.artifact()), input.relationship(), input.link()))
    }

    /// What a record produced.
    pub fn outputs(&self, node: Node) -> impl Iterator<Item = Artifact> {
        self.holds(node).then(|| self.outputs_of(node.0).iter()).into_iter().flatten().map(Artifact)
    }

    /// The records that name an artifact as output: those that have failed,
    /// then those that have not; imported ones before those made here, and
    /// each kind from the oldest to the newest.
    pub fn producers(&self, artifact: Artifact) -> impl Iterator<Item = Node> {
        let known = (artifact.0 < self.artifacts.names.len()).then(|| self.producers_of(artifact.0).all);
        known.into_iter().flat_map(List::iter).map(Node)
    }

    /// The artifacts through which one record depends directly on another.
    pub fn between(&self, dependent: Node, dependency: Node) -> impl Iterator<Item = Artifact> {
        let bound = move |(artifact, _, link)| (link == Link::Bound(dependency)).then_some(artifact);
        self.inputs(dependent).filter_map(bound)
    }

    /// The position at which an input was bound, where that was later than
    /// the coming of both records: what [`super::Restored`] needs again.
    #[must_use]
    pub fn rebound_at(&self, node: Node, artifact: Artifact) -> Option<Seq> {
        let (page, slot) = split(node.0);
        self.holds(node).then(|| self.links.inputs.get(page).rebound_at(slot, artifact.0)).flatten()
    }

    /// The position of the newest path from a tainted ancestor: of the taint
    /// or of an edge, whichever is newer. `None`: there is no such path.
    #[must_use]
    pub fn exposed_at(&self, node: Node) -> Option<Seq> {
        let exposure = self.holds(node).then(|| self.marks.exposure(node.0));
        exposure.filter(|exposure| *exposure > 0).map(Seq)
    }

    /// Bytes in memory, counted by going over all pages.
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

    /// The position at which a record came.
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

    /// The input of a record that names an artifact, with its place in the list.
    pub(super) fn input(&self, node: u32, artifact: u32) -> Option<(usize, Input)> {
        let inputs = self.inputs_of(node);
        let at = inputs.partition_point(|input| input.artifact() < artifact);
        inputs.get(at).filter(|input| input.artifact() == artifact).map(|input| (at, input))
    }

    /// The position at which an edge was bound.
    pub(super) fn bound_at(&self, dependent: u32, artifact: u32, dependency: u32) -> Seq {
        let (page, slot) = split(dependent);
        let page = self.links.inputs.get(page);
        let later = if page.rebound.is_empty() { None } else { page.rebound_at(slot, artifact) };
        later.unwrap_or_else(|| self.seq(dependent).max(self.seq(dependency)))
    }

    pub(super) fn known(&self, id: RecordId) -> Result<u32, Error> {
        self.find(id).map(|node| node.0).ok_or(Error::NotThere(id))
    }

    pub(super) fn check_new(&self, id: RecordId) -> Result<(), Error> {
        self.find(id).map_or(Ok(()), |_| Err(Error::AlreadyThere(id)))
    }

    pub(super) fn each_once(&self, ids: &[RecordId]) -> Result<Vec<u32>, Error> {
        let mut nodes = ids.iter().map(|id| self.known(*id)).collect::<Result<Vec<_>, _>>()?;
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

    /// The time of a new record in the order of all. Those that were made here
    /// are later than all before them, also where the clock was set back.
    pub(super) fn place_in_time(&self, mut row: Row) -> Row {
        if row.began() != Began::Elsewhere {
            row.created_at = self.records.newest_own.map_or(row.created_at, |newest| newest.max(row.created_at));
        }
        row
    }

    /// Takes note of a record's times.
    pub(super) fn note_times(&mut self, row: &Row) {
        if row.began() != Began::Elsewhere {
            self.records.newest_own = self.records.newest_own.max(Some(row.created_at));
        }
        if !matches!(row.began(), Began::After(_)) {
            self.records.timed_until = self.records.timed_until.max(Some(row.started_at.max(row.created_at)));
        }
    }

    /// The number of an artifact, with a row if it is new.
    pub(super) fn artifact(&mut self, id: &ArtifactId) -> u32 {
        let known = self.artifacts.names.len();
        let artifact = self.artifacts.names.number(id.as_str());
        if artifact == known {
            let (page, _) = split(artifact);
            self.artifacts.pages.reach(page);
        }
        artifact
    }

    /// Whether a step at `position` that adds so many artifacts can be taken.
    pub(super) fn check(&self, position: Seq, artifacts: usize) -> Result<(), Error> {
        let first = self.newest.next();
        if position < first || position.0 > Fact::LAST {
            return Err(Error::OutOfOrder { position, first });
        }
        self.check_room(artifacts)
    }

    /// Whether so many artifacts more, and one record and project, have room.
    pub(super) fn check_room(&self, artifacts: usize) -> Result<(), Error> {
        let room = usize::try_from(MOST.saturating_sub(self.artifacts.names.len())).unwrap_or(usize::MAX);
        let full = artifacts >= room || self.records.len >= MOST - 1 || self.projects.len() >= MOST - 1;
        if full { Err(Error::Full(MOST)) } else { Ok(()) }
    }
}
