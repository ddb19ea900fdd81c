//! Entries of the audit trail: steps that changed flags, their causes, and the changes of each.

use serde::{Deserialize, Serialize};

use crate::lineage::{Action, Flag};
use crate::task::{ArtifactId, CheckpointId, RecordId, Timestamp};

/// A step that changed flags: the head of its entries in the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CascadeRow {
    /// When the step was made.
    pub at: Timestamp,
    /// Id by which its requester knows it.
    pub cascade_id: String,
    /// The request, arrival or import behind the step.
    pub cause: Cause,
    /// The reason in words.
    pub reason: String,
    /// What it was concluded from, if given.
    pub source: Option<String>,
}

/// What caused a change of flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A taint, mark or clear of a record.
    Said {
        /// Taint, mark or clear.
        action: Action,
        /// The record that the request named, or the producer of the named artifact.
        record: RecordId,
        /// The artifact by which the record was named, if any.
        artifact: Option<ArtifactId>,
    },
    /// A rollback of a project.
    Rollback {
        /// The checkpoint that the project was rolled back to.
        checkpoint: CheckpointId,
        /// The reason in words.
        why: String,
    },
    /// The arrival of a record, or of more outputs of it: its inputs were bound, and inputs that
    /// waited for it.
    Arrival(RecordId),
    /// Another verdict of a record, which is an input of others now, or no longer.
    Verdict(RecordId),
    /// The import of a record with its statements.
    Import(RecordId),
    /// An upgrade of the store to a newer format with other rules.
    Upgrade,
    /// The undo of the cascade with the same id.
    Undo,
}

impl Cause {
    /// The artifact by which the record was named, if any.
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

    /// The record that the cause is about, unless it is about a whole project.
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

/// A changed flag, with records by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRow {
    /// The record whose flag changed.
    pub record: RecordId,
    /// Its flag before.
    pub from: Flag,
    /// Its flag after.
    pub to: Flag,
    /// Distance from the origin of the change.
    pub depth: u32,
    /// The record through which the change reached it.
    pub through: Option<RecordId>,
}
