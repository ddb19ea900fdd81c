//! Input and output of the graph: records, links, facts, flags.

use serde::{Deserialize, Serialize};

use super::pages::place;
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// A record's place in the graph. It never changes and is the same in all later versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub(super) u32);

/// An artifact's place in the graph, whether or not a record has produced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Artifact(pub(super) u32);

/// A project's place in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Project(pub(super) u32);

impl Project {
    /// Number of the project. Projects are numbered from zero without gaps.
    #[must_use]
    pub fn number(self) -> usize {
        place(self.0)
    }
}

/// How a record used an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relationship {
    /// The worker says that it used the artifact.
    Consumed,
    /// The artifact was offered as context.
    Referenced,
}

/// How the order of a record among other records is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum WorkStart {
    /// Made here; the start of the work is known by its time alone. The first variant, because rows
    /// of earlier formats, which lack the field, are read as this one.
    #[default]
    Unknown,
    /// Made here; the work began when the graph was at this step.
    After(Seq),
    /// Imported: only its times say when it was made and started.
    Elsewhere,
}

impl WorkStart {
    pub(super) const fn pack(self) -> u64 {
        match self {
            Self::After(step) => step.0 << 2,
            Self::Unknown => 1,
            Self::Elsewhere => 2,
        }
    }

    pub(super) const fn unpack(packed: u64) -> Self {
        match packed & 3 {
            0 => Self::After(Seq(packed >> 2)),
            1 => Self::Unknown,
            _ => Self::Elsewhere,
        }
    }
}

/// A record to be added to the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Id of the record.
    pub id: RecordId,
    /// The task that it was made for.
    pub task: TaskId,
    /// The project of the task.
    pub project: ProjectId,
    /// The verdict.
    pub status: RecordStatus,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the work on it began; `None` counts as `created_at`.
    pub started_at: Option<Timestamp>,
    /// How its order among other records is known.
    pub began: WorkStart,
    /// Artifacts that it used. An artifact named twice counts once, consumed before referenced.
    pub inputs: Vec<(ArtifactId, Relationship)>,
    /// Artifacts that it produced.
    pub outputs: Vec<ArtifactId>,
}

/// The fact of a record's own. A newer fact replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// Tainted at this position.
    Tainted(Seq),
    /// Marked as suspect by hand at this position.
    Marked(Seq),
    /// Cleared at this position, whatever stood above it until then.
    Cleared(Seq),
}

impl Fact {
    /// Largest position of a fact.
    pub(super) const LAST: u64 = u64::MAX >> 2;

    pub(super) fn pack(fact: Option<Self>) -> u64 {
        match fact {
            None => 0,
            Some(Self::Tainted(at)) => at.0 << 2 | 1,
            Some(Self::Marked(at)) => at.0 << 2 | 2,
            Some(Self::Cleared(at)) => at.0 << 2 | 3,
        }
    }

    pub(super) fn unpack(packed: u64) -> Option<Self> {
        let at = Seq(packed >> 2);
        match packed & 3 {
            1 => Some(Self::Tainted(at)),
            2 => Some(Self::Marked(at)),
            3 => Some(Self::Cleared(at)),
            _ => None,
        }
    }
}

/// What follows for a record from all facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// No taint or mark applies.
    Clean,
    /// Marked by hand, or below a tainted record, and not cleared since.
    Suspect,
    /// Tainted itself.
    Tainted,
}

/// The link of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// No other record has produced the artifact.
    Waiting,
    /// The record whose output was used.
    Bound(Node),
    /// The record whose output would be used if that did not close a cycle.
    Refused(Node),
}

/// An edge of the graph, new or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The record that used the artifact.
    pub dependent: Node,
    /// The artifact through which the dependent depends on the dependency.
    pub artifact: Artifact,
    /// The record that produced it.
    pub dependency: Node,
}

/// A change of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlagChange {
    /// The record whose flag changed.
    pub record: Node,
    /// The flag before the step.
    pub from: Flag,
    /// The flag after the step.
    pub to: Flag,
    /// Distance from the origin of the change; zero for the origin itself.
    pub depth: u32,
    /// The record through which the change reached this one.
    pub through: Option<Node>,
}

/// The changes of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// New edges.
    pub bound: Vec<Edge>,
    /// Removed edges.
    pub unbound: Vec<Edge>,
    /// Edges that were refused because they would have closed a cycle.
    pub refused: Vec<Edge>,
    /// Records whose fact changed, with the new fact.
    pub facts: Vec<(Node, Option<Fact>)>,
    /// Flags that changed, each record once.
    pub flags: Vec<FlagChange>,
}

/// Why a step was refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record with this id is already in the graph.
    #[error("record {0} is in the graph already")]
    AlreadyThere(RecordId),
    /// No record has this id.
    #[error("record {0} is not in the graph")]
    NotThere(RecordId),
    /// Each step must have a higher position than the one before, so that of two facts one is
    /// newer.
    #[error("position {position} is not from {first} to {}", Fact::LAST)]
    OutOfOrder {
        /// The position given.
        position: Seq,
        /// The first valid position.
        first: Seq,
    },
    /// The graph holds as many records or names as it can.
    #[error("the graph is full: it holds at most {0} records, artifacts and projects each")]
    Full(u32),
}
