//! What goes into the graph and what comes out: records, links, facts, flags.

use serde::{Deserialize, Serialize};

use super::pages::place;
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// A record's place in the graph. It never changes, and is the same in every
/// later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub(super) u32);

/// An artifact's place in the graph, whether or not a record has produced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Artifact(pub(super) u32);

/// A project's place in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Project(pub(super) u32);

impl Project {
    /// Its number: they are counted from zero, without gaps.
    #[must_use]
    pub fn number(self) -> usize {
        place(self.0)
    }
}

/// How an artifact was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relationship {
    /// The worker says that it used it.
    Consumed,
    /// It was offered as context.
    Referenced,
}

/// Where the order of a record among others is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Began {
    /// It was made here; when the work on it began is known by its time alone.
    /// First, since rows of earlier formats, which do not say it, are read so.
    #[default]
    Unknown,
    /// It was made here, and the work on it began when the graph had come to
    /// this step.
    After(Seq),
    /// It was imported: only its times say when it was made and begun.
    Elsewhere,
}

impl Began {
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

/// A record as it is put into the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// The task it was made for.
    pub task: TaskId,
    /// The project.
    pub project: ProjectId,
    /// The verdict.
    pub status: RecordStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the work on it began; where that is not known, `created_at` counts.
    pub started_at: Option<Timestamp>,
    /// Where its order among others is known from.
    pub began: Began,
    /// What it used. An artifact named twice counts once, consumed before referenced.
    pub inputs: Vec<(ArtifactId, Relationship)>,
    /// What it produced.
    pub outputs: Vec<ArtifactId>,
}

/// What was said about a record itself. A newer fact takes the place of the
/// one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// It was tainted, at this position.
    Tainted(Seq),
    /// It was marked as suspect by hand.
    Marked(Seq),
    /// It was found good, whatever stood above it until then.
    Cleared(Seq),
}

impl Fact {
    /// Largest position that a fact can have.
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
    /// Nothing speaks against it.
    Clean,
    /// It was marked by hand, or something above it is tainted, and it was not cleared since.
    Suspect,
    /// It is tainted itself.
    Tainted,
}

/// What an input is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Nobody else has produced the artifact, or all who did have failed.
    Waiting,
    /// The record whose product was used.
    Bound(Node),
    /// The record whose product would have been used, had that not closed a cycle.
    Refused(Node),
}

/// A change of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The record that used the artifact.
    pub dependent: Node,
    /// The artifact.
    pub artifact: Artifact,
    /// The record that produced it.
    pub dependency: Node,
}

/// A change of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlagChange {
    /// The record.
    pub record: Node,
    /// Its flag before the step.
    pub from: Flag,
    /// Its flag after the step.
    pub to: Flag,
    /// How far it is from where the change began; zero for the record itself.
    pub depth: u32,
    /// The record through which the change reached it.
    pub through: Option<Node>,
}

/// What one step has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// New edges.
    pub bound: Vec<Edge>,
    /// Edges that are no more.
    pub unbound: Vec<Edge>,
    /// Edges that were not made because they would have closed a cycle.
    pub refused: Vec<Edge>,
    /// Facts that have changed, as they are now.
    pub facts: Vec<(Node, Option<Fact>)>,
    /// Flags that have changed, each record once.
    pub flags: Vec<FlagChange>,
}

/// Why a step was not taken. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record with this id is in the graph already.
    #[error("record {0} is in the graph already")]
    AlreadyThere(RecordId),
    /// No record has this id.
    #[error("record {0} is not in the graph")]
    NotThere(RecordId),
    /// Each step has a position behind the one before, so that of two facts one is newer.
    #[error("position {position} is not from {first} to {}", Fact::LAST)]
    OutOfOrder {
        /// The position that was given.
        position: Seq,
        /// The first that would be valid.
        first: Seq,
    },
    /// There are as many records or names as the graph can hold.
    #[error("the graph is full: it holds at most {0} records, artifacts and projects each")]
    Full(u32),
}
