//! The audit trail of flags: one entry for each record that a taint, a mark or
//! a clear has changed.

use std::sync::Arc;

use crate::store::{CascadeRow, ChangeRow, ImportedEvent};
use crate::task::{ArtifactId, RecordId, Seq};

/// Filter for the audit trail. An entry must match every field that is set.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Entries of records that produced this artifact.
    pub artifact: Option<ArtifactId>,
    /// Entries of this record.
    pub record: Option<RecordId>,
    /// Entries of this cascade.
    pub cascade: Option<String>,
}

/// Place of an entry in the trail. Imported events come after all steps, at
/// step zero, with their number as the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// Position of the step.
    pub step: Seq,
    /// Index among the changes of the step.
    pub index: usize,
}

impl AuditPlace {
    pub(in crate::engine) fn of_imported(number: u64) -> Self {
        Self { step: Seq(0), index: usize::try_from(number).unwrap_or(usize::MAX) }
    }
}

/// An entry of the trail.
#[derive(Debug, Clone)]
pub enum AuditEntry {
    /// A change made by this service.
    Own {
        /// Its place in the trail.
        place: AuditPlace,
        /// The step that made the change.
        cascade: Arc<CascadeRow>,
        /// The change.
        change: ChangeRow,
    },
    /// An event of another service's trail, imported.
    Imported {
        /// Number of the event.
        number: u64,
        /// The event as it was imported.
        event: Box<ImportedEvent>,
    },
}

impl AuditEntry {
    /// Returns the place of the entry in the trail.
    #[must_use]
    pub fn place(&self) -> AuditPlace {
        match self {
            Self::Own { place, .. } => *place,
            Self::Imported { number, .. } => AuditPlace::of_imported(*number),
        }
    }
}

/// A page of the trail, the newest step first. Within a step the entries
/// nearest to its origin come first.
#[derive(Debug, Clone)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Start of the next page.
    pub next: Option<AuditPlace>,
    /// Whether the page ends before its limit, because it is full of bytes or
    /// because the search stopped before it had looked at the whole trail.
    pub truncated: bool,
}
