//! Routing: jobs for the driver that asks the Agent and RAG about tasks.

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

/// A task handed out for routing, on its way from the writer to the handle.
#[derive(Debug)]
pub(crate) struct TakenRouting {
    pub(crate) task: Task,
    /// Time since which the task waits to be routed.
    pub(crate) since: Moment,
    pub(crate) step: RoutingStep,
}
