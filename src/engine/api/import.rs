//! Imports: provenance that was made elsewhere.

use super::error::Refusal;
use crate::store::{Checkpoint, ImportedEvent, Record};
use crate::task::{CheckpointId, RecordId, Timestamp};

/// Id under which the audit trail lists the statements of imports.
pub const IMPORT_CASCADE: &str = "import";

/// An item to import.
#[derive(Debug, Clone, PartialEq)]
pub enum Import {
    /// A record. Its `imported` must be set.
    Record(Box<Record>),
    /// An entry of another service's audit trail.
    Event(Box<ImportedEvent>),
    /// A checkpoint. Its `original` must be set.
    Checkpoint(Box<Checkpoint>),
    /// A mark or a clear of an imported record.
    ManualMark(ManualMark),
}

/// A mark or a clear that was made by hand where an imported record comes from.
/// It counts as far as the imported record agrees with it and no newer statement
/// contradicts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualMark {
    /// The record.
    pub record: RecordId,
    /// Whether the record was cleared; otherwise it was marked as suspect.
    pub is_good: bool,
    /// Time of the statement.
    pub at: Timestamp,
    /// Reason given for it.
    pub reason: String,
}

/// Effect of an import on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The item is new.
    Created,
    /// The item was known, with other values.
    Updated,
    /// The item was known with the same values.
    Unchanged,
    /// The item was left out, and nothing has changed.
    Refused(ImportRefusal),
}

/// Reason for leaving out an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefusal {
    /// The record would depend on itself: each of these records depends on the next.
    #[error("it would close a cycle of {} records", .0.len().saturating_sub(1))]
    Cycle(Vec<RecordId>),
    /// A task of this service made the record.
    #[error("record {0} was made by a task of this service, with other values")]
    MadeHere(RecordId),
    /// The audit trail is append-only.
    #[error("the audit trail has another event with the id {0}")]
    OtherEvent(String),
    /// An import never changes a checkpoint.
    #[error("there is another checkpoint with the id {0}")]
    OtherCheckpoint(CheckpointId),
    /// The item's project is new and exceeds the limit of projects.
    #[error("{0}")]
    TooManyProjects(Refusal),
    /// The record lacks its original form.
    #[error("it does not say what it was where it came from")]
    NoOrigin,
}

/// Effect of an import on one item and on the records that depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportResult {
    /// Effect on the item.
    pub outcome: ImportOutcome,
    /// Records that became suspect because of the item and were not suspect where
    /// they came from.
    pub newly_suspect: Vec<RecordId>,
}

impl From<ImportOutcome> for ImportResult {
    fn from(outcome: ImportOutcome) -> Self {
        Self { outcome, newly_suspect: Vec::new() }
    }
}
