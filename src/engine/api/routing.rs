//! Routing: what the driver is to find out about a task.

use crate::task::{Domain, Moment, ProjectId, RoutingStep, Task, TaskId};

/// A task that is to be routed, with what the Agent and RAG need to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingJob {
    /// The task.
    pub task: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// Its description.
    pub description: String,
    /// The description of its parent, if it is a subtask.
    pub parent_description: Option<String>,
    /// Its domain, as far as it is known.
    pub domain: Domain,
    /// The step of routing that the task is at.
    pub step: RoutingStep,
    /// Time since which it waits to be routed.
    pub since: Moment,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
}

/// A task that is handed out to be routed.
#[derive(Debug)]
pub(crate) struct TakenRouting {
    pub(crate) task: Task,
    /// Since when the task waits to be routed.
    pub(crate) since: Moment,
    pub(crate) step: RoutingStep,
}
