//! Events of other services, on their way in.

use std::sync::Arc;

use super::cascades::CascadeRequest;
use super::checkpoints::RollbackRequest;
use crate::store::ContentFile;
use crate::task::{Correlation, Outcome, Report};

/// An event from another service.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// `CloudEvents` `source` and `id`, by which duplicates are recognised;
    /// `None`: the event is never a duplicate.
    pub identity: Option<(String, String)>,
    /// The parsed content.
    pub message: EventContent,
    /// The event as received: a structured `CloudEvent` in JSON.
    pub raw: String,
    /// Whether the event came over the bus: then it is not published there again.
    pub on_bus: bool,
}

impl IncomingEvent {
    /// Returns whether the event asks for a rollback, which can only be planned
    /// from committed state.
    pub(in crate::engine) const fn is_rollback(&self) -> bool {
        matches!(self.message, EventContent::Rollback(_))
    }
}

/// Content of an event of another service.
#[derive(Debug, Clone)]
pub enum EventContent {
    /// A report on a task.
    Report {
        /// Identifies the task.
        correlation: Correlation,
        /// The report.
        report: Report,
    },
    /// A taint, a mark or a clear of a record.
    Cascade {
        /// Type of the event.
        name: &'static str,
        /// The request that the event makes.
        request: Box<CascadeRequest>,
    },
    /// A rollback of a project.
    Rollback(Box<RollbackRequest>),
}

/// Result of an event that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// The event was accepted, with this effect.
    Taken(Outcome),
    /// An event of the same source and id was accepted before.
    Duplicate,
}

impl EventOutcome {
    /// Returns the outcome as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken(outcome) => outcome.as_str(),
            Self::Duplicate => "duplicate",
        }
    }

    /// Returns the outcome as a sentence.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Taken(outcome) => outcome.detail(),
            Self::Duplicate => "an event of the same source and id was taken before",
        }
    }
}

/// An event whose large contents are in files already. The files stay as long
/// as this value, or a commit, holds them.
#[derive(Debug, Clone)]
pub struct PreparedEvent {
    pub(in crate::engine) event: IncomingEvent,
    pub(in crate::engine) files: Vec<Arc<ContentFile>>,
}

impl PreparedEvent {
    /// Returns the event, without the texts that are in files.
    #[must_use]
    pub const fn event(&self) -> &IncomingEvent {
        &self.event
    }
}
