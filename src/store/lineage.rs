//! What the graph is built from at start: the parts of a record that the graph needs.

use serde::{Deserialize, Serialize};

use super::rows::RecordInput;
use crate::lineage::{self, Artifact, Fact, Graph, Link, Node, RestoredRecord, WorkStart};
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};

/// A record as the graph knows it, with everything that does not follow from other records.
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
    /// Inputs that were bound later than both records arrived, with the step.
    rebound: Vec<(ArtifactId, Seq)>,
    /// Inputs whose edge would close a cycle.
    refused: Vec<ArtifactId>,
    /// How its order among other records is known. Copies in earlier formats lack the field.
    #[serde(default)]
    began: WorkStart,
}

impl LineageRow {
    /// The row of a record in the graph; `None` if the graph does not have it.
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

    /// Records that an input was bound at this step, later than both records arrived.
    pub(super) fn bind_at(&mut self, graph: &Graph, artifact: Artifact, step: Seq) {
        let Some(id) = graph.artifact_id(artifact).and_then(|id| ArtifactId::new(id).ok()) else { return };
        self.rebound.retain(|(known, _)| *known != id);
        self.rebound.push((id, step));
    }

    /// The same row for an imported record, whatever the row says about its origin.
    #[must_use]
    pub fn imported(self) -> Self {
        Self { began: WorkStart::Elsewhere, ..self }
    }

    /// The step that brought the record.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The newest step named in the row.
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
