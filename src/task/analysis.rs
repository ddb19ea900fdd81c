//! Answers of the Agent and the RAG service about a task, parsed and checked.

use serde::{Deserialize, Serialize};

use super::id::{ArtifactId, Domain, Mode, QaProfile, Tier};

/// Deepest nesting of subtasks that the Agent promises.
pub const MAX_DEPTH: u32 = 5;
/// Largest number of subtasks of one task that the Agent promises.
pub const MAX_SUBTASKS: usize = 20;

/// The answer of `/analyze`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// The kind of request: `new_project`, `fix_bug`, ...
    pub mode: Mode,
    /// The kind of work.
    pub domain: Domain,
    /// The tier that the complexity calls for.
    pub tier: Tier,
    /// Whether the task should be split into subtasks.
    pub needs_decomposition: bool,
    /// How outputs should be validated.
    pub qa_profile: Option<QaProfile>,
    /// Criteria for a good output: any JSON value, as compact JSON text.
    pub acceptance_criteria: Option<String>,
}

/// One part in the answer of `/decompose`. Ids are local to that answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtask {
    /// Id among the siblings.
    pub id: String,
    /// The work in words.
    pub description: String,
    /// The kind of work; `None` takes over the parent's.
    pub domain: Option<Domain>,
    /// Whether the part can be executed as it is; otherwise it is split again.
    pub is_atomic: bool,
    /// Siblings that must complete first.
    pub dependencies: Vec<String>,
}

/// The answer of `/decompose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decomposition {
    /// The parts, in the Agent's order.
    pub subtasks: Vec<Subtask>,
    /// Levels of subtasks that the Agent planned, if it says so.
    pub depth: Option<u32>,
}

/// The answer of `/estimate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The tier to use.
    pub tier: Tier,
    /// How outputs should be validated.
    pub qa_profile: Option<QaProfile>,
    /// Tokens that the task is expected to need.
    pub tokens: Option<u64>,
    /// The Agent's confidence, from 0 to 1.
    pub confidence: Option<f64>,
    /// The reasoning in words.
    pub reasoning: Option<String>,
}

/// The answer of `/query`: text that may help a worker, and its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Text for the worker's prompt.
    pub text: String,
    /// Artifacts that the text was taken from, most relevant first.
    pub sources: Vec<ArtifactId>,
}
