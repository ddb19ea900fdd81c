//! Status and phase of a task. Both are derived from the state and never stored with it.

use serde::{Deserialize, Serialize};

/// The status of a task, which clients see first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No worker has the task.
    Pending,
    /// A worker has the task, its output is judged, or its subtasks run.
    Running,
    /// The task completed.
    Completed,
    /// The task failed.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a task's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the status is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Position in [`Self::ALL`], which is also the code in stored keys.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 1,
            Self::Completed => 2,
            Self::Failed => 3,
            Self::Cancelled => 4,
        }
    }
}

/// The phase of a task within its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The time `not_before` has not come.
    Scheduled,
    /// Dependencies have not completed.
    Blocked,
    /// Routing is in progress.
    Analyzing,
    /// The task waits for a worker and a slot of its project.
    Queued,
    /// The task waits for its next attempt.
    Backoff,
    /// The broker has the `task.ready` event, and no worker is known to have the task.
    Dispatched,
    /// A worker holds a lease.
    Leased,
    /// The QA service has the output.
    Validating,
    /// A reviewer has the output.
    Reviewing,
    /// The subtasks run.
    Children,
    /// The task completed.
    Completed,
    /// The task failed.
    Failed,
    /// The task was cancelled.
    Cancelled,
    // Stored by its position, so a new variant goes last.
    /// A worker has taken the task from the broker.
    Started,
}

impl Phase {
    /// Every phase, in the order of a task's life.
    pub const ALL: [Self; 14] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Analyzing,
        Self::Queued,
        Self::Backoff,
        Self::Dispatched,
        Self::Leased,
        Self::Started,
        Self::Validating,
        Self::Reviewing,
        Self::Children,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Analyzing => "analyzing",
            Self::Queued => "queued",
            Self::Backoff => "backoff",
            Self::Dispatched => "dispatched",
            Self::Leased => "leased",
            Self::Validating => "validating",
            Self::Reviewing => "reviewing",
            Self::Children => "children",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Started => "started",
        }
    }
}
