//! What the provenance graph is built from at start: everything about a
//! record that the graph needs, and nothing else of it.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::cascade_steps;
use super::codec::{decode, encode};
use super::rows::RecordInput;
use super::trail::Changes;
use super::{Error, tables};
use crate::lineage::{self, Action, Artifact, Fact, Flag, Graph, Link, Node, RestoredRecord, WorkStart};
use crate::task::{ArtifactId, CheckpointId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// A record as the graph knows it, with what does not follow from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageRow {
    task: TaskId,
    project: ProjectId,
    status: RecordStatus,
    created_at: Timestamp,
    started_at: Timestamp,
    inputs: Vec<RecordInput>,
    outputs: Vec<ArtifactId>,
    /// The step that brought it.
    seq: Seq,
    fact: Option<Fact>,
    /// Inputs that were bound later than both records came, and by which step.
    rebound: Vec<(ArtifactId, Seq)>,
    /// Inputs whose edge would close a cycle.
    refused: Vec<ArtifactId>,
    /// Where its order among others is known from. Copies of earlier formats
    /// do not say it.
    #[serde(default)]
    began: WorkStart,
}

/// A step that changed flags: the head of its entries in the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CascadeRow {
    /// When.
    pub at: Timestamp,
    /// The id under which whoever asked for it knows it.
    pub cascade_id: String,
    /// What brought it about.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
    /// What it was concluded from, where that was told.
    pub source: Option<String>,
}

/// What brings about that flags change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Something was said of a record.
    Said {
        /// What.
        action: Action,
        /// Of which record.
        record: RecordId,
        /// The artifact by which it was named, if it was.
        artifact: Option<ArtifactId>,
    },
    /// A project was rolled back.
    Rollback {
        /// To this checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        why: String,
    },
    /// A record came, or more of what it has produced: its own inputs were
    /// bound, and inputs that waited for it.
    Arrival(RecordId),
    /// A record got another verdict: it is an input of others now, or no
    /// longer.
    Verdict(RecordId),
    /// A record was imported, with what was said of it where it came from.
    Import(RecordId),
    /// The store was brought to a newer format, whose rules differ.
    Upgrade,
    /// The cascade of the same id was taken back.
    Undo,
}

impl Cause {
    /// The artifact by which its record was named, if it was.
    #[must_use]
    pub const fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Self::Said { artifact, .. } => artifact.as_ref(),
            Self::Rollback { .. }
            | Self::Arrival(_)
            | Self::Verdict(_)
            | Self::Import(_)
            | Self::Upgrade
            | Self::Undo => None,
        }
    }

    /// The record that it is about, unless it is about a whole project.
    #[must_use]
    pub const fn record(&self) -> Option<RecordId> {
        match self {
            Self::Said { record, .. } | Self::Arrival(record) | Self::Verdict(record) | Self::Import(record) => {
                Some(*record)
            }
            Self::Rollback { .. } | Self::Upgrade | Self::Undo => None,
        }
    }
}

/// A flag that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRow {
    /// The record.
    pub record: RecordId,
    /// Its flag before.
    pub from: Flag,
    /// Its flag after.
    pub to: Flag,
    /// How far from where the change began.
    pub depth: u32,
    /// The record through which the change reached it.
    pub through: Option<RecordId>,
}

/// The cascades of a batch, each with what it changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CascadeRows(Vec<(Seq, Bytes, Bytes)>);

impl CascadeRows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of their changes together.
    pub(super) fn change_bytes(&self) -> usize {
        self.0.iter().map(|(_, _, changes)| changes.len()).sum()
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Seq> {
        self.0.iter().map(|(step, _, _)| *step)
    }

    pub(super) fn put(&mut self, step: Seq, row: &CascadeRow, changes: Changes) -> Result<(), Error> {
        self.0.push((step, encode("cascades", row)?.into(), changes.into_bytes().into()));
        Ok(())
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut cascades = transaction.open_table(tables::CASCADES)?;
        let mut of_cascades = transaction.open_table(tables::CASCADE_CHANGES)?;
        for (step, head, changes) in &self.0 {
            cascades.insert(step.0, &head[..])?;
            of_cascades.insert(step.0, &changes[..])?;
        }
        let rows = self.0.iter().map(|(step, head, _)| Ok((*step, decode("cascades", head)?)));
        cascade_steps::add(transaction, rows)
    }
}

impl LineageRow {
    /// The row of a record in the graph; `None`: it is not there.
    #[must_use]
    pub fn of(graph: &Graph, node: Node) -> Option<Self> {
        let known = graph.record(node)?;
        let id = |artifact| graph.artifact_id(artifact).and_then(|id| ArtifactId::new(id).ok());
        let (mut inputs, mut rebound, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (artifact, relationship, link) in graph.inputs(node) {
            let name = id(artifact)?;
            rebound.extend(graph.rebound_at(node, artifact).map(|seq| (name.clone(), seq)));
            if matches!(link, Link::Refused(_)) {
                refused.push(name.clone());
            }
            inputs.push(RecordInput { artifact: name, relationship });
        }
        Some(Self {
            task: known.task,
            project: ProjectId::new(graph.project_id(known.project)?).ok()?,
            status: known.status,
            created_at: known.created_at,
            started_at: known.started_at,
            inputs,
            outputs: graph.outputs(node).map(id).collect::<Option<_>>()?,
            seq: known.seq,
            fact: known.fact,
            rebound,
            refused,
            began: known.began,
        })
    }

    /// Says that an input was bound at this step, later than both records came.
    pub(super) fn bind_at(&mut self, graph: &Graph, artifact: Artifact, step: Seq) {
        let Some(id) = graph.artifact_id(artifact).and_then(|id| ArtifactId::new(id).ok()) else { return };
        self.rebound.retain(|(known, _)| *known != id);
        self.rebound.push((id, step));
    }

    /// The row of a record that was imported, whatever it says itself.
    #[must_use]
    pub fn imported(self) -> Self {
        Self { began: WorkStart::Elsewhere, ..self }
    }

    /// The step that brought the record.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The newest step that the row tells of.
    pub(super) fn newest(&self) -> Seq {
        let fact = self.fact.map(|fact| match fact {
            Fact::Tainted(at) | Fact::Marked(at) | Fact::Cleared(at) => at,
        });
        let began = match self.began {
            WorkStart::After(step) => Some(step),
            WorkStart::Unknown | WorkStart::Elsewhere => None,
        };
        let rebound = self.rebound.iter().map(|(_, at)| *at);
        rebound.chain(fact).chain(began).fold(self.seq, Seq::max)
    }

    pub(super) fn restored(self, id: RecordId) -> RestoredRecord {
        let inputs = self.inputs.into_iter().map(|input| (input.artifact, input.relationship));
        let record = lineage::Record {
            id,
            task: self.task,
            project: self.project,
            status: self.status,
            created_at: self.created_at,
            started_at: Some(self.started_at),
            began: self.began,
            inputs: inputs.collect(),
            outputs: self.outputs,
        };
        RestoredRecord { record, seq: self.seq, fact: self.fact, rebound: self.rebound, refused: self.refused }
    }
}
