//! Tasks: submissions, status answers, lists and trees.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::task::{Domain, ProjectId, Status, TaskId, Tier, Timestamp};
use crate::wire::Answer;

/// The idempotency key of a request: a client that repeats the request under
/// the same key gets the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Hash of the endpoint and the key.
    pub key: [u8; 16],
    /// Hash of the request's body. Another body under the same key is refused.
    pub body: [u8; 16],
}

/// An accepted submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The new task.
    pub task: TaskId,
    /// The project of the task.
    pub project: ProjectId,
    /// Time of the submission.
    pub created_at: Timestamp,
    /// Predicted time of completion; `None` without figures of earlier tasks.
    pub estimated_completion: Option<Timestamp>,
}

/// Reason for leaving out one of several submissions: it depends on a task
/// that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownDependency {
    /// Index in `depends_on`.
    pub index: usize,
    /// The id at that index.
    pub task: TaskId,
}

/// The answer to a batch of submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submissions {
    /// One result for each submission, in their order.
    pub results: Vec<Result<Submitted, UnknownDependency>>,
    /// Whether the results are those of an earlier request with the same key.
    pub replayed: bool,
}

/// Filter for a list of tasks. A task must match every field that is set.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Tasks of this project.
    pub project: Option<ProjectId>,
    /// Tasks in one of these statuses; empty: in any.
    pub statuses: Vec<Status>,
    /// Children of this task.
    pub parent: Option<TaskId>,
    /// Tasks on this tier.
    pub tier: Option<Tier>,
    /// Tasks of this domain.
    pub domain: Option<Domain>,
    /// Tasks created at this time or later.
    pub created_after: Option<Timestamp>,
    /// Tasks created before this time.
    pub created_before: Option<Timestamp>,
}

/// Start of a page of tasks.
#[derive(Debug, Clone, Copy)]
pub enum PageStart {
    /// Skips this many of the newest matching tasks.
    Offset(usize),
    /// Starts after this task, the last one of the previous page.
    After(TaskId),
}

/// A page of tasks, newest first.
#[derive(Debug, Clone)]
pub struct TaskPage {
    /// The status answers.
    pub tasks: Vec<Answer>,
    /// Start of the next page.
    pub next: Option<TaskId>,
    /// Number of matching tasks on all pages; `None` where only a full scan could tell.
    pub total: Option<u64>,
    /// Whether the page ends before its limit, because it is full of bytes or
    /// because the search stopped before it had looked at every task.
    pub truncated: bool,
}

/// One task of a tree.
#[derive(Debug, Clone)]
pub struct TreeNode {
    /// The task.
    pub task: TaskId,
    /// Its status answer; `None`: retention has removed the task.
    pub answer: Option<Answer>,
    /// The tasks into which it was split.
    pub child_ids: Vec<TaskId>,
    /// Indexes of the children in the tree; `None`: the tree has no room for them.
    pub children: Option<Range<usize>>,
}
