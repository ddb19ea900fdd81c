//! Entries of the audit trail: steps that changed flags, why, and what each has changed.

use serde::{Deserialize, Serialize};

use crate::lineage::{Action, Flag};
use crate::task::{ArtifactId, CheckpointId, RecordId, Timestamp};

/// A step that changed flags: the head of its entries in the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CascadeRow {
    /// When.
    pub at: Timestamp,
    /// The id under which whoever asked for it knows it.
    pub cascade_id: String,
    /// What brought it about.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
    /// What it was concluded from, where that was told.
    pub source: Option<String>,
}

/// What brings about that flags change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Something was said of a record.
    Said {
        /// What.
        action: Action,
        /// Of which record.
        record: RecordId,
        /// The artifact by which it was named, if it was.
        artifact: Option<ArtifactId>,
    },
    /// A project was rolled back.
    Rollback {
        /// To this checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        why: String,
    },
    /// A record came, or more of what it has produced: its own inputs were
    /// bound, and inputs that waited for it.
    Arrival(RecordId),
    /// A record got another verdict: it is an input of others now, or no
    /// longer.
    Verdict(RecordId),
    /// A record was imported, with what was said of it where it came from.
    Import(RecordId),
    /// The store was brought to a newer format, whose rules differ.
    Upgrade,
    /// The cascade of the same id was taken back.
    Undo,
}

impl Cause {
    /// The artifact by which its record was named, if it was.
    #[must_use]
    pub const fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Self::Said { artifact, .. } => artifact.as_ref(),
            Self::Rollback { .. }
            | Self::Arrival(_)
            | Self::Verdict(_)
            | Self::Import(_)
            | Self::Upgrade
            | Self::Undo => None,
        }
    }

    /// The record that it is about, unless it is about a whole project.
    #[must_use]
    pub const fn record(&self) -> Option<RecordId> {
        match self {
            Self::Said { record, .. } | Self::Arrival(record) | Self::Verdict(record) | Self::Import(record) => {
                Some(*record)
            }
            Self::Rollback { .. } | Self::Upgrade | Self::Undo => None,
        }
    }
}

/// A flag that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRow {
    /// The record.
    pub record: RecordId,
    /// Its flag before.
    pub from: Flag,
    /// Its flag after.
    pub to: Flag,
    /// How far from where the change began.
    pub depth: u32,
    /// The record through which the change reached it.
    pub through: Option<RecordId>,
}
