//! Provenance: records, the graph, taints and the audit trail.

use std::sync::Arc;

use super::client::Client;
use super::plans::snapshot;
use crate::engine::api::{
    AuditFilter, AuditPage, AuditPlace, Cascade, CascadeRequest, CascadeSummary, CascadeUndo, Error, RecordFilter,
    RecordPage, Subject, UndoRequest,
};
use crate::engine::read::{ReadSide, audit, cascades, records};
use crate::engine::state::{self, CascadePlan, UndoPlan};
use crate::engine::writer::Command;
use crate::lineage::{Graph, Node};
use crate::store::{CascadeRow, KeptContent, Record, RecordPlace};
use crate::task::{ArtifactId, RecordId, Seq, TaskId};

/// Provenance, by [`Engine::provenance`](crate::engine::Engine::provenance).
#[derive(Debug, Clone, Copy)]
pub struct ProvenanceHandle<'a>(pub(super) &'a Client);

impl ProvenanceHandle<'_> {
    /// Returns the provenance graph as of the last commit. It is immutable: later
    /// commits publish later versions.
    #[must_use]
    pub fn graph(self) -> Arc<Graph> {
        self.0.read.graph()
    }

    /// Returns a record.
    pub async fn record(self, record: RecordId) -> Result<Option<Record>, Error> {
        self.0.read(move |side| side.store.view()?.record(record)).await
    }

    /// Returns the record that produced an artifact: of several the newest that has
    /// not failed, or else the newest.
    pub async fn record_of_artifact(self, artifact: ArtifactId) -> Result<Option<Record>, Error> {
        let graph = self.graph();
        let producer = Subject::Artifact(artifact).resolve(&graph).and_then(|node| graph.record(node));
        match producer {
            Some(known) => self.record(known.id).await,
            None => Ok(None),
        }
    }

    /// Returns records of a task by id, largest first, at most `limit`. The task itself
    /// may be unknown, since imports bring records without their tasks.
    pub async fn records_of_task(self, task: TaskId, limit: usize) -> Result<Vec<RecordId>, Error> {
        self.0.read(move |side| side.store.view()?.records_of_task(task)?.take(limit).collect()).await
    }

    /// Returns a page of records, newest first, before one of them.
    pub async fn records(
        self,
        filter: RecordFilter,
        before: Option<RecordPlace>,
        limit: usize,
    ) -> Result<RecordPage, Error> {
        self.0.read(move |side| records::page(side, &filter, before, limit)).await
    }

    /// Opens a content, which is checked against its SHA-256 as it is read; `None`:
    /// it is not stored.
    pub async fn content(self, sha256: [u8; 32]) -> Result<Option<KeptContent>, Error> {
        self.0.read(move |side| side.store.view()?.open_content(sha256)).await
    }

    /// Returns the length of a content, in bytes; `None`: it is not stored.
    pub async fn content_length(self, sha256: [u8; 32]) -> Result<Option<u64>, Error> {
        self.0.read(move |side| side.store.view()?.content_length(sha256)).await
    }

    /// Taints, marks or clears a record, with everything that follows, in one durable step.
    ///
    /// The effect is planned outside the writer, again if the graph has changed
    /// meanwhile. The writer makes the step of the last of several plans itself.
    pub async fn cascade(self, request: CascadeRequest) -> Result<Cascade, Error> {
        let planned = request.clone();
        let plan = move |side: &ReadSide| CascadePlan::new(&snapshot(side)?, &planned, true);
        self.0
            .carry_out(plan, |plan, is_last, reply| Command::Cascade {
                request: Box::new(request.clone()),
                plan,
                is_last,
                reply,
            })
            .await
    }

    /// Takes a cascade back, in one durable step. A dry run reports the effect and
    /// changes nothing.
    ///
    /// The effect is planned outside the writer, again if statements of its records
    /// have changed meanwhile. The writer makes the last of several plans itself.
    pub async fn undo(self, request: UndoRequest) -> Result<CascadeUndo, Error> {
        let cascade_id = request.cascade_id.clone();
        let plan = move |side: &ReadSide| UndoPlan::new(&snapshot(side)?, &cascade_id);
        if request.dry_run {
            let planned = self.0.read(move |side| state::answer(plan(side))).await??;
            return Ok(state::preview_undo(planned, request.cascade_id));
        }
        self.0
            .carry_out(plan, |plan, is_last, reply| Command::Undo {
                request: Box::new(request.clone()),
                plan,
                is_last,
                reply,
            })
            .await
    }

    /// Returns a cascade with a page of its steps, after one of them; `None`: there is
    /// no such cascade.
    pub async fn cascade_summary(
        self,
        cascade_id: String,
        after: Seq,
        limit: usize,
    ) -> Result<Option<CascadeSummary>, Error> {
        self.0.read(move |side| cascades::summary(&side.store.view()?, &side.graph(), &cascade_id, after, limit)).await
    }

    /// Returns the row of a step in the audit trail, without the flags that it changed.
    pub async fn cascade_row(self, step: Seq) -> Result<Option<CascadeRow>, Error> {
        self.0.read(move |side| side.store.view()?.cascade(step)).await
    }

    /// Returns a page of the audit trail, from a place on.
    pub async fn audit(self, filter: AuditFilter, from: Option<AuditPlace>, limit: usize) -> Result<AuditPage, Error> {
        self.0.read(move |side| audit::page(side, &filter, from, limit)).await
    }

    /// Returns the running tasks that were given an artifact of any of these records.
    pub async fn running_users(self, graph: Arc<Graph>, records: Vec<Node>) -> Result<Vec<TaskId>, Error> {
        self.0
            .read(move |side| {
                let given = side.shared.given.ids();
                state::running_users_in(&side.store.view()?, &given, &graph, &records)
            })
            .await
    }
}
