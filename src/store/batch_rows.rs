//! Rows and instructions of a batch.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::task::{Moment, ProjectId, Seq, Status, TaskId};

/// The result of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// When the key was used.
    pub at: Moment,
    /// Hash over endpoint and key.
    pub key: [u8; 16],
    /// Hash over the request body.
    pub body: [u8; 16],
    /// The answer, in the engine's own form.
    pub answer: Vec<u8>,
}

/// Why a batch stores the clocks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockUpdate {
    /// Observed time has passed without a commit.
    Idle,
    /// An operator has accepted the wall clock, which counts as the time of the last commit.
    Accepted,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskRow {
    pub(super) id: TaskId,
    pub(super) project: ProjectId,
    pub(super) before: Option<Status>,
    pub(super) after: Status,
    pub(super) ended: Option<Moment>,
    pub(super) bytes: Bytes,
}

/// An entry of the log and, if it is about a task, of its history.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogRow {
    pub(super) seq: Seq,
    pub(super) task: Option<TaskId>,
    pub(super) bytes: Bytes,
    /// The entry of the history, which lacks the event. `None` if there was no event, so that both
    /// are the same.
    pub(super) without_event: Option<Bytes>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemovedTask {
    pub(super) id: TaskId,
    pub(super) project: ProjectId,
    pub(super) status: Status,
    pub(super) ended_at_ms: u64,
}

/// Exclusive upper bounds of the rows to remove.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Trim {
    /// Position in the log.
    pub log: Option<Seq>,
    /// Position up to which accepted events are forgotten.
    pub taken_events: Option<Seq>,
    /// Position up to which idempotency keys are forgotten.
    pub idempotency: Option<Seq>,
}

impl Trim {
    /// Whether nothing is removed.
    pub(super) const fn is_empty(self) -> bool {
        let Self { log, taken_events, idempotency } = self;
        log.is_none() && taken_events.is_none() && idempotency.is_none()
    }
}
