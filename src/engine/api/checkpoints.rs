//! Checkpoints, and rollbacks to them.

use crate::lineage::{Graph, Step};
use crate::store::Checkpoint;
use crate::task::{CheckpointId, ProjectId, TaskId};

/// The client's part of a checkpoint to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// Purpose of the checkpoint.
    pub description: Option<String>,
    /// Git commit or tag that belongs to it.
    pub git_ref: Option<String>,
    /// State of the RAG service that belongs to it.
    pub rag_state_ref: Option<String>,
    /// State of the work products that belongs to it.
    pub work_product_ref: Option<String>,
}

/// A request to roll a project back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRequest {
    /// The checkpoint to roll back to.
    pub checkpoint: CheckpointId,
    /// The project that the checkpoint must belong to; `None`: any.
    pub project: Option<ProjectId>,
    /// Reason for the audit trail.
    pub reason: String,
    /// Whether to submit again the tasks whose work has to be redone.
    pub requeue: bool,
    /// Whether to report the effect without making it.
    pub dry_run: bool,
}

/// Effect of a rollback, or, in a dry run, the effect it would have.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// Id in the audit trail; empty in a dry run.
    pub cascade_id: String,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The graph after the step. The nodes in `step` are nodes of this graph.
    pub graph: Graph,
    /// The changed flags.
    pub step: Step,
    /// Number of named records that no earlier rollback to this checkpoint has named.
    pub named: usize,
    /// Later checkpoints, which become invalid.
    pub invalidated: Vec<CheckpointId>,
    /// Cancelled tasks, all of the project and from after the checkpoint: those with
    /// an open attempt, and open ones that are parts of undone work or depend on it.
    pub cancelled: Vec<TaskId>,
    /// Other running tasks that use records that are no longer clean.
    pub running: Vec<TaskId>,
    /// Open tasks from before the checkpoint that go on, although work of theirs
    /// was tainted.
    pub still_open: Vec<TaskId>,
    /// Tasks whose work has to be redone.
    pub to_rerun: Vec<TaskId>,
    /// The tasks of `to_rerun` that were submitted again, each with its new task;
    /// `None` in a dry run.
    pub requeued: Vec<(TaskId, Option<TaskId>)>,
    /// The tasks of `to_rerun` that can't be submitted again: their description is
    /// lost, or a task that they depend on did not complete and is not redone.
    pub not_requeued: Vec<TaskId>,
}

impl Rollback {
    /// Returns whether the rollback changes anything.
    #[must_use]
    pub fn is_change(&self) -> bool {
        let is_unchanged = self.step.flags.is_empty()
            && self.named == 0
            && self.invalidated.is_empty()
            && self.cancelled.is_empty()
            && self.requeued.is_empty();
        !is_unchanged
    }
}
