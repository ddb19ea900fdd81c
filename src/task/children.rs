//! Parents and their subtasks: what a parent keeps, what a subtask is made of, and how a task ends for
//! those that wait for it.

use serde::{Deserialize, Serialize};

use super::error::TaskError;
use super::event::OutputArtifact;
use super::id::{Domain, TaskId};
use super::request::OnChildFailure;
use super::routing::Routing;
use super::status::Status;

/// A parent whose subtasks run. It holds no slot of its project: they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Children {
    /// Subtasks that have not ended; never empty.
    pub open: Vec<TaskId>,
    /// What the completed ones produced.
    pub produced: Vec<(TaskId, Vec<OutputArtifact>)>,
    /// Why the first one that did not complete did not.
    pub failure: Option<TaskError>,
    /// What that does to the others.
    pub on_failure: OnChildFailure,
}

/// A subtask to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub id: TaskId,
    /// What is to be done, in words.
    pub description: String,
    /// The kind of work.
    pub domain: Option<Domain>,
    /// What has to be found out about it.
    pub routing: Option<Routing>,
    /// Siblings that must complete first.
    pub depends_on: Vec<TaskId>,
}

/// How a task that others wait for has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Well.
    Completed {
        /// What it produced.
        artifacts: Vec<OutputArtifact>,
    },
    /// Badly.
    Lost {
        /// `failed` or `cancelled`.
        status: Status,
        /// Why, in words.
        reason: String,
    },
}
