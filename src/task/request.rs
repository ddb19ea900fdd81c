//! What a client asked for: checked once at the edge, never changed after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{ArtifactId, Domain, ProjectId, QaProfile, TaskId, Tier};
use super::time::Timestamp;

/// Longest description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;
/// Largest `metadata` object, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Most ids in `depends_on` and in `inputs`.
pub const MAX_REFERENCES: usize = 256;
/// Most attempts a request may ask for.
pub const MAX_ATTEMPTS: u32 = 20;
/// Longest execution deadline a request may ask for: 30 days.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(30 * 24);

/// How urgent a task is among the waiting ones of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everything else.
    Low,
    /// The usual class.
    Normal,
    /// Before everything else.
    High,
}

impl Priority {
    /// All classes, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// 0 for low, 2 for high.
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
    /// The workers decide alone.
    Autonomous,
    /// The workers may ask a person.
    Collaborative,
}

impl ExecutionMode {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Autonomous => "autonomous",
            Self::Collaborative => "collaborative",
        }
    }
}

/// What a parent does when a child fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChildFailure {
    /// The other children are cancelled and the parent fails.
    Cancel,
    /// The other children go on; the parent fails when all have ended.
    Continue,
}

impl OnChildFailure {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Continue => "continue",
        }
    }
}

/// The options of a submission as the client gave them: `None` where it
/// left the choice to the project or the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Whether the task may be split into subtasks.
    pub decompose: Option<bool>,
    /// How its output is validated.
    pub qa_profile: Option<QaProfile>,
    /// The class of models that shall do it.
    pub tier: Option<Tier>,
    /// The kind of work it is.
    pub domain: Option<Domain>,
    /// Deadline of one attempt's execution, in seconds.
    pub timeout_seconds: Option<u32>,
    /// Attempts before the task fails for good.
    pub max_attempts: Option<u32>,
    /// Not to be started before this time.
    pub not_before: Option<Timestamp>,
    /// Tasks that must complete first.
    pub depends_on: Vec<TaskId>,
    /// What happens to its siblings when a child fails.
    pub on_child_failure: Option<OnChildFailure>,
    /// Artifacts it may consume.
    pub inputs: Vec<ArtifactId>,
}

/// A checked submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// What is to be done, in words; at most [`MAX_DESCRIPTION_BYTES`].
    pub description: String,
    /// The project it belongs to; made on first use.
    pub project: ProjectId,
    /// `None`: the configured default.
    pub priority: Option<Priority>,
    /// The rest of the client's choices.
    pub options: Options,
    /// Any JSON object of the client's, as compact JSON text.
    pub metadata: Option<String>,
    /// Whether people take part.
    pub execution_mode: ExecutionMode,
    /// Any JSON object for the workers, as compact JSON text.
    pub constitution_override: Option<String>,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// The finished task this one repeats.
    pub rerun_of: Option<TaskId>,
}
