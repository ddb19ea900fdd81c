//! Parents and subtasks: what a parent keeps, what a subtask is created from, and how a task ends
//! for the tasks that wait for it.

use serde::{Deserialize, Serialize};

use super::error::TaskError;
use super::event::OutputArtifact;
use super::id::{Domain, TaskId};
use super::request::OnChildFailure;
use super::routing::Routing;
use super::status::Status;

/// State of a parent whose subtasks run. The subtasks hold slots of the project, the parent holds
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Children {
    /// Subtasks that have not ended; never empty.
    pub open: Vec<TaskId>,
    /// Artifacts of the completed subtasks.
    pub produced: Vec<(TaskId, Vec<OutputArtifact>)>,
    /// Why the first subtask failed or was cancelled.
    pub failure: Option<TaskError>,
    /// What a failure does to the other subtasks.
    pub on_failure: OnChildFailure,
}

/// A subtask to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Id of the subtask.
    pub id: TaskId,
    /// The work in words.
    pub description: String,
    /// The kind of work; `None` takes over the parent's.
    pub domain: Option<Domain>,
    /// The routing that the subtask needs; `None` if it needs none.
    pub routing: Option<Routing>,
    /// Siblings that must complete first.
    pub depends_on: Vec<TaskId>,
}

/// How a task ended, for the tasks that wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The task completed.
    Completed {
        /// All artifacts of its output or of its subtasks.
        artifacts: Vec<OutputArtifact>,
    },
    /// The task failed or was cancelled.
    Lost {
        /// `failed` or `cancelled`.
        status: Status,
        /// The reason in words.
        reason: String,
    },
}
