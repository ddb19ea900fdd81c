//! Provenance through the engine's handle: what can be asked, and what can
//! be said about a record.

use std::fmt;
use std::sync::Arc;

use super::api::Error;
use super::command::Command;
use super::handle::Engine;
use super::read::ReadSide;
use super::taint::CascadePlan;
use super::{provenance, users};
use crate::lineage::{Action, Graph, Node, Step};
use crate::store::{CascadeRow, Record};
use crate::task::{ArtifactId, RecordId, Seq, TaskId};

/// What a question or a verdict about provenance names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A record.
    Record(RecordId),
    /// The record that made this artifact.
    Artifact(ArtifactId),
}

impl Subject {
    /// The artifact, if it is named by one.
    #[must_use]
    pub const fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Self::Artifact(id) => Some(id),
            Self::Record(_) => None,
        }
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
    /// What is said.
    pub action: Action,
    /// Of what.
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// What it was concluded from, where that is told.
    pub source: Option<String>,
    /// The id under which it is to be found in the audit trail.
    pub cascade_id: String,
    /// Whether running tasks that use what became suspect are cancelled.
    pub cancel_running: bool,
}

/// What a taint, a mark or a clear did.
#[derive(Debug, Clone)]
pub struct Cascade {
    /// Its id in the audit trail.
    pub cascade_id: String,
    /// The record that was named.
    pub record: RecordId,
    /// The graph afterwards: what the places in `step` are places of.
    pub graph: Graph,
    /// What changed.
    pub step: Step,
    /// Whether it said anything that it had not said before.
    pub is_change: bool,
    /// Running tasks that use what is no longer clean.
    pub running: Vec<TaskId>,
    /// Those of them that were cancelled.
    pub cancelled: Vec<TaskId>,
}

impl Engine {
    /// The provenance of everything, as of the last commit. It never changes:
    /// later commits make later versions.
    #[must_use]
    pub fn graph(&self) -> Arc<Graph> {
        self.read.graph()
    }

    /// The record that a subject names; `None`: there is none.
    #[must_use]
    pub fn resolve(graph: &Graph, subject: &Subject) -> Option<Node> {
        provenance::resolve(graph, subject)
    }

    /// What an id of any kind names, if it is known here.
    #[must_use]
    pub fn named(graph: &Graph, id: &str) -> Option<(Subject, Node)> {
        provenance::named(graph, id)
    }

    /// Taints, marks or clears, with all that follows, in one durable step.
    ///
    /// What follows is found beside the writer, anew where the graph has changed
    /// meanwhile. Where that happens each time, the writer makes the step of the last
    /// try itself.
    pub async fn cascade(&self, request: CascadeRequest) -> Result<Cascade, Error> {
        let planned = request.clone();
        let plan = move |side: &ReadSide| CascadePlan::new(&side.snapshot()?, &planned, true);
        self.carry_out(plan, |plan, is_last, reply| Command::Cascade {
            request: Box::new(request.clone()),
            plan,
            is_last,
            reply,
        })
        .await
    }

    /// The running tasks that were given an artifact of any of these records.
    pub async fn running_users(&self, graph: Arc<Graph>, records: Vec<Node>) -> Result<Vec<TaskId>, Error> {
        self.read(move |side| {
            let given = side.shared.given.ids();
            users::running_users_in(&side.store.view()?, &given, &graph, &records)
        })
        .await
    }

    /// What was said or done in a step, without the flags that it changed.
    pub async fn cascade_row(&self, step: Seq) -> Result<Option<CascadeRow>, Error> {
        self.read(move |side| side.store.view()?.cascade(step)).await
    }

    /// A provenance record.
    pub async fn record(&self, record: RecordId) -> Result<Option<Record>, Error> {
        self.read(move |side| side.store.view()?.record(record)).await
    }

    /// The record that made the artifact: of several the newest that has not
    /// failed, else the newest.
    pub async fn record_of_artifact(&self, artifact: ArtifactId) -> Result<Option<Record>, Error> {
        let graph = self.graph();
        let made = provenance::resolve(&graph, &Subject::Artifact(artifact)).and_then(|node| graph.record(node));
        match made {
            Some(known) => self.record(known.id).await,
            None => Ok(None),
        }
    }

    /// Records of a task, the largest id first, at most `limit`; the task
    /// itself may never have been here.
    pub async fn records_of_task(&self, task: TaskId, limit: usize) -> Result<Vec<RecordId>, Error> {
        self.read(move |side| side.store.view()?.records_of_task(task)?.take(limit).collect()).await
    }
}
