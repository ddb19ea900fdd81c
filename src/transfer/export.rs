//! Exports in the form of the old program: records by id, then the audit trail, then checkpoints.
//! Each page is read from a view of its own, because a view that lives as long as a long export
//! would keep old pages of the store alive.

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::causes::Causes;
use super::checkpoint::checkpoint_json;
use super::event::{imported_event, taint_event};
use super::record::to_json;
use crate::engine::{AuditPlace, Engine, Error};
use crate::lineage::{Graph, Project};
use crate::store::{Cause, PageBudget, Record};
use crate::task::{ProjectId, RecordId, Seq};

/// Rows read per view.
const PAGE: usize = 128;
/// Cascades read per view; each may have changed every record.
const CASCADES: usize = 1;
/// Lines are collected up to this size before they are sent.
const CHUNK_BYTES: usize = 32 << 10;

/// The export failed before its end. Its reader must not take the data for complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the export ended before its end")]
pub struct ExportFailed;

/// Renders a record in the form of the old program, with its present verdict and flags.
pub async fn record_json(engine: &Engine, record: &Record) -> Result<Value, Error> {
    to_json(engine, &engine.provenance().graph(), record, &mut Causes::default()).await
}

/// Exports all records, or those of one project, until the reader goes away.
pub async fn export(engine: &Engine, project: Option<&ProjectId>, chunks: mpsc::Sender<Result<Bytes, ExportFailed>>) {
    let mut export = Export { engine, project, chunks, buffer: Vec::new() };
    match export.run().await {
        Ok(()) | Err(End::ReaderGone) => {}
        Err(End::Failed(error)) => {
            tracing::warn!(%error, "an export ended before its end");
            // The reader may have gone away.
            let _ = export.chunks.send(Err(ExportFailed)).await;
        }
    }
}

/// Why an export ended early.
enum End {
    /// The reader has gone away.
    ReaderGone,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Export<'a> {
    engine: &'a Engine,
    project: Option<&'a ProjectId>,
    chunks: mpsc::Sender<Result<Bytes, ExportFailed>>,
    buffer: Vec<u8>,
}

impl Export<'_> {
    async fn run(&mut self) -> Result<(), End> {
        self.records().await?;
        self.imported_events().await?;
        self.own_events().await?;
        self.checkpoints().await?;
        self.flush().await
    }

    async fn records(&mut self) -> Result<(), End> {
        let (mut after, mut causes) = (None, Causes::default());
        loop {
            let page = self.engine.transfer().records(after, PageBudget::new(PAGE)).await?.entries;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            let graph = self.engine.provenance().graph();
            let project = self.project;
            for record in page.iter().filter(|record| project.is_none_or(|project| record.project == *project)) {
                let object = to_json(self.engine, &graph, record, &mut causes).await?;
                self.line(&object).await?;
            }
        }
    }

    async fn imported_events(&mut self) -> Result<(), End> {
        let mut after = 0;
        loop {
            let page = self.engine.transfer().events(after, PageBudget::new(PAGE)).await?.entries;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            let graph = self.engine.provenance().graph();
            for (_, event) in &page {
                if self.is_wanted(&graph, event.record)
                    && let Some(event) = imported_event(event)
                {
                    self.line(&event.to_json()).await?;
                }
            }
        }
    }

    async fn own_events(&mut self) -> Result<(), End> {
        let (store, mut after) = (self.engine.store_id(), Seq(0));
        loop {
            let page = self.engine.transfer().cascades(after, CASCADES).await?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = *last;
            let graph = self.engine.provenance().graph();
            // Flag changes caused by an import are not events of this service: the imported events
            // tell of them.
            for (step, cascade, changes) in
                page.iter().filter(|(_, cascade, _)| !matches!(cascade.cause, Cause::Import(_)))
            {
                for (index, change) in changes.iter().enumerate() {
                    if self.is_wanted(&graph, Some(change.record)) {
                        let place = AuditPlace { step: *step, index };
                        let event = taint_event(&graph, store, place, (cascade, change), None);
                        self.line(&event.to_json()).await?;
                    }
                }
            }
        }
    }

    async fn checkpoints(&mut self) -> Result<(), End> {
        let mut after = None;
        loop {
            let page = self.engine.transfer().checkpoints(after, PageBudget::new(PAGE)).await?.entries;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let project = self.project;
            for checkpoint in page.iter().filter(|each| project.is_none_or(|project| each.project == *project)) {
                self.line(&checkpoint_json(checkpoint)).await?;
            }
        }
    }

    /// Returns whether events of a record are exported.
    fn is_wanted(&self, graph: &Graph, record: Option<RecordId>) -> bool {
        let Some(project) = self.project else { return true };
        let of = record.and_then(|record| graph.find(record)).and_then(|node| graph.record(node));
        let wanted: Option<Project> = graph.find_project(project);
        wanted.is_some() && of.map(|known| known.project) == wanted
    }

    async fn line(&mut self, object: &Value) -> Result<(), End> {
        // Writing to memory is infallible, and all keys are text.
        let _ = serde_json::to_writer(&mut self.buffer, object);
        self.buffer.push(b'\n');
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.chunks.send(Ok(chunk)).await.map_err(|_| End::ReaderGone)
    }
}
