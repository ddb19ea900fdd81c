//! Rows and orders that a batch consists of.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::task::{Moment, ProjectId, Seq, Status, TaskId};

/// What an idempotency key led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// When the key was used.
    pub at: Moment,
    /// Hash over endpoint and key.
    pub key: [u8; 16],
    /// Hash over the request's body.
    pub body: [u8; 16],
    /// The answer, in the engine's own form.
    pub answer: Vec<u8>,
}

/// Why a batch keeps the clocks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// Observed time has gone on without any commit.
    Idle,
    /// An operator has accepted the wall clock: it counts as the time of the
    /// last commit.
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

/// An entry of the log and, where it is about a task, of its history.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogRow {
    pub(super) seq: Seq,
    pub(super) task: Option<TaskId>,
    pub(super) bytes: Bytes,
    /// What the history has in its place: the entry without the event that it
    /// came in. Most came in none, and are the same in both.
    pub(super) without_event: Option<Bytes>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemovedTask {
    pub(super) id: TaskId,
    pub(super) project: ProjectId,
    pub(super) status: Status,
    pub(super) ended_at_ms: u64,
}

/// Up to where, exclusively, old rows are removed.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Trim {
    /// Of the log.
    pub log: Option<Seq>,
    /// Of the taken events.
    pub taken_events: Option<Seq>,
    /// Of the idempotency keys.
    pub idempotency: Option<Seq>,
}

impl Trim {
    /// Whether nothing is removed.
    pub(super) const fn is_empty(self) -> bool {
        let Self { log, taken_events, idempotency } = self;
        log.is_none() && taken_events.is_none() && idempotency.is_none()
    }
}
