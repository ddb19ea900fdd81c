//! Checkpoints, and rollbacks to them.

use std::sync::Arc;

use super::client::Client;
use super::plans::snapshot;
use super::transfer::TransferHandle;
use crate::engine::api::{Error, Import, ImportOutcome, NewCheckpoint, Rollback, RollbackRequest};
use crate::engine::read::ReadSide;
use crate::engine::state::{self, RollbackPlan};
use crate::engine::writer::Command;
use crate::store::{Checkpoint, Page, PageBudget};
use crate::task::{CheckpointId, ProjectId, Timestamp};

/// Checkpoints, by [`Engine::checkpoints`](crate::engine::Engine::checkpoints).
#[derive(Debug, Clone, Copy)]
pub struct CheckpointsHandle<'a>(pub(super) &'a Client);

impl CheckpointsHandle<'_> {
    /// Creates a checkpoint of the project's present state.
    pub async fn create(self, project: ProjectId, new: NewCheckpoint) -> Result<Checkpoint, Error> {
        self.0.ask(|reply| Command::CreateCheckpoint { project, new, reply }).await
    }

    /// Imports a checkpoint of another service. Returns `false` if the id is known:
    /// then the stored checkpoint stays as it is.
    pub async fn import(self, checkpoint: Checkpoint) -> Result<bool, Error> {
        let items = Arc::new(vec![Import::Checkpoint(Box::new(checkpoint))]);
        let results = TransferHandle(self.0).import(items).await?;
        Ok(results.iter().any(|result| result.outcome == ImportOutcome::Created))
    }

    /// Returns a checkpoint.
    pub async fn get(self, id: CheckpointId) -> Result<Option<Checkpoint>, Error> {
        self.0.read(move |side| side.store.view()?.checkpoint(&id)).await
    }

    /// Returns a page of the checkpoints of a project, newest first, before one of them.
    pub async fn list(
        self,
        project: ProjectId,
        before: Option<(Timestamp, CheckpointId)>,
        limit: usize,
    ) -> Result<Page<Checkpoint>, Error> {
        let budget = PageBudget::new(limit);
        self.0.read(move |side| side.store.view()?.checkpoint_page(&project, before.as_ref(), budget)).await
    }

    /// Rolls a project back to a checkpoint, in one durable step. A dry run reports
    /// the effect and changes nothing.
    ///
    /// The effect is planned outside the writer, again if the project has changed
    /// meanwhile. The writer makes the last of several plans itself.
    pub async fn roll_back(self, request: RollbackRequest) -> Result<Rollback, Error> {
        let settings = self.0.settings.clone();
        if request.dry_run {
            let plan = move |side: &ReadSide| RollbackPlan::new(&snapshot(side)?, &request, &settings.router, true);
            return Ok(state::preview_rollback(self.0.read(move |side| state::answer(plan(side))).await??));
        }
        let planned = request.clone();
        let plan = move |side: &ReadSide| RollbackPlan::new(&snapshot(side)?, &planned, &settings.router, true);
        self.0
            .carry_out(plan, |plan, is_last, reply| Command::Rollback {
                request: Box::new(request.clone()),
                plan,
                is_last,
                reply,
            })
            .await
    }
}
