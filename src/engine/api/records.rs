//! Provenance records: filters, pages and counts by flag.

use crate::lineage::RecordState;
use crate::store::{Record, RecordPlace};
use crate::task::{Domain, ProjectId, RecordStatus, TaskId, Tier, Timestamp};

/// Number of the records of a project by flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts {
    /// All records.
    pub records: u64,
    /// Tainted records.
    pub tainted: u64,
    /// Suspect records.
    pub suspect: u64,
}

impl RecordCounts {
    /// Returns the recommended action: a rollback when more than 30 % of the records
    /// are tainted, a pause when more than 20 are suspect or more than 5 tainted.
    #[must_use]
    pub const fn advice(&self) -> Advice {
        if self.tainted * 10 > self.records * 3 {
            Advice::Rollback
        } else if self.suspect > 20 || self.tainted > 5 {
            Advice::Pause
        } else {
            Advice::Continue
        }
    }
}

/// Recommended action for a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Roll the project back to a checkpoint.
    Rollback,
    /// Review the project before it goes on.
    Pause,
    /// Go on.
    Continue,
}

impl Advice {
    /// Returns the advice as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Pause => "pause",
            Self::Continue => "continue",
        }
    }
}

/// Filter for records. A record must match every field that is set.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Records of this project.
    pub project: Option<ProjectId>,
    /// Records of this task.
    pub task: Option<TaskId>,
    /// Records with this verdict.
    pub status: Option<RecordStatus>,
    /// Whether the record must be tainted, or must not be.
    pub tainted: Option<bool>,
    /// Whether the record must be suspect, or must not be.
    pub suspect: Option<bool>,
    /// Records made by this model.
    pub model: Option<String>,
    /// Records made on this tier.
    pub tier: Option<Tier>,
    /// Records of this domain.
    pub domain: Option<Domain>,
    /// Records made at this time or later.
    pub created_after: Option<Timestamp>,
    /// Records made before this time.
    pub created_before: Option<Timestamp>,
}

/// A page of records, newest first.
#[derive(Debug, Clone)]
pub struct RecordPage {
    /// The records, each with its place in the list and its node's data in the graph.
    pub records: Vec<(RecordPlace, Record, RecordState)>,
    /// The next page holds the records before this place.
    pub next: Option<RecordPlace>,
    /// Number of matching records on all pages; `None` where the graph alone can't tell.
    pub total: Option<u64>,
    /// Whether the page ends before its limit, because it is full of bytes or
    /// because the search stopped before it had looked at every record.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_counts() {
        let advice = |records, tainted, suspect| RecordCounts { records, tainted, suspect }.advice();
        assert_eq!(advice(0, 0, 0), Advice::Continue);
        assert_eq!(advice(10, 3, 0), Advice::Continue);
        assert_eq!(advice(10, 4, 0), Advice::Rollback);
        assert_eq!(advice(100, 5, 20), Advice::Continue);
        assert_eq!(advice(100, 6, 0), Advice::Pause);
        assert_eq!(advice(100, 0, 21), Advice::Pause);
        assert_eq!(advice(100, 31, 21), Advice::Rollback);
    }
}
