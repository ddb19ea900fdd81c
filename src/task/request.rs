//! The client's request: checked once at the edge, never changed afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{ArtifactId, Domain, ProjectId, QaProfile, TaskId, Tier};
use super::time::Timestamp;

/// Longest description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;
/// Largest `metadata` object, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Largest number of ids in `depends_on` and in `inputs`.
pub const MAX_REFERENCES: usize = 256;
/// Largest number of attempts that a request may ask for.
pub const MAX_ATTEMPTS: u32 = 20;
/// Longest execution limit that a request may ask for: 30 days.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(30 * 24);

/// Priority class of a task among the waiting tasks of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After all other classes.
    Low,
    /// The default class.
    Normal,
    /// Before all other classes.
    High,
}

impl Priority {
    /// Every class, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// Index of the class: 0 for low, 2 for high.
    #[must_use]
    pub const fn class(self) -> usize {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
        }
    }
}

/// Whether people take part in the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// Workers decide alone.
    Autonomous,
    /// Workers may ask a person.
    Collaborative,
}

impl ExecutionMode {
    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Autonomous => "autonomous",
            Self::Collaborative => "collaborative",
        }
    }
}

/// What a parent does when a subtask fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChildFailure {
    /// The other subtasks are cancelled, and the parent fails.
    Cancel,
    /// The other subtasks continue, and the parent fails when all have ended.
    Continue,
}

impl OnChildFailure {
    /// The word as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Continue => "continue",
        }
    }
}

/// The options of a submission as the client gave them. `None` leaves the choice to the project or
/// the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Whether the task may be split into subtasks.
    pub decompose: Option<bool>,
    /// How outputs are validated.
    pub qa_profile: Option<QaProfile>,
    /// The class of models for the task.
    pub tier: Option<Tier>,
    /// The kind of work.
    pub domain: Option<Domain>,
    /// Execution limit of one attempt, in seconds.
    pub timeout_seconds: Option<u32>,
    /// Attempts after which the task fails.
    pub max_attempts: Option<u32>,
    /// Earliest start.
    pub not_before: Option<Timestamp>,
    /// Tasks that must complete first.
    pub depends_on: Vec<TaskId>,
    /// What happens to the siblings of a failed subtask.
    pub on_child_failure: Option<OnChildFailure>,
    /// Artifacts that the task may consume.
    pub inputs: Vec<ArtifactId>,
}

/// A checked submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The work in words; at most [`MAX_DESCRIPTION_BYTES`].
    pub description: String,
    /// The project, which is created on first use.
    pub project: ProjectId,
    /// Priority class; `None` is the configured default.
    pub priority: Option<Priority>,
    /// The other choices of the client.
    pub options: Options,
    /// Any JSON object of the client, as compact JSON text.
    pub metadata: Option<String>,
    /// Whether people take part.
    pub execution_mode: ExecutionMode,
    /// Any JSON object for the workers, as compact JSON text.
    pub constitution_override: Option<String>,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// The finished task that this one repeats.
    pub rerun_of: Option<TaskId>,
}
