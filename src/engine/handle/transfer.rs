//! Bulk import and export of provenance.

use std::sync::Arc;

use super::client::Client;
use crate::engine::api::{Error, Import, ImportResult};
use crate::engine::writer::Command;
use crate::store::{CascadeRow, ChangeRow, Checkpoint, ImportedEvent, Page, PageBudget, Record};
use crate::task::{CheckpointId, RecordId, Seq};

/// Bulk import and export, by [`Engine::transfer`](crate::engine::Engine::transfer).
#[derive(Debug, Clone, Copy)]
pub struct TransferHandle<'a>(pub(super) &'a Client);

impl TransferHandle<'_> {
    /// Imports items in order, in one durable step. An item that is left out does not
    /// affect the others. Returns one result for each.
    pub async fn import(self, items: Arc<Vec<Import>>) -> Result<Vec<ImportResult>, Error> {
        self.0.ask(|reply| Command::Import { items, reply }).await
    }

    /// Returns a page of records by id, after one of them.
    pub async fn records(self, after: Option<RecordId>, budget: PageBudget) -> Result<Page<Record>, Error> {
        self.0.read(move |side| side.store.view()?.records_after(after, budget)).await
    }

    /// Returns taints, marks and clears after a step, in order, each with its changes,
    /// at most `limit`.
    pub async fn cascades(self, after: Seq, limit: usize) -> Result<Vec<(Seq, CascadeRow, Vec<ChangeRow>)>, Error> {
        self.0.read(move |side| side.store.view()?.cascades_after(after, limit)).await
    }

    /// Returns a page of checkpoints by id, after one of them.
    pub async fn checkpoints(self, after: Option<CheckpointId>, budget: PageBudget) -> Result<Page<Checkpoint>, Error> {
        self.0.read(move |side| side.store.view()?.checkpoints_after(after.as_ref(), budget)).await
    }

    /// Returns a page of imported events in the order of their import, after one of them.
    pub async fn events(self, after: u64, budget: PageBudget) -> Result<Page<(u64, ImportedEvent)>, Error> {
        self.0.read(move |side| side.store.view()?.imported_events_after(after, budget)).await
    }
}
