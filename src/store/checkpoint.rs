//! Checkpoints: points in time of one project.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::encode;
use super::tables::{self, CHECKPOINTS, CHECKPOINTS_BY_PROJECT};
use crate::task::{CheckpointId, Moment, ProjectId, Timestamp};

/// A point in time of one project. Records made here belong after it if they follow it in the log,
/// imported records if their `created_at` is strictly later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Id of the checkpoint.
    pub id: CheckpointId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The point in time.
    pub created_at: Timestamp,
    /// A commit or tag that belongs to it.
    pub git_ref: Option<String>,
    /// Number of provenance records of the project at that time.
    pub provenance_count: u64,
    /// Number of outputs of these records.
    pub artifact_count: u64,
    /// Id of the newest of these records, as text because imported ids can have any form.
    pub last_provenance_id: Option<String>,
    /// The task of that record.
    pub last_task_id: Option<String>,
    /// A state of the RAG service that belongs to it.
    pub rag_state_ref: Option<String>,
    /// A state of the work products that belongs to it.
    pub work_product_ref: Option<String>,
    /// Its purpose in words.
    pub description: Option<String>,
    /// What caused it: `auto`, `manual`, or the word of an imported checkpoint.
    pub trigger: String,
    /// Whether a rollback to it is possible.
    pub is_valid: bool,
    /// When the project was last rolled back to it.
    pub rolled_back_at: Option<Timestamp>,
    /// For an imported checkpoint, the JSON object as it was imported.
    pub original: Option<String>,
}

impl Checkpoint {
    /// The `trigger` of checkpoints that the service makes by itself.
    pub const AUTOMATIC: &'static str = "auto";
    /// The `trigger` of checkpoints that a client requested.
    pub const MANUAL: &'static str = "manual";

    /// Whether this service made it by itself.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        self.trigger == Self::AUTOMATIC && self.original.is_none()
    }

    /// Its id as bytes if it was made here: such ids grow with the log.
    #[must_use]
    pub fn own_id(&self) -> Option<[u8; 16]> {
        let id = uuid::Uuid::try_parse(self.id.as_str()).ok().filter(|_| self.original.is_none())?;
        Some(id.into_bytes())
    }

    /// Its place in the list of its project.
    #[must_use]
    pub fn place(&self) -> (Timestamp, CheckpointId) {
        (self.created_at, self.id.clone())
    }
}

/// Tasks completed in a project since its newest checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointProgress {
    /// Number of these tasks.
    pub completed: u64,
    /// When the first of them completed, in observed time.
    pub since: Moment,
}

/// Key of the table by project.
type Key = (ProjectId, i64, CheckpointId);

/// Checkpoints that a batch stores and removes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CheckpointRows {
    kept: Vec<(Key, Bytes)>,
    removed: Vec<Key>,
    progress: Vec<(ProjectId, Option<Bytes>)>,
}

fn key(checkpoint: &Checkpoint) -> Key {
    (checkpoint.project.clone(), checkpoint.created_at.as_micros(), checkpoint.id.clone())
}

impl CheckpointRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { kept, removed, progress } = self;
        kept.is_empty() && removed.is_empty() && progress.is_empty()
    }

    /// Those that are kept or removed.
    pub(super) fn ids(&self) -> impl Iterator<Item = &CheckpointId> {
        self.kept.iter().map(|((_, _, id), _)| id).chain(self.removed.iter().map(|(_, _, id)| id))
    }

    pub(super) fn put(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.kept.push((key(checkpoint), encode("checkpoints", checkpoint)?.into()));
        Ok(())
    }

    pub(super) fn remove(&mut self, project: &ProjectId, at: Timestamp, id: CheckpointId) {
        self.removed.push((project.clone(), at.as_micros(), id));
    }

    pub(super) fn put_progress(
        &mut self,
        project: &ProjectId,
        progress: Option<CheckpointProgress>,
    ) -> Result<(), Error> {
        let row = progress.map(|progress| encode("checkpoint_progress", &progress)).transpose()?;
        self.progress.push((project.clone(), row.map(Into::into)));
        Ok(())
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        if !self.progress.is_empty() {
            let mut table = transaction.open_table(tables::CHECKPOINT_PROGRESS)?;
            for (project, row) in &self.progress {
                match row {
                    Some(row) => drop(table.insert(project.as_str(), &row[..])?),
                    None => drop(table.remove(project.as_str())?),
                }
            }
        }
        if self.kept.is_empty() && self.removed.is_empty() {
            return Ok(());
        }
        let mut rows = transaction.open_table(CHECKPOINTS)?;
        let mut by_project = transaction.open_table(CHECKPOINTS_BY_PROJECT)?;
        for ((project, at, id), bytes) in &self.kept {
            rows.insert(id.as_str(), &bytes[..])?;
            by_project.insert((project.as_str(), *at, id.as_str()), ())?;
        }
        for (project, at, id) in &self.removed {
            rows.remove(id.as_str())?;
            by_project.remove((project.as_str(), *at, id.as_str()))?;
        }
        Ok(())
    }
}
