//! Routing: what has to be found out about a task before it can wait for a
//! slot, and what a finding does to it. Who is asked, and how, is decided
//! outside.

use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, Context, Decomposition, Estimate};
use super::policy::Policy;
use super::request::OnChildFailure;

/// What has to be found out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoutingStep {
    /// What the task is, and whether it should be split: the Agent's `/analyze`.
    Analyze,
    /// Its parts: the Agent's `/decompose`.
    Decompose {
        /// How many levels of subtasks may still come.
        max_depth: u32,
    },
    /// Its tier: the Agent's `/estimate`; its context meanwhile.
    Estimate,
    /// Its context alone: the RAG service's `/query`.
    Context,
}

/// What the request or the project has decided, which nobody else overrules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chosen {
    /// The kind of work.
    pub domain: bool,
    /// The tier.
    pub tier: bool,
    /// How outputs are validated.
    pub qa_profile: bool,
}

/// What routing has still to find out about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// What comes next.
    pub step: RoutingStep,
    /// What is not to be touched.
    pub chosen: Chosen,
    /// Whether the task may be split.
    pub decompose: bool,
    /// What a failing subtask does to its siblings.
    pub on_child_failure: OnChildFailure,
}

/// What came of a [`RoutingStep`].
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The Agent's answer to `/analyze`.
    Analyzed(Analysis),
    /// The Agent's answer to `/decompose`.
    Decomposed(Decomposition),
    /// The Agent's answer to `/estimate`.
    Estimated {
        /// The answer.
        estimate: Estimate,
        /// What RAG had to say meanwhile.
        context: Option<Context>,
    },
    /// The built-in rules shall decide what is still open.
    Builtin {
        /// What RAG had to say.
        context: Option<Context>,
    },
}

/// What is kept of findings for the workers of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// What a good output fulfils: any JSON value, as compact JSON text.
    pub acceptance_criteria: Option<String>,
    /// The Agent's estimate.
    pub estimate: Option<Estimate>,
    /// Text that may help.
    pub context: Option<Context>,
}

impl Findings {
    /// Takes over what newer ones say.
    pub fn merge(&mut self, newer: Self) {
        self.acceptance_criteria = newer.acceptance_criteria.or(self.acceptance_criteria.take());
        self.estimate = newer.estimate.or(self.estimate.take());
        self.context = newer.context.or(self.context.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Routing {
    /// What has to be found out about a new submission; `None`: nothing.
    #[must_use]
    pub const fn of_submission(
        chosen: Chosen,
        decompose: bool,
        on_child_failure: OnChildFailure,
        policy: &Policy,
    ) -> Option<Self> {
        let known = chosen.domain && chosen.tier && chosen.qa_profile && !decompose;
        let step = if policy.agent && !known {
            RoutingStep::Analyze
        } else if policy.rag {
            RoutingStep::Context
        } else {
            return None;
        };
        Some(Self { step, chosen, decompose, on_child_failure })
    }

    /// The step that chooses the tier, or what is left without one.
    pub(super) const fn last_step(self, policy: &Policy) -> Option<Self> {
        let known = self.chosen.tier && self.chosen.qa_profile;
        let step = if policy.agent && !known {
            RoutingStep::Estimate
        } else if policy.rag {
            RoutingStep::Context
        } else {
            return None;
        };
        Some(Self { step, ..self })
    }
}
