//! Why an attempt or a task ended badly.

use serde::{Deserialize, Serialize};

/// Why an attempt or a task ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// The cause in words, for people.
    pub message: String,
    /// The attempt it happened in, if in one.
    pub attempt: Option<u32>,
}

/// The kinds of [`TaskError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A worker said that it failed.
    WorkerFailed,
    /// The output was not good enough.
    Rejected,
    /// Execution took longer than `timeout_seconds`.
    DeadlineExceeded,
    /// QA took longer than configured.
    ValidationTimeout,
    /// A person took longer than configured.
    ReviewTimeout,
    /// A task it depends on failed or was cancelled.
    DependencyFailed,
    /// It was cancelled while the attempt ran.
    Cancelled,
    /// The Agent split it in a way that can't be carried out.
    DecompositionFailed,
    /// One of its subtasks failed or was cancelled.
    ChildFailed,
    /// The service was restored from its copy while the attempt ran.
    Restored,
    /// Its workers let their leases run out too often.
    WorkerLost,
    /// Its workers gave it back too often.
    ReleasedTooOften,
}

impl ErrorCode {
    /// All of them.
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

    /// The word on the wire.
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
