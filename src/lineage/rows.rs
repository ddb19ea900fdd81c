//! Rows of records and artifacts in a page.

use super::lists::{List, Lists};
use super::pages::PAGE;
use super::record::{Link, Node, Record, Relationship, WorkStart};
use crate::task::{RecordId, Seq, TaskId, Timestamp};

/// Largest number of records, artifacts and projects: the highest bit of an index is used for
/// marks, and the two largest numbers for links to nothing.
pub(super) const MOST: u32 = (u32::MAX >> 1) - 1;

/// Link of an input that is neither bound nor listed as waiting yet.
const NEW: u32 = u32::MAX - 1;

/// Link of an input that is listed as waiting at its artifact.
const WAITING: u32 = u32::MAX;

/// The highest bit: an input that is only referenced, or a link that was refused.
const MARK: u32 = 1 << 31;

/// The immutable part of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) id: RecordId,
    pub(super) task: TaskId,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Timestamp,
    began: u64,
}

/// The step that brought a record, and its project.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) seq: Seq,
    pub(super) project: u32,
}

impl Row {
    pub(super) fn of(record: &Record) -> Self {
        let started_at = record.started_at.unwrap_or(record.created_at);
        Self { id: record.id, task: record.task, created_at: record.created_at, started_at, began: record.began.pack() }
    }

    pub(super) fn began(&self) -> WorkStart {
        WorkStart::unpack(self.began)
    }

    /// What decides which of two records is newer. Ids make it a strict order that does not depend
    /// on the order of arrival.
    pub(super) fn age(&self) -> (Timestamp, RecordId) {
        (self.created_at, self.id)
    }
}

/// An artifact that a record used, and its link: 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Input {
    artifact: u32,
    link: u32,
}

impl Input {
    /// An input that is not linked and not listed as waiting.
    pub(super) fn new(artifact: u32, relationship: Relationship) -> Self {
        let mark = if relationship == Relationship::Referenced { MARK } else { 0 };
        Self { artifact: artifact | mark, link: NEW }
    }

    pub(super) fn is_new(self) -> bool {
        self.link == NEW
    }

    pub(super) fn artifact(self) -> u32 {
        self.artifact & !MARK
    }

    pub(super) fn relationship(self) -> Relationship {
        if self.artifact & MARK == 0 { Relationship::Consumed } else { Relationship::Referenced }
    }

    pub(super) fn link(self) -> Link {
        match self.link {
            NEW | WAITING => Link::Waiting,
            refused if refused & MARK != 0 => Link::Refused(Node(refused & !MARK)),
            bound => Link::Bound(Node(bound)),
        }
    }

    /// The producer if the edge exists.
    pub(super) fn bound(self) -> Option<u32> {
        (self.link & MARK == 0).then_some(self.link)
    }

    pub(super) fn linked(self, link: Link) -> Self {
        let link = match link {
            Link::Waiting => WAITING,
            Link::Bound(node) => node.0,
            Link::Refused(node) => node.0 | MARK,
        };
        Self { link, ..self }
    }
}

/// An input: record and artifact.
pub(super) type InputKey = (u32, u32);

/// An edge that was bound later than both of its records arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rebound {
    pub(super) slot: usize,
    pub(super) artifact: u32,
    pub(super) seq: Seq,
}

/// Inputs of the records of a page, each list sorted by artifact.
#[derive(Debug, Clone, Default)]
pub(super) struct InputPage {
    pub(super) lists: Lists<Input>,
    pub(super) rebound: Vec<Rebound>,
}

impl InputPage {
    pub(super) fn rebound_at(&self, slot: usize, artifact: u32) -> Option<Seq> {
        self.rebound.iter().find(|it| it.slot == slot && it.artifact == artifact).map(|it| it.seq)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.lists.heap_bytes() + self.rebound.capacity() * size_of::<Rebound>()
    }

    /// Sets the position of an edge. `None` means that the edge is as old as the younger of its
    /// records, or was removed.
    pub(super) fn set_rebound(&mut self, slot: usize, artifact: u32, seq: Option<Seq>) {
        self.rebound.retain(|it| it.slot != slot || it.artifact != artifact);
        self.rebound.extend(seq.map(|seq| Rebound { slot, artifact, seq }));
    }
}

/// The producers of one artifact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Producers<'a> {
    /// By project, then as in `all`.
    pub(super) by_project: List<'a, u32>,
    /// Failed records first, then imported ones, then by age.
    pub(super) all: List<'a, u32>,
}

/// Producers and users of the artifacts of a page.
#[derive(Debug, Clone, Default)]
pub(super) struct ArtifactPage {
    /// Records that name the artifact as output, in the order of [`Producers`].
    pub(super) producers: Lists<u32>,
    /// The same by project.
    pub(super) by_project: Lists<u32>,
    /// Records that use the artifact and are not bound.
    pub(super) waiting: Lists<u32>,
    /// Records that use the artifact and are bound to a producer that came after they started.
    pub(super) late: Lists<u32>,
}

impl ArtifactPage {
    pub(super) fn heap_bytes(&self) -> usize {
        [&self.producers, &self.by_project, &self.waiting, &self.late].map(Lists::heap_bytes).iter().sum()
    }
}

/// Dependents of the records of a page.
#[derive(Debug, Clone, Default)]
pub(super) struct DependentPage {
    pub(super) lists: Lists<u32>,
    /// For long lists, an upper bound of the start of all dependents. A producer newer than the
    /// bound wins none of them, so none needs to be resolved again.
    latest_starts: Vec<(usize, Timestamp)>,
}

impl DependentPage {
    pub(super) fn of(lists: Lists<u32>) -> Self {
        Self { lists, latest_starts: Vec::new() }
    }

    /// The bound; `None` if none is kept.
    pub(super) fn latest_start(&self, slot: usize) -> Option<Timestamp> {
        self.latest_starts.iter().find(|(of, _)| *of == slot).map(|(_, latest)| *latest)
    }

    pub(super) fn set_latest_start(&mut self, slot: usize, latest: Timestamp) {
        self.latest_starts.retain(|(of, _)| *of != slot);
        self.latest_starts.push((slot, latest));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.lists.heap_bytes() + self.latest_starts.capacity() * size_of::<(usize, Timestamp)>()
    }
}

/// Rows of a page. A copy is made to be extended, so it has capacity at once. Steps and projects
/// are stored apart, because the changes of a step are reported and counted by them alone, for up
/// to a million records in any order.
#[derive(Debug, Default)]
pub(super) struct RowPage {
    rows: Vec<Row>,
    seqs: Vec<Seq>,
    projects: Vec<u32>,
}

fn with_room<T: Copy>(items: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(PAGE);
    copy.extend_from_slice(items);
    copy
}

impl Clone for RowPage {
    fn clone(&self) -> Self {
        Self { rows: with_room(&self.rows), seqs: with_room(&self.seqs), projects: with_room(&self.projects) }
    }
}

impl RowPage {
    pub(super) fn push(&mut self, row: Row, origin: Origin) {
        if self.rows.is_empty() {
            *self = self.clone();
        }
        self.rows.push(row);
        self.seqs.push(origin.seq);
        self.projects.push(origin.project);
    }

    pub(super) fn set(&mut self, slot: usize, row: Row, project: u32) {
        self.rows[slot] = row;
        self.projects[slot] = project;
    }

    pub(super) fn get(&self, slot: usize) -> &Row {
        &self.rows[slot]
    }

    pub(super) fn seq(&self, slot: usize) -> Seq {
        self.seqs[slot]
    }

    pub(super) fn project(&self, slot: usize) -> u32 {
        self.projects[slot]
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.seqs.capacity() * size_of::<Seq>()
            + self.projects.capacity() * size_of::<u32>()
    }
}
