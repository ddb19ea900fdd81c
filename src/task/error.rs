//! Why an attempt or a task failed.

use serde::{Deserialize, Serialize};

/// Why an attempt or a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// The kind of error, for programs.
    pub code: ErrorCode,
    /// The cause in words, for people.
    pub message: String,
    /// Number of the attempt that failed, from 1; `None` if no attempt was involved.
    pub attempt: Option<u32>,
}

/// The kinds of [`TaskError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A worker reported that it failed.
    WorkerFailed,
    /// QA or a reviewer rejected the output.
    Rejected,
    /// Execution took longer than `timeout_seconds`.
    DeadlineExceeded,
    /// QA took longer than the configured timeout.
    ValidationTimeout,
    /// A review took longer than the configured timeout.
    ReviewTimeout,
    /// A dependency failed or was cancelled.
    DependencyFailed,
    /// The task was cancelled during the attempt.
    Cancelled,
    /// The Agent's decomposition is not valid.
    DecompositionFailed,
    /// A subtask failed or was cancelled.
    ChildFailed,
    /// The service was restored from its replica during the attempt.
    Restored,
    /// Too many leases of the attempt expired.
    WorkerLost,
    /// Workers released the attempt too often.
    ReleasedTooOften,
}

impl ErrorCode {
    /// Every code, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::WorkerFailed,
        Self::Rejected,
        Self::DeadlineExceeded,
        Self::ValidationTimeout,
        Self::ReviewTimeout,
        Self::DependencyFailed,
        Self::Cancelled,
        Self::DecompositionFailed,
        Self::ChildFailed,
        Self::Restored,
        Self::WorkerLost,
        Self::ReleasedTooOften,
    ];

    /// The code as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkerFailed => "worker_failed",
            Self::Rejected => "rejected",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ValidationTimeout => "validation_timeout",
            Self::ReviewTimeout => "review_timeout",
            Self::DependencyFailed => "dependency_failed",
            Self::Cancelled => "cancelled",
            Self::DecompositionFailed => "decomposition_failed",
            Self::ChildFailed => "child_failed",
            Self::Restored => "restored",
            Self::WorkerLost => "worker_lost",
            Self::ReleasedTooOften => "released_too_often",
        }
    }
}
