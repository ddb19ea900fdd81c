//! Cascades: taints, marks and clears of records, and taking them back.

use std::fmt;

use crate::lineage::{Action, Graph, Node, Step};
use crate::store::CascadeRow;
use crate::task::{ArtifactId, CheckpointId, RecordId, Seq, TaskId};

/// The record that a query or a verdict is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// This record.
    Record(RecordId),
    /// The record that produced this artifact.
    Artifact(ArtifactId),
}

impl Subject {
    /// Returns the artifact, if the subject is named by one.
    #[must_use]
    pub const fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Self::Artifact(id) => Some(id),
            Self::Record(_) => None,
        }
    }

    /// Returns the record's node in a graph; `None`: the graph has no such record.
    #[must_use]
    pub fn resolve(&self, graph: &Graph) -> Option<Node> {
        match self {
            Self::Record(id) => graph.find(*id),
            Self::Artifact(id) => graph.producer_of(graph.find_artifact(id)?),
        }
    }

    /// Finds what an id of unknown kind names in a graph: a record, or the record that
    /// produced an artifact.
    #[must_use]
    pub fn find(graph: &Graph, id: &str) -> Option<(Self, Node)> {
        // An artifact's id is the text itself. A record's id may be derived from the
        // text, so it is tried last.
        let record = id.parse().ok().map(Self::Record);
        let artifact = ArtifactId::new(id).ok().map(Self::Artifact);
        let imported = artifact.is_some().then(|| Self::Record(RecordId::of_text(id)));
        let mut subjects = [record, artifact, imported].into_iter().flatten();
        subjects.find_map(|subject| subject.resolve(graph).map(|node| (subject, node)))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(id) => id.fmt(f),
            Self::Artifact(id) => id.fmt(f),
        }
    }
}

/// A taint, a mark or a clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CascadeRequest {
    /// The action.
    pub action: Action,
    /// The record that it applies to.
    pub subject: Subject,
    /// Reason for the audit trail.
    pub reason: String,
    /// Record or artifact from which the verdict was concluded, if it is told.
    pub source: Option<String>,
    /// Id of the cascade in the audit trail.
    pub cascade_id: String,
    /// Whether to cancel running tasks that use a record that became suspect.
    pub cancel_running: bool,
}

/// Effect of a taint, a mark or a clear.
#[derive(Debug, Clone)]
pub struct Cascade {
    /// Id in the audit trail.
    pub cascade_id: String,
    /// The record that was named.
    pub record: RecordId,
    /// The graph after the step. The nodes in `step` are nodes of this graph.
    pub graph: Graph,
    /// The changed flags.
    pub step: Step,
    /// Whether the request added a statement that did not stand before.
    pub is_change: bool,
    /// Running tasks that use records that are no longer clean.
    pub running: Vec<TaskId>,
    /// The tasks of `running` that were cancelled.
    pub cancelled: Vec<TaskId>,
}

/// A request to take a cascade back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoRequest {
    /// Id of the cascade or rollback.
    pub cascade_id: String,
    /// Reason for the audit trail.
    pub reason: String,
    /// Whether to report the effect without making it.
    pub dry_run: bool,
}

/// Effect of taking a cascade back, or, in a dry run, the effect it would have.
#[derive(Debug, Clone)]
pub struct CascadeUndo {
    /// Id of the cascade.
    pub cascade_id: String,
    /// The graph after the step. The nodes in `step` are nodes of this graph.
    pub graph: Graph,
    /// The changed flags.
    pub step: Step,
    /// Number of statements that are removed.
    pub facts: usize,
    /// Records that get back the verdict that they had before the cascade.
    pub verdicts: Vec<RecordId>,
    /// Checkpoints that become valid again.
    pub checkpoints: Vec<CheckpointId>,
}

/// A cascade, with a page of its steps.
#[derive(Debug, Clone)]
pub struct CascadeSummary {
    /// Its steps, oldest first, at most as many as requested.
    pub steps: Vec<CascadeStep>,
    /// The next page starts after this step.
    pub next: Option<Seq>,
    /// Number of its steps on all pages.
    pub count: usize,
    /// Number of its statements that still stand.
    pub standing: usize,
    /// Checkpoints that it made invalid.
    pub invalidated: Vec<CheckpointId>,
}

/// One step of a cascade.
#[derive(Debug, Clone)]
pub struct CascadeStep {
    /// Position of the step.
    pub seq: Seq,
    /// Its row in the audit trail.
    pub row: CascadeRow,
    /// Number of records that it named.
    pub named: usize,
    /// Number of flags that it changed.
    pub flags: usize,
}
