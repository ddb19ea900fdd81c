//! Checkpoints: points in time of one project, with what is kept about them.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::encode;
use super::tables::{self, CHECKPOINTS, CHECKPOINTS_BY_PROJECT};
use crate::task::{CheckpointId, Moment, ProjectId, Timestamp};

/// A point in time of one project. What was made here comes after it in the log;
/// what was imported has a `created_at` that is strictly later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// The project it is of.
    pub project: ProjectId,
    /// The point in time.
    pub created_at: Timestamp,
    /// A commit or tag that belongs to it.
    pub git_ref: Option<String>,
    /// Provenance records of the project at that time.
    pub provenance_count: u64,
    /// Outputs of these records.
    pub artifact_count: u64,
    /// The newest of these records. Text, since imported ids can be any.
    pub last_provenance_id: Option<String>,
    /// The task of that record.
    pub last_task_id: Option<String>,
    /// A state of the RAG service that belongs to it.
    pub rag_state_ref: Option<String>,
    /// A state of the work products that belongs to it.
    pub work_product_ref: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What made it: `auto`, `manual`, or the word of an imported one.
    pub trigger: String,
    /// Whether it can be rolled back to.
    pub is_valid: bool,
    /// When the project was last rolled back to it.
    pub rolled_back_at: Option<Timestamp>,
    /// The object as it came, as JSON text, for an imported one.
    pub original: Option<String>,
}

impl Checkpoint {
    /// The `trigger` of those that the service makes by itself.
    pub const AUTOMATIC: &'static str = "auto";
    /// The `trigger` of those that somebody has asked for.
    pub const MANUAL: &'static str = "manual";

    /// Whether the service made it by itself, here.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        self.trigger == Self::AUTOMATIC && self.original.is_none()
    }

    /// Its id as bytes, where it was made here: such ids grow with the log.
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

/// What has completed in a project since its newest checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointProgress {
    /// Tasks.
    pub completed: u64,
    /// When the first of them did, in observed time.
    pub since: Moment,
}

/// A key of the table by project.
type Key = (ProjectId, i64, CheckpointId);

/// The checkpoints of a batch: kept ones, and removed ones.
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
