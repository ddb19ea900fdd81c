//! Projects: definitions, changes and current figures.

use super::records::RecordCounts;
use crate::store::{Counters, Project};
use crate::task::{ProjectId, QaProfile, Timestamp};

/// A project to create.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// Id of the project. It must be free, or that of a deleted project.
    pub id: ProjectId,
    /// Display name; `None`: the id.
    pub name: Option<String>,
    /// Purpose, in the client's words.
    pub description: Option<String>,
    /// See [`Project`].
    pub qa_profile: Option<QaProfile>,
    /// See [`Project`].
    pub constitution: Option<String>,
    /// See [`Project`].
    pub max_concurrent: Option<u32>,
}

/// Changes to a project. An outer `None` keeps a field, an inner `None` empties it.
#[derive(Debug, Clone, Default)]
pub struct ProjectPatch {
    /// New display name. A project always has one.
    pub name: Option<String>,
    /// See [`Project`].
    pub description: Option<Option<String>>,
    /// See [`Project`].
    pub qa_profile: Option<Option<QaProfile>>,
    /// See [`Project`].
    pub constitution: Option<Option<String>>,
    /// See [`Project`].
    pub max_concurrent: Option<Option<u32>>,
}

/// A project with its current figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectStatus {
    /// The project.
    pub project: Project,
    /// Number of its tasks by phase.
    pub counters: Counters,
    /// Slots in use.
    pub slots_in_use: u32,
    /// Slots that the project has.
    pub limit: u32,
    /// Submission time of its oldest pending task.
    pub oldest_pending_at: Option<Timestamp>,
    /// Tasks that completed in the last hour, and in the last 24 hours.
    pub completed: (u64, u64),
    /// Tasks that failed in the last hour, and in the last 24 hours.
    pub failed: (u64, u64),
    /// Number of its provenance records by flag.
    pub records: RecordCounts,
}
