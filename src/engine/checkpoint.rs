//! Checkpoints through the engine: made, imported, read.

use super::api::Error;
use super::command::Command;
use super::handle::Engine;
use super::machine::Machine;
use crate::store::{self, Checkpoint};
use crate::task::{CheckpointId, ProjectId, Timestamp};

type Stored<T> = Result<T, store::Error>;

impl Engine {
    /// Keeps a checkpoint that was made elsewhere; `false`: one with its id
    /// is there already, and stays as it is.
    pub async fn import_checkpoint(&self, checkpoint: Checkpoint) -> Result<bool, Error> {
        let checkpoint = Box::new(checkpoint);
        self.ask(|reply| Command::ImportCheckpoint { checkpoint, reply }).await
    }

    /// A checkpoint.
    pub async fn checkpoint(&self, id: CheckpointId) -> Result<Option<Checkpoint>, Error> {
        self.read(move |side| side.store.view()?.checkpoint(&id)).await
    }

    /// Checkpoints of a project, newest first, before one of them, at most
    /// `limit`.
    pub async fn checkpoints(
        &self,
        project: ProjectId,
        before: Option<(Timestamp, CheckpointId)>,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        self.read(move |side| side.store.view()?.checkpoints_of(&project, before)?.take(limit).collect()).await
    }
}

impl Machine {
    /// Keeps a checkpoint of another program; whether it is new. Its project
    /// is made if need be, as for a task.
    pub(super) fn import_checkpoint(&mut self, checkpoint: Checkpoint, now: Timestamp) -> Stored<bool> {
        if self.checkpoint(&checkpoint.id)?.is_some() {
            return Ok(false);
        }
        self.use_project(&checkpoint.project, now)?;
        self.group.checkpoints.insert(checkpoint.id.clone(), checkpoint);
        Ok(true)
    }

    /// A checkpoint as it is in this group, or in the store.
    pub(super) fn checkpoint(&self, id: &CheckpointId) -> Stored<Option<Checkpoint>> {
        match self.group.checkpoints.get(id) {
            Some(checkpoint) => Ok(Some(checkpoint.clone())),
            None => self.store.view()?.checkpoint(id),
        }
    }
}
