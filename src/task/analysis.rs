//! What the Agent and the RAG service find out about a task, after the wire
//! form was checked.

use serde::{Deserialize, Serialize};

use super::id::{ArtifactId, Domain, Mode, QaProfile, Tier};

/// Deepest nesting of subtasks that the Agent promises to respect.
pub const MAX_DEPTH: u32 = 5;
/// Most subtasks of one task that the Agent promises to respect.
pub const MAX_SUBTASKS: usize = 20;

/// The answer of `/analyze`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// What kind of request it is: `new_project`, `fix_bug`, ...
    pub mode: Mode,
    /// The kind of work.
    pub domain: Domain,
    /// The tier that its complexity asks for.
    pub tier: Tier,
    /// Whether it should be split into subtasks.
    pub needs_decomposition: bool,
    /// How its output should be validated.
    pub qa_profile: Option<QaProfile>,
    /// What a good output fulfils: any JSON value, as compact JSON text.
    pub acceptance_criteria: Option<String>,
}

/// One part of the answer of `/decompose`. Its ids are local to that answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtask {
    /// Its id among its siblings.
    pub id: String,
    /// What is to be done, in words.
    pub description: String,
    /// The kind of work; `None`: that of the parent.
    pub domain: Option<Domain>,
    /// Whether it can be done as it is; otherwise it is split again.
    pub is_atomic: bool,
    /// Siblings that must complete first.
    pub dependencies: Vec<String>,
}

/// The answer of `/decompose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decomposition {
    /// The parts, in the Agent's order.
    pub subtasks: Vec<Subtask>,
    /// How deep the Agent says that it has thought; `None` when it does not say.
    pub depth: Option<u32>,
}

/// The answer of `/estimate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The tier to do it on.
    pub tier: Tier,
    /// How its output should be validated.
    pub qa_profile: Option<QaProfile>,
    /// Tokens that it will take.
    pub tokens: Option<u64>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// Why, in words.
    pub reasoning: Option<String>,
}

/// The answer of `/query`: text that may help, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The text.
    pub text: String,
    /// The artifacts it was taken from, most relevant first.
    pub sources: Vec<ArtifactId>,
}
