//! The key of a row to copy.

use crate::task::{CheckpointId, ProjectId, RecordId, Seq, TaskId, Tier};

/// The key of a row to copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Project(ProjectId),
    Tier(Tier),
    Task(TaskId),
    /// A record and its dependencies are separate keys, because all records are written before the
    /// first dependency.
    Record(RecordId),
    Dependencies(RecordId),
    Fact(Seq),
    Audit(Seq, usize),
    ImportedEvent(u64),
    Checkpoint(CheckpointId),
    Content([u8; 32]),
}
