//! The words for where a task is: `status`, which the outside sees first, and
//! `phase` inside it. Both are derived from the state, never kept.

use serde::{Deserialize, Serialize};

/// What the outside sees first of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No worker has it yet, or again.
    Pending,
    /// A worker has it, or its output is looked at, or its subtasks run.
    Running,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word on the wire.
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

    /// Whether it is never left again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Its place in [`Self::ALL`], which is also its code in stored keys.
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

/// Where inside its status a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its time has not come.
    Scheduled,
    /// It waits for other tasks.
    Blocked,
    /// The Agent or the RAG service is asked about it.
    Analyzing,
    /// It waits for a worker and a slot of its project.
    Queued,
    /// It waits for its next attempt.
    Backoff,
    /// Its `task.ready` is with the broker, no worker is known to have it.
    Dispatched,
    /// A worker holds it.
    Leased,
    /// Its output is with QA.
    Validating,
    /// Its output is with a person.
    Reviewing,
    /// Its subtasks run.
    Children,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// Somebody ended it.
    Cancelled,
    // Stored by its place here: a new one goes last.
    /// A worker has taken it from the broker.
    Started,
}

impl Phase {
    /// All of them, in the order of a life.
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

    /// The word on the wire.
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
